"""Dish classes of recipes, for semantic losses and the class-pair sampler."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from hficma.data.title_classes import TitleClassOptions, title_classes
from hficma.recipe import Recipe
from hficma.types import Classes, Positions

MIN_ITEMS = 2
"""A class that fewer training items share can make no pair."""


def dish_classes(recipes: Sequence[Recipe], training: Positions) -> Classes:
    """Return a class number for each recipe, by its category or frequent words of its title.

    Args:
        recipes: of all pairs.
        training: rows (P,) of those to train on; classes are those that occur there.

    Returns:
        one number a recipe, int64, from 1; 0 for none.
    """
    labels = [recipe.category for recipe in recipes]
    if not any(labels[row] for row in training):
        titles = [recipe.title for recipe in recipes]
        options = TitleClassOptions(min_titles=MIN_ITEMS - 1)
        labels = title_classes(titles, [None] * len(titles), options=options)
    counts = Counter(label for row in training if (label := labels[row]))
    frequent = sorted(label for label, count in counts.items() if count >= MIN_ITEMS)
    numbers = {label: number for number, label in enumerate(frequent, 1)}
    return np.array([numbers.get(label or "", 0) for label in labels], dtype=np.int64)
