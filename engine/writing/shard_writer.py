"""Writes one shard, item after item, in bounded memory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from hficma.artifacts.manifest import sha256, sync
from hficma.errors import InputError
from hficma.recipe import Recipe
from hficma.types import Array, Floats, Positions

from ..files import photo_file
from ..files.checksums import FileDigest, digest_file
from ..files.photo_file import PhotoRow, PhotoWriter
from ..files.ragged import ArrayFile, map_array
from ..index import prefilter, records
from ..index.item_encoding import (
    EXACT_TOKENS,
    LEVELS,
    NARROW,
    NO_ERROR,
    SCALE,
    BatchEncodings,
    EncodingPrecision,
    Level,
    QuantisationError,
    quantise,
    ragged_rows,
)
from ..index.records import RecordWriter
from ..index.shard_facts import BLOCKS, FACTS, ShardFacts


class ShardWriter:
    """Writes one shard, item after item, in bounded memory.

    Args:
        folder: an empty one.
        level: at which items are stored; None for a model without a local part.
        precision: in which the wide arrays of their encodings are stored.
        exact_tokens: whether tokens are stored in float16 too.

    Attributes:
        count: items written so far.
    """

    def __init__(
        self,
        folder: Path,
        *,
        level: Level | None,
        precision: EncodingPrecision,
        exact_tokens: bool = False,
    ) -> None:
        self._folder = folder
        self._precision = precision
        self._exact_tokens = exact_tokens
        self._names = LEVELS[level] if level else ()
        self._files: dict[str, ArrayFile] = {}
        self._errors: dict[str, QuantisationError] = {}
        self._stack = ExitStack()
        self._records = RecordWriter(folder / records.FILE)
        self._stack.callback(self._records.abandon)
        self._photos: PhotoWriter | None = None
        self._last_number = -1
        self.count = 0
        self._tokens = 0

    def append(
        self,
        numbers: Sequence[int] | Positions,
        recipes: Sequence[Recipe],
        vectors: Floats,
        encodings: BatchEncodings | None,
        photos: Sequence[PhotoRow | None] = (),
    ) -> None:
        """Write N items.

        Args:
            numbers: (N,) of the items in the index: rising, above those written before.
            recipes: their records.
            vectors: (N, D_g) global vectors, float32.
            encodings: at the shard's level; None without a local part.
            photos: what is known of each item's photo; empty where nothing is.

        Raises:
            InputError: a value that is not finite.
        """
        rows: dict[str, Array] = {}
        for name in self._names:
            assert encodings is not None
            exact = ragged_rows(encodings, name)
            if not np.isfinite(exact).all():
                raise InputError(
                    f"{recipes[0].id} to {recipes[-1].id}: the model gives one of them {name} that "
                    "are not finite; leave it out, or look at the model's weights"
                )
            if name in NARROW:
                rows[name] = exact
                continue
            if self._precision == "int4" and (exact < 0).any():
                raise InputError(
                    f"{recipes[0].id} to {recipes[-1].id}: the model gives one of them negative "
                    f"{name}, which int4 cannot hold; store them in int8"
                )
            rows[name], scales, error = quantise(exact, self._precision)
            self._errors[name] = self._errors.get(name, NO_ERROR).joined(error)
            if scales is not None:
                rows[name + SCALE] = scales
            if self._exact_tokens:
                rows[EXACT_TOKENS] = quantise(exact, "fp16")[0]
        lengths = encodings.lengths if encodings else np.zeros(len(recipes), dtype=np.int64)
        self.append_stored(numbers, recipes, vectors, lengths, rows, photos)

    def append_stored(
        self,
        numbers: Sequence[int] | Positions,
        recipes: Sequence[Recipe],
        vectors: Floats,
        lengths: Positions,
        rows: Mapping[str, Array],
        photos: Sequence[PhotoRow | None] = (),
    ) -> None:
        """Write N items whose rows are as another shard stored them.

        Args:
            numbers: (N,) of the items in the index: rising, above those written before.
            recipes: their records.
            vectors: (N, D_g) global vectors, float32.
            lengths: (N,) L, tokens of each item; zeros without a local part.
            rows: array to its stored rows, with scales beside int8 and int4 ones.
            photos: what is known of each item's photo; empty where nothing is.

        Raises:
            InputError: a vector that is not finite.
        """
        numbers = np.asarray(numbers, dtype=np.int64)
        if not len(numbers):
            return
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            # A vector without a place among the others would be in no answer, or in every one.
            raise InputError(
                f"{recipes[int(np.argmin(finite))].id}: the model gives it a vector that is not "
                "finite; leave it out, or look at the model's weights"
            )
        assert numbers[0] > self._last_number
        self._last_number = int(numbers[-1])
        self._array("numbers").append(numbers)
        self._array("lengths").append(np.asarray(lengths, dtype=np.int64))
        self._array("global").append(np.asarray(vectors, dtype=np.float32))
        for name, values in rows.items():
            self._array(name).append(values)
        self._records.append(recipes)
        if any(photo is not None for photo in photos):
            self._photo_writer().append(self.count, photos)
        self.count += len(numbers)
        self._tokens += int(lengths.sum())

    def add_errors(self, errors: Mapping[str, QuantisationError]) -> None:
        """Count the errors of rows that came by `append_stored`.

        Args:
            errors: array to how far its stored values are from the computed ones.
        """
        for name, error in errors.items():
            self._errors[name] = self._errors.get(name, NO_ERROR).joined(error)

    def finish(self, factory: str) -> ShardFacts:
        """Build the prefilter, close the files and write `shard.json`, all synced to the disk.

        Args:
            factory: FAISS factory string of the prefilter.

        Returns:
            what `shard.json` says.
        """
        # The prefilter is built from the file of vectors, mapped: memory need not hold a shard's.
        for file in self._files.values():
            file.close()
        self._records.close()
        if self._photos is not None:
            self._photos.close()
        arrays = {name: file.layout for name, file in self._files.items()}
        digests = {
            name: FileDigest(file.layout.nbytes, file.sha256, file.sums)
            for name, file in self._files.items()
        }
        facts = None
        if self.count:
            vectors = map_array(self._folder / "global", arrays["global"])
            facts = prefilter.build_prefilter(vectors, factory, self._folder)
        for name in (records.FILE, prefilter.FILE, photo_file.FILE):
            if (self._folder / name).exists():
                digests[name] = digest_file(self._folder / name)
        # In the order of names, by which `ShardFacts.block_slices` gives each file its part.
        sums = [digests[name].sums for name in sorted(digests)]
        (self._folder / BLOCKS).write_bytes(np.concatenate(sums).tobytes())
        files = {name: digest.sha256 for name, digest in digests.items()}
        shard = ShardFacts(
            count=self.count,
            tokens=self._tokens,
            arrays=arrays,
            errors=self._errors,
            prefilter=facts,
            files={**files, BLOCKS: sha256(self._folder / BLOCKS)},
            sizes={name: digest.size for name, digest in digests.items()},
            photos=None if self._photos is None else self._photos.counts,
        )
        # Last, since it holds the hashes of all others; the manifest will hold its own.
        (self._folder / FACTS).write_text(json.dumps(shard.to_json()), encoding="utf-8")
        for path in (*self._folder.iterdir(), self._folder):
            sync(path)
        return shard

    def _photo_writer(self) -> PhotoWriter:
        """Return the writer of photos, opened at the first one: most indexes of text have none."""
        if self._photos is None:
            self._photos = PhotoWriter(self._folder / photo_file.FILE)
            self._stack.callback(self._photos.abandon)
        return self._photos

    def _array(self, name: str) -> ArrayFile:
        """Return the file of an array, opened at its first rows: shapes are not known before."""
        if name not in self._files:
            self._files[name] = self._stack.enter_context(ArrayFile(self._folder / name))
        return self._files[name]

    def close(self) -> None:
        """Release the files, finished or not."""
        self._stack.close()
