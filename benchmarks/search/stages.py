"""Latency of every stage of a search, as the engine times it, held against the machine's limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hficma.engine import Answer, Engine
from hficma.engine.index.item_encoding import Role
from hficma.recipe import Recipe

from ..common.costs import StageCost, limit_share
from ..common.hardware import Limits
from ..common.report import Column, Figure, Row, Table
from ..common.timing import Recorder

TOTAL = "total"
"""The whole search, which the stages add up to."""
PERCENTILES = (
    Column("p50", "p50 ms", better="lower", digits=2),
    Column("p90", "p90 ms", better="lower", digits=2),
    Column("p99", "p99 ms", better="lower", digits=2),
)


@dataclass(frozen=True, kw_only=True)
class KnownQuery:
    """A query whose true item is known."""

    query: bytes | Recipe
    """A photo's file or a recipe."""
    true_id: str
    """Of the item that belongs to it."""


Rounds = Sequence[Sequence[KnownQuery]]
"""The queries of each round."""


def search(
    engine: Engine, query: bytes | Recipe, candidates: int, *, exact: bool = False
) -> Answer:
    """Search ten items for a photo or a recipe, whichever the query is."""
    if isinstance(query, Recipe):
        return engine.search(recipe=query, candidates=candidates, exact=exact)
    return engine.search(image=query, candidates=candidates, exact=exact)


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
    engine: Engine,
    rounds: Rounds,
    candidates: int,
    threads: int,
    on_done: Callable[[], None] = lambda: None,
) -> Recorder:
    """Search for every query of all rounds, one at a time, and return the stages' times."""
    recorder = Recorder()
    search(engine, rounds[0][0].query, candidates)  # warms up
    for queries in rounds:
        recorder.new_round()
        for item in queries:
            record_stages(recorder, search(engine, item.query, candidates), threads)
            on_done()
    return recorder


def stage_table(
    query_role: Role, recorder: Recorder, costs: Mapping[str, StageCost], limits: Limits
) -> Table:
    """Return the times of `record_stages` beside what each stage costs at least."""
    rows = []
    for name in recorder.names():
        seconds, cost = recorder.median(name), costs.get(name, StageCost())
        share = limit_share(
            cost, seconds, multiply_adds=limits.multiply_adds, bandwidth=limits.bandwidth
        )
        cells = {
            **percentiles(recorder, name),
            "rate": Figure(1 / seconds, noise=recorder.noise(name)),
            "work": None if cost.multiply_adds is None else Figure(cost.multiply_adds * 1e-6),
            "bytes": None if cost.bytes is None else Figure(cost.bytes * 1e-6),
            "limit": Figure(100 * share) if share else None,
        }
        rows.append(Row(name=name, cells=cells))
    name = {"image": "photo", "recipe": "recipe"}[query_role]
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
        note=(
            "One query at a time, as the engine times its own stages. Encoding runs the branches "
            "and brings the query to tables. % of machine: the time that the stage's multiply-adds "
            "take at the matrix-product rate, or its bytes at the memory bandwidth, over the time "
            "it took."
        ),
    )


def percentiles(recorder: Recorder, name: str) -> dict[str, Figure | None]:
    """Return the cells of `PERCENTILES`, in milliseconds."""
    return {
        f"p{share}": Figure(
            1e3 * recorder.percentile(name, share), noise=recorder.noise(name, share)
        )
        for share in (50, 90, 99)
    }
