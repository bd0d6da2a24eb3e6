"""How each ingredient and each kind of dish looks: the table that a model of the sample must learn.

A second, shuffled table tests what a model has learnt: on its photos a model that knows ingredients
by their looks is at chance, and one that answers by anything else is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from .pantry import PANTRY, Look


@dataclass(frozen=True, slots=True, kw_only=True)
class Presentation:
    """How a kind of dish is served and what cooking does to its pieces."""

    vessels: tuple[str, ...]
    """The vessels that it is served in: keys of `vessels.VESSELS`."""
    bed: str | None = None
    """The ground that the pieces lie in, such as a liquid: a key of `vessels.BEDS`; None for
    none."""
    layout: str = "scatter"
    """The arrangement of the pieces: a key of `layout.LAYOUTS`."""
    coat: float = 0.0
    """The share of the sauce's colour that every piece takes on."""
    browned: float = 0.0
    """The share of brown that heat gives the pieces, 0 to 1."""
    sunk: float = 0.0
    """The share of pieces that lie too deep to be seen."""


PRESENTATIONS: dict[str, Presentation] = {
    "salad": Presentation(vessels=("plate", "bowl")),
    "soup": Presentation(vessels=("bowl",), bed="liquid", coat=0.18, sunk=0.3),
    "curry": Presentation(vessels=("bowl", "pan"), bed="liquid", coat=0.25, sunk=0.15),
    "pizza": Presentation(vessels=("board", "plate"), bed="crust", browned=0.1),
    "pasta": Presentation(vessels=("plate", "bowl"), coat=0.08),
    "rice bowl": Presentation(vessels=("bowl",), layout="heaps"),
    "stir-fry": Presentation(vessels=("pan",), coat=0.1, browned=0.12),
    "tray bake": Presentation(vessels=("tray",), browned=0.2),
    "frittata": Presentation(vessels=("pan", "plate"), bed="egg", coat=0.15, sunk=0.15),
    "tart": Presentation(vessels=("plate", "board"), bed="pastry", layout="rings"),
    "breakfast bowl": Presentation(vessels=("bowl", "plate"), bed="cream", layout="heaps"),
    "skewers": Presentation(vessels=("plate", "board", "tray"), layout="rows", browned=0.15),
}
"""How each kind of dish is served."""


@dataclass(frozen=True, slots=True)
class Appearance:
    """The looks of all ingredients and the presentations of all kinds of dish."""

    looks: Mapping[str, Look]
    """By the name of every ingredient that can be seen."""
    presentations: Mapping[str, Presentation]
    """By the kind of dish."""


def appearance(shuffle_seed: int | None = None) -> Appearance:
    """Return the true table, or a shuffled one.

    Args:
        shuffle_seed: None for the true table. A number deals the looks out anew among all visible
            ingredients, and the presentations among all dishes, so that none stays where it was:
            what was learned from the true table is then wrong about everything.

    Returns:
        the table.
    """
    looks = {item.name: item.look for item in PANTRY.values() if item.look}
    if shuffle_seed is None:
        return Appearance(looks, PRESENTATIONS)
    rng = Random(f"appearance/{shuffle_seed}")
    return Appearance(_dealt_anew(looks, rng), _dealt_anew(PRESENTATIONS, rng))


_T = TypeVar("_T")


def _dealt_anew(table: Mapping[str, _T], rng: Random) -> dict[str, _T]:
    """Return the table with its values moved along one random cycle of all keys.

    A shuffle would leave one key its own value, on average; a cycle of all leaves none.
    """
    order = rng.sample(sorted(table), len(table))
    return {name: table[after] for name, after in zip(order, order[1:] + order[:1], strict=True)}
