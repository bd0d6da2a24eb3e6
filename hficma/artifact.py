"""Directories with a manifest: how runs, bundles, indexes and reports are written and opened.

A directory is built beside its place and renamed into it when whole, so that a killed
command leaves nothing half-made and a reader never sees a half-made one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hficma.errors import ArtifactError

MANIFEST = "manifest.json"
FORMAT_VERSION = 1
KINDS = ("run", "bundle", "index", "report", "dataset", "vectors")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a directory says of itself."""

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

    def to_json(self) -> dict[str, Any]:
        """The manifest as JSON values."""
        return {
            "format_version": self.format_version,
            "kind": self.kind,
            "made_by": self.made_by,
            "facts": self.facts,
            "files": self.files,
        }


@contextlib.contextmanager
def new_directory(path: Path, *, kind: str, made_by: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Build an artifact beside `path` and rename it there when the block ends without error.

    Yields:
        the directory to write into, and a dict for the manifest's `facts`.

    Raises:
        ArtifactError: `path` exists, or its folder cannot be written.
    """
    if path.exists():
        raise ArtifactError(f"{path}: exists already; give another name or remove it first")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be written ({error.strerror})") from error
    try:
        facts: dict[str, Any] = {}
        yield building, facts
        files = {
            str(file.relative_to(building)): sha256(file)
            for file in sorted(building.rglob("*"))
            if file.is_file()
        }
        write_manifest(building, Manifest(kind=kind, made_by=made_by, files=files, facts=facts))
        building.chmod(0o755)
        os.rename(building, path)
        _sync(path.parent)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Put `manifest` into `directory` by one rename, so that readers see the old or the new."""
    write_atomically(
        directory / MANIFEST, json.dumps(manifest.to_json(), indent=1, ensure_ascii=False).encode()
    )


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` by `content` in one rename, on the disk before the name changes."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        _sync(path.parent)
    finally:
        part.unlink(missing_ok=True)


def read_manifest(directory: Path, *, kind: str) -> Manifest:
    """Open a directory's manifest and check that it is of the kind asked for.

    Raises:
        ArtifactError: no such directory, no manifest, another kind, or a newer format.
    """
    if not directory.is_dir():
        raise ArtifactError(f"{directory}: no such {kind} directory")
    try:
        record = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        manifest = Manifest(
            kind=record["kind"],
            made_by=record["made_by"],
            files=dict(record["files"]),
            facts=dict(record["facts"]),
            format_version=int(record["format_version"]),
        )
    except FileNotFoundError as error:
        raise ArtifactError(f"{directory}: is no {kind}; it has no {MANIFEST}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{directory}: its {MANIFEST} is damaged ({error})") from error
    if manifest.kind != kind:
        raise ArtifactError(f"{directory}: is a {manifest.kind}, not a {kind}")
    if manifest.format_version != FORMAT_VERSION:
        raise ArtifactError(
            f"{directory}: has format {manifest.format_version}, this version reads "
            f"{FORMAT_VERSION}; make it again with this version"
        )
    return manifest


def verified_file(directory: Path, manifest: Manifest, name: str) -> Path:
    """The path of a file that the manifest names, after checking its hash.

    Raises:
        ArtifactError: not named, missing, changed, or a link out of the directory.
    """
    path = directory / name
    if name not in manifest.files:
        raise ArtifactError(f"{directory}: holds no {name}")
    if not path.is_file():
        raise ArtifactError(f"{path}: is missing; make the {manifest.kind} again")
    if not path.resolve().is_relative_to(directory.resolve()):
        raise ArtifactError(f"{path}: leads out of the {manifest.kind}; refused")
    if sha256(path) != manifest.files[name]:
        raise ArtifactError(f"{path}: is not as it was written (SHA-256 differs); make it again")
    return path


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
