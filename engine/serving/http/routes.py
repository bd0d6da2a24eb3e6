"""The service's addresses: each reads a request, asks the service and writes its answer."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias, TypeVar

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from hficma.recipe import Recipe

from .. import metrics
from ..changes import Change, NewItems, add_items, compact, remove_item
from ..engine_work import Query, find_photo, find_recipe
from ..live_index import LiveIndex
from ..options import MOST_QUERIES
from ..refusals import BadRequest, ClientGone, Forbidden, NotThere, Unavailable, Unusable
from ..service import Service
from . import examples
from .answers import embedded, explained, info
from .bodies import BodyBudget, Received, read_body
from .schemas import (
    AnswerModel,
    BatchAnswer,
    BatchBody,
    ChangeAnswer,
    Choice,
    EmbedAnswer,
    EmbedBody,
    ErrorModel,
    ExplainAnswer,
    ExplainBody,
    InfoAnswer,
    Options,
    QueryBody,
    SearchBody,
)

Value = TypeVar("Value")
Endpoint: TypeAlias = Callable[[Received, Request], Coroutine[Any, Any, Any]]
"""Makes the answer's JSON values of what was received."""

_STATUSES = {
    400: "The request's form is wrong.",
    401: "Needs a key.",
    403: "Not allowed here.",
    404: "No such index or item.",
    408: "The body came too slowly.",
    413: "The body is too large.",
    422: "A photo, recipe or option that cannot be used; the line says why.",
    429: "The queue is full; `Retry-After` says when to try again.",
    503: "The service starts or ends.",
    504: "Not answered in time.",
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorModel, "description": text} for status, text in _STATUSES.items()
}


def make_router(service: Service) -> APIRouter:
    """Return the routes of a service.

    Args:
        service: that they ask.
    """
    router = APIRouter(responses=ERRORS)
    budget = BodyBudget(service.options.body_bytes)

    def deadline_of(choice: Choice) -> float:
        """Return by when to answer, by `time.monotonic`."""
        most = service.options.deadline
        return time.monotonic() + min(most, choice.timeout or most)

    def route(
        method: str, path: str, model: type[BaseModel] | None, **document: Any
    ) -> Callable[[Endpoint], None]:
        """Register an endpoint that reads a body: it gets what was received, and returns JSON."""

        def register(endpoint: Endpoint) -> None:
            async def handler(request: Request) -> Response:
                if not service.ready:
                    raise Unavailable("the service starts or ends; try again in a moment")
                with budget.holding() as share:
                    received = await read_body(request, share)
                    result = await unless_gone(request, endpoint(received, request))
                    return JSONResponse(result)

            handler.__name__ = endpoint.__name__
            handler.__doc__ = endpoint.__doc__
            responses: dict[int | str, Any] = {200: {"model": model}} if model else {}
            router.add_api_route(
                path, handler, methods=[method], responses=responses, openapi_extra=document
            )

        return register

    @route("POST", "/search", AnswerModel, **examples.search(SearchBody, Options))
    async def search(received: Received, request: Request) -> Any:
        """Find the recipe for a photo, or the photo for a recipe or ingredients."""
        photo = received.only_photo()
        if photo is not None:
            options = received.as_model(Options)
            query: Query = photo
        else:
            body = received.as_model(SearchBody)
            options, query = body, body.query("body")
        answer = await service.search(
            query,
            options.search_options(),
            index=options.index,
            deadline=deadline_of(options),
        )
        return answer.to_json()

    @route("POST", "/search/batch", BatchAnswer, **examples.batch(BatchBody, Options))
    async def search_batch(received: Received, request: Request) -> Any:
        """Answer many queries of one kind, in their order; a bad one has its own error."""
        options: Options
        if received.photos:
            options = received.as_model(Options)
            queries: list[Query] = list(received.photos)
        else:
            options = body = received.as_model(BatchBody)
            queries = queries_of(body.queries)
        if len({isinstance(query, Recipe) for query in queries}) > 1:
            raise Unusable("queries: are of both kinds; send photos and recipes apart")
        answers = await service.search_batch(
            queries, options.search_options(), index=options.index, deadline=deadline_of(options)
        )
        return {"answers": [answer.to_json() for answer in answers]}

    @route("POST", "/embed", EmbedAnswer, **examples.embed(EmbedBody, Choice))
    async def embed(received: Received, request: Request) -> Any:
        """Return the global vectors of photos or recipes, for a vector database of your own."""
        choice: Choice
        if received.photos:
            choice = received.as_model(Choice)
            queries: list[Query] = list(received.photos)
        else:
            choice = body = received.as_model(EmbedBody)
            queries = queries_of(body.queries)
        model_id, vectors = await service.embed(
            queries, index=choice.index, deadline=deadline_of(choice)
        )
        return {"model_id": model_id, "items": [embedded(vector) for vector in vectors]}

    @route("POST", "/explain", ExplainAnswer, **examples.explain(ExplainBody))
    async def explain(received: Received, request: Request) -> Any:
        """Return where in a photo the ingredients of some recipes look, and which look where."""
        photo = received.only_photo()
        if photo is None:
            body = received.as_model(ExplainBody)
            query = QueryBody(photo=body.photo).query("body")
            assert isinstance(query, bytes)
            photo = query
        else:
            body = received.as_model(ExplainBody, photo="")
        pixels, image_input, pairs = await service.explain(
            photo, body.ids, index=body.index, deadline=deadline_of(body)
        )
        return explained(pixels, image_input, pairs)

    @router.get("/items/{item_id:path}/photo", responses=examples.JPEG)
    async def photo(request: Request, item_id: str, index: str | None = None) -> Response:
        """Return an item's photo as a small JPEG, where its index knows it."""
        with service.index(None, index).state.used() as engine:
            work = functools.partial(find_photo, engine, item_id)
            content = await service.look_up(work, deadline_of(Choice()))
        headers = {"cache-control": "private, max-age=3600"}
        return Response(content, media_type="image/jpeg", headers=headers)

    @router.get("/items/{item_id:path}", responses=examples.ITEM)
    async def item(request: Request, item_id: str, index: str | None = None) -> Response:
        """Return an item's recipe, as its author wrote it."""
        with service.index(None, index).state.used() as engine:
            work = functools.partial(find_recipe, engine, item_id)
            recipe = await service.look_up(work, deadline_of(Choice()))
        return JSONResponse(recipe.to_json())

    @route("POST", "/items", ChangeAnswer, **examples.items())
    async def add(received: Received, request: Request) -> Any:
        """Add recipes to an index of recipes, or a recipe and its photo to one of photos."""
        live = writable_index(received.fields.pop("index", None))
        photo = received.only_photo()
        recipes = recipes_of(received.fields)
        if photo is not None and len(recipes) != 1:
            raise Unusable("recipes: a photo goes with one recipe")
        items = NewItems(recipes, photo, live.of)
        work = functools.partial(add_items, live.path, items, service.execution)
        return await change(live, work)

    @route("DELETE", "/items/{item_id:path}", ChangeAnswer, parameters=examples.ID_AND_INDEX)
    async def remove(received: Received, request: Request) -> Any:
        """Take an item out of an index."""
        live = writable_index(received.fields.pop("index", None))
        recipe_id = str(request.path_params["item_id"])
        with live.state.used() as engine:
            if engine.index.find(recipe_id) is None:
                raise NotThere("no item of this index has this id")
        return await change(live, functools.partial(remove_item, live.path, recipe_id))

    @route("POST", "/compact", ChangeAnswer, parameters=examples.INDEX)
    async def compact_index(received: Received, request: Request) -> Any:
        """Free the space of removed items."""
        live = writable_index(received.fields.pop("index", None))
        return await change(live, functools.partial(compact, live.path))

    def writable_index(name: object) -> LiveIndex:
        """Return the index to change.

        Raises:
            Forbidden: none may be.
        """
        if not service.options.writable:
            raise Forbidden("this service is read only; start it so that it may be written to")
        return service.index(None, None if name is None else str(name))

    async def change(live: LiveIndex, work: Callable[[], Change]) -> dict[str, Any]:
        """Change an index and wait until the change is live."""
        # Not given up halfway where its client goes: a commit is not undone either.
        done = await asyncio.shield(service.change(work))
        await live.refresh()
        items = live.state.engine.index.item_count
        return {"changed": done.changed, "items": items, "notes": list(done.notes)}

    @router.get("/health/live", responses={200: {"model": dict[str, str]}})
    async def live() -> Response:
        """Say that the process runs."""
        return JSONResponse({"status": "live"})

    @router.get("/health/ready", responses={200: {"model": dict[str, str]}})
    async def ready() -> Response:
        """Say whether requests are answered: indexes are open and warm.

        `partial` says that machines of a cluster do not answer, so that answers prove nothing.
        """
        if not service.ready:
            raise Unavailable("indexes are being opened")
        share = min(index.share for index in service.indexes)
        if not share:
            raise Unavailable("no machine that holds an index answers")
        return JSONResponse({"status": "ready" if share == 1.0 else "partial"})

    @router.get("/metrics", responses=examples.METRICS)
    async def metrics_text() -> Response:
        """Return counts and times for Prometheus."""
        return Response(metrics.exposition(), media_type="text/plain; version=0.0.4")

    @router.get("/info", responses={200: {"model": InfoAnswer}})
    async def information() -> Response:
        """Return what is served, and the limits."""
        return JSONResponse(info(service))

    return router


async def unless_gone(request: Request, work: Coroutine[Any, Any, Value]) -> Value:
    """Do something, unless the client closes the connection first.

    Args:
        request: its body was read.
        work: to do; cancelled where nobody waits for it any more.

    Raises:
        ClientGone: the connection was closed.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone("the connection was closed")
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()


async def _disconnected(request: Request) -> None:
    """Return when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def queries_of(bodies: list[QueryBody]) -> list[Query]:
    """Return the queries of a body; recipes without an id are named by their place."""
    return [body.query(f"query {number}") for number, body in enumerate(bodies, 1)]


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
