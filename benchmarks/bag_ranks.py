"""medR and R@K in both directions, exactly, and what a prefilter costs of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hficma.benchmarks.exact_ranks import PairScorer, Ranks, affordable, direction_ranks
from hficma.benchmarks.report import Column, Figure, Row, Table
from hficma.engine import Bundle
from hficma.engine.index import Index
from hficma.metrics import DIRECTIONS, RECALLS, Figures
from hficma.progress import Progress

Positions = npt.NDArray[np.int64]


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
        """Pairs of both directions."""
        return sum(len(self._pairs[name]) * len(self._scorers[name].vectors) for name in DIRECTIONS)

    def seconds_a_pair(self) -> dict[str, float]:
        """What a pair costs in each direction."""
        return {
            name: self._scorers[name].seconds_a_pair([query for query, _ in self._pairs[name]])
            for name in DIRECTIONS
        }

    def budget(self, costs: Mapping[str, float], seconds: float, least: int) -> int:
        """Items a query that both directions can afford in about `seconds`."""
        queries = len(self._pairs[DIRECTIONS[0]])
        items = max(len(scorer.vectors) for scorer in self._scorers.values())
        return affordable(queries, items, sum(costs.values()), seconds, least)

    def ranks(
        self, budget: int, *, exhaustive: bool, on_done: Callable[[int], None]
    ) -> dict[str, Ranks]:
        """By direction; see `direction_ranks`."""
        return {
            name: direction_ranks(
                self._scorers[name], self._pairs[name], budget, exhaustive=exhaustive,
                on_done=on_done,
            )
            for name in DIRECTIONS
        }  # fmt: skip


def rank_bags(
    bags: Sequence[BagRanks],
    *,
    seconds: float,
    least: int,
    exhaustive: bool,
    progress: Progress,
) -> tuple[dict[str, list[Ranks]], int]:
    """Ranks of all bags by direction, and the budget a query.

    Args:
        bags: at least one.
        seconds: for all of them, about.
        least: the smallest budget.
        exhaustive: score every pair; the cost is told first.
        progress: told of the cost and the work.
    """
    costs = bags[0].seconds_a_pair()
    budget = bags[0].budget(costs, seconds / len(bags), least)
    if exhaustive:
        pairs = sum(bag.pairs for bag in bags)
        needed = pairs * sum(costs.values()) / len(costs)
        progress.note(
            f"scoring every pair: {pairs:,} pairs at {1e6 * needed / pairs:.0f} µs, "
            f"about {_duration(needed)}"
        )
    found: dict[str, list[Ranks]] = {name: [] for name in DIRECTIONS}
    for number, bag in enumerate(bags, 1):
        progress.stage(f"ranks, bag {number} of {len(bags)}")
        ranks = bag.ranks(budget, exhaustive=exhaustive, on_done=progress.advance)
        for name in DIRECTIONS:
            found[name].append(ranks[name])
    return found, budget


def quality_table(found: Mapping[str, Sequence[Ranks]], candidates: Sequence[int]) -> Table:
    """Figures by direction: S, S_global, and re-ranking only some candidates."""
    rows = []
    for direction, bags in found.items():
        name = direction.replace("_", " ")
        queries = sum(len(bag.found) for bag in bags)
        scored = sum(bag.pairs for bag in bags)
        everything = sum(len(bag.found) * bag.items for bag in bags)
        exact = figure_cells([bag.bounds() for bag in bags]) | {
            "scored": Figure(100 * scored / everything),
            "open": Figure(100 * sum(bag.unresolved for bag in bags) / queries),
        }
        rows.append(Row(name=f"{name}, S", cells=exact))
        rows += [
            Row(
                name=f"{name}, S of {count} candidates",
                cells=figure_cells([(bag.reranked(count),) * 2 for bag in bags]),
            )
            for count in reversed(candidates)
        ]
        alone = [(bag.by_global(),) * 2 for bag in bags]
        rows.append(Row(name=f"{name}, S_global alone", cells=figure_cells(alone)))
    columns = (
        Column("medR", "medR", better="lower"),
        *(Column(f"R@{k}", f"R@{k} %", better="higher") for k in RECALLS),
        Column("scored", "pairs scored %"),
        Column("open", "ranks open %"),
    )
    budget = next(iter(found.values()))[0].budget
    open_ranks = sum(bag.unresolved for bags in found.values() for bag in bags)
    note = (
        "Ranks from 1, ties against us, over all items of a bag. Ranks by S are found without "
        f"scoring every pair: at most {budget:,} items that may pass the true one are scored. "
    )
    if open_ranks:
        above = np.median(
            [
                item.low - 1
                for bags in found.values()
                for bag in bags
                for item in bag.found
                if item.low != item.high
            ]
        )
        note += (
            f"For {open_ranks:,} queries that did not suffice: all that is known is rank > r, "
            f"with r = {above:,.0f} at the median, and figures are given from the least to the "
            "most they can be."
        )
    else:
        note += "That sufficed for all of them."
    return Table(
        key="quality",
        title="Recall in both directions",
        first="ranked by",
        columns=columns,
        rows=tuple(rows),
        note=note,
    )


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
