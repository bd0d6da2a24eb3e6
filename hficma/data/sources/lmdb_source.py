"""What the two kinds of published LMDBs share: they hold ids and vectors, the layers hold text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from hficma.errors import InputError
from hficma.recipe import Recipe

from .published import SideTable, layer1_recipe


def recipe_of(
    identity: str, partition: str, names: tuple[str, ...], texts: SideTable | None, where: str
) -> Recipe:
    """The recipe's text from the layers where they lie beside, else what its ids say.

    Raises:
        InputError: it has no ingredients.
    """
    entry = texts.get(identity) if texts else None
    if entry is not None:
        return layer1_recipe(entry, where)
    record = {"id": identity, "ingredients": list(names), "partition": partition}
    return Recipe.parse(record, where=where)


def leaving_out_bad(
    readers: Iterator[Callable[[], Any]], strict: bool, on_bad: Callable[[str], None]
) -> Iterator[Any]:
    """Call each reader; a bad record is told and left out, or raised where `strict` is set."""
    for read in readers:
        try:
            yield read()
        except InputError as error:
            if strict:
                raise
            on_bad(str(error))
