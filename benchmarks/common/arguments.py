"""Options that benchmarks share, as they stand in the signatures of their commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

JsonFile: TypeAlias = Annotated[Path | None, typer.Option("--json", help="Write the figures.")]
Repeats: TypeAlias = Annotated[int, typer.Option(min=1, help="Interleaved repetitions.")]
Threads: TypeAlias = Annotated[int, typer.Option(min=0, help="CPU threads; 0 takes all.")]
Width: TypeAlias = Annotated[int, typer.Option(help="Model width.")]
Heads: TypeAlias = Annotated[int, typer.Option(help="Attention heads.")]
