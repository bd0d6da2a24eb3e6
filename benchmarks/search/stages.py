"""Latency of every stage of a search, as the engine times it, held against the machine's limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from hficma.engine import Answer, Engine
from hficma.recipe import Recipe

from ..common.costs import StageCost
from ..common.hardware import Limits
from ..common.report import Column, Figure, Row, Table
from ..common.timing import Recorder

TOTAL = "total"
"""The whole search, which the stages add up to."""
PERCENTILES = tuple(
    Column(f"p{share}", f"p{share} ms", better="lower", digits=2) for share in (50, 90, 99)
)


class KnownQuery(NamedTuple):
    """A photo's file or a recipe, and the id of the item that belongs to it."""

    query: bytes | Recipe
    true_id: str

    def search(self, engine: Engine, candidates: int, *, exact: bool = False) -> Answer:
        """Search ten items for the query."""
        if isinstance(self.query, Recipe):
            return engine.search(recipe=self.query, candidates=candidates, exact=exact)
        return engine.search(image=self.query, candidates=candidates, exact=exact)


Rounds = Sequence[Sequence[KnownQuery]]
"""The queries of each round."""


def record_stages(recorder: Recorder, answer: Answer, threads: int) -> None:
    """Add an answer's own times to a recorder, re-ranking split into gathering and products."""
    seconds = {name: ms / 1000 for name, ms in answer.milliseconds.items()}
    # Gathering is summed over threads that run side by side, and is a part of re-ranking.
    gather = seconds.pop("gather", 0.0) / threads
    for name in ("decode", "encode", "prefilter"):
        recorder.add(name, seconds[name])
    if gather:
        recorder.add("gather", gather)
    recorder.add("cross branch", seconds["rerank"] - gather)
    recorder.add("records", seconds["records"])
    recorder.add(TOTAL, seconds["total"])


def timed_stages(
    engine: Engine, rounds: Rounds, candidates: int, threads: int, on_done: Callable[[], None]
) -> Recorder:
    """Search for every query of all rounds, one at a time, and return the stages' times."""
    recorder = Recorder()
    rounds[0][0].search(engine, candidates)  # warms up
    for queries in rounds:
        recorder.new_round()
        for item in queries:
            record_stages(recorder, item.search(engine, candidates), threads)
            on_done()
    return recorder


def stage_table(
    name: str, recorder: Recorder, costs: Mapping[str, StageCost], limits: Limits
) -> Table:
    """Return the times of `record_stages` beside what each stage costs at least.

    Args:
        name: what is asked with, "photo" or "recipe".
        recorder: of the stages.
        costs: of the stages where they are known.
        limits: of the machine.
    """
    rows = []
    for stage in recorder.names():
        seconds, cost = recorder.median(stage), costs.get(stage, StageCost())
        share = limits.share(cost, seconds)
        cells = {
            **percentiles(recorder, stage),
            "rate": Figure(1 / seconds, noise=recorder.noise(stage)),
            "work": None if cost.multiply_adds is None else Figure(cost.multiply_adds * 1e-6),
            "bytes": None if cost.bytes is None else Figure(cost.bytes * 1e-6),
            "limit": Figure(100 * share) if share else None,
        }
        rows.append(Row(name=stage, cells=cells))
    return Table(
        key=f"stages-{name}",
        title=f"A {name}'s search, stage by stage",
        first="stage",
        columns=(
            *PERCENTILES,
            Column("rate", "a second", digits=0),
            Column("work", "M mult-adds", digits=2),
            Column("bytes", "MB read", digits=2),
            Column("limit", "% of machine", digits=0),
        ),
        rows=tuple(rows),
        note="One query at a time, as the engine times its own stages. Encoding runs the branches "
        "and brings the query to tables. % of machine: the time that the stage's multiply-adds "
        "take at the matrix-product rate, or its bytes at the memory bandwidth, over the time it "
        "took.",
    )


def percentiles(recorder: Recorder, name: str) -> dict[str, Figure | None]:
    """Return the cells of `PERCENTILES`, in milliseconds."""
    return {
        f"p{share}": Figure(
            1e3 * recorder.percentile(name, share), noise=recorder.noise(name, share)
        )
        for share in (50, 90, 99)
    }
