"""Make the hits of an answer: ranked items with the recipes that they stand for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hficma.recipe import Recipe

from ..index.index import IndexRecords
from ..results import Hit
from .certificate import Ranking


def build_hits(
    index: IndexRecords, rankings: Sequence[Ranking], *, has_local: bool
) -> list[tuple[Hit, ...]]:
    """Look the recipes of ranked items up, each shard once for all queries.

    Args:
        index: whose items were ranked.
        rankings: of the queries of a batch.
        has_local: whether the model has a local part, so that S_local means something.

    Returns:
        the hits of each query, best first.
    """
    items = np.unique(np.concatenate([ranking.items for ranking in rankings]))
    shard_of, positions = index.locate(items)
    recipes: dict[int, Recipe] = {}
    numbers: dict[int, int] = {}
    for number in np.unique(shard_of):
        offset = int(index.shard_offsets[number])
        shard = index.shards[number]
        records = shard.records.recipes(positions[shard_of == number].tolist())
        recipes.update({offset + position: recipe for position, recipe in records.items()})
        numbers.update({offset + position: int(shard.numbers[position]) for position in records})
    return [
        tuple(
            Hit(
                rank=rank,
                recipe=recipes[int(item)],
                score=float(total),
                global_score=float(global_),
                local_score=float(local) if has_local else None,
                number=numbers[int(item)],
                photo_reader=index.photo,
            )
            for rank, (item, total, global_, local) in enumerate(
                zip(ranking.items, *ranking.scores, strict=True), start=1
            )
        )
        for ranking in rankings
    ]
