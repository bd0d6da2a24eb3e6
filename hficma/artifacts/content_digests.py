"""Digests that caches are keyed by: of what files and code contain, never of a name or a count."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from io import BufferedReader
from pathlib import Path
from typing import cast

from ..errors import InputError
from ..limits import open_regular_file
from .file_memory import FileIdentity, FileMemory

THREADS = 8
"""Files read at once; hashing releases the interpreter."""


def file_digests(paths: Iterable[Path], cache: Path) -> list[str]:
    """Return the SHA-256 of each file, in order; of one that cannot be read, of the reason why.

    Args:
        paths: of files; each that is remembered unchanged is looked at, not read.
        cache: the workspace's cache folder, where digests are remembered.
    """
    names = [os.path.abspath(path) for path in paths]
    identities = {name: _identity(name) for name in dict.fromkeys(names)}
    memory = FileMemory("caches", cache)
    known = memory.recall(identity for identity in identities.values() if identity is not None)
    digests = {
        name: known[identity]
        for name, identity in identities.items()
        if identity is not None and identity in known
    }
    unknown = [name for name in identities if name not in digests]
    with ThreadPoolExecutor(THREADS) as pool:
        read = dict(zip(unknown, pool.map(_digest, unknown), strict=True))
    memory.remember(
        {
            identity: digest
            for name, digest in read.items()
            # Looked at again: one that was written while it was read is another file now.
            if (identity := identities[name]) is not None and _identity(name) == identity
        }
    )
    digests |= read
    return [digests[name] for name in names]


@cache
def code_digest(*modules: str, packages: tuple[str, ...] = ()) -> str:
    """Return a digest that changes with the source of modules and the versions of packages.

    Read once a process: what is on disk may be newer than what runs, after an update.

    Args:
        modules: by full name; a package stands for all of its own modules, and `hficma.image*` for
            those of that package whose names begin so.
        packages: distributions; one that is not installed counts as such.
    """
    digest = hashlib.sha256()
    for module in modules:
        package, _, pattern = module.rpartition(".") if module.endswith("*") else (module, "", "*")
        spec = find_spec(package)
        assert spec is not None, module
        assert spec.origin is not None, module
        origin = Path(spec.origin)
        several = origin.name == "__init__.py"
        files = sorted(origin.parent.glob(f"{pattern}.py")) if several else [origin]
        assert files, module  # a digest of nothing would never change
        for file in files:
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    for package in packages:
        try:
            digest.update(f"{package} {metadata.version(package)}\n".encode())
        except metadata.PackageNotFoundError:
            digest.update(f"{package} none\n".encode())
    return digest.hexdigest()


def _identity(name: str) -> FileIdentity | None:
    """Return the identity of a file; None where there is no such regular file."""
    try:
        status = os.stat(name)
    except (OSError, ValueError):
        return None
    return FileIdentity.of(status) if stat.S_ISREG(status.st_mode) else None


def _digest(name: str) -> str:
    try:
        with open_regular_file(name) as file:
            return hashlib.file_digest(cast(BufferedReader, file), "sha256").hexdigest()
    except (OSError, InputError) as error:
        return hashlib.sha256(f"unreadable: {error}".encode()).hexdigest()
