"""What the threads of a service do with an engine: search, encode, explain, look up.

Nothing here knows of the event loop; `service.Service` decides what runs when.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from hficma.errors import InputError
from hficma.images.file_formats import image_format
from hficma.recipe import Recipe
from hficma.types import Floats

from ..encoder import encode_queries
from ..engine import Engine
from ..explain import PairExplanation, explain_pairs
from ..query import ReadQuery
from ..results import Answer, Failure
from ..retrieval.search import SearchOptions
from .refusals import NotThere, Unusable

Query = bytes | Recipe
"""A photo's file, or a recipe."""

QUICK_PHOTO_BYTES = 8_000_000
"""Bytes up to which a JPEG is decoded with the others: such are decoded at a reduced size."""
QUICK_PNG_PIXELS = 12_000_000
"""Pixels up to which a PNG is decoded with the others: a quarter of a second."""


def find_recipe(engine: Engine, recipe_id: str) -> Recipe:
    """Return the recipe of an id.

    Args:
        engine: in whose index to look.
        recipe_id: as the recipe's author, or its dataset, wrote it.

    Raises:
        NotThere: no item has it.
    """
    position = engine.index.find(recipe_id)
    if position is None:
        raise NotThere("no item of this index has this id")
    return engine.index.recipe(position)


def find_photo(engine: Engine, recipe_id: str) -> bytes:
    """Return the photo of an item as a small JPEG.

    Args:
        engine: in whose index to look.
        recipe_id: of the item's recipe.

    Raises:
        NotThere: no item has the id, or the index knows no photo of it.
    """
    index = engine.index
    position = index.find(recipe_id)
    if position is None:
        raise NotThere("no item of this index has this id")
    shard, place = (int(one[0]) for one in index.locate(np.array([position])))
    photo = index.photo(int(index.shards[shard].numbers[place]))
    if photo is None:
        raise NotThere("this index knows no photo of the item")
    return photo


def decodes_slowly(photo: bytes) -> bool:
    """Return whether a photo's file may take longer to decode than a search does.

    Args:
        photo: the file; only its head is looked at.
    """
    kind = image_format(photo)
    if kind == "PNG":
        # IHDR is the first chunk: width and height stand at bytes 16 and 20, big-endian.
        width, height = (int.from_bytes(photo[at : at + 4], "big") for at in (16, 20))
        return width * height > QUICK_PNG_PIXELS
    return kind is not None and (kind != "JPEG" or len(photo) > QUICK_PHOTO_BYTES)


def search(
    batch: Sequence[tuple[Engine, ReadQuery, SearchOptions]],
) -> Sequence[Answer | Exception]:
    """Answer queries of one engine and one set of options together."""
    engine, _, options = batch[0]
    answers = engine.search_many(
        [query for _, query, _ in batch],
        k=options.k, candidates=options.candidates, exact=options.exact, filter=options.filter,
        batch=len(batch),
    )  # fmt: skip
    return [Unusable(one.error) if isinstance(one, Failure) else one for one in answers]


def call(batch: Sequence[Callable[[], Any]]) -> Sequence[Any]:
    """Do one thing."""
    [work] = batch
    return [work()]


def embed(engine: Engine, queries: Sequence[Query]) -> list[Floats | str]:
    """Return vectors (D_g,), or what is wrong with a query."""
    results: list[Floats | str] = [""] * len(queries)
    photos = [(place, one) for place, one in enumerate(queries) if isinstance(one, bytes)]
    recipes = [(place, one) for place, one in enumerate(queries) if isinstance(one, Recipe)]

    def fill(kind: str, numbered: Sequence[tuple[int, Query]]) -> None:
        try:
            vectors = engine.encode(**{kind: [one for _, one in numbered]})  # type: ignore[arg-type]
        except InputError as error:
            if len(numbered) == 1:
                results[numbered[0][0]] = str(error)
                return
            for one in numbered:  # one by one, to tell the bad from the good
                fill(kind, [one])
            return
        for (place, _), vector in zip(numbered, vectors, strict=True):
            results[place] = vector

    for kind, numbered in (("images", photos), ("recipes", recipes)):
        if numbered:
            fill(kind, numbered)
    return results


def explain(engine: Engine, photo: ReadQuery, recipes: Sequence[Recipe]) -> list[PairExplanation]:
    """Return the attention of a photo and some recipes."""
    [query] = encode_queries(engine.bundle, "image", [photo.model_input])
    return explain_pairs(engine.bundle, query, recipes)


def explain_one(engine: Engine) -> None:
    """Explain a grey photo and the first recipe."""
    photo = engine.read(Image.new("RGB", (256, 256), "grey"), name="photo")
    explain(engine, photo, [engine.index.recipe(0)])
