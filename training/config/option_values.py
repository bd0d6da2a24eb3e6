"""Checks a tree of options, as YAML or JSON gives it, and makes `Options` of it, and back."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hficma.errors import InputError

from .options import Options

Tree = dict[str, Any]


def parse_options(tree: Mapping[str, Any]) -> Options:
    """Check a tree of options and make `Options` of it.

    Raises:
        InputError: naming the option and what is wrong with it.
    """
    options = _convert(with_new_names(tree), Options, "")
    assert isinstance(options, Options)
    return options


def with_new_names(tree: Mapping[str, Any]) -> Tree:
    """Return a tree of options in which what had another name in earlier releases has today's.

    Args:
        tree: of a preset, an override, or the options that a run recorded.
    """
    model = tree.get("model")
    if not isinstance(model, Mapping) or "backbone" not in model:
        return dict(tree)
    model = dict(model)
    image = {"encoder": model.pop("backbone"), **model.get("image", {})}
    return {**tree, "model": {**model, "image": image}}


def to_tree(options: Options) -> Tree:
    """Return the options as JSON values, every default filled in."""
    return dataclasses.asdict(options)


def _convert(value: Any, hint: Any, where: str) -> Any:
    """Return a value as a type hint of the options has it.

    Args:
        value: as YAML or JSON gives it.
        hint: of a field: a section, a union of losses, choices, a mapping or a plain value.
        where: dotted name of the option, for messages.
    """
    if dataclasses.is_dataclass(hint):
        return _convert_section(value, typing.cast(type, hint), where)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _convert_union(value, arguments, where)
    if origin is Literal:
        return _convert_choice(value, arguments, where)
    if origin is tuple:
        if not isinstance(value, list | tuple) or len(value) != len(arguments):
            raise InputError(f"{where}: must be a list of {len(arguments)}, not {value!r}")
        return tuple(map(_convert, value, arguments, [where] * len(arguments)))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise InputError(f"{where}: must be a section of name: value, not {value!r}")
        return {key: _convert(item, arguments[1], f"{where}.{key}") for key, item in value.items()}
    return _convert_leaf(value, hint, where)


def _convert_section(value: Any, kind: type, where: str) -> Any:
    """Return a section: an instance of a dataclass, its own checks included."""
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: is a section; give {where}.NAME=value")
    hints = get_type_hints(kind)
    names = [item.name for item in dataclasses.fields(kind)]
    prefix = f"{where}." if where else ""
    for key in value:
        if key not in names:
            raise InputError(f"{prefix}{key}: there is no such option{nearest(str(key), names)}")
    arguments = {key: _convert(item, hints[key], prefix + key) for key, item in value.items()}
    try:
        return kind(**arguments)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error


def _convert_union(value: Any, kinds: tuple[Any, ...], where: str) -> Any:
    """Return a value that may be null, or one of several sections told apart by `name`."""
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
            f"{nearest(str(name), by_name)}"
        )
    return _convert(value if isinstance(value, Mapping) else {}, by_name[name], where)


def _convert_choice(value: Any, choices: tuple[Any, ...], where: str) -> Any:
    """Return one of the choices of a `Literal`."""
    if value is None and "none" in choices:  # YAML reads `none` as text, but `null` and `~` not
        return "none"
    if value not in choices:
        names = [str(choice) for choice in choices]
        raise InputError(
            f"{where}: must be one of {', '.join(names)}, not {value!r}{nearest(str(value), names)}"
        )
    return value


def _convert_leaf(value: Any, kind: Any, where: str) -> Any:
    """Return a number, a truth value or text."""
    if kind is float and isinstance(value, str):  # YAML 1.1 takes 1e-4 for text
        try:
            return float(value)
        except ValueError:
            pass
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    # Python takes True for the whole number 1; a user who writes `true` means no number.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
        raise InputError(f"{where}: must be {names[kind]}, not {value!r}")
    return value


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of a message: the nearest of the known names, or all where none is near."""
    known = list(known)
    matches = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f"; did you mean {matches[0]}?" if matches else f"; there are {', '.join(known)}"
