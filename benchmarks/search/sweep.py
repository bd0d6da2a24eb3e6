"""What a user must decide: candidates, index kind and precision, by recall against latency."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from hficma.engine import Answer, Engine

from ..common.report import Column, Figure, Row, Table
from ..common.timing import Recorder
from .stages import PERCENTILES, KnownQuery, Rounds, percentiles, record_stages

FEWEST = 4
"""Queries a round in any case."""
SWEEP_COLUMNS = (
    *PERCENTILES,
    Column("r1", "R@1 %", better="higher"),
    Column("r10", "R@10 %", better="higher"),
    Column("agreement", "agree %", better="higher"),
    Column("best", "best found %", better="higher"),
    Column("certified", "certified %", better="higher"),
    Column("scored", "scored %"),
)


class Sweep:
    """Asks every engine with every number of candidates, interleaved; times and judges the answers.

    The first engine's exact answers are the truth.

    Args:
        engines: by name.
        candidates: numbers of items re-ranked.
        typical: the number whose searches are taken apart into stages, of the first engine.
        threads: of the engines.
    """

    def __init__(
        self, engines: Mapping[str, Engine], candidates: Sequence[int], typical: int, threads: int
    ) -> None:
        self._engines, self._candidates, self._typical = engines, candidates, typical
        self._threads = threads
        self._reset()

    def run(
        self, rounds: Rounds, on_round: Callable[[], None], on_done: Callable[[], None]
    ) -> None:
        """Measure all choices on every query, and call back before a round and after a query."""
        for queries in rounds:
            on_round()
            self._new_round()
            for item in queries:
                self._ask(item)
                on_done()

    def affordable_round(self, rounds: Rounds, seconds: float) -> int:
        """Return the queries a round that `run` answers in about `seconds`, for all rounds.

        A power of two, so that runs on machines of like speed ask the same, and at least `FEWEST`.
        """
        self._new_round()
        self._ask(rounds[0][0])  # warms up
        began = time.perf_counter()
        self._ask(rounds[0][0])
        possible = seconds / len(rounds) / (time.perf_counter() - began)
        self._reset()
        return max(FEWEST, 1 << int(math.log2(max(1.0, possible))))

    def table(self) -> Table:
        """Return a row for every choice."""
        rows = [
            Row(
                name=choice,
                cells=percentiles(self.recorder, choice)
                | {key: Figure(100 * float(np.mean([one[key] for one in values])))
                   for key in values[0]},
            )
            for choice, values in self._outcomes.items()
        ]  # fmt: skip
        photos = next(iter(self._engines.values())).query_role == "image"
        queries = "Photos, from a file's bytes" if photos else "Recipes"
        count = len(next(iter(self._outcomes.values())))
        return Table(
            key="choices",
            title="Recall against latency",
            first="choice",
            columns=SWEEP_COLUMNS,
            rows=tuple(rows),
            note=f"{queries} to ten answers with their records, one at a time, {count:,} of them. "
            "The same answers are timed and judged. The truth is exact: scoring on until all ten "
            "ranks are proved. agree: of the ten, how many are the truth's; best found: the best "
            "of the truth is among them; certified: ranks that the search itself proves; scored: "
            "items scored of those in the index.",
        )

    def _reset(self) -> None:
        self.recorder, self.stages = Recorder(), Recorder()
        self._outcomes: dict[str, list[dict[str, float]]] = {}

    def _new_round(self) -> None:
        self.recorder.new_round()
        self.stages.new_round()

    def _ask(self, item: KnownQuery) -> None:
        (main, first), *_ = self._engines.items()
        began = time.perf_counter()
        truth = item.search(first, max(self._candidates), exact=True)
        proved = time.perf_counter() - began
        for name, engine in self._engines.items():
            for count in self._candidates:
                choice = choice_name(name, count)
                with self.recorder.timed(choice):
                    answer = item.search(engine, count)
                self._judge(choice, answer, truth, item)
                if name == main and count == self._typical:
                    record_stages(self.stages, answer, self._threads)
            if name == main:
                self.recorder.add(f"{name}, exact", proved)
                self._judge(f"{name}, exact", truth, truth, item)

    def _judge(self, choice: str, answer: Answer, truth: Answer, item: KnownQuery) -> None:
        """Count an answer: a value from 0 to 1 for each column of `SWEEP_COLUMNS`."""
        ids, best = [hit.id for hit in answer.hits], [hit.id for hit in truth.hits]
        values = {
            "r1": ids[0] == item.true_id,
            "r10": item.true_id in ids,
            "agreement": len({*ids} & {*best}) / len(best),
            "best": best[0] in ids,
            "certified": answer.certified / len(ids),
            "scored": answer.scored / answer.searched,
        }
        self._outcomes.setdefault(choice, []).append(values)


def choice_name(engine: str, candidates: int) -> str:
    """Return a row's name."""
    return f"{engine}, {candidates} candidates"


def concurrent(
    engine: Engine,
    rounds: Rounds,
    clients: Sequence[int],
    candidates: int,
    on_done: Callable[[], None],
) -> Table:
    """Measure latency and throughput with several clients, each asking again once it is answered.

    Args:
        engine: shared by all clients.
        rounds: the queries of each round, asked by every number of clients in turn.
        clients: how many at once.
        candidates: re-ranked.
        on_done: called after each round of each number of clients.
    """
    recorder, rates = Recorder(), {count: list[float]() for count in clients}

    def ask(item: KnownQuery) -> float:
        began = time.perf_counter()
        item.search(engine, candidates)
        return time.perf_counter() - began

    for queries in rounds:
        recorder.new_round()
        for count in clients:
            began = time.perf_counter()
            with ThreadPoolExecutor(count) as pool:
                for seconds in pool.map(ask, queries):
                    recorder.add(str(count), seconds)
            rates[count].append(len(queries) / (time.perf_counter() - began))
            on_done()
    rows = []
    for count, rate in rates.items():
        middle = float(np.median(rate))
        figure = Figure(middle, noise=(max(rate) - min(rate)) / middle)
        cells = percentiles(recorder, str(count)) | {"rate": figure}
        rows.append(Row(name=f"{count} at once", cells=cells))
    return Table(
        key="concurrency",
        title="Several clients at once",
        first="clients",
        columns=(*PERCENTILES, Column("rate", "queries a second", better="higher")),
        rows=tuple(rows),
        note=f"One engine, {candidates} candidates; each client asks again once it is answered.",
    )
