"""Classes of dishes from their titles, as Recipe1M's were made: frequent pairs of title words.

The classification losses of the published models need a class for each recipe, and recipes from
the web have none. Recipe1M's own are bigrams (Marin et al. 2019, "Recipe1M+: A Dataset for Learning
Cross-Modal Embeddings for Cooking Recipes and Food Images", on semantic regularization; first in
Salvador et al. 2017): of the 2,000 most common bigrams of training titles, those that enough titles
share and that occur in all partitions; then names of Food-101 for recipes without one; all others
are the background.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..text.words import words

# A bigram with one of these ("soup with") says nothing of the dish.
_STOP_WORDS = frozenset(
    "a an and at by for from i ii in my n no of on or s style the to with without your".split()
)


@dataclass(frozen=True, kw_only=True)
class TitleClassOptions:
    """Bounds on the classes; the defaults are the published ones."""

    candidates: int = 2000
    """The number of most common bigrams that may become classes."""
    max_classes: int = 1000
    """The most classes that are made of bigrams."""
    min_titles: int = 20
    """A class has more training titles than this; small datasets need less."""


def title_classes(
    titles: Sequence[str],
    partitions: Sequence[str | None],
    *,
    names: Iterable[str] = (),
    options: TitleClassOptions | None = None,
) -> list[str | None]:
    """Return the class of each title, or None for the background.

    A title with several frequent bigrams gets the most common one.

    Args:
        titles: M titles.
        partitions: of each of the M titles; None counts as `train`.
        names: further class names, such as Food-101's, their words parted by underscores or spaces.
        options: None takes the published bounds.

    Returns:
        M names of classes, or None.
    """
    options = options or TitleClassOptions()
    split = [words(title) for title in titles]
    parts = [part or "train" for part in partitions]
    # Each bigram once a title: "chili chili chili" is one recipe, not two.
    bigrams = [list(dict.fromkeys(_bigrams(title))) for title in split]
    counts: Counter[tuple[str, str]] = Counter()
    pairs_of: dict[str, set[tuple[str, str]]] = {part: set() for part in set(parts)}
    for pairs, part in zip(bigrams, parts, strict=True):
        pairs_of[part].update(pairs)
        if part == "train":
            counts.update(pairs)
    # Ties are broken by the words, or the classes would depend on the recipes' order.
    common = sorted(counts, key=lambda pair: (-counts[pair], pair))[: options.candidates]
    # A class that a partition lacks could be learnt and never tested, or tested and never learnt.
    chosen = [
        pair
        for pair in common
        if counts[pair] > options.min_titles and all(pair in pairs for pairs in pairs_of.values())
    ][: options.max_classes]
    rank = {pair: position for position, pair in enumerate(chosen)}
    further = {tuple(words(name.replace("_", " "))): None for name in names}
    further = {name: None for name in further if name and name not in rank}
    return [
        _best(pairs, rank) or _class_of(title, further)
        for pairs, title in zip(bigrams, split, strict=True)
    ]


def _bigrams(title: Sequence[str]) -> list[tuple[str, str]]:
    """Return the neighbouring words of a title, without stop words and numbers."""
    return [
        (first, second)
        for first, second in pairwise(title)
        if first not in _STOP_WORDS
        and second not in _STOP_WORDS
        and first[0].isalpha()
        and second[0].isalpha()
    ]


def _best(pairs: Iterable[tuple[str, str]], rank: dict[tuple[str, str], int]) -> str | None:
    """Return the most common of a title's bigrams that are classes."""
    known = [(rank[pair], pair) for pair in pairs if pair in rank]
    return " ".join(min(known)[1]) if known else None


def _class_of(title: Sequence[str], names: Iterable[tuple[str, ...]]) -> str | None:
    """Return the first of the names whose words stand in the title, one after the other."""
    # Spaces around both: "pie" is no word of "pieces".
    text = f" {' '.join(title)} "
    return next((joined for name in names if f" {(joined := ' '.join(name))} " in text), None)
