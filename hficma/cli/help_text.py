"""Formats help in plain text: one style for every command, nothing cut off, options under headings.

Typer's own help draws boxes with Rich, which cut descriptions at 80 columns, and click's list of
commands ends each at 45 characters. So every command and group of `hficma` is of a class below.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

_Function = TypeVar("_Function", bound=Callable[..., Any])

_TYPE = re.compile(r"<(?:list\[)?([\w |,-]+?)(?: range)?\]?>$")
_TYPE_NAMES = {"str": "TEXT", "path": "PATH", "Path": "PATH", "int": "N", "float": "NUMBER"}
"""Typer's names of types, which are Python's, as manuals of commands write them."""


class PlainCommand(TyperCommand):
    """A command whose help lists each option under its `rich_help_panel`, in plain text."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, one section a heading, in the order in which headings appear."""
        write_options(self, ctx, formatter)


class PlainGroup(TyperGroup):
    """A group of commands that lists each with the whole first sentence of its help."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the group's own options, then its commands."""
        write_options(self, ctx, formatter)
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, each with the first sentence of its help, wrapped and not cut."""
        rows = []
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            assert command is not None, name
            rows.append((name, first_sentence(command.help)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def write_options(command: Any, ctx: Any, formatter: Any) -> None:
    """Write a command's arguments and options, one section a heading.

    Args:
        command: click's command.
        ctx: its context.
        formatter: click's formatter, which is written to.
    """
    sections: dict[str, list[tuple[str, str]]] = {}
    for param in command.get_params(ctx):
        record = param.get_help_record(ctx)
        if record is not None:
            is_argument = param.param_type_name == "argument"
            default = "Arguments" if is_argument else "Options"
            heading = getattr(param, "rich_help_panel", None) or default
            name = _TYPE.sub("" if is_argument else _type_name, record[0]).rstrip()
            sections.setdefault(heading, []).append((name, record[1]))
    for heading, records in sections.items():
        with formatter.section(heading):
            formatter.write_dl(records)


def _type_name(match: re.Match[str]) -> str:
    """Return the name of an option's type: a choice as it is, `list[str]` and `str` as TEXT."""
    return _TYPE_NAMES.get(match[1], match[1])


def first_sentence(help_text: str | None) -> str:
    """Return the first paragraph of a help text in one line, without its full stop and example."""
    paragraph = " ".join((help_text or "").split("\n\n")[0].split())
    return paragraph.partition(" Example:")[0].removesuffix(".")


def command_group(
    help_text: str, *, cls: type[TyperGroup] = PlainGroup, **options: Any
) -> typer.Typer:
    """Return a Typer app of commands in the one style.

    Args:
        help_text: of the group.
        cls: its class, such as one that imports commands when they are called.
        **options: of `typer.Typer`.
    """
    return _PlainTyper(
        cls=cls,
        help=help_text,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        **options,
    )


class _PlainTyper(typer.Typer):
    """A Typer app whose commands are `PlainCommand`s."""

    def command(self, name: str | None = None, **options: Any) -> Callable[[_Function], _Function]:
        """Register a command; see `typer.Typer.command`."""
        options.setdefault("cls", PlainCommand)
        return super().command(name, **options)
