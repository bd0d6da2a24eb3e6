"""Neighbours: recipes without photos of nearly the same title as a pair's, shown in its place.

    photo of "Easy banana bread" ◀── its recipe, or at times one of "Moist banana bread"

Of a dish that has one recipe a model learns that recipe's accidents by heart. Others of nearly the
same title are other recipes for the same photo, and what they have in common is the dish.

Which titles are near is said by the vectors that the recipe head reads of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hficma.errors import InputError
from hficma.model import Model
from hficma.model.numerics import unit_rows
from hficma.progress import Progress
from hficma.recipe import Recipe
from hficma.text.vocabulary import TITLE, Tokenizer
from hficma.text.words import words
from hficma.types import Positions

from .field_means import recipe_fields, recipe_means
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


@torch.no_grad()
def find_neighbours(
    model: Model, recipes: Sequence[Recipe], others: OtherRecipes, progress: Progress
) -> Neighbours:
    """Find the other recipes whose titles are nearest to those of pairs.

    Args:
        model: whose frozen encoders read titles, of `global_text: fields`.
        recipes: of the P pairs.
        others: where neighbours come from.
        progress: receives a stage, and a note of how many there are.

    Raises:
        InputError: there are no others.
    """
    progress.stage("titles of other recipes")
    own = title_vectors(model, (recipe.title for recipe in recipes))
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
    neighbours = tuple(recipe for number, recipe in enumerate(others) if number in members)
    progress.note(
        f"{others.path}: {(weights > 0).sum() / max(1, len(weights)):.1f} neighbours a pair, "
        f"of {len(theirs):,} recipes, by titles of a cosine above {bound:.2f}"
    )
    # Places that are not near get a row of no meaning: their weight is 0.
    rows = np.searchsorted(numbers, places)
    return Neighbours(recipes=neighbours, rows=rows, weights=weights)


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
