"""Groups of commands whose modules are imported only when they are called.

Importing all of them takes seconds, and a search must start at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, ClassVar

import typer

from .help_text import PlainGroup, command_group


class LazyGroup(PlainGroup):
    """A group that finds its commands by name in other modules."""

    homes: ClassVar[Mapping[str, tuple[str, str]]] = {}
    """Command to module and name in it: a function, or a Typer app of more commands."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names in the order of `homes`."""
        return list(self.homes)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import a command and return it, or None where there is no such name.

        A command whose packages are not installed says so when it is called; the list stays whole.
        """
        if cmd_name not in self.homes:
            return None
        module, name = self.homes[cmd_name]
        try:
            target = getattr(import_module(module), name)
        except ModuleNotFoundError as missing:
            return _unavailable(cmd_name, missing)
        command = typer.main.get_command(
            target if isinstance(target, typer.Typer) else _alone(cmd_name, target)
        )
        command.name = cmd_name
        return command


def _alone(name: str, function: Callable[..., object]) -> typer.Typer:
    """Return an app of one command."""
    app: typer.Typer = command_group("")
    app.command(name)(function)
    return app


def _unavailable(name: str, missing: ModuleNotFoundError) -> Any:
    """Return a stand-in for a command whose packages are not installed, which says so if called."""

    def complain() -> None:
        raise missing

    command = typer.main.get_command(_alone(name, complain))
    command.help = f"Not available here: {missing.name} is not installed."
    command.params.clear()
    command.ignore_unknown_options = command.allow_extra_args = True
    return command
