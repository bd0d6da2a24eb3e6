"""The addresses that answer queries: search, batches of searches, vectors, explanations."""

from __future__ import annotations

from typing import Any, TypeVar

from fastapi import Request

from hficma.recipe import Recipe

from ..engine_work import Query
from ..refusals import Unusable
from . import examples
from .answers import embedded, explained
from .bodies import RequestContent
from .routing import Routes
from .schemas import (
    AnswerModel,
    BatchAnswer,
    BatchBody,
    EmbedAnswer,
    EmbedBody,
    ExplainAnswer,
    ExplainBody,
    IndexChoice,
    QueryBody,
    SearchBody,
    SearchFields,
)

Body = TypeVar("Body", BatchBody, EmbedBody)
Form = TypeVar("Form", bound=IndexChoice)


def add_query_routes(routes: Routes) -> None:
    """Add the addresses that answer queries.

    Args:
        routes: of the service.
    """
    service = routes.service

    @routes.reading("POST", "/search", AnswerModel, **examples.search(SearchBody, SearchFields))
    async def search(content: RequestContent, request: Request) -> Any:
        """Find the recipe for a photo, or the photo for a recipe or ingredients."""
        query, options = query_and_options(content)
        answer = await service.search(
            query,
            options.search_options(),
            index=options.index,
            deadline=routes.deadline_of(options),
        )
        return answer.to_json()

    @routes.reading("POST", "/search/batch", BatchAnswer, **examples.batch(BatchBody, SearchFields))
    async def search_batch(content: RequestContent, request: Request) -> Any:
        """Answer many queries of one kind, in their order; a bad one has its own error."""
        queries, options = queries_and_options(content, BatchBody, SearchFields)
        if len({isinstance(query, Recipe) for query in queries}) > 1:
            raise Unusable("queries: are of both kinds; send photos and recipes apart")
        answers = await service.search_batch(
            queries,
            options.search_options(),
            index=options.index,
            deadline=routes.deadline_of(options),
        )
        return {"answers": [answer.to_json() for answer in answers]}

    @routes.reading("POST", "/embed", EmbedAnswer, **examples.embed(EmbedBody, IndexChoice))
    async def embed(content: RequestContent, request: Request) -> Any:
        """Return the global vectors of photos or recipes, for a vector database of your own."""
        queries, choice = queries_and_options(content, EmbedBody, IndexChoice)
        model_id, vectors = await service.embed(
            queries, index=choice.index, deadline=routes.deadline_of(choice)
        )
        return {"model_id": model_id, "items": [embedded(vector) for vector in vectors]}

    @routes.reading("POST", "/explain", ExplainAnswer, **examples.explain(ExplainBody))
    async def explain(content: RequestContent, request: Request) -> Any:
        """Return where in a photo the ingredients of some recipes look, and which look where."""
        photo = content.only_photo()
        if photo is None:
            body = content.as_model(ExplainBody)
            query = QueryBody(photo=body.photo).query("body")
            assert isinstance(query, bytes)
            photo = query
        else:
            body = content.as_model(ExplainBody, photo="")
        pixels, image_input, pairs = await service.explain(
            photo, body.ids, index=body.index, deadline=routes.deadline_of(body)
        )
        return explained(pixels, image_input, pairs)


def query_and_options(content: RequestContent) -> tuple[Query, SearchFields]:
    """Return the one query of a request, and how to search with it.

    Args:
        content: a photo, alone or in a form, or JSON.

    Raises:
        Unusable: there is no query, or more than one.
    """
    photo = content.only_photo()
    if photo is not None:
        return photo, content.as_model(SearchFields)
    body = content.as_model(SearchBody)
    return body.query("body"), body


def queries_and_options(
    content: RequestContent, body: type[Body], form: type[Form]
) -> tuple[list[Query], Body | Form]:
    """Return the queries of a request, and its options.

    Args:
        content: a form with photos, or JSON.
        body: what JSON must be; a recipe without an id is named by its place.
        form: what the fields beside photos must be.

    Raises:
        Unusable: a query or an option cannot be used.
    """
    if content.photos:
        return list(content.photos), content.as_model(form)
    fields = content.as_model(body)
    return [one.query(f"query {number}") for number, one in enumerate(fields.queries, 1)], fields
