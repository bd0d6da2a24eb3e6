"""Read queries: from whatever a caller has to what the branches read, or what is wrong with it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from PIL import Image

from hficma.errors import HficmaError, InputError
from hficma.images import ImageInput, PhotoSource, load_photo
from hficma.images.crops import crops, crops_into
from hficma.limits import printable_path, reason
from hficma.recipe import Recipe
from hficma.types import Pixels

from .encoder import ModelInput
from .index.index import IndexRecords

if TYPE_CHECKING:
    from .bundle.bundle import Bundle


class ReadQuery(NamedTuple):
    """A query that was read before its turn to be searched: pixels or word ids, of one model.

    A service reads photos while others are searched, and what waits is 150 KB instead of a file.
    """

    model_id: str
    """Of the model that it was read for."""
    model_input: ModelInput
    """What the branches read of it."""


QuerySource: TypeAlias = PhotoSource | Recipe | ReadQuery
"""A photo, as `hficma.images.load_photo` takes it, a recipe, or either of them after reading."""


def read_query(
    query: QuerySource,
    index: IndexRecords,
    bundle: Bundle,
    *,
    name: str,
    views: int,
    out: Pixels | None = None,
) -> ModelInput | InputError:
    """Return what the branches read of a query, or what is wrong with it.

    Args:
        query: a photo or a recipe.
        index: that it searches.
        bundle: of the index's model.
        name: how to name the query in an error, where it has no name of its own.
        views: crops of a photo.
        out: where a photo's pixels go, of `photo_memory`; None takes new memory.

    Raises:
        ArtifactError: the bundle cannot be read: that is no query's fault.
    """
    try:
        if isinstance(query, ReadQuery):
            if query.model_id != bundle.model_id:
                raise InputError(f"{name}: was read for another model; read it again")
            return query.model_input
        if isinstance(query, Recipe):
            if index.facts.of == "recipes":
                raise InputError(
                    f"{index.path}: is an index of recipes, which photos search; "
                    "to search with a recipe, make an index of photos"
                )
            with _reading(name):
                return bundle.tokenizer.query(query)
        if index.facts.of == "images":
            raise InputError(
                f"{index.path}: is an index of photos, which recipes search; "
                "to search with a photo, make an index of recipes"
            )
        return photo_input(query, bundle.image_input, name=name, views=views, out=out)
    except InputError as error:
        return error


def photo_input(
    photo: PhotoSource,
    image_input: ImageInput,
    *,
    name: str,
    views: int = 1,
    out: Pixels | None = None,
) -> ModelInput:
    """Return what the image branch reads of a photo.

    Args:
        photo: as `hficma.images.load_photo` takes it.
        image_input: of the bundle.
        name: how to name it in an error, where it has no name of its own.
        views: crops of it.
        out: where its pixels go, of as many crops; None takes new memory.

    Raises:
        InputError: it cannot be read.
    """
    with _reading(name):
        decoded = load_photo(photo, name=name, enough=image_input.least_side)
        if out is not None:
            return crops_into(decoded, image_input, out)
        pixels = crops(decoded, image_input, views)
        return pixels if views > 1 else pixels[0]


def recipe_input(recipe: Recipe, bundle: Bundle, *, name: str) -> ModelInput:
    """Return what the recipe branch reads of a recipe, as it does of one that is indexed.

    Args:
        recipe: any; unlike a query, it may have no word that the model knows.
        bundle: whose tokenizer reads it.
        name: how to name it in an error.

    Raises:
        InputError: it is no `Recipe`.
    """
    with _reading(name):
        return bundle.tokenizer(_checked_recipe(recipe, name=name))


@contextlib.contextmanager
def _reading(name: str) -> Iterator[None]:
    """Turn whatever a caller's own class raises when it is read into an `InputError`.

    A file object, an array or a path may be of any class, and raise anything. One query must not
    end the thousand that share its batch.
    """
    try:
        yield
    except HficmaError:
        raise
    except Exception as error:
        raise InputError(
            f"{name}: cannot be read ({type(error).__name__}: {reason(error)})"
        ) from error


def several(queries: object, *, caller: str) -> Iterator[Any]:
    """Return an iterator over queries, unless they are one.

    A path would be searched for letter by letter, a file line by line, a photo row by row.

    Args:
        queries: what was passed.
        caller: the function that it was passed to, for the message.

    Raises:
        InputError: they are one query, or nothing that can be iterated.
    """
    one = isinstance(
        queries, (str, bytes, bytearray, memoryview, os.PathLike, Recipe, ReadQuery, Image.Image)
    ) or hasattr(queries, "read")
    # A photo is (H, W) or (H, W, 3); an array (N, H, W, 3) holds several.
    if one or (isinstance(queries, np.ndarray) and queries.ndim < 4):
        raise InputError(f"{caller} takes several photos or recipes; give a list of them")
    if not isinstance(queries, Iterable):
        raise InputError(
            f"{caller} takes several photos or recipes; {type(queries).__name__} is no list"
        )
    return iter(queries)


def only_query(image: PhotoSource | None, recipe: Recipe | None) -> QuerySource:
    """Return the photo or the recipe, whichever is there.

    Raises:
        InputError: both are, or none, or the recipe is no `Recipe`.
    """
    if (image is None) == (recipe is None):
        raise InputError("search takes a photo or a recipe, one of them")
    if image is not None:
        return image
    return _checked_recipe(recipe, name="recipe")


def _checked_recipe(recipe: object, *, name: str) -> Recipe:
    """Return a recipe, if it is one.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(recipe, Recipe):
        raise InputError(
            f"{name}: is of type {type(recipe).__name__}; give a hficma.Recipe, as Recipe.parse "
            "makes of a dictionary"
        )
    return recipe


def query_name(query: QuerySource, number: int) -> str:
    """Return how a failure names a query.

    Args:
        query: a recipe is named by its id, a file by its path.
        number: of the query, from 0; others are named by it, from 1.
    """
    name = query.id if isinstance(query, Recipe) else ""
    if isinstance(query, (str, os.PathLike)):
        with contextlib.suppress(Exception):  # a caller's own path may raise anything
            name = printable_path(query)
    return name or f"query {number + 1}"
