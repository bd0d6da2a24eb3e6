"""A shard: some items of an index in a folder that never changes once it is written.

shard.json        what is in it
blocks            checksums of every 64 KiB of the files below
numbers, lengths  (N,) int64: the items' numbers in the index, and their tokens
global            (N, D_g) float32: the vectors whose inner product is S_global
query, key, ...   the arrays of one level, ragged; int8 ones have a `.scale` beside them
prefilter.faiss   unless the prefilter is Flat, which reads `global`
records.sqlite    the recipes
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hficma.artifacts.closing import Closing
from hficma.artifacts.manifest import sha256, sync
from hficma.errors import ArtifactError, InputError
from hficma.recipe import Recipe

from ..files.checksums import CheckedFile, Digest, Sums, Verified, block_count, digest_file
from ..files.file_bytes import open_bytes, unreadable
from ..files.ragged import Array, ArrayFile, StoredRows, map_array
from . import records
from . import vector_index as prefilter
from .item_encoding import (
    LEVELS,
    NARROW,
    NO_ERROR,
    SCALE,
    Level,
    Precision,
    QuantisationError,
    RaggedEncodings,
    StoredEncodings,
    quantise,
    rows_of,
)
from .records import Records, RecordWriter
from .shard_facts import BLOCKS, FACTS, FACTS_BYTES, ShardFacts
from .vector_index import Prefilter, Vectors

Positions = npt.NDArray[np.int64]


class ShardWriter:
    """Writes one shard, item after item, in bounded memory.

    Args:
        folder: an empty one.
        level: of the sides; None for a model without a local part.
        precision: of the sides' wide arrays.
    """

    def __init__(self, folder: Path, *, level: Level | None, precision: Precision) -> None:
        self._folder = folder
        self._precision = precision
        self._names = LEVELS[level] if level else ()
        self._files: dict[str, ArrayFile] = {}
        self._errors: dict[str, QuantisationError] = {}
        self._stack = ExitStack()
        self._records = RecordWriter(folder / records.FILE)
        self._stack.callback(self._records.abandon)
        self._last_number = -1
        self.count = 0
        self._tokens = 0

    def append(
        self,
        numbers: Sequence[int] | Positions,
        recipes: Sequence[Recipe],
        vectors: Vectors,
        encodings: RaggedEncodings | None,
    ) -> None:
        """Write items.

        Args:
            numbers: (N,) rising, above those written before.
            recipes: their records.
            vectors: (N, D_g) global vectors.
            sides: at the shard's level; None without a local part.
        """
        rows: dict[str, Array] = {}
        for name in self._names:
            assert encodings is not None
            exact = rows_of(encodings, name)
            if not np.isfinite(exact).all():
                raise InputError(
                    f"{recipes[0].id} to {recipes[-1].id}: the model gives one of them {name} that "
                    "are not finite; leave it out, or look at the model's weights"
                )
            if name in NARROW:
                rows[name] = exact
                continue
            rows[name], scales, error = quantise(exact, self._precision)
            self._errors[name] = self._errors.get(name, NO_ERROR).joined(error)
            if scales is not None:
                rows[name + SCALE] = scales
        lengths = encodings.lengths if encodings else np.zeros(len(recipes), dtype=np.int64)
        self.append_stored(numbers, recipes, vectors, lengths, rows)

    def append_stored(
        self,
        numbers: Sequence[int] | Positions,
        recipes: Sequence[Recipe],
        vectors: Vectors,
        lengths: Positions,
        rows: Mapping[str, Array],
    ) -> None:
        """Write items whose rows are as another shard stored them."""
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
        self.count += len(numbers)
        self._tokens += int(lengths.sum())

    def add_errors(self, errors: Mapping[str, QuantisationError]) -> None:
        """Count the errors of rows that came by `append_stored`."""
        for name, error in errors.items():
            self._errors[name] = self._errors.get(name, NO_ERROR).joined(error)

    def finish(self, factory: str) -> ShardFacts:
        """Make the prefilter, close the files and write `shard.json`, all of it on the disk."""
        for file in self._files.values():
            file.close()
        self._records.close()
        arrays = {name: file.layout for name, file in self._files.items()}
        digests = {
            name: Digest(file.layout.nbytes, file.sha256, file.sums)
            for name, file in self._files.items()
        }
        facts = None
        if self.count:
            vectors = map_array(self._folder / "global", arrays["global"])
            facts = prefilter.build_prefilter(vectors, factory, self._folder)
        for name in (records.FILE, prefilter.FILE):
            if (self._folder / name).exists():
                digests[name] = digest_file(self._folder / name)
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
        )
        (self._folder / FACTS).write_text(json.dumps(shard.to_json()), encoding="utf-8")
        for path in (*self._folder.iterdir(), self._folder):
            sync(path)
        return shard

    def _array(self, name: str) -> ArrayFile:
        if name not in self._files:
            self._files[name] = self._stack.enter_context(ArrayFile(self._folder / name))
        return self._files[name]

    def close(self) -> None:
        """Let go of the files, finished or not."""
        self._stack.close()


class Shard(Closing):
    """A shard opened for reading; everything large is mapped, and compared when it is read.

    Args:
        folder: of the shard.
        listed: SHA-256 by file as the index's manifest has them; None for a shard that no
            manifest names yet.
        verified: what this machine knows of files; None asks the workspace.

    Raises:
        ArtifactError: a file is missing, a link, has not its length, or `shard.json`, the items'
            numbers or their lengths are not as they were written.
    """

    def __init__(
        self,
        folder: Path,
        listed: Mapping[str, str] | None = None,
        verified: Verified | None = None,
    ) -> None:
        self.folder = folder
        self._sizes = _sizes(folder)
        self.facts = self._read_facts(listed)
        self.count = self.facts.count
        self._verified = verified or Verified()
        self._listed = listed
        self._sums = self._read_sums()
        self._slices = self.facts.block_slices()
        self.verified = True
        """Whether there is something to compare every file with."""
        arrays = {
            name: StoredRows(layout, self._opened(name, layout.nbytes))
            for name, layout in self.facts.arrays.items()
        }
        # Copied: they are read whole, and a mapping is worth more than their few bytes.
        self.numbers: Positions = np.array(arrays.pop("numbers").whole())
        lengths: Positions = np.array(arrays.pop("lengths").whole())
        self._check_items(self.numbers, lengths)
        self.vectors = arrays.pop("global")
        self.encodings: StoredEncodings | None = None
        if arrays:
            self.encodings = StoredEncodings(lengths, arrays, self.facts.heads)
        self.records = Records(
            folder / records.FILE,
            self._opened(records.FILE),
            rows_checked=self.facts.sizes is not None,
        )
        assert self.facts.prefilter is not None
        stored = None
        if self.facts.prefilter.factory != "Flat":
            stored = self._opened(prefilter.FILE)
        self.prefilter = Prefilter(self.facts.prefilter, self.vectors, stored)

    def close(self) -> None:
        """Let go of the records' file; arrays stay mapped while something holds them."""
        self.records.close()

    @property
    def bytes(self) -> int:
        """Of all its files."""
        return sum(self._sizes.values())

    def _read_facts(self, listed: Mapping[str, str] | None) -> ShardFacts:
        size = self._sizes.get(FACTS, 0)
        if size > FACTS_BYTES:
            raise ArtifactError(f"{self.folder / FACTS}: has {size:,} bytes; make the index again")
        content = open_bytes(self.folder / FACTS, size).content.tobytes()
        if listed is not None:
            digest = hashlib.sha256(content).hexdigest()
            if listed.get(FACTS, digest) != digest:
                raise ArtifactError(
                    f"{self.folder / FACTS}: is not as it was written (SHA-256 differs); "
                    "make the index again"
                )
        facts = ShardFacts.parse(content, str(self.folder))
        if not facts.count:
            raise ArtifactError(f"{self.folder}: holds no item; make the index again")
        if listed is not None:
            # What is missing in a manifest of an older version cannot be compared; what such a
            # manifest has, and all of a newer one, is.
            known = {name: listed.get(name, digest) for name, digest in facts.files.items()}
            if known != facts.files or (facts.sizes is not None and FACTS not in listed):
                raise ArtifactError(f"{self.folder}: is not what the manifest names")
        return facts

    def _read_sums(self) -> Sums | None:
        if self.facts.sizes is None:
            return None
        size = 8 * sum(map(block_count, self.facts.sizes.values()))
        sums: Sums = open_bytes(self.folder / BLOCKS, size).content.view("<u8")
        return sums

    def _opened(self, name: str, size: int | None = None) -> CheckedFile:
        """Open a file, with what it is to be compared with."""
        if size is None:
            size = (self.facts.sizes or self._sizes).get(name, 0)
        sums = None if self._sums is None else self._sums[self._slices[name]]
        sha256 = self.facts.files[name]
        trusted = self._listed is None or FACTS in self._listed
        self.verified &= trusted
        return CheckedFile(
            open_bytes(self.folder / name, size), sums, sha256 if trusted else None, self._verified
        )

    def _check_items(self, numbers: Positions, lengths: Positions) -> None:
        rising = numbers[0] >= 0 and bool((np.diff(numbers) > 0).all())
        least = 1 if self.facts.level else 0
        # Counted in Python's integers where one is absurd: a sum may wrap around to be right.
        sound = lengths.min() >= least and lengths.max() <= self.facts.tokens
        if not rising or not sound or int(lengths.sum()) != self.facts.tokens:
            raise ArtifactError(
                f"{self.folder}: the numbers or lengths of its items are damaged; "
                "make the index again"
            )


def _sizes(folder: Path) -> dict[str, int]:
    """Return the bytes of a shard's files, none of which is a link."""
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
        for entry in found:
            if entry.is_symlink():
                raise ArtifactError(
                    f"{entry.path}: is a link, and none is followed inside an artifact; "
                    "put what it points to in its place"
                )
        return {entry.name: entry.stat(follow_symlinks=False).st_size for entry in found}
    except OSError as error:
        raise ArtifactError(f"{folder}: {unreadable(error)}") from error
