"""The figures of one model on one split: medR, recall, and what a prefilter costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hficma.metrics import (
    DIRECTIONS,
    RECALLS,
    Figures,
    Interval,
    chance,
    figure_text,
    figures,
    intervals,
    prefilter_recall,
    prefiltered_ranks,
    ranks,
    summary,
)
from hficma.types import Ranks

from .scoring import ScoreTables

SETUPS = {"1k": 1_000, "10k": 10_000, "all": None}
"""Items a bag; None takes all of them in one."""


PREFILTER_DEPTHS = (10, 50, 100)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The figures of one model on one split."""

    run: str
    """The run's path."""
    dataset: str
    """What `open_dataset` takes."""
    split: str
    """`train`, `val` or `test`."""
    setup: str
    """`1k`, `10k` or `all`."""
    items: int
    """Pairs of the split that could be read."""
    bag_size: int
    """Pairs a bag; less than the setup asks for where there are fewer."""
    bag_count: int
    """Bags."""
    total: dict[str, dict[str, tuple[float, float | None]]]
    """By direction and figure: mean and deviation over bags, by S; one bag has no deviation."""
    global_only: dict[str, dict[str, tuple[float, float | None]]]
    """The same by S_global alone."""
    prefilter_recall: dict[str, dict[int, float]]
    """By direction and K: percent of queries whose best item by S is in the top K by S_global."""
    prefilter: int | None = None
    """K of `prefiltered`."""
    prefiltered: dict[str, dict[str, tuple[float, float | None]]] | None = None
    """The same figures where only the best K by S_global are scored by S."""
    intervals: dict[str, dict[str, dict[str, Interval]]] | None = None
    """Of one bag: by `total`, `global_only` or `prefiltered`, direction and figure: the 95 %
    interval over queries. None for several bags."""
    trained_on: str | None = None
    """Why the figures say little of new pairs, where the run saw these; None where it did not."""
    left_out: tuple[str, ...] = ()
    """Photos that could not be read, one line each."""

    def to_json(self) -> dict[str, Any]:
        """The evaluation as JSON values."""
        record = dict(self.__dict__)
        record["left_out"] = list(self.left_out)
        return record

    def rows(self) -> list[list[str]]:
        """Table rows: direction, scored by, medR, R@1, R@5, R@10."""
        table = []
        for direction in DIRECTIONS:
            parts = [("S", "total", self.total), ("S_global", "global_only", self.global_only)]
            if self.prefiltered is not None:
                parts.append((f"top {self.prefilter} by S", "prefiltered", self.prefiltered))
            for name, part, found in parts:
                cells = [
                    self._cell(part, direction, key, found[direction][key])
                    for key in ("medR", "R@1", "R@5", "R@10")
                ]
                table.append([direction.replace("_", " "), name, *cells])
            if self.prefiltered is not None:
                table.append([direction.replace("_", " "), "difference", *self._loss(direction)])
        return table

    def _loss(self, direction: str) -> list[str]:
        assert self.prefiltered is not None
        before, after = self.total[direction], self.prefiltered[direction]
        return [f"{after[key][0] - before[key][0]:+.1f}" for key in before]

    def _cell(self, part: str, direction: str, key: str, figure: tuple[float, float | None]) -> str:
        mean, deviation = figure
        if deviation is not None:
            return f"{mean:.1f} ± {deviation:.1f}"
        ends = None if self.intervals is None else self.intervals[part][direction][key]
        return figure_text(mean, ends)

    @property
    def notes(self) -> list[str]:
        """What must be said beside the figures, a line each."""
        asked = SETUPS[self.setup]
        found = (
            [f"fewer than the {asked:,} pairs of a bag"] if asked and self.bag_size < asked else []
        )
        by_chance = chance(self.bag_size)
        guess = f"chance: medR {by_chance['medR']:.0f}, " + ", ".join(
            f"R@{k} {by_chance[f'R@{k}']:.3g}" for k in RECALLS
        )
        if self.bag_count == 1:
            few = "" if not found else f", {found[0]}"
            notes = [
                f"n = {self.bag_size} pairs, one bag of all{few}; 95 % intervals are over "
                f"queries; {guess}"
            ]
        else:
            notes = [f"±: deviation over {self.bag_count} bags; {guess}"]
            if self.bag_count * self.bag_size > self.items:
                notes[0] += (
                    f"; the bags are drawn from n = {self.items:,} pairs and overlap, so other "
                    "pairs may differ by more"
                )
        return [*notes, self.trained_on] if self.trained_on else notes


def evaluation_of(
    tables: Iterator[ScoreTables],
    *,
    run: str,
    dataset: str,
    split: str,
    setup: str,
    items: int,
    prefilter: int | None = None,
    left_out: Sequence[str] = (),
    trained_on: str | None = None,
) -> Evaluation:
    """Figures of the score tables of one or more bags."""
    own_ranks: dict[str, dict[str, Ranks]] = {"total": {}, "global_only": {}, "prefiltered": {}}
    total: dict[str, list[Figures]] = {name: [] for name in DIRECTIONS}
    global_only: dict[str, list[Figures]] = {name: [] for name in DIRECTIONS}
    filtered: dict[str, list[Figures]] = {name: [] for name in DIRECTIONS}
    recall: dict[str, dict[int, list[float]]] = {
        name: {depth: [] for depth in PREFILTER_DEPTHS} for name in DIRECTIONS
    }
    size = count = 0
    for table in tables:
        size, count = len(table.total), count + 1
        pairs = ((table.total, table.global_), (table.total.T, table.global_.T))
        for name, (scores, cheap) in zip(DIRECTIONS, pairs, strict=True):
            found = {"total": ranks(scores), "global_only": ranks(cheap)}
            if prefilter is not None:
                found["prefiltered"] = prefiltered_ranks(scores, cheap, prefilter)
            for part, by_direction in (
                ("total", total), ("global_only", global_only), ("prefiltered", filtered),
            ):  # fmt: skip
                if part in found:
                    by_direction[name].append(figures(found[part]))
                    own_ranks[part][name] = found[part]
            for depth in PREFILTER_DEPTHS:
                recall[name][depth].append(prefilter_recall(scores, cheap, depth))
    return Evaluation(
        run=run,
        dataset=dataset,
        split=split,
        setup=setup,
        items=items,
        bag_size=size,
        bag_count=count,
        total={name: summary(found) for name, found in total.items()},
        global_only={name: summary(found) for name, found in global_only.items()},
        prefilter_recall={
            name: {depth: float(np.mean(found)) for depth, found in by_depth.items()}
            for name, by_depth in recall.items()
        },
        prefilter=prefilter,
        prefiltered=(
            None if prefilter is None else {n: summary(found) for n, found in filtered.items()}
        ),
        left_out=tuple(left_out),
        intervals=(
            None
            if count != 1
            else {
                part: {name: intervals(one) for name, one in by_direction.items()}
                for part, by_direction in own_ranks.items()
                if by_direction
            }
        ),
        trained_on=trained_on,
    )
