"""medR and R@K in both directions, exactly, and what a prefilter costs of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hficma.engine import Bundle
from hficma.engine.index.index import Index
from hficma.metrics import DIRECTIONS, RECALLS, Figures
from hficma.progress import Progress

from ..common.report import Column, Figure, Row, Table
from .exact_ranks import (
    Cost,
    PairScorer,
    Ranks,
    affordable,
    affordable_queries,
    direction_ranks,
    table_ranks,
)

SEARCHED = 0.4
"""Share of the time for what bounds tell of all queries; the rest is for exact ranks of some."""
SEED = 1234


class BagRanks:
    """Ranks of a bag's true items in both directions.

    Args:
        bundle: opened with one thread.
        recipes: index of the bag's recipes.
        images: index of the bag's photos.
        pool: where tiles run.
    """

    def __init__(
        self, bundle: Bundle, recipes: Path, images: Path, pool: ThreadPoolExecutor
    ) -> None:
        opened = Index.open(recipes), Index.open(images)
        recipe_numbers, image_numbers = (
            np.concatenate([shard.numbers for shard in index.shards]) for index in opened
        )
        # A photo that could not be read is in no index.
        _, in_recipes, in_images = np.intersect1d(
            recipe_numbers, image_numbers, return_indices=True
        )
        self._pairs: dict[str, list[tuple[int, int]]] = {
            "image_to_recipe": list(zip(in_images.tolist(), in_recipes.tolist(), strict=True)),
            "recipe_to_image": list(zip(in_recipes.tolist(), in_images.tolist(), strict=True)),
        }
        self._scorers = {
            "image_to_recipe": PairScorer(bundle, opened[0], opened[1], pool),
            "recipe_to_image": PairScorer(bundle, opened[1], opened[0], pool),
        }

    @property
    def pairs(self) -> int:
        """Photos times recipes."""
        return len(self._pairs[DIRECTIONS[0]]) * len(self._scorers[DIRECTIONS[0]].vectors)

    @property
    def queries(self) -> int:
        """Of one direction."""
        return len(self._pairs[DIRECTIONS[0]])

    @property
    def items(self) -> int:
        """Of the direction that has more."""
        return max(len(scorer.vectors) for scorer in self._scorers.values())

    def costs(self) -> dict[str, Cost]:
        """Of a query and of a pair in each direction."""
        return {
            name: self._scorers[name].cost([query for query, _ in self._pairs[name]])
            for name in DIRECTIONS
        }

    def table(self, on_done: Callable[[int], None]) -> dict[str, Ranks]:
        """Ranks of both directions from the scores of all pairs; see `table_ranks`."""
        by_photo, by_recipe = (self._scorers[name] for name in DIRECTIONS)
        found = table_ranks(by_photo, by_recipe, self._pairs[DIRECTIONS[0]], on_done=on_done)
        return dict(zip(DIRECTIONS, found, strict=True))

    def ranks(
        self,
        budget: int,
        *,
        queries: int | None = None,
        on_done: Callable[[int], None] = lambda count: None,
    ) -> dict[str, Ranks]:
        """Ranks within a budget, by direction; of some queries, drawn, where `queries` is given."""
        drawn = np.random.default_rng(SEED).permutation(self.queries)[:queries]
        return {
            name: direction_ranks(
                self._scorers[name], [self._pairs[name][place] for place in drawn], budget,
                on_done=on_done,
            )
            for name in DIRECTIONS
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class BagsRanked:
    """Ranks of all bags."""

    found: Mapping[str, Sequence[Ranks]]
    """By direction and bag."""
    drawn: Mapping[str, Sequence[Ranks]] | None
    """Exact ranks of some queries of each bag, where those of all would take too long."""
    budget: int
    """Items scored for one query at most in `found`."""

    @property
    def exact_queries(self) -> int:
        """Queries of a direction whose exact ranks were asked for."""
        exact = self.found if self.drawn is None else self.drawn
        return sum(len(bag.found) for bag in exact[DIRECTIONS[0]])

    def covering(self, direction: str, candidates: int) -> Ranks:
        """Ranks in the first bag by queries that had so many items scored."""
        some = self.found if self.drawn is None or self.budget >= candidates else self.drawn
        return some[direction][0]


def rank_bags(
    bags: Sequence[BagRanks], *, seconds: float, exhaustive: bool, progress: Progress
) -> BagsRanked:
    """Ranks of all bags, exact where the time is enough.

    Args:
        bags: at least one.
        seconds: for each of them, about.
        exhaustive: score every pair whatever it takes.
        progress: told of the cost before it is paid, and of the work.
    """
    costs = bags[0].costs()
    pairs = sum(bag.pairs for bag in bags)
    pair = costs[DIRECTIONS[0]].pair
    whole = pairs * pair
    found: dict[str, list[Ranks]] = {name: [] for name in DIRECTIONS}
    drawn: dict[str, list[Ranks]] = {name: [] for name in DIRECTIONS}

    def keep(kept: dict[str, list[Ranks]], ranks: Mapping[str, Ranks]) -> None:
        for name in DIRECTIONS:
            kept[name].append(ranks[name])

    if exhaustive or whole <= seconds * len(bags):
        progress.note(
            f"scoring every pair: {pairs:,} pairs at {1e6 * pair:.0f} µs, about {_duration(whole)}"
        )
        for number, bag in enumerate(bags, 1):
            progress.stage(f"ranks, bag {number} of {len(bags)}", bag.queries)
            keep(found, bag.table(progress.advance))
        return BagsRanked(found=found, drawn=None, budget=bags[0].items)
    both = Cost(*map(sum, zip(*costs.values(), strict=True)))
    budget = affordable(bags[0].queries, bags[0].items, both, SEARCHED * seconds)
    exact = affordable_queries(bags[0].queries, bags[0].items, both, (1 - SEARCHED) * seconds)
    progress.note(
        f"scoring every pair would take {_duration(whole)}: {budget:,} items a query, and all of "
        f"them for {exact:,} queries, take about {_duration(seconds * len(bags))}"
    )
    for number, bag in enumerate(bags, 1):
        progress.stage(f"ranks, bag {number} of {len(bags)}", 2 * (bag.queries + exact))
        keep(found, bag.ranks(budget, on_done=progress.advance))
        keep(drawn, bag.ranks(bag.items, queries=exact, on_done=progress.advance))
    return BagsRanked(found=found, drawn=drawn, budget=budget)


def quality_table(ranked: BagsRanked, candidates: Sequence[int]) -> Table:
    """Figures by direction: S, S_global, and re-ranking only some candidates."""
    rows = []
    for direction, bags in ranked.found.items():
        name = direction.replace("_", " ")
        rows.append(Row(name=f"{name}, S", cells=_exact_cells(bags)))
        if ranked.drawn is not None:
            some = ranked.drawn[direction]
            count = sum(len(bag.found) for bag in some)
            rows.append(Row(name=f"{name}, S of {count:,} queries", cells=_exact_cells(some)))
        rows += [
            Row(
                name=f"{name}, S of {count} candidates",
                cells=figure_cells([(bag.reranked(count),) * 2 for bag in bags]),
            )
            for count in reversed(candidates)
            if count <= ranked.budget
        ]
        alone = [(bag.by_global(),) * 2 for bag in bags]
        rows.append(Row(name=f"{name}, S_global alone", cells=figure_cells(alone)))
    columns = (
        Column("medR", "medR", better="lower"),
        *(Column(f"R@{k}", f"R@{k} %", better="higher") for k in RECALLS),
        Column("scored", "pairs scored %"),
        Column("open", "ranks open %"),
    )
    return Table(
        key="quality",
        title="Recall in both directions",
        first="ranked by",
        columns=columns,
        rows=tuple(rows),
        note="Ranks from 1, ties against us, over all items of a bag. " + _how(ranked),
    )


def _exact_cells(bags: Sequence[Ranks]) -> dict[str, Figure | None]:
    """Figures of S, and what they took."""
    queries = sum(len(bag.found) for bag in bags)
    everything = sum(len(bag.found) * bag.items for bag in bags)
    return figure_cells([bag.bounds() for bag in bags]) | {
        "scored": Figure(100 * sum(bag.pairs for bag in bags) / everything),
        "open": Figure(100 * sum(bag.unresolved for bag in bags) / queries),
    }


def _how(ranked: BagsRanked) -> str:
    """How the ranks by S were found."""
    if ranked.drawn is None:
        return "Every pair was scored."
    left = [
        item.low - 1
        for bags in ranked.found.values()
        for bag in bags
        for item in bag.found
        if item.low != item.high
    ]
    how = (
        f"Ranks by S are found without scoring every pair: at most {ranked.budget:,} items that "
        "may pass the true one are scored. "
    )
    if not left:
        return how + "That sufficed for all of them."
    count = ranked.exact_queries
    return how + (
        f"For {len(left):,} queries that did not suffice: all that is known is rank > r, with r = "
        f"{np.median(left):,.0f} at the median, and figures are given from the least to the most "
        f"they can be. For {count:,} queries drawn from them, each way, all that may pass were "
        f"scored: exact, but so few queries are worth {_points(count):.0f} points either way."
    )


def _points(queries: int) -> float:
    """Standard error of a recall of one half, the largest there is."""
    return 50 / math.sqrt(queries)


def figure_cells(bags: Sequence[tuple[Figures, Figures]]) -> dict[str, Figure | None]:
    """medR and R@K as means over bags, from (best, worst) of each."""
    several = len(bags) > 1
    medians = np.array([[best.median_rank, worst.median_rank] for best, worst in bags])
    columns = {"medR": medians}
    for k in RECALLS:
        columns[f"R@{k}"] = np.array([[worst.recall[k], best.recall[k]] for best, worst in bags])
    return {
        name: Figure(
            float(values[:, 0].mean()),
            upto=float(values[:, 1].mean()) if (values[:, 0] != values[:, 1]).any() else None,
            spread=float(values[:, 0].std()) if several else None,
        )
        for name, values in columns.items()
    }


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} s"
