"""A shard: some items of an index in a folder that never changes once it is written.

    file              element type, shape          what it holds
    shard.json        JSON                         what is in the shard, SHA-256 of its files
    blocks            uint64                       XXH3 of every 64 KiB of the files below
    numbers           int64 (N,)                   the items' numbers in the index, rising
    lengths           int64 (N,)                   L, the tokens of each item; 0 without encodings
    global            float32 (N, D_g)             vectors whose inner product is S_global
    prefilter.faiss   FAISS                        no file if it is Flat, which reads `global`
    records.sqlite    SQLite                       the recipes, and the words of their ingredients
    photos.sqlite     SQLite                       the items' photos, where any is known

and the encodings of one level, ragged (`item_encoding` draws their rows), in float32, float16,
int8 with a scale a row or, tokens alone, int4 with a scale a group of features (`files.int4`):

    level         arrays                            shape           int8: scales
    tokens        tokens                            (sum(L), D)     tokens.scale (sum(L),)
    projections   query, key, value, gate, fuse     (sum(L), D)     query.scale (sum(L),), ...
                  gate_bias                         (sum(L),)       stays float32
                  mean                              (N, D)          stays float32
    tables        those of projections, and table   (H sum(L), D)   table.scale (H sum(L),)

    tokens in int4                                  (sum(L), D / 2) tokens.scale (sum(L), D / 32)
    exact_tokens  float16, beside tokens in int8    (sum(L), D)     none
                  or int4, where they are kept

Each array is a file of its own, little-endian, without a header: it is mapped, and an item's rows
are read where they lie.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hficma.artifacts.closing import Closing
from hficma.artifacts.file_memory import FileMemory
from hficma.errors import ArtifactError
from hficma.types import Lengths, Positions

from ..files import photo_file
from ..files.checksums import CheckedFile, Checksums, block_count
from ..files.file_bytes import open_bytes, unreadable
from ..files.photo_file import PhotoFile
from ..files.ragged import Rows, StoredRows, whole_rows
from . import prefilter, records
from .item_encoding import EXACT_TOKENS, StoredEncodings
from .prefilter import Prefilter
from .records import Records
from .shard_facts import BLOCKS, FACTS, FACTS_BYTES, ShardFacts


class ShardRecords(Closing):
    """The records, photos and numbers of a shard's items: what answers are written with.

    Of what searching reads nothing is opened, so that a process that only writes answers may hold
    as many shards as there are.

    Args:
        folder: of the shard.
        listed: SHA-256 by file as the index's manifest has them; None for a shard that no
            manifest names yet.
        memory: which files this machine has compared whole; None takes the workspace's.

    Raises:
        ArtifactError: a file is missing, a link, has not its length, or `shard.json` or the first
            or last number is not as it was written.
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
        self.listed = listed
        """SHA-256 by file, as the index's manifest had them when this shard was opened."""
        self._sums = self._read_sums()
        self._slices = self.facts.block_slices()
        self.verified = True
        """Whether there is something to compare every file with."""
        self._numbers: Rows = self._open_array("numbers")
        self.first_number, self.last_number = self._numbers[np.array([0, self.count - 1])].tolist()
        self.records = Records(
            folder / records.FILE,
            self._open_file(records.FILE),
            rows_checked=self.facts.sizes is not None,
        )
        self.photos: PhotoFile | None = None
        """What is known of the items' photos; None where nothing is."""
        if self.facts.photos is not None:
            self.photos = PhotoFile(folder / photo_file.FILE, self._open_file(photo_file.FILE))

    def close(self) -> None:
        """Release the files of records and photos.

        Arrays stay mapped while something refers to them, so a search that runs cannot read what
        is no longer there; the last reference gone, their files are unmapped.
        """
        self.records.close()
        if self.photos is not None:
            self.photos.close()

    @property
    def bytes(self) -> int:
        """Return the bytes of all its files."""
        return sum(self._sizes.values())

    @property
    def numbers(self) -> Positions:
        """Return the items' numbers in the index, (N,), rising."""
        numbers: Positions = whole_rows(self._numbers)
        return numbers

    def _read_facts(self, listed: Mapping[str, str] | None) -> ShardFacts:
        """Return what `shard.json` says, compared with what the manifest lists."""
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
            expected = {name: listed.get(name, digest) for name, digest in facts.files.items()}
            if expected != facts.files or (facts.sizes is not None and FACTS not in listed):
                raise ArtifactError(f"{self.folder}: is not what the manifest names")
        return facts

    def _read_sums(self) -> Checksums | None:
        """Return the checksums of all files' blocks; None where an older version wrote none."""
        if self.facts.sizes is None:
            return None
        size = 8 * sum(map(block_count, self.facts.sizes.values()))
        sums: Checksums = open_bytes(self.folder / BLOCKS, size).content.view("<u8")
        return sums

    def _open_array(self, name: str) -> StoredRows:
        """Open an array of the facts."""
        layout = self.facts.arrays[name]
        return StoredRows(layout, self._open_file(name, layout.nbytes))

    def _open_file(self, name: str, size: int | None = None) -> CheckedFile:
        """Open a file, with what it is to be compared with.

        Args:
            name: of the file in the shard.
            size: bytes that it must have; None takes what the facts say.
        """
        if size is None:
            size = (self.facts.sizes or self._sizes).get(name, 0)
        sums = None if self._sums is None else self._sums[self._slices[name]]
        sha256 = self.facts.files[name]
        trusted = self.listed is None or FACTS in self.listed
        self.verified &= trusted
        return CheckedFile(
            open_bytes(self.folder / name, size), sums, sha256 if trusted else None, self._memory
        )


class Shard(ShardRecords):
    """A shard, open for searching; everything large is mapped, and compared when it is read.

    Args and what it raises are those of `ShardRecords`; numbers that do not rise and lengths that
    are not those of the facts are refused too.
    """

    def __init__(
        self,
        folder: Path,
        listed: Mapping[str, str] | None = None,
        memory: FileMemory | None = None,
    ) -> None:
        super().__init__(folder, listed, memory)
        arrays = {name: self._open_array(name) for name in self.facts.arrays if name != "numbers"}
        # Copied: they are read whole, and a mapping is worth more than their few bytes.
        self._numbers = np.array(self.numbers)
        lengths: Lengths = np.array(arrays.pop("lengths").whole())
        self._check_items(lengths)
        self.vectors = arrays.pop("global")
        exact_tokens = arrays.pop(EXACT_TOKENS, None)
        self.exact_encodings: StoredEncodings | None = None
        """The same items' tokens in float16, where `encodings` has fewer bits and these are kept;
        apart, since a search touches them only where it scores its best items again."""
        if exact_tokens is not None:
            self.exact_encodings = StoredEncodings(lengths, {"tokens": exact_tokens}, 1)
        self.encodings: StoredEncodings | None = None
        if arrays:
            self.encodings = StoredEncodings(lengths, arrays, self.facts.heads)
        assert self.facts.prefilter is not None
        stored = None
        if self.facts.prefilter.factory != "Flat":
            stored = self._open_file(prefilter.FILE)
        self.prefilter = Prefilter(self.facts.prefilter, self.vectors, stored)

    @property
    def encoding_bytes(self) -> int:
        """Return the bytes of the items' encodings, exact tokens included."""
        return sum(
            rows.nbytes
            for encodings in (self.encodings, self.exact_encodings)
            if encodings is not None
            for rows in encodings.arrays.values()
        )

    def _check_items(self, lengths: Lengths) -> None:
        """Refuse numbers that do not rise, and lengths that are not those of the facts."""
        numbers = self.numbers
        rising = numbers[0] >= 0 and bool((np.diff(numbers) > 0).all())
        least = 1 if self.facts.level else 0
        # Each is bounded before they are summed: absurd ones may wrap around to the right sum.
        bounded = lengths.min() >= least and lengths.max() <= self.facts.tokens
        if not rising or not bounded or int(lengths.sum()) != self.facts.tokens:
            raise ArtifactError(
                f"{self.folder}: the numbers or lengths of its items are damaged; "
                "make the index again"
            )


def _sizes(folder: Path) -> dict[str, int]:
    """Return the bytes of a shard's files, none of which is a link."""
    try:
        with os.scandir(folder) as entries:
            files = list(entries)
        for entry in files:
            if entry.is_symlink():
                raise ArtifactError(
                    f"{entry.path}: is a link, and none is followed inside an artifact; "
                    "put what it points to in its place"
                )
        return {entry.name: entry.stat(follow_symlinks=False).st_size for entry in files}
    except OSError as error:
        raise ArtifactError(f"{folder}: {unreadable(error)}") from error
