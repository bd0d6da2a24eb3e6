"""Finds runs, bundles, indexes and reports where the user names none.

They lie in a workspace: `./workspace`, or the folder that the environment variable `HFICMA_HOME`
names.
"""

from __future__ import annotations

import json
import logging
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .. import pretrained
from ..errors import ArtifactError
from .manifest import MANIFEST, read_manifest

_log = logging.getLogger("hficma")

_MAKERS = {
    "run": "hficma train",
    "bundle": "hficma export",
    "index": "hficma index",
    "report": "hficma bench",
}
_DATE = re.compile(r"-\d{8}-\d{6}(-\d+)?$")
_FOLDERS = {"run": "runs", "bundle": "bundles", "index": "indexes", "report": "reports"}


@dataclass(frozen=True)
class Workspace:
    """One folder of runs, bundles, indexes, reports and caches."""

    home: Path
    """Its path; need not exist yet."""

    @classmethod
    def default(cls) -> Workspace:
        """Return the workspace at `$HFICMA_HOME`, else at `./workspace`."""
        return cls(Path(os.environ.get("HFICMA_HOME", "workspace")))

    @classmethod
    def containing(cls, path: Path) -> list[Workspace]:
        """Return the workspaces that a directory lies in, by its path and by where it really is.

        These differ where an index is a link to another disk.
        """
        folders = dict.fromkeys((*path.absolute().parents, *path.resolve().parents))
        return [cls(folder.parent) for folder in folders if folder.name in _FOLDERS.values()]

    @property
    def cache(self) -> Path:
        """Folder of what can be computed again at any time: features, plans, measurements."""
        return self.home / "cache"

    def all(self, kind: str) -> list[Path]:
        """Return the directories of one kind, newest first."""
        return _newest_first(self.home / _FOLDERS[kind])

    def newest(self, kind: str) -> Path:
        """Return the newest directory of one kind.

        Raises:
            ArtifactError: there is none; the message names the command that makes one.
        """
        directories = self.all(kind)
        if not directories:
            raise ArtifactError(
                f"{self.home / _FOLDERS[kind]}: no {kind} here yet; make one with `{_MAKERS[kind]}`"
            )
        return directories[0]

    def resolve(self, kind: str, argument: str) -> Path:
        """Return the directory of one kind that a user names: by a path, or by a bare name.

        A path that exists is taken as it is. Otherwise a name without a slash is one in the
        workspace, whether or not it is there: so a command that writes `mine` and a later one that
        reads `mine` mean the same.

        Args:
            kind: `run`, `bundle`, `index` or `report`.
            argument: as typed; `./mine` is a path where `mine` is a name.
        """
        is_name = Path(argument).name == argument and not os.path.exists(argument)
        return self.home / _FOLDERS[kind] / argument if is_name else Path(argument)

    def new(self, kind: str, name: str) -> Path:
        """Return a free path for a new directory, `NAME-DATE-TIME`."""
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        path = self.home / _FOLDERS[kind] / f"{name}-{stamp}"
        number = 2
        while path.exists():
            path = path.with_name(f"{name}-{stamp}-{number}")
            number += 1
        return path


def undated_name(directory: Path) -> str:
    """Return the name that a directory was made for, without the date of `Workspace.new`."""
    return _DATE.sub("", directory.name)


def recorded_path(target: Path, directory: Path) -> str:
    """Return the path of an artifact as another one's manifest records it: relative to that one.

    So both may be moved together. Windows has no such path from one drive to another.

    Args:
        target: the artifact that is recorded.
        directory: the artifact whose manifest records it.
    """
    try:
        return Path(os.path.relpath(target.resolve(), directory.resolve())).as_posix()
    except ValueError:
        return str(target.resolve())


def find_bundle(index: Path, *, recorded: str, model_id: str) -> Path:
    """Find the bundle of an index; both may have been moved, copied or renamed.

    It is looked for where the index says, which is relative to the index, or absolute in those of
    older versions; then among the bundles of the workspace that the index lies in; then beside the
    index; then in the default workspace; then in the package. Where several are of its model, the
    newest is taken.

    Args:
        index: its directory.
        recorded: the path in its manifest.
        model_id: of its manifest.

    Raises:
        ArtifactError: there is no bundle of this model; the message says where it was looked for.
    """
    first = (index / recorded).resolve()
    if _is_of_model(first, model_id):
        return first
    places = [workspace.home / _FOLDERS["bundle"] for workspace in Workspace.containing(index)]
    places += [index.absolute().parent, Workspace.default().home / _FOLDERS["bundle"]]
    # Whoever indexed with the package's model may have moved to another installation of it.
    places.append(pretrained.FOLDER)
    places = list(dict.fromkeys(place.absolute() for place in places))
    for place in places:
        for bundle in _newest_first(place):
            if _is_of_model(bundle, model_id):
                _log.info("%s: its bundle is not at %s; %s is of its model", index, first, bundle)
                return bundle
    raise ArtifactError(
        f"{index}: its bundle (model {model_id[:12]}) is neither at {first} nor in "
        f"{', '.join(map(str, places))}; say where it is, or index again"
    )


def _is_of_model(bundle: Path, model_id: str) -> bool:
    """Return whether a directory is a bundle of a model; a damaged one is none."""
    try:
        return read_manifest(bundle, kind="bundle").facts.get("model_id") == model_id
    except (ArtifactError, OSError, ValueError):
        return False


def _newest_first(folder: Path) -> list[Path]:
    """Return the artifacts in a folder, newest first."""
    if not folder.is_dir():
        return []
    artifacts = [path for path in folder.iterdir() if (path / MANIFEST).is_file()]
    return sorted(artifacts, key=_written, reverse=True)


def _written(directory: Path) -> datetime:
    """Return when a directory's manifest was written: by its own word, which survives copying."""
    manifest = directory / MANIFEST
    try:
        written = datetime.fromisoformat(json.loads(manifest.read_bytes())["created"])
        return written if written.tzinfo else written.replace(tzinfo=UTC)
    except (OSError, ValueError, KeyError, TypeError):
        # An older version's, or a damaged one, which fails where it is opened.
        return datetime.fromtimestamp(manifest.stat().st_mtime, UTC)
