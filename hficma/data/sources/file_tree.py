"""Reads the files below a folder and inside the archives that lie there, by one kind of name.

A member of an archive is named after it, behind two slashes: `export.zip//pie/recipe.json`,
`export.zip//7.zip//recipe.json`. Nothing is unpacked onto the disk, so a member's name, whatever it
says, is only ever looked up among the archive's own.
"""

from __future__ import annotations

import io
import os
import posixpath
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ...errors import InputError
from ...limits import (
    ARCHIVE_DEPTH,
    ARCHIVE_MEMBERS,
    GZIP_FREE_BYTES,
    GZIP_RATIO,
    PHOTO_BYTES,
    open_regular_file,
    printable_path,
    read_regular_file,
)

IN_ARCHIVE = "//"
"""Parts an archive's name from its member's: `normpath` leaves no such pair in a path on the
disk."""
ARCHIVES = (".zip", ".paprikarecipes", ".melarecipes")
"""Suffixes of ZIP archives."""
# Bounds on what stays in memory: an export may be a thousand archives in one.
_OPEN_ARCHIVES = 8
_LISTED_FOLDERS = 64


class FileTree:
    """The regular files below a root folder, by name; archives among them are folders too.

    Safe to share between threads.

    Args:
        path: a folder, or one file of it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.root = path if path.is_dir() else path.parent
        self._archives: OrderedDict[str, _Archive] = OrderedDict()
        self._folders: OrderedDict[str, dict[str, str]] = OrderedDict()
        self._lock = threading.RLock()

    def walk(self, *, into_archives: bool = True) -> Iterator[str | InputError]:
        """Yield the names of all files in their order, or an error for what cannot be read.

        Names that begin with a dot are passed over, and what macOS adds to archives.

        Args:
            into_archives: yield an archive's members instead of its own name.
        """
        members = self._with_members if into_archives else _itself
        if not self._path.is_dir():
            yield from members(self._path.name)
            return
        for folder, folders, files in os.walk(self._path):
            folders[:] = sorted(name for name in folders if _is_visible(name))
            relative = Path(folder).relative_to(self._path).as_posix()
            for name in sorted(filter(_is_visible, files)):
                whole = name if relative == "." else f"{relative}/{name}"
                if not _is_text(whole):
                    yield InputError(f"{self.display_name(whole)}: its name is no UTF-8; rename it")
                else:
                    yield from members(whole)

    def display_name(self, name: str) -> str:
        """Return a file's name in messages."""
        return (
            printable_path(self.root / name)
            if IN_ARCHIVE not in name
            else str(
                printable_path(self.root / name.partition(IN_ARCHIVE)[0])
                + IN_ARCHIVE
                + name.partition(IN_ARCHIVE)[2]
            )
        )

    def read(self, name: str, *, limit: int, what: str) -> bytes:
        """Return a file's bytes.

        Args:
            name: as `walk` gives it.
            limit: bytes that it may have.
            what: what it should be, for the message.

        Raises:
            InputError: missing, too long, damaged, or no regular file.
        """
        archive, _, member = name.rpartition(IN_ARCHIVE)
        if not archive:
            return read_regular_file(self.root / name, limit=limit, what=what)
        return self._archive(archive).read(member, limit=limit, what=what)

    def names(self, folder: str) -> dict[str, str]:
        """Return the names of a folder's files by the same in lower case; empty for no folder.

        Programs write `photo.JPG` and refer to `photo.jpg`, which is one file on their systems.

        Args:
            folder: "" is the root; `export.zip//` is an archive's.
        """
        with self._lock:
            if folder not in self._folders:
                self._folders[folder] = self._listed(folder)
                if len(self._folders) > _LISTED_FOLDERS:
                    self._folders.popitem(last=False)
            return self._folders[folder]

    def _listed(self, folder: str) -> dict[str, str]:
        """Return `names` of a folder, read now."""
        archive, mark, inside = folder.rpartition(IN_ARCHIVE)
        try:
            if mark:
                return self._archive(archive).names(inside)
            with os.scandir(self.root / folder) as entries:
                names = [entry.name for entry in entries if entry.is_file()]
        except (OSError, ValueError, InputError):  # no such folder, or a name no system takes
            return {}
        return {name.lower(): name for name in sorted(names, reverse=True) if _is_text(name)}

    def _with_members(self, name: str, depth: int = 0) -> Iterator[str | InputError]:
        """Yield a file's name, or those of its members where it is an archive."""
        if not name.lower().endswith(ARCHIVES):
            yield name
            return
        if depth >= ARCHIVE_DEPTH:
            yield InputError(f"{self.display_name(name)}: an archive {ARCHIVE_DEPTH} archives deep")
            return
        try:
            members = self._archive(name).members
        except InputError as error:
            yield error
            return
        for member in members:
            yield from self._with_members(f"{name}{IN_ARCHIVE}{member}", depth + 1)

    def _archive(self, name: str) -> _Archive:
        """Return an archive, open; those inside others are read into memory."""
        with self._lock:
            if name not in self._archives:
                outer, _, member = name.rpartition(IN_ARCHIVE)
                if outer:
                    inside = self._archive(outer)
                    content = inside.read(member, limit=PHOTO_BYTES, what="an archive")
                    file: IO[bytes] = io.BytesIO(content)
                else:
                    file = open_regular_file(self.root / name, what="an archive")
                self._archives[name] = _Archive(file, self.display_name(name))
                if len(self._archives) > _OPEN_ARCHIVES:
                    self._archives.popitem(last=False)
            self._archives.move_to_end(name)
            return self._archives[name]


class _Archive:
    """A ZIP file whose sizes, as its directory claims them, are bounded."""

    def __init__(self, file: IO[bytes], display_name: str) -> None:
        self._display_name = display_name
        size = file.seek(0, os.SEEK_END)
        try:
            self._zip = zipfile.ZipFile(file)
            infos = [info for info in self._zip.infolist() if not info.is_dir()]
        except Exception as error:  # zipfile on damage: BadZipFile, IndexError, struct.error, ...
            raise InputError(f"{display_name}: is no whole ZIP archive ({error})") from error
        unpacked = sum(info.file_size for info in infos)
        if len(infos) > ARCHIVE_MEMBERS:
            raise InputError(
                f"{display_name}: has {len(infos):,} files; {ARCHIVE_MEMBERS:,} are allowed"
            )
        if unpacked > GZIP_FREE_BYTES and unpacked > GZIP_RATIO * size:
            raise InputError(
                f"{display_name}: unpacks to over {GZIP_RATIO} times its size; if it is meant "
                "so, unpack it first"
            )
        self._infos = {info.filename: info for info in infos if _is_member(info.filename)}
        self.members = sorted(self._infos)
        self._folders: dict[str, dict[str, str]] = {}
        for name in reversed(self.members):
            folder, base = posixpath.split(name)
            self._folders.setdefault(folder, {})[base.lower()] = base

    def names(self, folder: str) -> dict[str, str]:
        """Return the names of a folder's files by the same in lower case."""
        return self._folders.get(folder.rstrip("/"), {})

    def read(self, member: str, *, limit: int, what: str) -> bytes:
        """Return a member's bytes; see `FileTree.read`."""
        name = f"{self._display_name}{IN_ARCHIVE}{member}"
        info = self._infos.get(member)
        if info is None:
            raise InputError(f"{name}: no such file")
        if info.file_size > limit:
            raise InputError(f"{name}: has {info.file_size:,} bytes; {what} may have {limit:,}")
        try:
            with self._zip.open(info) as file:
                return file.read()  # never more than the size that was just measured
        except Exception as error:  # as above, zlib.error, and what is encrypted or exotic
            raise InputError(f"{name}: cannot be read ({error})") from error


def _itself(name: str) -> Iterator[str | InputError]:
    yield name


def _is_visible(name: str) -> bool:
    return not name.startswith(".")


def _is_member(name: str) -> bool:
    """Return whether an archive's entry is a file to read: not hidden, and not macOS's own."""
    parts = [part for part in name.split("/") if part != ".."]  # a name like any other here
    return all(map(_is_visible, parts)) and "" not in parts and "__MACOSX" not in parts


def _is_text(name: str) -> bool:
    # Python stands in bytes of a name that are no UTF-8 by halves of surrogate pairs (PEP 383).
    return not any("\ud800" <= character <= "\udfff" for character in name)
