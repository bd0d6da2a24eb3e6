"""The addresses that say how the service is: health, metrics, what is served."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from .. import metrics
from ..refusals import Unavailable
from . import examples
from .answers import info
from .routing import Routes
from .schemas import InfoAnswer


def add_state_routes(routes: Routes) -> None:
    """Add the addresses of the service's state, which answer while it starts too.

    Args:
        routes: of the service.
    """
    service, router = routes.service, routes.router

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
