"""Ranks of a bag's pairs in both directions, from blocks of scores: no table of all pairs at once.

S of 51,000 photos and recipes would be 10 GB. A rank is a count of scores that are not below the
partner's, and counts add up over blocks, of which each is looked at once and let go:

                 recipes                 diagonal blocks come first: they hold the partners'
              ┌─────┬─────┬─────┐        scores, and are kept for the second pass
      photos  │  d  │     │     │
              ├─────┼─────┼─────┤        a block's rows count for its photos, its columns for its
              │     │  d  │     │        recipes: both directions from one computation
              ├─────┼─────┼─────┤
              │     │     │  d  │        bags of up to WHOLE pairs are one block
              └─────┴─────┴─────┘

What the counts must come to stands in `hficma.metrics`, which takes whole tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from hficma.metrics import DIRECTIONS, count_not_below
from hficma.model import Model, Tokens
from hficma.types import Floats, Ranks

from .scoring import BlockScores, block_scores, local_scorer, local_scores

WHOLE = 10_240
"""Pairs that are scored as one block: a table of 400 MB."""
BLOCK = 2_048
"""Photos and recipes of a block of more pairs."""
ROWS = 1_024
"""Rows of a block that are compared at once."""
PREFILTER_DEPTHS = (10, 50, 100)
"""Candidates for which `prefilter_recall` is measured."""


@dataclass(frozen=True, kw_only=True)
class BagRanks:
    """The ranks of a bag's N pairs, and what a prefilter by S_global passes on."""

    ranks: Mapping[str, Mapping[str, Ranks]]
    """By `total`, `global_only` or `prefiltered`, and direction: (N,), from 1."""
    prefilter_recall: Mapping[str, Mapping[int, float]]
    """By direction and K: percent of queries whose best item by S is in the top K by S_global."""


def rank_bag(
    model: Model,
    image: Tokens,
    recipe: Tokens,
    *,
    prefilter: int | None = None,
    on_done: Callable[[int], None] = lambda count: None,
    scorer: Callable[[Model, Tokens], BlockScores] = block_scores,
    whole: int = WHOLE,
    block: int = BLOCK,
) -> BagRanks:
    """Rank each photo's recipe among all recipes of a bag, and each recipe's photo.

    Args:
        model: in evaluation mode.
        image: N photos.
        recipe: their N recipes.
        prefilter: K, to rank also with only the best K by S_global scored by S; None does not.
        on_done: called with the number of pairs that were just scored against all others.
        scorer: makes what scores S_local; see `score_tables`.
        whole: pairs up to which there is one block.
        block: photos and recipes of a block otherwise.
    """
    count = len(image.global_)
    size = count if count <= whole else block
    parts = [slice(start, min(start + size, count)) for start in range(0, count, size)]
    photos, recipes = _Queries(count, prefilter), _Queries(count, prefilter)
    for rows in parts:
        for columns in parts:
            table = _global_scores(image, recipe, rows, columns)
            photos.note_largest(table, rows)
            recipes.note_largest(table.T, columns)
    photos.note_edges()
    recipes.note_edges()
    on_block = on_done if len(parts) == 1 else lambda scored: None
    diagonal = [
        next(_blocks(model, image, recipe, part, [part], on_block, scorer)) for part in parts
    ]
    for block_ in diagonal:
        photos.note_partners(block_)
        recipes.note_partners(block_)
    for number, columns in enumerate(parts):
        others = parts[:number] + parts[number + 1 :]
        for block_ in (
            diagonal[number], *_blocks(model, image, recipe, columns, others, on_block, scorer)
        ):  # fmt: skip
            photos.count(block_)
            recipes.count(block_.transposed())
        if len(parts) > 1:
            on_done(columns.stop - columns.start)
    directions = dict(zip(DIRECTIONS, (photos, recipes), strict=True))
    return BagRanks(
        ranks={
            part: {name: queries.ranks(part) for name, queries in directions.items()}
            for part in ("total", "global_only", *(() if prefilter is None else ("prefiltered",)))
        },
        prefilter_recall={name: queries.recall() for name, queries in directions.items()},
    )


@dataclass(frozen=True)
class _Block:
    """Scores of some queries with some candidates."""

    queries: slice
    candidates: slice
    total: Floats
    """S (Q, C)."""
    global_: Floats
    """S_global (Q, C)."""

    def transposed(self) -> _Block:
        """Return the same scores for the other direction."""
        return _Block(self.candidates, self.queries, self.total.T, self.global_.T)


class _Queries:
    """Counts of one direction's N queries, to which blocks are added.

    Args:
        count: N.
        prefilter: K, or None.
    """

    def __init__(self, count: int, prefilter: int | None) -> None:
        self._count, self._prefilter = count, prefilter
        depths = {*PREFILTER_DEPTHS, *(() if prefilter is None else (prefilter,))}
        self._depths = sorted(depths)
        self._largest = np.full((count, min(count, self._depths[-1])), -np.inf, dtype=np.float32)
        self._edges: dict[int, Floats] = {}  # the K-th largest S_global of each query, by K
        self._partner, self._partner_global = (np.empty(count, np.float32) for _ in range(2))
        self._total, self._global, self._among = (np.zeros(count, np.int64) for _ in range(3))
        # The best by S: its score, its place (of equal ones the first counts) and its S_global.
        self._best = np.full(count, -np.inf, dtype=np.float32)
        self._place = np.full(count, count)
        self._best_global = np.full(count, -np.inf, dtype=np.float32)

    def note_largest(self, scores: Floats, queries: slice) -> None:
        """Keep the largest S_global (Q, C) of each query."""
        kept = self._largest.shape[1]
        for start in range(queries.start, queries.stop, ROWS):
            rows = slice(start, min(start + ROWS, queries.stop))
            part = scores[start - queries.start : rows.stop - queries.start]
            both = np.concatenate([self._largest[rows], part], axis=1)
            self._largest[rows] = np.partition(both, -kept, axis=1)[:, -kept:]

    def note_edges(self) -> None:
        """Take from the largest what each depth's last candidate has."""
        self._largest.sort(axis=1)
        for depth in self._depths:
            # As many candidates as there are items are all of them.
            everything = np.full(self._count, -np.inf, dtype=np.float32)
            all_of_them = depth >= self._count
            self._edges[depth] = everything if all_of_them else self._largest[:, -depth].copy()
        self._largest = self._largest[:0]

    def note_partners(self, block: _Block) -> None:
        """Take the partners' scores from a diagonal block."""
        self._partner[block.queries] = block.total.diagonal()
        self._partner_global[block.queries] = block.global_.diagonal()

    def count(self, block: _Block) -> None:
        """Count what is not below the partners in a block."""
        first = block.queries.start
        for start in range(first, block.queries.stop, ROWS):
            rows = slice(start, min(start + ROWS, block.queries.stop))
            total = block.total[start - first : rows.stop - first]
            global_ = block.global_[start - first : rows.stop - first]
            partner, partner_global = self._partner[rows], self._partner_global[rows]
            self._total[rows] += count_not_below(total, partner)
            self._global[rows] += count_not_below(global_, partner_global)
            if self._prefilter is not None:
                edge = self._edges[self._prefilter][rows]
                candidates = np.where(global_ >= edge[:, None], total, -np.inf)
                least = np.where(partner_global >= edge, partner, -np.inf)
                self._among[rows] += count_not_below(candidates, least)
            self._note_best(total, global_, rows, block.candidates.start)

    def _note_best(self, total: Floats, global_: Floats, rows: slice, first: int) -> None:
        """Keep the best of some queries, if it is in these candidates, from `first` on."""
        columns = total.argmax(axis=1)
        lines = np.arange(len(total))
        best, place = total[lines, columns], first + columns
        better = (best > self._best[rows]) | (
            (best == self._best[rows]) & (place < self._place[rows])
        )
        for noted, new in (
            (self._best, best),
            (self._place, place),
            (self._best_global, global_[lines, columns]),
        ):
            noted[rows] = np.where(better, new, noted[rows])

    def ranks(self, part: str) -> Ranks:
        """Return the ranks (N,) by a part of `BagRanks`."""
        if part == "total":
            return self._total
        if part == "global_only":
            return self._global
        assert self._prefilter is not None
        # Others cannot rank before a candidate, whatever their S.
        return np.where(self._global <= self._prefilter, self._among, self._global)

    def recall(self) -> dict[int, float]:
        """Return the percentage of queries whose best is a candidate, by depth."""
        return {
            depth: float(100 * (self._best_global >= self._edges[depth]).mean())
            for depth in PREFILTER_DEPTHS
        }


@torch.inference_mode()
def _global_scores(image: Tokens, recipe: Tokens, rows: slice, columns: slice) -> Floats:
    """Return S_global of a block; each time the same bits."""
    scores: Floats = (image.global_[rows].float() @ recipe.global_[columns].float().T).cpu().numpy()
    return scores


def _blocks(
    model: Model,
    image: Tokens,
    recipe: Tokens,
    columns: slice,
    parts: Sequence[slice],
    on_done: Callable[[int], None],
    scorer: Callable[[Model, Tokens], BlockScores],
) -> Iterator[_Block]:
    """Yield blocks of some recipes with photos, part by part; recipes are projected once."""
    score = local_scorer(model, recipe.select(columns), scorer)
    for rows in parts:
        global_ = _global_scores(image, recipe, rows, columns)
        local = local_scores(score, image.select(rows), columns.stop - columns.start, on_done)
        yield _Block(rows, columns, model.config.score_weights.total(global_, local), global_)
