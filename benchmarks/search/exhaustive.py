"""`hficma bench --exhaustive`: every photo with every recipe, as `hficma eval` scores them."""

from __future__ import annotations

import time

import numpy as np
import torch

from hficma.model import Model, Tokens
from hficma.training.scoring import block_scores, local_scorer

from ..common.report import Column, Figure, Row, Table
from ..common.synthetic_index import random_tokens
from ..common.workload import SEED

PHOTO_BLOCK = 64
"""Photos that are scored at once, as `hficma eval` does."""
SECONDS = 10.0
"""Blocks are scored for about so long; the time of all is reckoned from them."""


@torch.inference_mode()
def exhaustive_table(
    model: Model, lengths: list[int], *, most: int | None = None, seconds: float = SECONDS
) -> Table:
    """Score blocks of photos with all recipes, by a GPU's kernels where the model is on one.

    Speed depends on how many tokens there are, and not on what is in them: they are random.

    Args:
        model: with a local part, in evaluation mode, on the device that scores.
        lengths: tokens of each of N recipes.
        most: blocks at most; None takes as many as there is time for.
        seconds: for all blocks, about.
    """
    scorer, form = block_scores, "the folded form, float32"
    if model.device.type == "cuda":
        from hficma.engine.gpu.exhaustive import kernel_block_scores

        scorer, form = kernel_block_scores, "fused kernels, fp16"
    count = len(lengths)
    size = min(PHOTO_BLOCK, count)
    score = local_scorer(model, _random_tokens(model, lengths), scorer)
    assert score is not None
    block = _random_tokens(model, [model.region_count] * size)

    def timed() -> float:
        began = time.perf_counter()
        score(block).cpu()  # it comes to the host, as an evaluation's does
        return time.perf_counter() - began

    timed()  # warms up
    samples = [timed()]
    end = time.perf_counter() + seconds - samples[0]
    while time.perf_counter() < end and len(samples) < (most or max(1, count // size)):
        samples.append(timed())
    low, middle, high = np.percentile(samples, (25, 50, 75))
    noise = float((high - low) / middle)
    rate = size * count / float(middle)
    row = Row(
        name=f"{form}: {size:,} photos x {count:,} recipes, {len(samples)} blocks",
        cells={
            "rate": Figure(rate, noise=noise),
            "block": Figure(1e3 * float(middle), noise=noise),
            "seconds": Figure(count * count / rate, noise=noise),
        },
    )
    return Table(
        key="exhaustive",
        title="Every photo with every recipe",
        first="form",
        columns=(
            Column("rate", "pairs a second", better="higher", digits=0),
            Column("block", "ms a block", better="lower"),
            Column("seconds", f"s, {count:,} x {count:,}", better="lower", digits=2),
        ),
        rows=(row,),
        note="S_local of whole blocks by what `hficma eval` calls, of random tokens in the lengths "
        "of these recipes; the seconds are reckoned from the blocks.",
    )


def _random_tokens(model: Model, lengths: list[int]) -> Tokens:
    """Return items of unit rows on the model's device, without global vectors."""
    generator = torch.Generator().manual_seed(SEED)
    tokens, counts = random_tokens(lengths, model.config.width, generator)
    return Tokens(torch.zeros(len(lengths), 1), tokens, counts).to(model.device)
