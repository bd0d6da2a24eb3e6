"""Help whose options stand under headings, for commands that have too many to scan."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand


class GroupedCommand(TyperCommand):
    """A command whose help lists each option under its `rich_help_panel`, in plain text.

    Typer draws panels itself only where Rich renders help, with boxes that cut descriptions at 80
    columns; the heading alone says as much.
    """

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, one section a heading, in the order in which headings appear."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                default = "Arguments" if param.param_type_name == "argument" else "Options"
                heading = getattr(param, "rich_help_panel", None) or default
                sections.setdefault(heading, []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)
