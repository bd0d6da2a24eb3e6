"""Writes and opens directories with a manifest: runs, bundles, indexes, reports and data sets.

A directory is built beside its place and renamed into it when whole, so that a killed
command leaves nothing half-made and a reader never sees a half-made one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import ArtifactError, HficmaError, InputError
from ..limits import MEGABYTE, read_regular_file
from .json_fields import Fields, strict_json
from .unfinished import unfinished_directory, unfinished_file

MANIFEST = "manifest.json"
FORMAT_VERSION = 1
"""What is written where every reader since the first can read it."""
NEWEST_FORMAT = 2
"""The newest that is read: an index of `engine.index.index_facts.FOUR_BITS`."""
KINDS = ("run", "bundle", "index", "report", "dataset", "vectors")
MANIFEST_BYTES = 500 * MEGABYTE
"""A manifest's length: an index lists 13 files a shard, and the numbers of removed items."""
SELF_HASH = "sha256"
"""The key of a manifest's hash of itself."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a directory records of itself in its `manifest.json`."""

    kind: str
    """One of `KINDS`."""
    made_by: str
    """The command and version that wrote it."""
    files: dict[str, str]
    """Path inside the directory to SHA-256."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What this kind of directory records beside its files (JSON values)."""
    format_version: int = FORMAT_VERSION
    """Raised when a reader of the old format could not read the new one."""
    created: str | None = None
    """When `write_manifest` wrote it, ISO 8601 in UTC; None from versions that did not say."""

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as JSON values."""
        record = {
            "format_version": self.format_version,
            "kind": self.kind,
            "made_by": self.made_by,
            "created": self.created,
            "facts": self.facts,
            "files": self.files,
        }
        return {key: value for key, value in record.items() if value is not None}


@contextlib.contextmanager
def new_directory(path: Path, *, kind: str, made_by: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Build an artifact beside `path` and rename it there when the block ends without error.

    Every file is on the disk before the name is; see `atomic_directory`.

    Yields:
        the directory to write into, and a dict for the manifest's `facts`.

    Raises:
        ArtifactError: `path` exists, its folder cannot be written, or the disk is full, in
            whatever library's words.
    """
    with atomic_directory(path) as building:
        facts: dict[str, Any] = {}
        yield building, facts
        files = {
            file.relative_to(building).as_posix(): _settled(file)
            for file in sorted(building.rglob("*"))
            if file.is_file()
        }
        write_manifest(building, Manifest(kind=kind, made_by=made_by, files=files, facts=facts))


@contextlib.contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Fill a folder beside `path`, which gets that name when the block ends without error.

    What the block writes it also syncs. What killed processes left beside `path` is swept first.

    Raises:
        ArtifactError: `path` exists, its folder cannot be written, or the disk is full, in
            whatever library's words.
    """
    check_free(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished_directory(path) as building:
            yield building
            building.chmod(0o755)
            _move_into_place(building, path)
    except Exception as error:
        reason = disk_reason(error)
        if reason is None:
            raise
        raise ArtifactError(f"{path}: cannot be written ({reason})") from error


def check_free(path: Path) -> None:
    """Refuse a place where something is, be it a broken link: before hours of work, not after.

    Raises:
        ArtifactError: it exists.
    """
    if path.exists() or path.is_symlink():
        raise ArtifactError(f"{path}: exists already; give another name or remove it first")


def _move_into_place(building: Path, path: Path) -> None:
    """Give a finished directory its name."""
    try:
        os.rename(building, path)
    except OSError as error:
        # Hours may have passed since it was looked whether the place is free.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        raise ArtifactError(
            f"{path}: was written by another process meanwhile; give another name"
        ) from error
    sync(path.parent)


def disk_reason(error: BaseException) -> str | None:
    """Return why the disk refused, where that is what an exception of any library says.

    Libraries that write files themselves (safetensors, LMDB, SQLite, torch) put the system's
    words into exceptions of their own.

    Args:
        error: what was raised.
    """
    if isinstance(error, HficmaError):
        return None
    # Arrow raises OSErrors whose own reason is a sentence with the system's at its end.
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    if "database or disk is full" in text:
        return os.strerror(errno.ENOSPC)
    reasons = map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG))
    other = text if isinstance(error, OSError) else None
    return next((reason for reason in reasons if reason in text), other)


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Put `manifest` into `directory` by one rename, so that readers see the old or the new.

    It carries a hash of itself, so that a flipped bit in it is known for one, and its date: a
    file's does not survive copying.
    """
    dated = replace(manifest, created=datetime.now(UTC).isoformat(timespec="microseconds"))
    record = json.loads(json.dumps(dated.to_json()))
    record[SELF_HASH] = _self_hash(record)
    # In ASCII: a path whose bytes are no UTF-8 is half a surrogate here, which nothing encodes.
    write_atomically(directory / MANIFEST, json.dumps(record, indent=1).encode())


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file by one rename: whoever reads it sees the old content or the new, never half.

    The content is on the disk before the name is.
    """
    with unfinished_file(path) as part:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        sync(path.parent)


def read_manifest(directory: Path, *, kind: str) -> Manifest:
    """Read a directory's manifest and check that it is of a kind, and as it was written.

    Manifests of older versions, which have no hash of themselves, are read as they are.

    Args:
        directory: the artifact's.
        kind: one of `KINDS`.

    Raises:
        ArtifactError: no such directory, no manifest, another kind, a newer format, or damage.
    """
    if not directory.is_dir():
        raise ArtifactError(f"{directory}: no such {kind} directory")
    record = read_record(directory, MANIFEST, limit=MANIFEST_BYTES, missing=f"is no {kind}")
    try:
        fields = Fields(record, "it")
        manifest = Manifest(
            kind=fields.text("kind"),
            made_by=fields.text("made_by"),
            files=fields.hashes("files"),
            facts=dict(fields.object("facts").items()),
            format_version=fields.integer("format_version"),
            created=fields.text("created") if "created" in fields else None,
        )
    except ValueError as error:
        raise ArtifactError(f"{directory}: its {MANIFEST} is damaged ({error})") from error
    if manifest.kind != kind:
        raise ArtifactError(f"{directory}: is a {manifest.kind}, not a {kind}")
    if not FORMAT_VERSION <= manifest.format_version <= NEWEST_FORMAT:
        raise ArtifactError(
            f"{directory}: has format {manifest.format_version}, this version reads "
            f"{FORMAT_VERSION} to {NEWEST_FORMAT}; make it again with this version"
        )
    expected = {**manifest.to_json(), SELF_HASH: _self_hash(record)}
    if SELF_HASH not in record:
        expected.pop(SELF_HASH)
    # Compared as a whole: neither a field that nobody knows nor a hash under a damaged name.
    if record != expected:
        raise ArtifactError(
            f"{directory}: its {MANIFEST} is not as it was written; make the {kind} again"
        )
    return manifest


def read_record(directory: Path, name: str, *, limit: int, missing: str) -> Any:
    """Decode a JSON file of an artifact.

    Args:
        directory: the artifact's.
        name: of the file in it.
        limit: bytes it may have.
        missing: what a directory without it is, for the message.

    Raises:
        ArtifactError: missing, a link, too long, or no JSON.
    """
    path = inside(directory, name)
    try:
        if not path.exists():
            raise ArtifactError(f"{directory}: {missing}; it has no {name}")
        return strict_json(read_regular_file(path, limit=limit, what=f"a {name}"))
    except InputError as error:
        raise ArtifactError(str(error)) from error
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{directory}: its {name} is damaged ({error})") from error


def inside(directory: Path, name: str) -> Path:
    """Return the path of a file or folder of an artifact, no part of which may be a link.

    The directory itself may be reached through links: its owner placed those. What is in it came
    with it, and a link there would have a stranger's archive read, or a sweep delete, anything.

    Args:
        directory: the artifact's.
        name: relative, its parts divided by `/`, as manifests write it; need not exist.

    Raises:
        ArtifactError: a link on the way, or a name that leads out.
    """
    parts = PurePosixPath(name).parts
    if not parts or "\0" in name or any(p in ("/", "..") or "\\" in p or ":" in p for p in parts):
        raise ArtifactError(f"{directory}: {name[:80]!r} leads out of it; refused")
    path = directory
    for part in parts:
        path = path / part
        try:
            mode = path.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise ArtifactError(f"{path}: cannot be read ({error.strerror})") from error
        if stat.S_ISLNK(mode) or _is_junction(path):
            raise ArtifactError(
                f"{path}: is a link, and none is followed inside an artifact; "
                "put what it points to in its place"
            )
    return path


def verified_file(directory: Path, manifest: Manifest, name: str) -> Path:
    """Return the path of a file that the manifest names, after comparing its hash.

    Args:
        directory: the artifact's.
        manifest: of the directory.
        name: relative, as the manifest writes it.

    Raises:
        ArtifactError: not named, missing, changed, a link, or a name that leads out.
    """
    if name not in manifest.files:
        raise ArtifactError(f"{directory}: holds no {name}")
    path = inside(directory, name)
    if not path.is_file():
        raise ArtifactError(f"{path}: is missing; make the {manifest.kind} again")
    try:
        digest = sha256(path)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror})") from error
    if digest != manifest.files[name]:
        raise ArtifactError(f"{path}: is not as it was written (SHA-256 differs); make it again")
    return path


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Put a file or a folder's names onto the disk."""
    if os.name == "nt" and path.is_dir():
        return  # which Windows does by itself, and cannot be asked for
    # Windows flushes only what is open for writing.
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _settled(file: Path) -> str:
    """Put a file onto the disk and return its SHA-256."""
    sync(file)
    return sha256(file)


def _self_hash(record: dict[str, Any]) -> str:
    """Return SHA-256 over a manifest's JSON without spaces, keys sorted, without the hash."""
    rest = {key: value for key, value in record.items() if key != SELF_HASH}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _is_junction(path: Path) -> bool:
    """Return whether a folder is Windows's other kind of link."""
    test = getattr(os.path, "isjunction", None)
    return bool(test and test(path))
