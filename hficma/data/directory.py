"""Reads a dataset directory: recipes in Parquet, photos in LMDB, vectors in memory-mapped arrays.

`layout.py` draws what lies in one. Nothing is read whole that grows with the dataset by more than a
few bytes a recipe: Recipe1M has 40 GB of photos and 29 GB of sentence vectors.
"""

from __future__ import annotations

import bisect
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..artifacts.content_digests import file_digests
from ..artifacts.json_fields import LARGEST_SIZE, Fields, integer
from ..artifacts.manifest import Manifest, inside, read_manifest, verified_file
from ..artifacts.workspace import Workspace
from ..errors import ArtifactError, InputError, MissingDependencyError
from ..limits import reason
from ..recipe import Recipe
from ..text.vocabulary import VOCABULARY_FILE, Vocabulary
from ..text.word_vectors import WORDS, WordVectors, read_tensors
from ..types import Array, Floats, Mask, Offsets, Pixels, Strings
from .layout import (
    CLASS_NAMES,
    CLASSES,
    PHOTO_COUNTS,
    PHOTOS,
    SENTENCE_OFFSETS,
    SENTENCES,
    STORED_SIDE,
    photo_key,
    shard_name,
)
from .lmdb_files import open_lmdb, whole_size
from .photo_places import PhotoRoot

if TYPE_CHECKING:
    from PIL.Image import Image

_CACHED_GROUPS = 64
"""Row groups of 256 recipes that stay decoded: a few MB, and enough for shuffled reads of a
batch."""


class DatasetDirectory:
    """The recipes and photos that `hficma data import` wrote, by position.

    Safe to share between threads and across forks, and to send to other processes: each process
    opens the files for itself.

    Args:
        path: the directory.

    Raises:
        ArtifactError: no such directory, or one of another kind or format.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.resolve()
        manifest = read_manifest(path, kind="dataset")
        self._manifest = manifest
        try:
            fields = Fields(manifest.facts, "facts")
            shards = [integer(size, "facts.shards") for size in fields.sequence("shards")]
            self._sentence_dim = fields.integer("sentence_dim", most=LARGEST_SIZE)
            self._photo_side = (
                fields.integer("photo_side", 1) if "photo_side" in manifest.facts else STORED_SIDE
            )
        except ValueError as error:
            raise ArtifactError(f"{path}: its manifest is damaged ({error})") from error
        self._starts = [0, *accumulate(shards)]
        self._files = _Files(self._path, manifest, len(self))

    @property
    def name(self) -> str:
        """Return the directory's absolute path."""
        return str(self._path)

    @property
    def facts(self) -> dict[str, Any]:
        """Return the facts of the manifest: counts, the source, how many records were left out."""
        return self._manifest.facts

    @property
    def photo_side(self) -> int:
        """Return the pixels of a photo's shorter side, at most; see `ShrunkPhotos`."""
        return self._photo_side

    def __len__(self) -> int:
        """Count the recipes."""
        return self._starts[-1]

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without open files: the process that unpickles it opens its own."""
        return {**self.__dict__, "_files": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state of `__getstate__`."""
        self.__dict__.update(state)
        self._files = _Files(self._path, self._manifest, len(self))

    def recipe(self, index: int) -> Recipe:
        """Return the recipe at a position."""
        row = self._row(index)
        # The source may name photos that could not be read; the count knows of those that were.
        has_photo = row["images"] and self._files.photo_counts()[index]
        return Recipe(
            id=row["id"],
            title=row["title"],
            ingredients=tuple(row["ingredients"]),
            instructions=tuple(row["instructions"]),
            image=row["images"][0] if has_photo else None,
            partition=row["partition"],
            url=row["url"],
            category=row["category"] or self._title_class(index),
        )

    def _title_class(self, index: int) -> str | None:
        if CLASSES not in self._manifest.files:
            return None
        numbers, names = self._files.title_classes()
        return names[int(numbers[index])]

    def names(self, index: int) -> tuple[str, ...]:
        """Return the ingredient names that the source's own detector gave; often none."""
        return tuple(self._row(index)["names"])

    def photo_count(self, index: int) -> int:
        """Return how many photos the recipe at a position has."""
        return int(self._files.photo_counts()[self._checked(index)])

    def jpeg(self, index: int, number: int = 0) -> bytes:
        """Return a photo's JPEG bytes; the shorter side is `photo_side` pixels at most.

        Args:
            index: the recipe's position.
            number: which of its photos, from 0.

        Raises:
            InputError: the recipe has no such photo.
        """
        content = self._files.photo(photo_key(self._checked(index), number))
        if content is None:
            raise InputError(f"{self._path}: recipe {self._row(index)['id']} has no photo {number}")
        return content

    def photo(self, index: int) -> Image:
        """Return the recipe's first photo as upright RGB; see `Dataset.photo`."""
        from ..images import decode_photo

        return decode_photo(self.jpeg(index), name=self._photo_name(index))

    def reduced_photo(self, index: int, side: int) -> Image:
        """Return the first photo at a reduced size; see `ReducedPhotos`."""
        from ..images import decode_photo

        return decode_photo(self.jpeg(index), name=self._photo_name(index), enough=side)

    def photo_pixels(self, index: int, side: int, number: int = 0) -> Pixels:
        """Return any photo at a reduced size, as pixels; see `NumberedPhotos`."""
        from ..images import decode_pixels

        return decode_pixels(self.jpeg(index, number), name=self._photo_name(index), enough=side)

    def _photo_name(self, index: int) -> str:
        """Return how a photo is named in errors."""
        return f"{self._path} recipe {index}"

    def photo_origin(self, index: int) -> Path | str:
        """Return the file that holds all photos."""
        return self._path / PHOTOS / "data.mdb"

    @property
    def photo_root(self) -> PhotoRoot:
        """Return this dataset: its photos lie inside."""
        return PhotoRoot("dataset", self.name)

    def photo_place(self, index: int) -> int | None:
        """Return the position, where the recipe has a photo; see `PhotoPlaces`."""
        return index if self.photo_count(index) else None

    def sentence_vectors(self, index: int) -> Floats | None:
        """Return vectors (n, D) of the recipe's instructions that came with the source, or None."""
        if not self._sentence_dim:
            return None
        offsets, rows = self._files.sentences(self._sentence_dim)
        self._checked(index)
        return rows[offsets[index] : offsets[index + 1]]

    def word_vectors(self) -> WordVectors | None:
        """Return the word vectors that came with the source, or None."""
        if WORDS not in self._manifest.files:
            return None
        vocabulary = Vocabulary.load(verified_file(self._path, self._manifest, VOCABULARY_FILE))
        table = read_tensors(verified_file(self._path, self._manifest, WORDS))["vectors"]
        return WordVectors(vocabulary, table)

    def partitions(self) -> Strings:
        """Return every recipe's partition, `train` where the source says nothing, (M,)."""
        column = self._column("partition")
        return np.array([part or "train" for part in column], dtype=np.str_)

    def has_photo(self) -> Mask:
        """Return whether each recipe has a photo, (M,)."""
        return np.asarray(self._files.photo_counts()) > 0

    def _checked(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"{self._path}: no recipe {index} of {len(self)}")
        return index

    def _row(self, index: int) -> dict[str, Any]:
        shard = bisect.bisect_right(self._starts, self._checked(index)) - 1
        return self._files.row(shard, index - self._starts[shard])

    def _column(self, name: str) -> list[Any]:
        shards = range(len(self._starts) - 1)
        return [value for shard in shards for value in self._files.column(shard, name)]


class _Files:
    """The open files of a directory, opened again by each process: LMDB does not survive a fork.

    Each file is compared with its hash when it is opened: shards and small arrays every time,
    photos and sentence vectors, which may be larger than the memory, once on this machine. A
    damaged page would make LMDB crash the process, and so would a mapped file that was cut off.
    """

    def __init__(self, path: Path, manifest: Manifest, recipes: int) -> None:
        self._path = path
        self._photo_file = path / PHOTOS / "data.mdb"
        self._manifest = manifest
        self._recipes = recipes
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._forget()

    def _forget(self) -> None:
        """Drop what is open; in a child, without closing what is the parent's."""
        self._shards: dict[int, Any] = {}
        self._groups: OrderedDict[tuple[int, int], Any] = OrderedDict()
        self._store: Any = None
        self._store_size = 0
        self._counts: Array | None = None
        self._vectors: tuple[Offsets, Floats] | None = None
        self._classes: tuple[Array, list[str | None]] | None = None

    def _leave_parent(self) -> None:
        """Begin anew where this process was forked from the one that opened the files."""
        if os.getpid() != self._process:
            self._process = os.getpid()
            self._lock = threading.Lock()  # the parent may have held it while forking
            self._forget()

    def row(self, shard: int, offset: int) -> dict[str, Any]:
        """Return a row of a shard; its row group stays decoded for those who read in order.

        Args:
            shard: its number.
            offset: of the row in the shard.
        """
        self._leave_parent()
        with self._lock:
            group, position = divmod(offset, self._group_size(shard))
            key = (shard, group)
            table = self._groups.get(key)
            if table is None:
                file = self._shard(shard)
                table = self._decoded(shard, lambda: file.read_row_group(group, use_threads=False))
                self._groups[key] = table
                if len(self._groups) > _CACHED_GROUPS:
                    self._groups.popitem(last=False)
        row: dict[str, Any] = table.slice(position, 1).to_pylist()[0]
        return row

    def column(self, shard: int, name: str) -> list[Any]:
        """Return one column of a shard."""
        self._leave_parent()
        with self._lock:
            file = self._shard(shard)
            table = self._decoded(shard, lambda: file.read(columns=[name]))
        values: list[Any] = table.column(name).to_pylist()
        return values

    def _decoded(self, shard: int, read: Callable[[], Any]) -> Any:
        """Return what `read` gives; what pyarrow raises on a damaged shard names its file."""
        import pyarrow as pa

        try:
            return read()
        except (pa.ArrowException, OSError) as error:
            path = self._path / shard_name(shard)
            raise ArtifactError(f"{path}: cannot be read ({reason(error)[:160]})") from error

    def _group_size(self, shard: int) -> int:
        # All row groups of a shard but its last have the size of the first.
        return int(self._shard(shard).metadata.row_group(0).num_rows)

    def _shard(self, number: int) -> Any:
        if number not in self._shards:
            try:
                import pyarrow.parquet as pq
            except ImportError as error:
                raise MissingDependencyError("pyarrow", "data", "reading a dataset") from error
            path = verified_file(self._path, self._manifest, shard_name(number))
            self._shards[number] = self._decoded(number, lambda: pq.ParquetFile(path))
        return self._shards[number]

    def photo(self, key: bytes) -> bytes | None:
        """Return the JPEG bytes under a key of the photo store, or None."""
        self._leave_parent()
        if self._store is None:
            try:
                self._store_size = whole_size(self._compared(f"{PHOTOS}/data.mdb"))
                self._store = open_lmdb(self._path / PHOTOS)
            except InputError as error:  # all photos are gone, not this one
                raise ArtifactError(str(error)) from error
        try:
            size = self._photo_file.stat().st_size
        except OSError as error:
            raise ArtifactError(f"{self._photo_file}: cannot be read ({error.strerror})") from error
        # Reading a page that is no longer in the file would end the process.
        if size < self._store_size:
            raise ArtifactError(f"{self._photo_file}: was cut off while it was open; import again")
        with self._store.begin() as transaction:
            content: bytes | None = transaction.get(key)
        return content

    def photo_counts(self) -> Array:
        """Return the number of photos of each recipe, uint8 (M,)."""
        self._leave_parent()
        if self._counts is None:
            self._counts = self._array(PHOTO_COUNTS, np.uint8, self._recipes)
        return self._counts

    def title_classes(self) -> tuple[Array, list[str | None]]:
        """Return class numbers, int32 (M,), and the classes' names by number."""
        self._leave_parent()
        if self._classes is None:
            path = verified_file(self._path, self._manifest, CLASS_NAMES)
            names = json.loads(path.read_text(encoding="utf-8"))
            self._classes = (self._array(CLASSES, np.int32, self._recipes), names)
        return self._classes

    def sentences(self, dim: int) -> tuple[Offsets, Floats]:
        """Return offsets (M + 1,) and rows (S, dim) of the sentence vectors."""
        self._leave_parent()
        if self._vectors is None:
            offsets = self._array(SENTENCE_OFFSETS, np.int64, self._recipes + 1)
            path = self._compared(SENTENCES)
            size = path.stat().st_size if path.is_file() else 0
            if size != 4 * dim * int(offsets[-1]):
                raise ArtifactError(
                    f"{path}: has {size:,} bytes, not the {4 * dim * int(offsets[-1]):,} that were "
                    "written; import again"
                )
            rows = np.memmap(path, dtype="<f4", mode="r").reshape(-1, dim)
            self._vectors = (offsets, rows)
        return self._vectors

    def _compared(self, name: str) -> Path:
        """Return the path of a large file whose content is as it was written.

        Its SHA-256 is taken once on this machine and remembered beside its times: 40 GB of photos
        take a minute then, and a look at the file later.
        """
        path = inside(self._path, name)
        if path.is_file():
            (digest,) = file_digests([path], Workspace.default().cache)
            if digest != self._manifest.files.get(name):
                raise ArtifactError(
                    f"{path}: is not as it was written (SHA-256 differs); import again"
                )
        return path

    def _array(self, name: str, kind: type[Any], size: int) -> Array:
        """Read an array whole: it has a few bytes for each recipe."""
        path = verified_file(self._path, self._manifest, name)
        try:
            array: Array = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ArtifactError(f"{path}: cannot be read ({reason(error)[:160]})") from error
        if array.shape != (size,) or array.dtype != kind:
            raise ArtifactError(f"{path}: holds {array.dtype} {array.shape}, not {size} values")
        return array
