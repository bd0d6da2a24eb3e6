"""Photos one at a time and in batches: what `search_many` gains, and what a single search takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from hficma.engine import Answer, Engine

from ..common.timing import Recorder
from .reranking import CANDIDATES, Cells

TURN = 96
"""Photos that are answered one way before they are answered the other."""
WARM_UPS = 6
"""Searches that nobody times: the first of an engine settle whether bfloat16 pays."""


def batch_row(index: Path, photos: Sequence[Image.Image], *, threads: int) -> Cells:
    """Measure photos one at a time and in batches, in turns.

    Args:
        index: of recipes.
        photos: to search with.
        threads: of the engine.
    """
    answers: dict[str, list[Answer]] = {"alone": [], "batch": []}
    recorder = Recorder()
    recorder.new_round()
    with Engine.open(index, threads=threads) as engine:
        for photo in list(photos)[:1] * WARM_UPS:
            engine.search(image=photo, candidates=CANDIDATES)
        list(engine.search_many(photos[:2], candidates=CANDIDATES))
        for start in range(0, len(photos), TURN):
            turn = photos[start : start + TURN]
            with recorder.timed("alone"):
                answers["alone"] += [
                    engine.search(image=photo, candidates=CANDIDATES) for photo in turn
                ]
            with recorder.timed("batch"):
                results = list(engine.search_many(turn, candidates=CANDIDATES))
            answers["batch"] += [result for result in results if isinstance(result, Answer)]
        facts, sizes, count = engine.index.facts, engine.bundle.facts, engine.index.count
    assert len(answers["batch"]) == len(photos)  # those left out would make a batch faster
    alone, batch = (1000 * sum(recorder.seconds(way)) / len(photos) for way in answers)
    return {
        "what": f"d = {sizes.width}, {count:,} recipes, {facts.level}",
        "photos": len(photos),
        "p50_ms": _median(answers["alone"], without=()),
        "encoded_ms": _median(answers["alone"], without=("decode", "encode")),
        "alone_ms": alone,
        "batch_ms": batch,
        "gain": alone / batch,
        # A query's share of each stage of its batch; batches overlap, so they add up to more.
        **{
            f"{way}_{stage}_ms": float(np.mean([one.milliseconds[stage] for one in results_of_way]))
            for way, results_of_way in answers.items()
            for stage in results_of_way[0].milliseconds
        },
    }


def _median(answers: Sequence[Answer], *, without: Sequence[str]) -> float:
    """Return the median milliseconds of answers, some of their stages left out."""
    times = [
        answer.milliseconds["total"] - sum(answer.milliseconds[stage] for stage in without)
        for answer in answers
    ]
    return float(np.median(times))
