"""`hficma bench`: the page of figures, or one of the benchmarks by name."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated

import typer

from hficma.errors import InputError

NAMES = ("pair_scores", "branches", "engine", "quality", "text_quality", "sample_hardness")


def bench(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="One of the benchmarks in docs/benchmarks.md.")],
) -> None:
    """Run a benchmark; what follows its name goes to it.

    Example: hficma bench pair_scores --repeats 5
    """
    name = name.replace("-", "_")
    if name not in NAMES:
        raise InputError(f"{name}: no such benchmark; there are {', '.join(NAMES)}")
    module = import_module(f"hficma.benchmarks.{name}")
    app = typer.Typer(add_completion=False)
    app.command()(module.main)
    app(ctx.args, prog_name=f"hficma bench {name}")
