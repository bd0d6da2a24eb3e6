"""The addresses of items: a recipe and its photo, and the changes of an index."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable
from typing import Any

from fastapi import Request
from starlette.responses import JSONResponse, Response

from hficma.recipe import Recipe

from ..changes import IndexChange, NewItems, add_items, compact, remove_item
from ..engine_work import find_photo, find_recipe
from ..live_index import LiveIndex
from ..options import MOST_QUERIES
from ..refusals import BadRequest, Forbidden, NotThere, Unusable
from . import examples
from .bodies import RequestContent
from .routing import Routes
from .schemas import ChangeAnswer, IndexChoice


def add_item_routes(routes: Routes) -> None:
    """Add the addresses of items.

    Args:
        routes: of the service.
    """
    service, router = routes.service, routes.router

    @router.get("/items/{item_id:path}/photo", responses=examples.JPEG)
    async def photo(request: Request, item_id: str, index: str | None = None) -> Response:
        """Return an item's photo as a small JPEG, where its index knows it."""
        with service.index(None, index).state.used() as engine:
            work = functools.partial(find_photo, engine, item_id)
            content = await service.look_up(work, routes.deadline_of(IndexChoice()))
        headers = {"cache-control": "private, max-age=3600"}
        return Response(content, media_type="image/jpeg", headers=headers)

    @router.get("/items/{item_id:path}", responses=examples.ITEM)
    async def item(request: Request, item_id: str, index: str | None = None) -> Response:
        """Return an item's recipe, as its author wrote it."""
        with service.index(None, index).state.used() as engine:
            work = functools.partial(find_recipe, engine, item_id)
            recipe = await service.look_up(work, routes.deadline_of(IndexChoice()))
        return JSONResponse(recipe.to_json())

    @routes.reading("POST", "/items", ChangeAnswer, **examples.items())
    async def add(content: RequestContent, request: Request) -> Any:
        """Add recipes to an index of recipes, or a recipe and its photo to one of photos."""
        live = writable_index(content.fields.pop("index", None))
        photo = content.only_photo()
        recipes = recipes_of(content.fields)
        if photo is not None and len(recipes) != 1:
            raise Unusable("recipes: a photo goes with one recipe")
        items = NewItems(recipes, photo, live.of)
        work = functools.partial(add_items, live.path, items, service.execution)
        return await change(live, work)

    @routes.reading(
        "DELETE", "/items/{item_id:path}", ChangeAnswer, parameters=examples.ID_AND_INDEX
    )
    async def remove(content: RequestContent, request: Request) -> Any:
        """Take an item out of an index."""
        live = writable_index(content.fields.pop("index", None))
        recipe_id = str(request.path_params["item_id"])
        with live.state.used() as engine:
            if engine.index.find(recipe_id) is None:
                raise NotThere("no item of this index has this id")
        return await change(live, functools.partial(remove_item, live.path, recipe_id))

    @routes.reading("POST", "/compact", ChangeAnswer, parameters=examples.INDEX)
    async def compact_index(content: RequestContent, request: Request) -> Any:
        """Free the space of removed items."""
        live = writable_index(content.fields.pop("index", None))
        return await change(live, functools.partial(compact, live.path))

    def writable_index(name: object) -> LiveIndex:
        """Return the index to change.

        Raises:
            Forbidden: none may be.
        """
        if not service.options.writable:
            raise Forbidden("this service is read only; start it so that it may be written to")
        return service.index(None, None if name is None else str(name))

    async def change(live: LiveIndex, work: Callable[[], IndexChange]) -> dict[str, Any]:
        """Change an index and wait until the change is live."""
        # Not given up halfway where its client goes: a commit is not undone either.
        done = await asyncio.shield(service.change(work))
        await live.refresh()
        items = live.state.engine.index.item_count
        return {"changed": done.changed, "items": items, "notes": list(done.notes)}


def recipes_of(fields: dict[str, Any]) -> list[Recipe]:
    """Return the recipes that a client wants to add.

    Args:
        fields: `recipe`, an object or JSON in a form, or `recipes`, a list of objects.

    Raises:
        Unusable: neither is there, or another field.
        InputError: one of them is no recipe.
    """
    if len(fields) != 1 or not fields.keys() <= {"recipe", "recipes"}:
        raise Unusable("body: give recipe or recipes, one of them and nothing else")
    [value] = fields.values()
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise BadRequest("recipe: is not JSON") from error
    records = value if isinstance(value, list) else [value]
    if not 1 <= len(records) <= MOST_QUERIES:
        raise Unusable(f"recipes: give 1 to {MOST_QUERIES}")
    return [Recipe.parse(record, where=f"recipe {n}") for n, record in enumerate(records, 1)]
