"""Lays pieces on a dish: positions in units of the food's radius, in the order of drawing.

Each layout takes the number of pieces of each ingredient, whether the dish is square, and a random
stream. A later piece covers an earlier one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random

Place = tuple[int, float, float]
"""(index of the ingredient, x, y); x and y are -1 to 1, 0 in the centre."""


def scatter(counts: Sequence[int], square: bool, rng: Random) -> list[Place]:
    """Lay all pieces mixed, as tossed.

    Args:
        counts: the number of pieces of each ingredient.
        square: whether the dish is square.
        rng: draws positions.

    Returns:
        a place for each piece.
    """
    owners = [owner for owner, count in enumerate(counts) for _ in range(count)]
    rng.shuffle(owners)
    return [
        (owner, *point)
        for owner, point in zip(owners, _spread(len(owners), square, rng), strict=True)
    ]


def heaps(counts: Sequence[int], square: bool, rng: Random) -> list[Place]:
    """Lay each ingredient in a sector of its own; arguments as of `scatter`."""
    turn, share = rng.uniform(0, 2 * math.pi), 2 * math.pi / max(1, len(counts))
    return [
        (owner, radius * math.cos(angle), radius * math.sin(angle))
        for owner, count in enumerate(counts)
        for i in range(count)
        # The square root spreads pieces evenly over the area: half of it lies beyond 0.7 radii.
        for radius in [math.sqrt((i + 0.6) / count) * rng.uniform(0.85, 1)]
        for angle in [turn + share * (owner + rng.uniform(0.12, 0.88))]
    ]


def rings(counts: Sequence[int], square: bool, rng: Random) -> list[Place]:
    """Lay pieces on circles from the outside in, by ingredient; arguments as of `scatter`."""
    owners = [owner for owner, count in enumerate(counts) for _ in range(count)]
    places: list[Place] = []
    radius = 0.97
    while owners:
        # As many as fit around: a piece takes 0.36 radii.
        room = max(1, round(2 * math.pi * radius / 0.36))
        circle, owners = owners[:room], owners[room:]
        turn = rng.uniform(0, 2 * math.pi)
        for i, owner in enumerate(circle):
            angle = turn + 2 * math.pi * i / len(circle)
            places.append((owner, radius * math.cos(angle), radius * math.sin(angle)))
        radius = max(0.0, radius - 0.31)
    return places


def rows(counts: Sequence[int], square: bool, rng: Random) -> list[Place]:
    """Lay pieces on four skewers, ingredients in turns; arguments as of `scatter`."""
    most = max(counts, default=0)
    turns = [owner for i in range(most) for owner, count in enumerate(counts) if i < count]
    lines = 4
    room = math.ceil(len(turns) / lines)
    return [
        (
            owner,
            (i % room + 0.5) / room * 2 - 1 + rng.uniform(-0.02, 0.02),
            (i // room - (lines - 1) / 2) * 0.46 + rng.uniform(-0.03, 0.03),
        )
        for i, owner in enumerate(turns)
    ]


def _spread(count: int, square: bool, rng: Random) -> list[tuple[float, float]]:
    """Return points that fill a disc or a square about evenly, in random order."""
    if square:
        side = math.ceil(math.sqrt(count))
        grid = [((i % side + 0.5) / side * 2 - 1, (i // side + 0.5) / side * 2 - 1)
                for i in range(side * side)]  # fmt: skip
        points = rng.sample(grid, count)
    else:
        # A sunflower's spiral: turns by the golden angle, 2.39996 radians, never line up.
        spots = [(math.sqrt((i + 0.5) / count), 2.39996 * i) for i in range(count)]
        points = [(r * math.cos(a), r * math.sin(a)) for r, a in spots]
        rng.shuffle(points)
    slack = 0.8 / math.sqrt(max(1, count))
    return [(x + rng.uniform(-slack, slack), y + rng.uniform(-slack, slack)) for x, y in points]


LAYOUTS: dict[str, Callable[[Sequence[int], bool, Random], list[Place]]] = {
    "scatter": scatter, "heaps": heaps, "rings": rings, "rows": rows,
}  # fmt: skip
"""The layouts by the name that `appearance.Presentation` uses."""
