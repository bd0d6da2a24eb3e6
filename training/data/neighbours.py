"""Neighbours: recipes without photos of nearly the same title as a pair's, shown in its place.

    photo of "Easy banana bread" ◀── its recipe, or at times one of "Moist banana bread"

Of a dish that has one recipe a model learns that recipe's accidents by heart. Others of nearly the
same title are other recipes for the same photo, and what they have in common is the dish.

Which titles are near is said by the vectors that the recipe head reads of them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hficma.artifacts.content_digests import code_digest
from hficma.artifacts.manifest import write_atomically
from hficma.errors import InputError
from hficma.model import Model
from hficma.model.numerics import unit_rows
from hficma.progress import Progress
from hficma.recipe import Recipe
from hficma.text.vocabulary import TITLE, Tokenizer
from hficma.text.words import words
from hficma.types import Positions

from .field_means import recipe_fields, recipe_means, recipe_means_digest
from .other_recipes import OtherRecipes, chunks

NEAREST = 10
"""Recipes that may stand for a pair's, at most."""
SHARE = 0.7
"""Of the nearest of all pairs together, those that are near enough. Cosines of one table's titles
say less than another's: a bound in cosines would be one table's."""
LEAST_COSINE = 0.5
"""Below it no title is near, whatever the share."""
ENCODED = 512
"""Titles encoded at once."""
COMPARED = 64
"""Titles compared at once with all others."""


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """The neighbours of P pairs."""

    recipes: tuple[Recipe, ...]
    """Each that is a neighbour of any pair, once."""
    rows: Positions
    """(P, NEAREST) places among `recipes`."""
    weights: npt.NDArray[np.float64]
    """(P, NEAREST) a neighbour's chance to be drawn is its share of its pair's; 0 where it is not
    near enough."""
    summary: str = ""
    """How many there are, and how near, for the user."""

    def draw(self, rows: Positions, chance: float, generator: np.random.Generator) -> Positions:
        """Return a neighbour's place for some pairs, and -1 for those that keep their own recipe.

        Args:
            rows: (B,) of the pairs.
            chance: of a pair that has neighbours to be shown one.
            generator: draws both which pairs and which neighbours.
        """
        sums = self.weights[rows].cumsum(axis=1)
        replaced = (generator.random(len(rows)) < chance) & (sums[:, -1] > 0)
        # The first whose part of the sum reaches past a point drawn in the whole.
        points = generator.random(len(rows)) * sums[:, -1]
        places = (sums > points[:, None]).argmax(axis=1)
        return np.where(replaced, self.rows[rows, places], -1)


def find_neighbours(
    model: Model,
    recipes: Sequence[Recipe],
    others: OtherRecipes,
    *,
    cache: Path,
    progress: Progress,
) -> Neighbours:
    """Return the other recipes whose titles are nearest to those of pairs.

    They are kept in the cache, by all that they follow from: to encode the titles of a large file
    takes half a minute, and the members of an ensemble and folds have the same neighbours.

    Args:
        model: whose frozen encoders read titles, of `global_text: fields`.
        recipes: of the P pairs.
        others: where neighbours come from.
        cache: the workspace's cache folder.
        progress: receives a stage where titles are encoded, and a note of how many there are.

    Raises:
        InputError: there are no others.
    """
    titles = [recipe.title for recipe in recipes]
    path = cache / "neighbours" / f"{_key(model, titles, others)}.json"
    if not path.is_file():
        progress.stage("titles of other recipes")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, _to_json(_nearest(model, titles, others, progress)))
    neighbours = _from_json(path.read_bytes())
    progress.note(f"{others.path}: {neighbours.summary}")
    return neighbours


def _nearest(
    model: Model, titles: Sequence[str], others: OtherRecipes, progress: Progress
) -> Neighbours:
    """Compare the titles of P pairs with those of all other recipes; see `find_neighbours`."""
    own = title_vectors(model, titles)
    theirs = title_vectors(model, (recipe.title for recipe in others), progress)
    if not len(theirs):
        raise InputError(f"{others.path}: holds no recipe that is not the dataset's own")
    count = min(NEAREST, len(theirs))
    nearest = [(part @ theirs.T).topk(count, dim=1) for part in own.split(COMPARED)]
    cosines = torch.cat([one.values for one in nearest]).double().cpu().numpy()  # (P, count)
    places = torch.cat([one.indices for one in nearest]).cpu().numpy()
    bound = max(LEAST_COSINE, float(np.quantile(cosines, 1 - SHARE)))
    weights = np.clip(cosines - bound, 0, None)
    numbers = np.unique(places[weights > 0])  # ascending, as they stand in the file
    members = set(numbers.tolist())
    return Neighbours(
        recipes=tuple(recipe for number, recipe in enumerate(others) if number in members),
        # Places that are not near get a row of no meaning: their weight is 0.
        rows=np.searchsorted(numbers, places),
        weights=weights,
        summary=f"{(weights > 0).sum() / max(1, len(weights)):.1f} neighbours a pair, "
        f"of {len(theirs):,} recipes, by titles of a cosine above {bound:.2f}",
    )


def _key(model: Model, titles: Sequence[str], others: OtherRecipes) -> str:
    """Return a name that changes with all that neighbours follow from."""
    read = [code_digest(__name__, packages=("numpy",)), recipe_means_digest(model), others.digest]
    return hashlib.sha256(json.dumps([*read, titles]).encode()).hexdigest()[:16]


def _to_json(neighbours: Neighbours) -> bytes:
    """Return neighbours as JSON, whose numbers are read back to the bit."""
    return json.dumps(
        {
            "recipes": [recipe.to_json() for recipe in neighbours.recipes],
            "rows": neighbours.rows.tolist(),
            "weights": neighbours.weights.tolist(),
            "summary": neighbours.summary,
        }
    ).encode()


def _from_json(content: bytes) -> Neighbours:
    """Return what `_to_json` was given."""
    record = json.loads(content)
    recipes: list[dict[str, Any]] = [
        # As they were, and not as a stranger's file would be read: with the texts' own lines.
        {key: tuple(value) if isinstance(value, list) else value for key, value in one.items()}
        for one in record["recipes"]
    ]
    return Neighbours(
        recipes=tuple(Recipe(**one) for one in recipes),
        rows=np.array(record["rows"], dtype=np.int64),
        weights=np.array(record["weights"], dtype=np.float64),
        summary=record["summary"],
    )


@torch.no_grad()
def title_vectors(model: Model, titles: Iterable[str], progress: Progress | None = None) -> Tensor:
    """Return the vectors of titles (N, D), of unit length, or less where words are unknown.

    Of several encoders the last one's: a pretrained encoder of texts, or what a table holds of one,
    says best which titles mean the same.

    Args:
        model: whose encoders read them.
        titles: N of them.
        progress: hears how many were encoded.
    """
    part = max(
        number for number, field in enumerate(recipe_fields(model).part_fields) if field == TITLE
    )
    vectors = []
    for chunk in chunks(titles, ENCODED):
        batch = model.recipe_batch(
            [model.tokenizer(Recipe(id="title", title=title)) for title in chunk]
        )
        mean, present = recipe_means(model, batch)[part]
        vectors.append(unit_rows(mean.float()) * present[:, None])
        if not recipe_fields(model).text_fields:
            lengths = torch.tensor([_known_length(title, model.tokenizer) for title in chunk])
            vectors[-1] *= lengths.to(model.device)[:, None]
        if progress is not None:
            progress.advance(len(chunk))
    return torch.cat(vectors) if vectors else torch.zeros(0, 1)


def _known_length(title: str, tokenizer: Tokenizer) -> float:
    """Return the length that the known words of a title leave to its unit vector.

    An unknown word counts as a vector at right angles to all others: without it "Leek soup" would
    be one title with "Soup" where leeks are unknown. k of n such words of equal length, all in all
    of length 1, have the length √(k/n).
    """
    sequence = words(title)
    return math.sqrt(len(tokenizer.vocabulary.ids_of(sequence)) / max(1, len(sequence)))
