"""The ASGI app of a service: routes, page, document, and the guard around them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp

from hficma import __version__
from hficma.errors import ArtifactError, HficmaError, InputError

from ..options import ServeOptions, read_keys
from ..refusals import Refusal
from ..service import Service
from .guard import Guard, error_response, refusal_response
from .item_routes import add_item_routes
from .query_routes import add_query_routes
from .routing import Routes
from .state_routes import add_state_routes

_log = logging.getLogger("hficma")

WEB = Path(__file__).parents[1] / "web"
"""The page's files."""
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}
"""Types of the page's files; none is guessed."""

_DESCRIPTION = (
    "Finds the recipe for a photo of a dish, and the photo for a recipe. Every answer says which "
    "of its ranks are proved to be what comparing every item would give."
)


def make_app(
    options: ServeOptions, on_failure: Callable[[HficmaError], None] = lambda error: None
) -> ASGIApp:
    """Return the app of a service, which opens its indexes when the server starts it.

    Args:
        options: of the service.
        on_failure: called with the reason where it cannot start.

    Raises:
        InputError: the API keys cannot be read.
    """
    keys = () if options.api_key_file is None else read_keys(options.api_key_file)
    service = Service(options)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            await service.open()
        except HficmaError as error:
            on_failure(error)
            raise
        try:
            yield
        finally:
            await service.close()

    # FastAPI's own pages load scripts from other hosts: /docs here is a file of ours.
    app = FastAPI(
        title="hficma", version=__version__, description=_DESCRIPTION, lifespan=lifespan,
        docs_url=None, redoc_url=None, openapi_url="/openapi.json",
    )  # fmt: skip
    routes = Routes(service)
    for add_routes in (add_query_routes, add_item_routes, add_state_routes):
        add_routes(routes)
    app.include_router(routes.router)
    _add_page(app)
    for kind, handler in (
        (Refusal, _refused),
        (InputError, _unusable),
        (ArtifactError, _damaged),
        (HTTPException, _http_error),
        (Exception, _fault),
    ):
        app.add_exception_handler(kind, handler)
    return Guard(app, service, keys)


def _add_page(app: FastAPI) -> None:
    """Serve the page's files: a fixed list, so that no path of a client's is looked up."""
    contents = {file.name: file.read_bytes() for file in WEB.iterdir() if file.is_file()}

    def sender(name: str) -> Any:
        async def send() -> Response:
            kind = _TYPES["." + name.rpartition(".")[2]]
            return Response(contents[name], media_type=kind, headers={"cache-control": "no-cache"})

        return send

    for name in contents:
        app.add_api_route(f"/static/{name}", sender(name), include_in_schema=False)
    app.add_api_route("/", sender("index.html"), include_in_schema=False)
    app.add_api_route("/docs", sender("docs.html"), include_in_schema=False)
    app.add_api_route("/favicon.ico", sender("icon.svg"), include_in_schema=False)


async def _refused(request: Request, error: Any) -> Response:
    """Answer a refusal with its own status."""
    return refusal_response(request.scope, error)


async def _unusable(request: Request, error: Any) -> Response:
    """Answer input that cannot be used with its line."""
    return error_response(request.scope, str(error), "bad_input", status=422)


async def _damaged(request: Request, error: Any) -> Response:
    """Say that it is the service's fault; the line with its paths is for the log."""
    _log.error("id=%s: %s", request.scope.get("request_id"), error)
    text = "an index or a model cannot be read, or changed just now; the service's log says why"
    return error_response(request.scope, text, "damaged", status=503)


async def _http_error(request: Request, error: Any) -> Response:
    """Answer what the router itself refuses."""
    known = {404: "no such address; /docs lists them", 405: "this address takes other methods"}
    return error_response(
        request.scope,
        known.get(error.status_code, str(error.detail)),
        "not_found" if error.status_code == 404 else "bad_request",
        status=error.status_code,
        headers=error.headers,
    )


async def _fault(request: Request, error: Any) -> Response:
    """Answer a fault of the program; the traceback is for the log."""
    _log.error("id=%s: a fault", request.scope.get("request_id"), exc_info=error)
    text = "a fault of the service; see its log"
    return error_response(request.scope, text, "fault", status=500)
