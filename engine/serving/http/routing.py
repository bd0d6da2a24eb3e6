"""How a route reads a request, by when it answers, and what it may refuse.

request ──▶ body, within the budget ──▶ `RequestContent` ──▶ endpoint ──▶ JSON
└── the client goes: the endpoint is cancelled
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias, TypeVar

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from ..refusals import ClientGone, Unavailable
from ..service import Service
from .bodies import BodyBudget, RequestContent, read_body
from .schemas import ErrorModel, IndexChoice

Value = TypeVar("Value")
Endpoint: TypeAlias = Callable[[RequestContent, Request], Coroutine[Any, Any, Any]]
"""Makes the answer's JSON values of a request's content."""

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


class Routes:
    """The addresses of a service, to which the `add_*_routes` of this folder add theirs.

    Args:
        service: that they ask.

    Attributes:
        service: likewise.
        router: FastAPI's, of all that were added.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self.router = APIRouter(responses=ERRORS)
        self._budget = BodyBudget(service.options.body_bytes)

    def deadline_of(self, choice: IndexChoice) -> float:
        """Return by when to answer, by `time.monotonic`.

        Args:
            choice: of the request; the service's own deadline is the latest.
        """
        most = self.service.options.deadline
        return time.monotonic() + min(most, choice.timeout or most)

    def reading(
        self, method: str, path: str, model: type[BaseModel], **document: Any
    ) -> Callable[[Endpoint], None]:
        """Register an endpoint that reads a body: it gets the request's content, and returns JSON.

        Args:
            method: of HTTP.
            path: with the names of its parameters.
            model: of the answer.
            **document: what OpenAPI says of the request besides.
        """

        def register(endpoint: Endpoint) -> None:
            async def handler(request: Request) -> Response:
                if not self.service.ready:
                    raise Unavailable("the service starts or ends; try again in a moment")
                with self._budget.holding() as share:
                    content = await read_body(request, share)
                    return JSONResponse(await unless_gone(request, endpoint(content, request)))

            handler.__name__ = endpoint.__name__
            handler.__doc__ = endpoint.__doc__
            self.router.add_api_route(
                path, handler, methods=[method], responses={200: {"model": model}},
                openapi_extra=document,
            )  # fmt: skip

        return register


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
