"""From any source to one dataset directory, going on where a killed import was.

The directory is built beside its place. Recipes are written in shards, photos in batches, and
what was written is recorded with it: in a state file after each shard, and inside the
transaction that holds a batch of photos.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from hficma.artifact import Manifest, sha256, write_manifest
from hficma.errors import ArtifactError, InputError, MissingDependencyError
from hficma.vectors import VOCABULARY, WORDS, WordVectors

from .layout import CLASS_NAMES, CLASSES, LEFT_OUT, PHOTO_COUNTS, PHOTOS
from .photo_store import PhotoStore, Results
from .photos import shrink_photo
from .shards import STATE, ImportState, RecipeShards
from .sources import Source, SourceRecipe
from .title_classes import title_classes

SHARD = 16_384
"""Recipes a shard: what a killed import may have to read again."""
BATCH = 128
"""Recipes whose photos are stored together."""
MAX_PHOTOS = 5
"""Of one recipe; the published systems keep as many."""
MAX_NOTES = 10_000

Progress = Callable[[str, int, int], None]
"""Told (stage, done, total); total is 0 where it is not known."""


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What an import put into its directory."""

    recipes: int
    """Recipes that went in."""
    photos: int
    """Photos that went in."""
    left_out: int
    """Bad recipes and photos; the directory's `left_out.txt` names them."""


def import_dataset(
    source: Source,
    out: Path,
    *,
    workers: int = 2,
    max_photos: int = MAX_PHOTOS,
    class_names: Sequence[str] | None = None,
    strict: bool = False,
    on_bad: Callable[[str], None] = lambda note: None,
    progress: Progress = lambda stage, done, total: None,
) -> Imported:
    """Write a dataset directory.

    Args:
        source: where recipes and photos come from.
        out: where to; must not exist. An unfinished import of the same source is continued.
        workers: threads that decode and shrink photos.
        max_photos: photos of one recipe past this number are left out.
        class_names: not None makes classes of the titles (see `title_classes`) for recipes
            without one, with these names beside.
        strict: make a bad record or photo an error instead of leaving it out.
        on_bad: told of each bad record or photo, in one line.
        progress: told how far the import is.

    Raises:
        InputError: the source cannot be read, or holds nothing.
        ArtifactError: `out` exists or cannot be written.
        MissingDependencyError: pyarrow or lmdb is not installed.
    """
    for package in ("pyarrow", "lmdb"):
        try:
            __import__(package)
        except ImportError as error:
            raise MissingDependencyError(package, "data", "writing a dataset") from error
    if out.exists():
        raise ArtifactError(f"{out}: exists already; give another name or remove it first")
    try:
        work = _Import(source, out, max_photos, strict, on_bad, progress)
        work.write_recipes()
        work.write_photos(workers)
        return work.finish(class_names)
    except OSError as error:
        raise ArtifactError(f"{out}: cannot be written ({error.strerror or error})") from error


class _Import:
    def __init__(
        self,
        source: Source,
        out: Path,
        max_photos: int,
        strict: bool,
        on_bad: Callable[[str], None],
        progress: Progress,
    ) -> None:
        self._source = source
        self._out = out
        self._strict = strict
        self._on_bad = on_bad
        self._progress = progress
        self._building = out.parent / f".{out.name}.importing"
        state = _open_state(self._building, {**source.signature(), "max_photos": max_photos})
        self._shards = RecipeShards(self._building, state, max_photos)

    def write_recipes(self) -> None:
        """Write the shards that are not there yet."""
        shards = self._shards
        if shards.state.complete:
            return
        notes: list[str] = []
        with tempfile.TemporaryDirectory(prefix="scratch-", dir=self._building) as scratch:
            recipes = self._good_recipes(notes, Path(scratch))
            next(islice(recipes, shards.recipes, shards.recipes), None)  # what is there already
            while shard := list(islice(recipes, SHARD)):
                shards.write(shard, left_out=len(notes))
                self._progress("recipes", shards.recipes, len(self._source))
        if not shards.recipes:
            shutil.rmtree(self._building)
            why = f"; the first bad record: {notes[0]}" if notes else ""
            raise InputError(f"{self._source.path}: holds no usable recipe{why}")
        (self._building / LEFT_OUT).write_text("".join(f"{n}\n" for n in notes), encoding="utf-8")
        shards.state.complete = True
        shards.state.left_out = len(notes)
        shards.save_state()

    def write_photos(self, workers: int) -> None:
        """Decode, shrink and store photos, from the first recipe without them on."""
        total = self._shards.recipes
        with PhotoStore(self._building / PHOTOS) as store, ThreadPoolExecutor(workers) as pool:
            waiting = self._images_from(store.done)
            while batch := list(islice(waiting, BATCH)):
                wanted = [(index, image) for index, images in batch for image in images]
                photos = pool.map(self._shrunk, (image for _, image in wanted))
                results: Results = [
                    (index, photo) for (index, _), photo in zip(wanted, photos, strict=True)
                ]
                done = batch[-1][0] + 1
                store.put(results, done=done)
                for _, photo in results:
                    if isinstance(photo, InputError):
                        self._on_bad(str(photo))
                self._progress("photos", done, total)

    def finish(self, class_names: Sequence[str] | None) -> Imported:
        """Write what is known only at the end, then rename the directory into place."""
        state = self._shards.state
        with PhotoStore(self._building / PHOTOS) as store:
            counts, notes = store.counts_and_notes(self._shards.recipes)
        np.save(self._building / PHOTO_COUNTS, counts)
        with (self._building / LEFT_OUT).open("a", encoding="utf-8") as file:
            file.writelines(f"{note}\n" for note in notes)
        if state.sentence_dim:
            self._shards.write_offsets()
        if class_names is not None:
            self._write_classes(class_names)
        vectors = self._source.word_vectors()
        if vectors is not None:
            _write_words(vectors, self._building)
        result = Imported(
            recipes=self._shards.recipes,
            photos=int(counts.sum()),
            left_out=state.left_out + len(notes),
        )
        self._publish(
            {
                "recipes": result.recipes,
                "photos": result.photos,
                "left_out": result.left_out,
                "shards": state.shards,
                "sentence_dim": state.sentence_dim,
                "word_dim": 0 if vectors is None else vectors.dim,
                "source": state.signature,
            }
        )
        return result

    def _publish(self, facts: dict[str, Any]) -> None:
        (self._building / STATE).unlink()
        (self._building / PHOTOS / "lock.mdb").unlink(missing_ok=True)
        files = {
            str(path.relative_to(self._building)): sha256(path)
            for path in sorted(self._building.rglob("*"))
            if path.is_file()
        }
        made_by = "hficma data import"
        manifest = Manifest(kind="dataset", made_by=made_by, files=files, facts=facts)
        write_manifest(self._building, manifest)
        os.rename(self._building, self._out)

    def _good_recipes(self, notes: list[str], scratch: Path) -> Iterator[SourceRecipe]:
        seen: set[str] = set()

        def note(text: str) -> None:
            if len(notes) < MAX_NOTES:
                notes.append(text)
            self._on_bad(text)

        for found in self._source.recipes(strict=self._strict, on_bad=note, scratch=scratch):
            identity, title = found.recipe.id, found.recipe.title
            if identity not in seen:
                seen.add(identity)
                yield found
                continue
            text = f"{self._source.path}: recipe {identity} ({title!r}) is there twice"
            if self._strict:
                raise InputError(text)
            note(text)

    def _images_from(self, first: int) -> Iterator[tuple[int, list[str]]]:
        start = 0
        for shard, size in enumerate(self._shards.state.shards):
            if start + size > first:
                for offset, images in enumerate(self._shards.column("images", shard)):
                    if start + offset >= first:
                        yield start + offset, images
            start += size

    def _shrunk(self, image: str) -> bytes | InputError:
        try:
            return shrink_photo(self._source.photo(image), name=image)
        except InputError as error:
            if self._strict:
                raise
            return error

    def _write_classes(self, names: Sequence[str]) -> None:
        columns = (self._shards.column(name) for name in ("title", "partition"))
        found = title_classes(*columns, names=names)
        known = sorted({name for name in found if name})
        numbers = {name: number for number, name in enumerate(known, 1)}
        rows = np.array([numbers.get(name or "", 0) for name in found], dtype=np.int32)
        np.save(self._building / CLASSES, rows)
        (self._building / CLASS_NAMES).write_text(
            json.dumps([None, *known], ensure_ascii=False), encoding="utf-8"
        )


def _open_state(building: Path, signature: dict[str, Any]) -> ImportState:
    """The state of an unfinished import of the same source, or a fresh one in an empty folder."""
    try:
        state = ImportState(**json.loads((building / STATE).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        state = ImportState(signature={})
    if state.signature != signature:
        state = ImportState(signature=signature)
        shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True, exist_ok=True)
    for leftover in building.glob("scratch-*"):
        shutil.rmtree(leftover)
    return state


def _write_words(vectors: WordVectors, directory: Path) -> None:
    from safetensors.numpy import save_file

    vectors.vocabulary.save(directory / VOCABULARY)
    save_file({"vectors": np.ascontiguousarray(vectors.table)}, directory / WORDS)
