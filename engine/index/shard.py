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
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hficma.artifacts.closing import Closing
from hficma.artifacts.file_memory import FileMemory
from hficma.errors import ArtifactError

from ..files.checksums import CheckedFile, Sums, block_count
from ..files.file_bytes import open_bytes, unreadable
from ..files.ragged import StoredRows
from . import records
from . import vector_index as prefilter
from .item_encoding import (
    StoredEncodings,
)
from .records import Records
from .shard_facts import BLOCKS, FACTS, FACTS_BYTES, ShardFacts
from .vector_index import Prefilter

Positions = npt.NDArray[np.int64]


class Shard(Closing):
    """A shard opened for reading; everything large is mapped, and compared when it is read.

    Args:
        folder: of the shard.
        listed: SHA-256 by file as the index's manifest has them; None for a shard that no
            manifest names yet.
        memory: which files this machine has compared whole; None takes the workspace's.

    Raises:
        ArtifactError: a file is missing, a link, has not its length, or `shard.json`, the items'
            numbers or their lengths are not as they were written.
    """

    def __init__(
        self,
        folder: Path,
        listed: Mapping[str, str] | None = None,
        memory: FileMemory | None = None,
    ) -> None:
        self.folder = folder
        self._sizes = _sizes(folder)
        self.facts = self._read_facts(listed)
        self.count = self.facts.count
        self._memory = memory or FileMemory("index")
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
            open_bytes(self.folder / name, size), sums, sha256 if trusted else None, self._memory
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
