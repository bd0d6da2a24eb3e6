"""`hficma bench training_step`: time and memory of one step, against the published.

Each form runs in a process of its own, because peak memory is a process's figure.
"""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import median
from typing import Annotated, Any

import torch
import typer

from hficma.model.fusion import CrossFusion
from hficma.model.numerics import unit_rows
from hficma.model.published_attention import published_scores
from hficma.model.similarity import project
from hficma.model.tiling import pair_scores

from ..common.arguments import Heads, JsonFile, Repeats, Width
from ..common.timing import REGIONS, environment, peak_resident_mb
from ..pages.parts import publish

TOKENS = 20
"""T of every recipe."""


def step(form: str, items: int, width: int, heads: int, tile: int | None) -> dict[str, float]:
    """Run one forward and backward pass over items x items pairs, after a small one to warm up.

    Returns:
        seconds, peak_mb (of the process) and before_mb (when the step began).
    """
    torch.manual_seed(0)
    fusion = CrossFusion(width, heads)

    def scores(count: int) -> torch.Tensor:
        image = unit_rows(torch.randn(count, REGIONS, width).relu()).requires_grad_()
        recipe = unit_rows(torch.randn(count, TOKENS, width).relu()).requires_grad_()
        lengths = torch.full((count,), TOKENS)
        if form == "published":
            return published_scores(fusion, image, recipe, lengths, count)
        weights = fusion.fold()
        return pair_scores(
            project(image, torch.full((count,), REGIONS), weights.image),
            project(recipe, lengths, weights.recipe),
            weights,
            tile=tile,
        )

    scores(2).sum().backward()
    before = peak_resident_mb()
    start = time.perf_counter()
    scores(items).sum().backward()
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak_mb": peak_resident_mb(), "before_mb": before}


def main(
    width: Width = 1024,
    heads: Heads = 8,
    large: Annotated[int, typer.Option(help="Photos and recipes of the large batch.")] = 128,
    repeats: Repeats = 3,
    json_file: JsonFile = None,
) -> None:
    """Seconds and memory of a training step: published graph, ours, ours in tiles, a large batch.

    Example: hficma bench training_step --json training-step.json
    """
    cases: dict[str, tuple[str, int, int | None]] = {
        "published 32 x 32": ("published", 32, None),
        "hficma 32 x 32": ("hficma", 32, None),
        "hficma 32 x 32 in tiles of 64": ("hficma", 32, 64),
        f"hficma {large} x {large} in tiles of 256": ("hficma", large, 256),
    }
    figures: dict[str, dict[str, Any]] = {name: {"runs": []} for name in cases}
    for _ in range(repeats):
        for name, (form, items, tile) in cases.items():
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                run = pool.submit(step, form, items, width, heads, tile).result()
            figures[name]["runs"].append(run)
    for one in figures.values():
        one["seconds"] = median(run["seconds"] for run in one["runs"])
        one["step_mb"] = max(run["peak_mb"] - run["before_mb"] for run in one["runs"])
    report = {"environment": environment(), "width": width, "figures": figures}
    publish("training-step", report, json_file)


if __name__ == "__main__":
    typer.run(main)
