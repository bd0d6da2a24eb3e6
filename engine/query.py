"""What may be asked, and how it becomes what the branches read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeAlias

from hficma.errors import InputError
from hficma.images import PhotoSource, Pixels, load_photo, preprocess
from hficma.limits import printable_path
from hficma.recipe import Recipe
from hficma.text.vocabulary import RecipeIds

from .index.index import Index

if TYPE_CHECKING:
    from .bundle.bundle import Bundle

QuerySource: TypeAlias = PhotoSource | Recipe
"""A photo, as `hficma.images.preprocessing.load_photo` takes it, or a recipe."""
Content: TypeAlias = Pixels | RecipeIds


def read_query(asked: QuerySource, index: Index, bundle: Bundle) -> Content | InputError:
    """A query's pixels or ids, or what is wrong with it."""
    try:
        if isinstance(asked, Recipe):
            if index.facts.of == "recipes":
                raise InputError(
                    f"{index.path}: is an index of recipes, which photos search; "
                    "for a recipe make one with --of images"
                )
            return bundle.tokenizer.query(asked)
        if index.facts.of == "images":
            raise InputError(
                f"{index.path}: is an index of photos, which recipes search; "
                "for a photo make one with --of recipes"
            )
        return preprocess(load_photo(asked))
    except InputError as error:
        return error


def only_query(image: PhotoSource | None, recipe: Recipe | None) -> QuerySource:
    """The query that was given, of the two that may be."""
    if image is None and recipe is not None:
        return recipe
    if image is not None and recipe is None:
        return image
    raise InputError("search takes a photo or a recipe, one of them")


def query_name(query: QuerySource, number: int) -> str:
    """How a failure names the query; `number` counts from 0."""
    if isinstance(query, Recipe):
        return query.id
    return printable_path(query) if isinstance(query, (str, os.PathLike)) else f"query {number + 1}"


def query_notes(content: Content) -> tuple[str, ...]:
    """What of a query was not read."""
    if not isinstance(content, RecipeIds):
        return ()
    return tuple(f"not read, unknown or past the limit: {line}" for line in content.left_out)
