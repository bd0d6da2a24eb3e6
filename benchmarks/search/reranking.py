"""Re-ranking at full width beside the published graph, and photos one at a time and in batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

from hficma.engine import Answer, Engine
from hficma.engine.index.item_encoding import Level
from hficma.model import HFICMA, load_model
from hficma.model.numerics import unit_rows
from hficma.model.published_attention import published_scores

from ..common.costs import StageCost, pair_multiply_adds
from ..common.hardware import Limits
from ..common.synthetic_index import REAL_LENGTHS, synthetic_index
from ..common.timing import Recorder, interleaved

if TYPE_CHECKING:
    from hficma.data.dataset import Dataset

CANDIDATES = 200
TURN = 96
"""Photos that are answered one way before they are answered the other."""
LEVELS_MEASURED: tuple[Level, ...] = ("projections", "tables")

Cells: TypeAlias = dict[str, str | float]
"""A case's figures by name, under `what` its own name."""


def rerank_table(
    bundle: Path, folder: Path, photo: Path, *, threads: int, repeats: int
) -> list[Cells]:
    """Measure re-ranking 200 recipes, gathering included, beside the published graph and a GEMM.

    Rows are a level at 20 ingredients each, and at real lengths.

    Args:
        bundle: random weights do.
        folder: where synthetic indexes lie between runs.
        photo: the query.
        threads: of the engine.
        repeats: interleaved repetitions.
    """
    model = load_model(bundle)
    assert isinstance(model, HFICMA)
    width, heads, regions = model.config.width, model.config.heads, model.region_count
    rows: list[Cells] = []
    for title, lengths in (("20 ingredients", (20,)), ("real lengths", REAL_LENGTHS)):
        published = _published_seconds(model, lengths)
        for level in LEVELS_MEASURED:
            index = synthetic_index(
                bundle, folder / f"rerank-{level}-{lengths[0]}-{bundle.name}", CANDIDATES,
                level=level, precision="fp32", prefilter="Flat", lengths=lengths,
            )  # fmt: skip
            recorder, limits = Recorder(), Limits("cpu")
            recorder.new_round()
            with Engine.open(index, threads=threads) as engine:
                engine.search(image=photo, candidates=CANDIDATES)  # warms up
                for _ in range(repeats):
                    limits.measure()
                    answer = engine.search(image=photo, candidates=CANDIDATES)
                    recorder.add("engine", answer.milliseconds["rerank"] / 1000)
            seconds, mean = recorder.median("engine"), float(np.mean(lengths))
            pair = pair_multiply_adds(level, width=width, heads=heads, tokens=mean, regions=regions)
            rows.append(
                {
                    "what": f"{level}, {title}",
                    "ms": 1000 * seconds,
                    "spread": recorder.spread("engine"),
                    "gemm_share": limits.share(StageCost(CANDIDATES * pair), seconds),
                    "published_ms": 1000 * published,
                    "ratio": published / seconds,
                }
            )
    return rows


def batch_table(
    index: Path, dataset: Dataset, photos: Sequence[int], *, threads: int
) -> list[Cells]:
    """Measure photos one at a time and in batches, in turns.

    Args:
        index: of recipes.
        dataset: of the photos.
        photos: their positions.
        threads: of the engine.
    """
    answers: dict[str, list[Answer]] = {"one at a time": [], "in batches": []}
    alone, together = answers.values()
    recorder = Recorder()
    recorder.new_round()
    with Engine.open(index, threads=threads) as engine:
        list(engine.search_many([dataset.photo(photos[0])] * 2))  # warms up
        for start in range(0, len(photos), TURN):
            images = [dataset.photo(position) for position in photos[start : start + TURN]]
            with recorder.timed("one at a time"):
                alone += [engine.search(image=image, candidates=CANDIDATES) for image in images]
            with recorder.timed("in batches"):
                results = list(engine.search_many(images, candidates=CANDIDATES))
            together += [result for result in results if isinstance(result, Answer)]
    seconds = {name: sum(recorder.seconds(name)) for name in answers}
    return [
        {
            "what": f"{len(photos):,} photos {name}",
            "queries_a_second": len(photos) / seconds[name],
            "times_one": seconds["one at a time"] / seconds[name],
            **{f"{stage}_ms": float(np.mean([one.milliseconds[stage] for one in results]))
               for stage in results[0].milliseconds},
            # Of the whole run: batches overlap, so their own times add up to more.
            "total_ms": 1000 * seconds[name] / len(photos),
        }
        for name, results in answers.items()
    ]  # fmt: skip


def _published_seconds(model: HFICMA, lengths: Sequence[int]) -> float:
    """Time the published graph on a photo and as many random recipes, of lengths in turn."""
    width, generator = model.config.width, torch.Generator().manual_seed(1)
    image = unit_rows(torch.randn(1, model.region_count, width, generator=generator))
    tokens = unit_rows(torch.randn(CANDIDATES, max(lengths), width, generator=generator))
    counts = torch.from_numpy(np.resize(lengths, CANDIDATES))
    tokens[torch.arange(max(lengths)) >= counts[:, None]] = 0.0

    def run() -> torch.Tensor:
        with torch.inference_mode():
            return published_scores(model.cross_fusion, image, tokens, counts, 50)

    return interleaved({"published": run}, repeats=2, warmup=0).median("published")
