"""The figures of one model on one split: medR, recall, and what a prefilter costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hficma.metrics import (
    DIRECTIONS,
    RECALLS,
    Interval,
    chance,
    figure_text,
    figures,
    intervals,
    summary,
)

from .ranking import PREFILTER_DEPTHS, BagRanks

SETUPS: dict[str, int | None] = {"1k": 1_000, "10k": 10_000, "all": None}
"""Items a bag; None takes all of them in one."""


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
        """Return the evaluation as JSON values."""
        record = dict(self.__dict__)
        record["left_out"] = list(self.left_out)
        return record

    def rows(self) -> list[list[str]]:
        """Return the rows of its table: direction, scored by, medR, R@1, R@5, R@10."""
        table = []
        for direction in DIRECTIONS:
            parts = [("S", "total", self.total), ("S_global", "global_only", self.global_only)]
            if self.prefiltered is not None:
                parts.append((f"top {self.prefilter} by S", "prefiltered", self.prefiltered))
            for name, part, by_direction in parts:
                cells = [
                    self._cell(part, direction, key, by_direction[direction][key])
                    for key in ("medR", "R@1", "R@5", "R@10")
                ]
                table.append([direction.replace("_", " "), name, *cells])
            if self.prefiltered is not None:
                table.append(
                    [direction.replace("_", " "), "difference", *self._difference(direction)]
                )
        return table

    def _difference(self, direction: str) -> list[str]:
        """Return what prefiltering changes in each figure of a direction."""
        assert self.prefiltered is not None
        before, after = self.total[direction], self.prefiltered[direction]
        return [f"{after[key][0] - before[key][0]:+.1f}" for key in before]

    def _cell(self, part: str, direction: str, key: str, figure: tuple[float, float | None]) -> str:
        """Return one figure with its deviation over bags or its interval over queries."""
        mean, deviation = figure
        if deviation is not None:
            return f"{mean:.1f} ± {deviation:.1f}"
        ends = None if self.intervals is None else self.intervals[part][direction][key]
        return figure_text(mean, ends)

    @property
    def notes(self) -> list[str]:
        """Return what must be said beside the figures, a line each."""
        full = SETUPS[self.setup]
        short = full is not None and self.bag_size < full
        by_chance = chance(self.bag_size)
        guess = f"chance: medR {by_chance['medR']:.0f}, " + ", ".join(
            f"R@{k} {by_chance[f'R@{k}']:.3g}" for k in RECALLS
        )
        if self.bag_count == 1:
            few = f", fewer than the {full:,} pairs of a bag" if short else ""
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
    ranked: Iterable[BagRanks],
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
    """Return the figures of the ranks of one or more bags.

    Args:
        ranked: one a bag.
        run: see `Evaluation`, as for those that follow.
        dataset: likewise.
        split: likewise.
        setup: likewise.
        items: likewise.
        prefilter: likewise.
        left_out: likewise.
        trained_on: likewise.
    """
    ranked = list(ranked)
    bag_ranks = {
        part: {
            direction: [bag.ranks[part][direction] for bag in ranked] for direction in DIRECTIONS
        }
        for part in ranked[0].ranks
    }
    recall = {
        direction: {
            depth: [bag.prefilter_recall[direction][depth] for bag in ranked]
            for depth in PREFILTER_DEPTHS
        }
        for direction in DIRECTIONS
    }
    summaries = {
        part: {
            direction: summary([figures(one) for one in bags])
            for direction, bags in by_direction.items()
        }
        for part, by_direction in bag_ranks.items()
    }
    return Evaluation(
        run=run,
        dataset=dataset,
        split=split,
        setup=setup,
        items=items,
        bag_size=len(bag_ranks["total"][DIRECTIONS[0]][0]),
        bag_count=len(ranked),
        total=summaries["total"],
        global_only=summaries["global_only"],
        prefilter_recall={
            direction: {depth: float(np.mean(values)) for depth, values in by_depth.items()}
            for direction, by_depth in recall.items()
        },
        prefilter=prefilter,
        prefiltered=summaries.get("prefiltered"),
        left_out=tuple(left_out),
        # Bags overlap, so only one bag's queries are a sample that an interval can be drawn from.
        intervals={
            part: {direction: intervals(bags[0]) for direction, bags in by_direction.items()}
            for part, by_direction in bag_ranks.items()
        }
        if len(ranked) == 1
        else None,
        trained_on=trained_on,
    )
