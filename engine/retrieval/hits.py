"""Rankings to hits, with their records."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hficma.recipe import Recipe

from ..index.index import Index
from ..results import Hit
from .certificate import ItemScores, Ranking


def build_hits(
    index: Index, rankings: Sequence[Ranking], *, has_local: bool
) -> list[tuple[Hit, ...]]:
    """Each ranking's items with their records, which are looked up once a shard."""
    positions = np.unique(np.concatenate([ranking.items for ranking in rankings]))
    shard_of, places = index.locate(positions)
    recipes: dict[int, Recipe] = {}
    for number in np.unique(shard_of):
        start = int(index.shard_offsets[number])
        found = index.shards[number].records.recipes(places[shard_of == number].tolist())
        recipes.update({start + place: recipe for place, recipe in found.items()})
    return [
        tuple(
            _hit(place, recipes[int(item)], ranking.scores, has_local)
            for place, item in enumerate(ranking.items)
        )
        for ranking in rankings
    ]


def _hit(place: int, recipe: Recipe, scores: ItemScores, has_local: bool) -> Hit:
    return Hit(
        rank=place + 1,
        recipe=recipe,
        score=float(scores.total[place]),
        global_score=float(scores.global_[place]),
        local_score=float(scores.local[place]) if has_local else None,
    )
