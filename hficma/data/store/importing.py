"""Imports any source into a dataset directory, and goes on where a killed import stopped.

The directory is built beside its place, in `.NAME.importing`, and renamed into it at the end, so a
reader never sees half of one. Recipes come first, in shards; then photos, in batches; then what is
known only at the end (counts, classes, offsets). What has been written is recorded with it: in a
state file after each shard, and inside the transaction that holds a batch of photos. An import of a
million photos takes hours, and one that is killed loses a shard or a batch.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from ...artifacts.manifest import (
    Manifest,
    check_free,
    disk_reason,
    sha256,
    sync,
    write_atomically,
    write_manifest,
)
from ...artifacts.unfinished import remove_tree
from ...errors import ArtifactError, InputError, MissingDependencyError
from ...images.image_input import LARGEST_INPUT
from ...text.vocabulary import VOCABULARY_FILE
from ...text.word_vectors import WORDS, WordVectors
from ..layout import CLASS_NAMES, CLASSES, LEFT_OUT, NOTES, PHOTO_COUNTS, PHOTOS, STORED_SIDE
from ..photos import shrink_photo
from ..sources import Source, SourceRecipe
from ..title_classes import title_classes
from .photo_store import PhotoStore, Results
from .recipe_store import STATE, RecipeShards
from .unfinished_import import SCRATCH, import_lock, open_state

SHARD = 16_384
"""Recipes of a shard: what a killed import may have to read again."""
BATCH = 128
"""Recipes whose photos are stored together."""
MAX_PHOTOS = 5
"""Photos of one recipe that are stored by default; the published systems use as many."""
MOST_PHOTOS = 255
"""Photos of one recipe, at most: their number is stored in a byte."""
LEAST_PHOTO_SIDE = 32
"""Pixels of a stored photo's shorter side; fewer show nothing."""

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total): the stage is `recipes` or `photos`, done and total count
recipes, and total is 0 where it is not known."""


@dataclass(frozen=True, kw_only=True)
class ImportCounts:
    """The numbers of what an import wrote."""

    recipes: int
    """Recipes in the directory."""
    photos: int
    """Photos in the directory."""
    left_out: int
    """Bad recipes and photos; the directory's `left_out.txt` names them."""


def import_dataset(
    source: Source,
    out: Path,
    *,
    workers: int = 2,
    max_photos: int = MAX_PHOTOS,
    photo_side: int = STORED_SIDE,
    class_names: Sequence[str] | None = None,
    strict: bool = False,
    restart: bool = False,
    on_bad: Callable[[str], None] = lambda message: None,
    progress: Progress = lambda stage, done, total: None,
) -> ImportCounts:
    """Write a dataset directory.

    Args:
        source: of recipes and photos.
        out: the directory to write; must not exist. An unfinished import of the same source is
            continued.
        workers: threads that decode and shrink photos.
        max_photos: photos of one recipe past this number are left out.
        photo_side: pixels that a stored photo's shorter side has at most.
        class_names: not None makes classes of the titles (see `title_classes`) for recipes
            without one, with these names beside.
        strict: make a bad record or photo an error instead of leaving it out.
        restart: begin anew where an unfinished import lies, whatever it is of.
        on_bad: called with one line for each bad record or photo.
        progress: called after each shard and batch.

    Returns:
        the numbers of what was written, by this run and by those that it goes on from.

    Raises:
        InputError: the source cannot be read, or holds nothing.
        ArtifactError: `out` exists or cannot be written, another process writes it, or an
            unfinished import of another source or with other options lies there.
        MissingDependencyError: pyarrow or lmdb is not installed.
    """
    for package in ("pyarrow", "lmdb"):
        try:
            __import__(package)
        except ImportError as error:
            raise MissingDependencyError(package, "data", "writing a dataset") from error
    if not 0 <= max_photos <= MOST_PHOTOS:
        raise InputError(f"{max_photos} photos of a recipe: a dataset keeps 0 to {MOST_PHOTOS}")
    if not LEAST_PHOTO_SIDE <= photo_side <= LARGEST_INPUT:
        raise InputError(
            f"photos of {photo_side} pixels: a dataset keeps {LEAST_PHOTO_SIDE} to "
            f"{LARGEST_INPUT:,} of their shorter side"
        )
    check_free(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        building = out.with_name(f".{out.name}.importing")
        with import_lock(out, building):
            check_free(out)  # another import may have ended just now
            if restart:
                remove_tree(building)
            signature = {
                **source.signature(), "max_photos": max_photos, "photo_side": photo_side
            }  # fmt: skip
            state = open_state(building, signature, out)
            shards = RecipeShards(building, state, max_photos)
            work = _Import(source, out, building, shards, strict, on_bad, progress)
            try:
                work.write_recipes()
                work.write_photos(workers, photo_side)
                return work.finish(class_names, photo_side)
            except Exception:
                if not state.shards:  # nothing that a next run could go on from
                    remove_tree(building)
                raise
    except Exception as error:
        # A full disk speaks through LMDB, SQLite and Parquet in their own exceptions.
        reason = disk_reason(error)
        if reason is None:
            raise
        raise ArtifactError(f"{out}: cannot be written ({reason})") from error
    finally:
        source.close()


class _Import:
    """An import in progress: recipes, then photos, then what is known only at the end."""

    def __init__(
        self,
        source: Source,
        out: Path,
        building: Path,
        shards: RecipeShards,
        strict: bool,
        on_bad: Callable[[str], None],
        progress: Progress,
    ) -> None:
        self._source = source
        self._out = out
        self._strict = strict
        self._on_bad = on_bad
        self._progress = progress
        self._building = building
        self._shards = shards
        self._left_out = 0

    def write_recipes(self) -> None:
        """Write the shards that are not there yet."""
        shards = self._shards
        if shards.state.complete:
            return
        with (
            tempfile.TemporaryDirectory(prefix=SCRATCH, dir=self._building) as scratch,
            (self._building / NOTES).open("w", encoding="utf-8", errors="surrogatepass") as notes,
        ):
            recipes = self._good_recipes(notes, Path(scratch))
            # A source gives the same recipes in the same order each time, so those of the finished
            # shards are read and dropped; their notes are written anew.
            next(islice(recipes, shards.recipes, shards.recipes), None)
            while shard := list(islice(recipes, SHARD)):
                shards.write(shard, left_out=self._left_out)
                self._progress("recipes", shards.recipes, len(self._source))
        if not shards.recipes:
            first = _lines(self._building / NOTES)[:1]
            why = f"; the first bad record: {first[0]}" if first else ""
            raise InputError(f"{self._source.path}: holds no usable recipe{why}")
        sync(self._building / NOTES)
        shards.state.complete = True
        shards.state.left_out = self._left_out
        shards.save_state()

    def write_photos(self, workers: int, side: int) -> None:
        """Decode, shrink and store photos, from the first recipe without them on."""
        total = self._shards.recipes
        with PhotoStore(self._building / PHOTOS) as store, ThreadPoolExecutor(workers) as pool:
            # A batch is decoded by threads and stored by this one: LMDB has one writer. The order
            # of the results is that of the photos, whichever thread is done first.
            waiting = self._images_from(store.done)
            while batch := list(islice(waiting, BATCH)):
                jobs = [(index, image) for index, images in batch for image in images]
                photos = pool.map(partial(self._shrunk, side=side), (image for _, image in jobs))
                results: Results = [
                    (index, photo) for (index, _), photo in zip(jobs, photos, strict=True)
                ]
                done = batch[-1][0] + 1
                store.put(results, done=done)
                for _, photo in results:
                    if isinstance(photo, InputError):
                        self._on_bad(str(photo))
                self._progress("photos", done, total)

    def finish(self, class_names: Sequence[str] | None, photo_side: int) -> ImportCounts:
        """Write what is known only at the end, then rename the directory into place."""
        state = self._shards.state
        with PhotoStore(self._building / PHOTOS) as store:
            counts, notes = store.counts_and_notes(self._shards.recipes)
        np.save(self._building / PHOTO_COUNTS, counts)
        notes = [*_lines(self._building / NOTES), *notes]
        if self._strict and notes:  # an earlier run, which was not strict, left them out
            raise InputError(notes[0])
        # Written whole: a finish that was killed is done again.
        left_out = "".join(f"{note}\n" for note in notes)
        write_atomically(
            self._building / LEFT_OUT, left_out.encode("utf-8", errors="backslashreplace")
        )
        if state.sentence_dim:
            self._shards.write_offsets()
        if class_names is not None:
            self._write_classes(class_names)
        vectors = self._source.word_vectors()
        if vectors is not None:
            _write_words(vectors, self._building)
        result = ImportCounts(
            recipes=self._shards.recipes,
            photos=int(counts.sum()),
            left_out=len(notes),
        )
        self._publish(
            {
                "recipes": result.recipes,
                "photos": result.photos,
                "left_out": result.left_out,
                "photo_side": photo_side,
                "shards": state.shards,
                "sentence_dim": state.sentence_dim,
                "word_dim": 0 if vectors is None else vectors.dim,
                "source": state.signature,
            }
        )
        return result

    def _publish(self, facts: dict[str, Any]) -> None:
        """Write the manifest and rename the directory into its place."""
        unfinished = [self._building / name for name in (STATE, NOTES)]
        unfinished.append(self._building / PHOTOS / "lock.mdb")
        paths = [
            path
            for path in sorted(self._building.rglob("*"))
            if path.is_file() and path not in unfinished
        ]
        # On the disk before the rename: after a power cut a name must not lead to empty files.
        for path in paths:
            sync(path)
        files = {path.relative_to(self._building).as_posix(): sha256(path) for path in paths}
        made_by = "hficma data import"
        manifest = Manifest(kind="dataset", made_by=made_by, files=files, facts=facts)
        write_manifest(self._building, manifest)
        os.rename(self._building, self._out)
        sync(self._out.parent)
        # Only now: without its state an import that was killed here would begin anew.
        for path in unfinished:
            (self._out / path.relative_to(self._building)).unlink(missing_ok=True)

    def _good_recipes(self, notes: IO[str], scratch: Path) -> Iterator[SourceRecipe]:
        """Yield the recipes that can be stored, each id once; note the others."""
        ids: set[str] = set()

        def leave_out(text: str) -> None:
            self._left_out += 1
            notes.write(" ".join(text.splitlines()) + "\n")
            self._on_bad(text)

        recipes = self._source.recipes(strict=self._strict, on_bad=leave_out, scratch=scratch)
        for source_recipe in recipes:
            identity, title = source_recipe.recipe.id, source_recipe.recipe.title
            if identity in ids:
                text = f"{self._source.path}: recipe {identity} ({title!r}) is there twice"
            elif not _is_text(source_recipe):  # Parquet stores UTF-8
                text = f"{self._source.path}: recipe {identity} ({title!r}) holds half a character"
            else:
                ids.add(identity)
                yield source_recipe
                continue
            if self._strict:
                raise InputError(text)
            leave_out(text)

    def _images_from(self, first: int) -> Iterator[tuple[int, list[str]]]:
        """Yield positions with the names of their photos, from a position on."""
        start = 0
        for shard, size in enumerate(self._shards.state.shards):
            if start + size > first:
                for offset, images in enumerate(self._shards.column("images", shard)):
                    if start + offset >= first:
                        yield start + offset, images
            start += size

    def _shrunk(self, image: str, *, side: int) -> bytes | InputError:
        """Return the bytes to store for a photo, or why there are none."""
        try:
            return shrink_photo(self._source.photo(image), name=image, side=side)
        except InputError as error:
            if self._strict:
                raise
            return error

    def _write_classes(self, names: Sequence[str]) -> None:
        """Write the class of each title: its number, from 1 by name, or 0."""
        columns = (self._shards.column(name) for name in ("title", "partition"))
        classes = title_classes(*columns, names=names)
        known = sorted({name for name in classes if name})
        numbers = {name: number for number, name in enumerate(known, 1)}
        rows = np.array([numbers.get(name or "", 0) for name in classes], dtype=np.int32)
        np.save(self._building / CLASSES, rows)
        (self._building / CLASS_NAMES).write_text(
            json.dumps([None, *known], ensure_ascii=False), encoding="utf-8"
        )


def _is_text(source_recipe: SourceRecipe) -> bool:
    r"""Return whether all texts of a recipe can be stored: half of a surrogate pair cannot.

    JSON writes an emoji as two escapes ("\ud83d\ude00"). A title that was cut off between them
    decodes to a character that no UTF-8 file can hold.
    """
    recipe = source_recipe.recipe
    single = (recipe.id, recipe.title, recipe.partition, recipe.url, recipe.category)
    many = (recipe.ingredients, recipe.instructions, source_recipe.images, source_recipe.names)
    try:
        "".join([*(text or "" for text in single), *("".join(texts) for texts in many)]).encode()
    except UnicodeEncodeError:
        return False
    return True


def _lines(path: Path) -> list[str]:
    """Return the lines of the notes."""
    text = path.read_text(encoding="utf-8", errors="surrogatepass")
    return text.split("\n")[:-1]


def _write_words(vectors: WordVectors, directory: Path) -> None:
    """Write word vectors and their vocabulary."""
    from safetensors.numpy import save

    vectors.vocabulary.save(directory / VOCABULARY_FILE)
    write_atomically(directory / WORDS, save({"vectors": np.ascontiguousarray(vectors.table)}))
