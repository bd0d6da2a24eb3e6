"""Reads options from a preset (YAML with `include`) and `section.name=value` overrides."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from hficma.errors import InputError

from .option_values import Tree, nearest, parse_options, with_new_names
from .options import Options

logger = logging.getLogger("hficma")

PRESETS = Path(__file__).parents[1] / "presets"
"""Folder of the presets that come with the package."""


def presets() -> list[str]:
    """Return the names of the presets that come with the package."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_options(preset: str, overrides: Sequence[str] = ()) -> Options:
    """Return the options of a preset, or of a YAML file, with overrides put on top.

    Args:
        preset: a preset's name or the path of a YAML file (which may `include` a preset).
        overrides: `optimizer.lr=3e-4`, `loss.on_global.margin=0.3`, ...; values are YAML.

    Raises:
        InputError: no such preset or option, or a value of the wrong type; a mistyped name is
            answered with the nearest real one.
    """
    path = Path(preset)
    if path.suffix not in (".yaml", ".yml"):
        if preset not in presets():
            raise InputError(
                f"preset {preset}: there is none of that name{nearest(preset, presets())}"
            )
        path = PRESETS / f"{preset}.yaml"
    tree = _read(path, ())
    for override in overrides:
        tree = merge(tree, parse_override(override))
    return parse_options(tree)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return `{"optimizer": {"lr": 1}}` as `{"optimizer.lr": 1}`."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def merge(base: Tree, change: Mapping[str, Any]) -> Tree:
    """Return `change` over `base`, section by section.

    A loss of another `name` replaces the old one, whose fields it does not have; and `strategies`
    replaces the old list of them, or a preset could not leave one out.
    """
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            renamed = key.startswith("on_") and value.get("name", old.get("name")) != old.get(
                "name"
            )
            whole = renamed or key == "strategies"
            merged[key] = dict(value) if whole else merge(dict(old), value)
        else:
            merged[key] = value
    return merged


def _read(path: Path, including: tuple[Path, ...]) -> Tree:
    """Return the tree of a YAML file, over those of the files that it includes.

    Args:
        path: the file.
        including: files that include it, for a circle to be seen.
    """
    if path.resolve() in including:
        raise InputError(f"{path}: includes itself")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: is not valid YAML ({' '.join(str(error).split())})") from error
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise InputError(f"{path}: must hold sections of options")
    # Included files in their order, then the file itself: what comes later stands over the earlier.
    included = content.pop("include", ())
    content = _renamed(content, str(path))
    tree: Tree = {}
    for name in [included] if isinstance(included, str) else included:
        other = path.parent / name if str(name).endswith((".yaml", ".yml")) else None
        if other is None:
            if name not in presets():
                raise InputError(f"{path}: includes {name}, no preset{nearest(name, presets())}")
            other = PRESETS / f"{name}.yaml"
        tree = merge(tree, _read(other, (*including, path.resolve())))
    return merge(tree, content)


def parse_override(text: str) -> Tree:
    """Return `optimizer.lr=3e-4` as `{"optimizer": {"lr": "3e-4"}}`; values are YAML.

    Raises:
        InputError: it is not of that form.
    """
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise InputError(f"{text}: write an option as section.name=value")
    # As YAML, so that numbers, lists and null are written as in a preset.
    try:
        tree: Any = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"{name}: {value!r} cannot be read") from error
    for part in reversed(name.split(".")):
        tree = {part: tree}
    return _renamed(tree, text)


def _renamed(tree: Tree, source: str) -> Tree:
    """Return a user's options under today's names, with a notice where they had older ones."""
    renamed = with_new_names(tree)
    if renamed != tree:
        logger.warning("%s: model.backbone is called model.image.encoder now", source)
    return renamed
