"""The options that say how the model computes, which every command with an engine has."""

from __future__ import annotations

from typing import Annotated

import typer

PANEL = "Engine"
"""Heading of the options in `--help`."""

Runtime = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="What runs the model: onnxruntime, openvino, tensorrt, torch; auto is the fastest.",
        rich_help_panel=PANEL,
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="What the encoders compute in: fp32, fp16, int8.",
        rich_help_panel=PANEL,
    ),
]
Device = Annotated[
    str, typer.Option(metavar="NAME", help="cpu or cuda[:N].", rich_help_panel=PANEL)
]
GpuMemory = Annotated[
    float | None,
    typer.Option(
        metavar="GIB",
        min=0,
        help="GPU memory for each index.",
        show_default="half of the free",
        rich_help_panel=PANEL,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1, help="Threads of the processor.", show_default="all", rich_help_panel=PANEL
    ),
]
Crops = Annotated[
    int | None,
    typer.Option(
        help="Crops of a photo whose vectors are averaged: 1 or 5.",
        show_default="the index's",
        rich_help_panel=PANEL,
    ),
]
