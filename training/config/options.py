"""Options from a preset (YAML with `include`) and `section.name=value` overrides, checked."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from hficma.errors import InputError

from .sections import Options

PRESETS = Path(__file__).parents[1] / "presets"

Tree = dict[str, Any]


def presets() -> list[str]:
    """Names of the presets that come with the package."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_options(preset: str, overrides: Sequence[str] = ()) -> Options:
    """The options of a preset, or of a YAML file, with overrides put on top.

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
                f"preset {preset}: there is none of that name{_near(preset, presets())}"
            )
        path = PRESETS / f"{preset}.yaml"
    tree = _read(path, ())
    for override in overrides:
        tree = merge(tree, parse_override(override))
    return parse_options(tree)


def parse_options(tree: Mapping[str, Any]) -> Options:
    """Check a tree of options and make `Options` of it.

    Raises:
        InputError: naming the option and what is wrong with it.
    """
    options = _convert(tree, Options, "")
    assert isinstance(options, Options)
    return options


def to_tree(options: Options) -> Tree:
    """The options as JSON values, every default filled in."""
    return dataclasses.asdict(options)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"optimizer": {"lr": 1}}` as `{"optimizer.lr": 1}`."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def merge(base: Tree, change: Mapping[str, Any]) -> Tree:
    """`change` over `base`, section by section.

    A loss of another `name` replaces the old one, and `strategies` the old list of them.
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


def _read(path: Path, seen: tuple[Path, ...]) -> Tree:
    if path.resolve() in seen:
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
    included = content.pop("include", ())
    tree: Tree = {}
    for name in [included] if isinstance(included, str) else included:
        other = path.parent / name if str(name).endswith((".yaml", ".yml")) else None
        if other is None:
            if name not in presets():
                raise InputError(f"{path}: includes {name}, no preset{_near(name, presets())}")
            other = PRESETS / f"{name}.yaml"
        tree = merge(tree, _read(other, (*seen, path.resolve())))
    return merge(tree, content)


def parse_override(text: str) -> Tree:
    """`optimizer.lr=3e-4` as `{"optimizer": {"lr": "3e-4"}}`; values are YAML.

    Raises:
        InputError: it is not of that form.
    """
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise InputError(f"{text}: an option is given as section.name=value")
    try:
        tree: Any = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"{name}: {value!r} cannot be read") from error
    for part in reversed(name.split(".")):
        tree = {part: tree}
    return typing.cast(Tree, tree)


def _convert(value: Any, hint: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _convert_section(value, typing.cast(type, hint), where)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _convert_union(value, arguments, where)
    if origin is Literal:
        return _convert_choice(value, arguments, where)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise InputError(f"{where}: must be a section of name: value, not {value!r}")
        return {key: _convert(item, arguments[1], f"{where}.{key}") for key, item in value.items()}
    return _convert_leaf(value, hint, where)


def _convert_section(value: Any, kind: type, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: is a section; give {where}.NAME=value")
    hints = get_type_hints(kind)
    names = [item.name for item in dataclasses.fields(kind)]
    prefix = f"{where}." if where else ""
    for key in value:
        if key not in names:
            raise InputError(f"{prefix}{key}: there is no such option{_near(str(key), names)}")
    arguments = {key: _convert(item, hints[key], prefix + key) for key, item in value.items()}
    try:
        return kind(**arguments)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error


def _convert_union(value: Any, kinds: tuple[Any, ...], where: str) -> Any:
    if value is None:
        if type(None) in kinds:
            return None
        raise InputError(f"{where}: must have a value")
    kinds = tuple(kind for kind in kinds if kind is not type(None))
    if len(kinds) == 1:
        return _convert(value, kinds[0], where)
    by_name = {kind.name: kind for kind in kinds}
    name = value.get("name") if isinstance(value, Mapping) else value
    if name not in by_name:
        raise InputError(
            f"{where}.name: must be one of {', '.join(by_name)}, not {name!r}"
            f"{_near(str(name), by_name)}"
        )
    return _convert(value if isinstance(value, Mapping) else {}, by_name[name], where)


def _convert_choice(value: Any, choices: tuple[Any, ...], where: str) -> Any:
    if value is None and "none" in choices:  # YAML reads `none` as text, but `null` and `~` not
        return "none"
    if value not in choices:
        listed = ", ".join(map(str, choices))
        raise InputError(
            f"{where}: must be one of {listed}, not {value!r}{_near(str(value), map(str, choices))}"
        )
    return value


def _convert_leaf(value: Any, kind: Any, where: str) -> Any:
    if kind is float and isinstance(value, str):  # YAML 1.1 takes 1e-4 for text
        try:
            return float(value)
        except ValueError:
            pass
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
        raise InputError(f"{where}: must be {names[kind]}, not {value!r}")
    return value


def _near(name: str, known: Iterable[str]) -> str:
    known = list(known)
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f"; did you mean {found[0]}?" if found else f"; there are {', '.join(known)}"
