"""What a user must decide: candidates, index kind and precision, by recall against latency."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hficma.engine import Answer, Engine
from hficma.recipe import Recipe

from ..common.report import Column, Figure, Row, Table
from ..common.timing import Recorder
from .stages import PERCENTILES, percentiles, search

FEWEST = 4
"""Queries a round in any case."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A query whose true item is known."""

    query: bytes | Recipe
    """A photo's file or a recipe."""
    true_id: str
    """Of the item that belongs to it."""


Rounds = Sequence[Sequence[Asked]]
"""The queries of each round."""


@dataclass
class Outcome:
    """What one choice answered, query by query."""

    agreement: list[float] = field(default_factory=list)
    """Share of the ten best of scoring everything."""
    best_found: list[bool] = field(default_factory=list)
    """Whether the best of scoring everything is among the ten."""
    certified: list[float] = field(default_factory=list)
    """Share of ranks proved."""
    hit: list[bool] = field(default_factory=list)
    """Whether the true item is among the ten."""
    first: list[bool] = field(default_factory=list)
    """Whether it is the first."""

    def add(self, answer: Answer, truth: Answer, true_id: str) -> None:
        """Count one answer."""
        ids = [hit.id for hit in answer.hits]
        wanted = [hit.id for hit in truth.hits]
        self.agreement.append(len({*ids} & {*wanted}) / len(wanted))
        self.best_found.append(wanted[0] in ids)
        self.certified.append(answer.certified / len(ids))
        self.hit.append(true_id in ids)
        self.first.append(ids[0] == true_id)


def affordable_round(
    engines: Mapping[str, Engine],
    truth_of: Engine,
    rounds: Rounds,
    candidates: Sequence[int],
    seconds: float,
) -> int:
    """Queries a round that `sweep` answers in about `seconds`: a power of two, at least `FEWEST`.

    Args:
        engines: as `sweep` takes them, like the next three.
        truth_of: see there.
        rounds: see there.
        candidates: see there.
        seconds: for all rounds.
    """
    one = [[rounds[0][0]]]
    sweep(engines, truth_of, one, candidates)  # warms up
    began = time.perf_counter()
    sweep(engines, truth_of, one, candidates)
    possible = seconds / len(rounds) / (time.perf_counter() - began)
    return max(FEWEST, 1 << int(math.log2(max(1.0, possible))))


def sweep(
    engines: Mapping[str, Engine],
    truth_of: Engine,
    rounds: Rounds,
    candidates: Sequence[int],
    *,
    on_round: Callable[[], None] = lambda: None,
    on_done: Callable[[int], None] = lambda count: None,
) -> tuple[Recorder, dict[str, Outcome], int]:
    """Ask every engine with every number of candidates, interleaved; time and judge the answers.

    Args:
        engines: by the name of what is chosen.
        truth_of: whose exact answers are the truth.
        rounds: the queries of each round.
        candidates: numbers of items re-ranked.
        on_round: called before each round.
        on_done: told of queries done.

    Returns:
        seconds and outcomes by `choice_name`, and how many items the truth took at the median.
    """
    recorder, outcomes, scored = Recorder(), dict[str, Outcome](), []
    for engine in engines.values():
        search(engine, rounds[0][0].query, candidates[0])
    for asked in rounds:
        on_round()
        recorder.new_round()
        for item in asked:
            truth = search(truth_of, item.query, max(candidates), exact=True)
            scored.append(truth.scored)
            for name, engine in engines.items():
                for count in candidates:
                    choice = choice_name(name, count)
                    with recorder.timed(choice):
                        answer = search(engine, item.query, count)
                    outcomes.setdefault(choice, Outcome()).add(answer, truth, item.true_id)
            on_done(1)
    return recorder, outcomes, int(np.median(scored))


def choice_name(engine: str, candidates: int) -> str:
    """A row's name."""
    return f"{engine}, {candidates} candidates"


SWEEP_COLUMNS = (
    *PERCENTILES,
    Column("r1", "R@1 %", better="higher"),
    Column("r10", "R@10 %", better="higher"),
    Column("agreement", "agree %", better="higher"),
    Column("best", "best found %", better="higher"),
    Column("certified", "certified %", better="higher"),
)


def sweep_table(
    recorder: Recorder, outcomes: Mapping[str, Outcome], scored: int, truth_of: Engine
) -> Table:
    """What `sweep` found, a row for every choice."""
    rows = []
    for name, outcome in outcomes.items():
        shares: dict[str, Sequence[float]] = {
            "r1": outcome.first,
            "r10": outcome.hit,
            "agreement": outcome.agreement,
            "best": outcome.best_found,
            "certified": outcome.certified,
        }
        cells = {k: Figure(100 * float(np.mean(values))) for k, values in shares.items()}
        rows.append(Row(name=name, cells={**percentiles(recorder, name), **cells}))
    asked = "Photos, from a file's bytes" if truth_of.query_role == "image" else "Recipes"
    note = (
        f"{asked} to ten answers with their records, one at a time, "
        f"{len(next(iter(outcomes.values())).hit):,} of them. The same answers are timed "
        "and judged. The truth is scoring on until all ten ranks are proved, which took "
        f"{scored:,} of {truth_of.index.count:,} items at the median. agree: of the ten, how "
        "many are the truth's; best found: the best of the truth is among them; certified: ranks "
        "that the search itself proves."
    )
    return Table(
        key="choices",
        title="Recall against latency",
        first="choice",
        columns=SWEEP_COLUMNS,
        rows=tuple(rows),
        note=note,
    )


def concurrent(
    engine: Engine,
    rounds: Rounds,
    clients: Sequence[int],
    candidates: int,
    on_done: Callable[[], None] = lambda: None,
) -> Table:
    """Latency and throughput with several clients, each asking again as soon as it is answered.

    Args:
        engine: shared by all clients.
        rounds: the queries of each round, asked by every number of clients in turn.
        clients: how many at once.
        candidates: re-ranked.
        on_done: called after each round of each number of clients.
    """
    recorder, rates = Recorder(), {count: list[float]() for count in clients}
    for asked in rounds:
        recorder.new_round()
        for count in clients:
            began = time.perf_counter()
            for seconds in _clients(engine, asked, count, candidates):
                recorder.add(str(count), seconds)
            rates[count].append(len(asked) / (time.perf_counter() - began))
            on_done()
    rows = []
    for count, rate in rates.items():
        noise = (max(rate) - min(rate)) / float(np.median(rate))
        cells = {
            **percentiles(recorder, str(count)),
            "rate": Figure(float(np.median(rate)), noise=noise),
        }
        rows.append(Row(name=f"{count} at once", cells=cells))
    return Table(
        key="concurrency",
        title="Several clients at once",
        first="clients",
        columns=(*PERCENTILES, Column("rate", "queries a second", better="higher")),
        rows=tuple(rows),
        note=f"One engine, {candidates} candidates; each client asks again once it is answered.",
    )


def _clients(engine: Engine, asked: Sequence[Asked], count: int, candidates: int) -> list[float]:
    waiting: queue.SimpleQueue[Asked] = queue.SimpleQueue()
    for item in asked:
        waiting.put(item)
    seconds: list[float] = []
    errors: list[BaseException] = []

    def client() -> None:
        try:
            while True:
                item = waiting.get_nowait()
                began = time.perf_counter()
                search(engine, item.query, candidates)
                seconds.append(time.perf_counter() - began)
        except queue.Empty:
            return
        # Not hidden: raised again below.
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=client) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return seconds
