"""Where directories live when the user names none: `./workspace`, `HFICMA_HOME` or `--home`."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hficma.artifact import MANIFEST
from hficma.errors import ArtifactError

_MAKERS = {
    "run": "hficma train",
    "bundle": "hficma export",
    "index": "hficma index",
    "report": "hficma bench",
}
_FOLDERS = {"run": "runs", "bundle": "bundles", "index": "indexes", "report": "reports"}


@dataclass(frozen=True)
class Workspace:
    """One folder of runs, bundles, indexes, reports and caches."""

    home: Path
    """Its path; need not exist yet."""

    @classmethod
    def default(cls) -> Workspace:
        """`$HFICMA_HOME`, else `./workspace`."""
        return cls(Path(os.environ.get("HFICMA_HOME", "workspace")))

    @property
    def cache(self) -> Path:
        """What can be made again at any time: features, plans, measurements."""
        return self.home / "cache"

    def all(self, kind: str) -> list[Path]:
        """Directories of one kind, newest first."""
        folder = self.home / _FOLDERS[kind]
        if not folder.is_dir():
            return []
        found = [path for path in folder.iterdir() if (path / MANIFEST).is_file()]
        return sorted(found, key=_written, reverse=True)

    def newest(self, kind: str) -> Path:
        """The newest directory of one kind.

        Raises:
            ArtifactError: there is none; the message names the command that makes one.
        """
        found = self.all(kind)
        if not found:
            raise ArtifactError(
                f"{self.home / _FOLDERS[kind]}: no {kind} here yet; make one with `{_MAKERS[kind]}`"
            )
        return found[0]

    def new(self, kind: str, name: str) -> Path:
        """A free path for a new directory, `NAME-DATE-TIME`."""
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        path = self.home / _FOLDERS[kind] / f"{name}-{stamp}"
        number = 2
        while path.exists():
            path = path.with_name(f"{name}-{stamp}-{number}")
            number += 1
        return path


def _written(directory: Path) -> datetime:
    """When a directory's manifest was written: by its own word, which survives copying."""
    manifest = directory / MANIFEST
    try:
        written = datetime.fromisoformat(json.loads(manifest.read_bytes())["created"])
        return written if written.tzinfo else written.replace(tzinfo=UTC)
    except (OSError, ValueError, KeyError, TypeError):
        # An older version's, or a damaged one, which is told where it is opened.
        return datetime.fromtimestamp(manifest.stat().st_mtime, UTC)
