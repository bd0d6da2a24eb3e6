"""The options that name a run and a dataset, which several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..artifacts.workspace import Workspace

Run = Annotated[
    str | None,
    typer.Option(
        metavar="RUN",
        help="A run: its name in the workspace, or its path.",
        show_default="the newest",
    ),
]
Data = Annotated[str | None, typer.Option(help="A JSONL file, a dataset directory, or sample:N.")]


def run_directory(run: str | None) -> Path:
    """Return the directory of the run that a user named, or of the newest."""
    workspace = Workspace.default()
    return workspace.newest("run") if run is None else workspace.resolve("run", run)
