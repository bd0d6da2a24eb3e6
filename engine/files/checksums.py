"""Compares the files of an index with their checksums, before what is in them counts.

A shard's file `blocks` holds XXH3 of every 64 KiB of every other file, so that what a search reads
is checked as it is read: 64 KiB take 3 µs. They find bit rot, torn copies and flipped bits, not
someone who can write the checksums too. Shards of older versions have one SHA-256 a file, and are
compared file by file. What was compared whole is remembered on this machine.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import xxhash

from hficma.artifacts.file_memory import FileMemory
from hficma.errors import ArtifactError
from hficma.types import Offsets

from .file_bytes import Content, FileBytes

BLOCK = 1 << 16
"""Bytes a checksum: about what a recipe's tokens take, so that little is hashed that is not read,
and an 8,000th of an index is checksums. 16 KiB hash no faster, for the call costs as much then."""
REMEMBERED_BYTES = 1 << 20
"""Smaller files are compared each time they are opened: that takes a millisecond at most."""

Checksums: TypeAlias = npt.NDArray[np.uint64]
"""(blocks,) XXH3-64, little-endian."""

_log = logging.getLogger("hficma")


def block_count(size: int) -> int:
    """Return how many checksums a file of `size` bytes has."""
    return -(-size // BLOCK)


class BlockSums:
    """Computes the checksums of bytes that come in pieces of any length."""

    def __init__(self) -> None:
        self._sums: list[int] = []
        self._block = xxhash.xxh3_64()
        self._filled = 0

    def update(self, content: bytes | memoryview) -> None:
        """Take the next bytes."""
        start = 0
        # Blocks lie in the file, wherever pieces are cut: one may end a block and begin the next.
        while start < len(content):
            piece = content[start : start + BLOCK - self._filled]
            self._block.update(piece)
            self._filled += len(piece)
            start += len(piece)
            if self._filled == BLOCK:
                self._sums.append(self._block.intdigest())
                self._block = xxhash.xxh3_64()
                self._filled = 0

    def array(self) -> Checksums:
        """Return the checksums of what came so far."""
        rest = [self._block.intdigest()] if self._filled else []
        return np.array([*self._sums, *rest], dtype="<u8")


class FileDigest(NamedTuple):
    """Size and hashes of a file: what it is compared with later."""

    size: int
    """Bytes."""
    sha256: str
    sums: Checksums
    """(blocks,) checksums of its blocks."""


def digest_file(path: Path) -> FileDigest:
    """Read a file and return its hashes."""
    whole, sums, size = hashlib.sha256(), BlockSums(), 0
    with path.open("rb") as file:
        while piece := file.read(16 * BLOCK):
            whole.update(piece)
            sums.update(memoryview(piece))
            size += len(piece)
    return FileDigest(size, whole.hexdigest(), sums.array())


class CheckedFile:
    """A file's bytes, none of which is read before it was compared with its checksum.

    Any number of threads may read at once: setting a block's mark twice does no harm.

    Args:
        file: as opened.
        sums: (blocks,) checksums of its blocks; None where there are none.
        sha256: of the whole file, compared where there are no blocks; None where there is none.
        memory: which files this machine has compared whole.
    """

    def __init__(
        self, file: FileBytes, sums: Checksums | None, sha256: str | None, memory: FileMemory
    ) -> None:
        self.path = file.path
        self.content = file.content
        """(bytes,) as they are: for reading through `check` and `check_all` only."""
        self._identity = file.identity
        self._sums = sums
        self._sha256 = sha256
        self._memory = memory
        self._compared = np.zeros(block_count(len(file.content)), dtype=bool)
        self._whole = not len(file.content)
        """Whether nothing is left to compare; an empty file has nothing."""
        self._lock = threading.Lock()

    @property
    def checkable(self) -> bool:
        """Return whether there is anything to compare the file with."""
        return self._sums is not None or self._sha256 is not None

    def check(self, starts: Offsets, stops: Offsets) -> None:
        """Compare the blocks of byte ranges that were not compared before.

        Args:
            starts: (N,) first bytes.
            stops: (N,) the bytes behind the last ones.

        Raises:
            ArtifactError: a block is not as it was written.
        """
        if self._whole:
            return
        if self._sums is None:
            self.check_all()
            return
        # Bytes   0         64 Ki       128 Ki      192 Ki
        # Blocks  |    0    |     1     |     2     |        a range touches blocks first ...
        # Range        [-------------------)                 first + count - 1: here 0 and 1
        first = starts // BLOCK  # (N,)
        counts = np.where(stops > starts, (stops - 1) // BLOCK + 1 - first, 0)
        # first, first + 1, ... of every range, one range after the other, without a loop in Python:
        # a count over all of them, moved in each range to begin at the range's first block.
        blocks = np.repeat(first - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
        self._compare(np.unique(blocks[~self._compared[blocks]]), self._sums)

    def check_all(self) -> None:
        """Compare the whole file, unless this machine did so before.

        Raises:
            ArtifactError: it is not as it was written.
        """
        if self._whole or not self.checkable:
            return
        with self._lock:
            self._check_all_once()

    def _check_all_once(self) -> None:
        """Compare the whole file, with the lock held."""
        if self._whole:  # by another thread, while this one waited
            return
        if len(self.content) < REMEMBERED_BYTES:
            self._compare_whole()
        elif self._memory.digest_of(self._identity) != (expected := self._expected()):
            self._compare_whole()
            self._memory.remember({self._identity: expected})
        self._whole = True

    def _expected(self) -> str:
        """Return what the memory knows a whole file by: its SHA-256, or a hash of its checksums."""
        if self._sums is None:
            assert self._sha256 is not None
            return self._sha256
        return xxhash.xxh3_128_hexdigest(self._sums.tobytes())

    def _compare_whole(self) -> None:
        """Compare what was not compared yet."""
        if self._sums is not None:
            self._compare(np.flatnonzero(~self._compared), self._sums)
            return
        if len(self.content) >= REMEMBERED_BYTES:
            _log.info("%s: comparing it with its SHA-256, once on this machine", self.path)
        if hashlib.sha256(self.content.data).hexdigest() != self._sha256:
            raise self._damaged("SHA-256 differs")

    def _compare(self, blocks: Offsets, sums: Checksums) -> None:
        """Compare blocks by their numbers, and mark them as compared."""
        content: Content = self.content
        for block in blocks.tolist():
            piece = content[block * BLOCK : (block + 1) * BLOCK]
            if xxhash.xxh3_64_intdigest(piece.data) != int(sums[block]):
                raise self._damaged(f"bytes from {block * BLOCK}")
        self._compared[blocks] = True

    def _damaged(self, what: str) -> ArtifactError:
        """Return the error that says where the file is damaged."""
        return ArtifactError(
            f"{self.path}: is not as it was written ({what}); make the index again, or see with "
            "`hficma index verify` what else is damaged"
        )
