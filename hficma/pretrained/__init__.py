"""What the package brings to answer with at once: a cookbook, a model and the cookbook's index.

    pretrained/
      cookbook.jsonl   300 recipes of dishes that the world cooks
      bundle/          a model for photos as people take them, exported slim
      index/           the cookbook, encoded by that model; names its bundle as ../bundle

The recipes were written for this project, under its licence, and their dishes chosen without
looking at photos, so that photos can be held against them. `make pretrained` learns the model and
encodes the cookbook anew.

What comes with the package is a last resort: a workspace's own bundle or index goes before it.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Literal

from ..errors import ArtifactError

Part = Literal["cookbook", "bundle", "index"]
"""One thing of what the package brings."""

FOLDER = Path(str(files(__name__)))
"""Where they lie: real files, since installers unpack a wheel, and an index is mapped to memory."""

_FILES: dict[Part, str] = {"cookbook": "cookbook.jsonl", "bundle": "bundle", "index": "index"}


def pretrained_path(part: Part) -> Path:
    """Return where a part of what the package brings lies on this disk.

    Example:
        with Engine.open(pretrained_path("index")) as engine:
            print(engine.search(image="dinner.jpg"))

    Raises:
        ArtifactError: this installation is without it, as a checkout is before `make pretrained`.
    """
    path = FOLDER / _FILES[part]
    if not path.exists():
        raise ArtifactError(
            f"{path}: this installation of hficma comes without a pretrained {part}; "
            "install a released version, or train a model of your own"
        )
    return path


def has_pretrained() -> bool:
    """Return whether this installation can answer with nothing of one's own."""
    return all((FOLDER / name).exists() for name in _FILES.values())
