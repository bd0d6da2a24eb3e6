"""From any source to one dataset directory, going on where a killed import was.

The directory is built beside its place. Recipes are written in shards, photos in batches, and
what was written is recorded with it: in a state file after each shard, and inside the
transaction that holds a batch of photos.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hficma.artifact import MANIFEST, Manifest, sha256, write_atomically, write_manifest
from hficma.errors import ArtifactError, InputError, MissingDependencyError
from hficma.vectors import VOCABULARY, WORDS, WordVectors

from .layout import (
    DONE,
    LEFT_OUT,
    NOTE,
    PHOTO_COUNTS,
    PHOTOS,
    SENTENCE_OFFSETS,
    SENTENCES,
    note_key,
    photo_key,
    shard_name,
)
from .photos import shrink_photo
from .sources import Source, SourceRecipe

SHARD = 16_384
ROW_GROUP = 256
PHOTO_BATCH = 128
MAX_PHOTOS = 5
"""Of one recipe; the published systems keep as many."""
MAP_SIZE = 1 << 40
"""Address space for photos; the file takes what they take."""
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


@dataclass(kw_only=True)
class _State:
    """How far the recipes have come; the photos' progress stands in their own store."""

    signature: dict[str, Any]
    shards: list[int] = field(default_factory=list)
    sentence_rows: int = 0
    sentence_dim: int = 0
    left_out: int = 0
    complete: bool = False


def import_dataset(
    source: Source,
    out: Path,
    *,
    workers: int = 2,
    max_photos: int = MAX_PHOTOS,
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
    building = out.parent / f".{out.name}.importing"
    try:
        writer = _Import(source, building, max_photos, strict, on_bad, progress)
        writer.write_recipes()
        writer.write_photos(workers)
        return writer.finish(out)
    except OSError as error:
        raise ArtifactError(f"{out}: cannot be written ({error.strerror or error})") from error


class _Import:
    def __init__(
        self,
        source: Source,
        building: Path,
        max_photos: int,
        strict: bool,
        on_bad: Callable[[str], None],
        progress: Progress,
    ) -> None:
        self._source = source
        self._building = building
        self._max_photos = max_photos
        self._strict = strict
        self._on_bad = on_bad
        self._progress = progress
        self._state_file = building / "state.json"
        signature = {**source.signature(), "max_photos": max_photos}
        self._state = _State(signature=signature)
        if self._state_file.is_file():
            known = _State(**json.loads(self._state_file.read_text(encoding="utf-8")))
            if known.signature == signature:
                self._state = known
        if not self._state.shards and building.exists():
            shutil.rmtree(building)
        building.mkdir(parents=True, exist_ok=True)

    def write_recipes(self) -> None:
        """Write the shards that are not there yet, and the sentence vectors beside them."""
        if self._state.complete:
            return
        notes: list[str] = []
        with tempfile.TemporaryDirectory(prefix="scratch-", dir=self._building) as scratch:
            recipes = self._good_recipes(notes, Path(scratch))
            done = sum(self._state.shards)
            next(itertools.islice(recipes, done, done), None)  # what a killed import wrote
            with self._sentence_file() as sentences:
                while shard := list(itertools.islice(recipes, SHARD)):
                    self._write_shard(shard, sentences)
                    self._state.left_out = len(notes)
                    self._save_state()
        if not self._state.shards:
            raise InputError(f"{self._source.path}: holds no usable recipe")
        (self._building / LEFT_OUT).write_text("".join(f"{n}\n" for n in notes), encoding="utf-8")
        self._state.complete = True
        self._state.left_out = len(notes)
        self._save_state()

    def write_photos(self, workers: int) -> None:
        """Decode, shrink and store photos, from the first recipe without them on."""
        import lmdb

        total = sum(self._state.shards)
        store = lmdb.open(str(self._building / PHOTOS), map_size=MAP_SIZE, subdir=True)
        try:
            with store.begin() as transaction:
                done = int.from_bytes(transaction.get(DONE, b"\0"), "big")
            waiting = self._recipe_images(done)
            with ThreadPoolExecutor(workers) as pool:
                while batch := list(itertools.islice(waiting, PHOTO_BATCH)):
                    wanted = [(index, image) for index, images in batch for image in images]
                    results = list(pool.map(self._shrunk, (image for _, image in wanted)))
                    with store.begin(write=True) as transaction:
                        self._store(transaction, wanted, results)
                        done = batch[-1][0] + 1
                        transaction.put(DONE, done.to_bytes(8, "big"))
                    self._progress("photos", done, total)
        finally:
            store.close()

    def finish(self, out: Path) -> Imported:
        """Write what is known only at the end, then rename the directory into place."""
        counts, notes = self._photo_counts()
        np.save(self._building / PHOTO_COUNTS, counts)
        with (self._building / LEFT_OUT).open("a", encoding="utf-8") as file:
            file.writelines(f"{note}\n" for note in notes)
        if self._state.sentence_dim:
            self._write_offsets()
        vectors = self._source.word_vectors()
        if vectors is not None:
            _write_words(vectors, self._building)
        self._state_file.unlink()
        (self._building / PHOTOS / "lock.mdb").unlink(missing_ok=True)
        facts = {
            "recipes": sum(self._state.shards),
            "photos": int(counts.sum()),
            "left_out": self._state.left_out + len(notes),
            "shards": self._state.shards,
            "sentence_dim": self._state.sentence_dim,
            "word_dim": 0 if vectors is None else vectors.dim,
            "source": self._state.signature,
        }
        paths = sorted(path for path in self._building.rglob("*") if path.is_file())
        files = {
            str(path.relative_to(self._building)): sha256(path)
            for path in paths
            if path.name != MANIFEST
        }
        write_manifest(
            self._building,
            Manifest(kind="dataset", made_by="hficma data import", files=files, facts=facts),
        )
        os.rename(self._building, out)
        return Imported(
            recipes=facts["recipes"], photos=facts["photos"], left_out=facts["left_out"]
        )

    def _good_recipes(self, notes: list[str], scratch: Path) -> Iterator[SourceRecipe]:
        seen: set[str] = set()

        def note(text: str) -> None:
            if len(notes) < MAX_NOTES:
                notes.append(text)
            self._on_bad(text)

        for found in self._source.recipes(strict=self._strict, on_bad=note, scratch=scratch):
            identity = found.recipe.id
            if identity not in seen:
                seen.add(identity)
                yield found
                continue
            text = f"{self._source.path}: recipe {identity} is there twice"
            if self._strict:
                raise InputError(text)
            note(text)

    def _write_shard(self, shard: list[SourceRecipe], sentences: Any) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = [_row(found, self._max_photos) for found in shard]
        path = self._building / shard_name(len(self._state.shards))
        part = path.with_suffix(".part")
        pq.write_table(
            pa.Table.from_pylist(rows, schema=recipe_schema()), part, row_group_size=ROW_GROUP,
            compression="zstd",
        )  # fmt: skip
        for found in shard:
            if found.sentences is not None and len(found.sentences):
                self._append_sentences(found, sentences)
        sentences.flush()
        os.replace(part, path)
        self._state.shards.append(len(shard))
        self._progress("recipes", sum(self._state.shards), len(self._source))

    def _append_sentences(self, found: SourceRecipe, file: Any) -> None:
        assert found.sentences is not None
        rows, dim = found.sentences.shape
        self._state.sentence_dim = self._state.sentence_dim or dim
        if dim != self._state.sentence_dim:
            raise InputError(
                f"{self._source.path}: recipe {found.recipe.id} has sentence vectors of "
                f"{dim}, others of {self._state.sentence_dim}"
            )
        file.write(found.sentences.astype("<f4").tobytes())
        self._state.sentence_rows += rows

    def _sentence_file(self) -> Any:
        """The vectors' file, cut back to what the finished shards hold."""
        path = self._building / SENTENCES
        path.touch()
        file = path.open("r+b")
        file.truncate(self._state.sentence_rows * self._state.sentence_dim * 4)
        file.seek(0, os.SEEK_END)
        return file

    def _save_state(self) -> None:
        write_atomically(self._state_file, json.dumps(asdict(self._state)).encode())

    def _column(self, shard: int, name: str) -> list[Any]:
        import pyarrow.parquet as pq

        table = pq.read_table(self._building / shard_name(shard), columns=[name])
        values: list[Any] = table.column(name).to_pylist()
        return values

    def _recipe_images(self, first: int) -> Iterator[tuple[int, list[str]]]:
        start = 0
        for shard, size in enumerate(self._state.shards):
            if start + size > first:
                for offset, images in enumerate(self._column(shard, "images")):
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

    def _store(
        self, transaction: Any, wanted: list[tuple[int, str]], results: list[bytes | InputError]
    ) -> None:
        number = last = -1
        for position, ((index, _), result) in enumerate(zip(wanted, results, strict=True)):
            if index != last:
                number, last = 0, index
            if isinstance(result, InputError):
                self._on_bad(str(result))
                transaction.put(note_key(index, position), str(result).encode())
            else:
                transaction.put(photo_key(index, number), result)
                number += 1

    def _photo_counts(self) -> tuple[Any, list[str]]:
        import lmdb

        counts = np.zeros(sum(self._state.shards), dtype=np.uint8)
        notes: list[str] = []
        with (
            lmdb.open(str(self._building / PHOTOS), map_size=MAP_SIZE) as store,
            store.begin() as transaction,
        ):
            for key in transaction.cursor().iternext(values=False):
                if key.startswith(NOTE):
                    notes.append(transaction.get(key).decode())
                elif key != DONE:
                    counts[int.from_bytes(key[1:9], "big")] += 1
        return counts, notes

    def _write_offsets(self) -> None:
        shards = range(len(self._state.shards))
        counts = [count for shard in shards for count in self._column(shard, "sentences")]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        np.save(self._building / SENTENCE_OFFSETS, offsets)


def recipe_schema() -> Any:
    """Columns of a shard of recipes (a pyarrow schema)."""
    import pyarrow as pa

    text, texts = pa.string(), pa.list_(pa.string())
    return pa.schema(
        [
            ("id", text), ("title", text), ("ingredients", texts), ("instructions", texts),
            ("partition", text), ("url", text), ("category", text),
            ("images", texts), ("names", texts), ("sentences", pa.int32()),
        ]
    )  # fmt: skip


def _row(found: SourceRecipe, max_photos: int) -> dict[str, Any]:
    recipe = found.recipe
    return {
        "id": recipe.id,
        "title": recipe.title,
        "ingredients": recipe.ingredients,
        "instructions": recipe.instructions,
        "partition": recipe.partition,
        "url": recipe.url,
        "category": recipe.category,
        "images": found.images[:max_photos],
        "names": found.names,
        "sentences": 0 if found.sentences is None else len(found.sentences),
    }


def _write_words(vectors: WordVectors, directory: Path) -> None:
    from safetensors.numpy import save_file

    vectors.vocabulary.save(directory / VOCABULARY)
    save_file({"vectors": np.ascontiguousarray(vectors.table)}, directory / WORDS)
