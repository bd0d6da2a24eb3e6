"""From "2 cups of finely chopped fresh basil" to the ingredient that it names."""

from __future__ import annotations

from collections.abc import Container, Sequence

MAX_PHRASE_WORDS = 4

_QUANTITIES_AND_UNITS = frozenset(
    "a an of or and the to taste for about plus more each such as g gram grams kg mg ml l dl cl "
    "liter liters litre litres cup cups tbsp tablespoon tablespoons tsp teaspoon teaspoons oz "
    "ounce ounces lb lbs pound pounds quart quarts pint pints inch inches can cans jar jars "
    "package packages packet packets pkg bunch bunches clove cloves slice slices piece pieces "
    "pinch dash handful stick sticks head heads stalk stalks sprig sprigs small medium large "
    "big one two three four five six half".split()
)
_PREPARATIONS = frozenset(
    "chopped finely coarsely roughly thinly sliced diced minced grated shredded peeled cut into "
    "cubes cubed crushed melted softened beaten drained rinsed cooked uncooked raw fresh freshly "
    "ground dried dry frozen thawed packed sifted divided optional halved quartered trimmed "
    "seeded cored toasted room temperature boneless skinless extra virgin warm cold hot boiling "
    "organic ripe whole".split()
)


def ingredient_phrase(line: Sequence[str], vocabulary: Container[str]) -> str | None:
    """The vocabulary's longest name in an ingredient line.

    Args:
        line: the line's words, lower case.
        vocabulary: known names; several words are joined by `_`.

    Returns:
        the name as the vocabulary spells it, or None where nothing is known.
    """
    kept = [word for word in line if word not in _QUANTITIES_AND_UNITS and not word[0].isdigit()]
    for candidates in (kept, [word for word in kept if word not in _PREPARATIONS]):
        for size in range(min(MAX_PHRASE_WORDS, len(candidates)), 1, -1):
            for start in range(len(candidates) - size + 1):
                name = "_".join(candidates[start : start + size])
                if name in vocabulary:
                    return name
    plain = [word for word in kept if word not in _PREPARATIONS] or kept
    # The head noun of an English ingredient stands last ("brown sugar").
    return next((word for word in reversed(plain) if word in vocabulary), None)
