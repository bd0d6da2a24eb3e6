"""What every request passes, whatever it asks for: who it is from, what it may, what it gets back.

An ASGI middleware of its own, not one of Starlette's: those that wrap a request in a class cost as
much as the whole rest, and while the queue is full a refusal must cost next to nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
import re
import time
import uuid
from collections.abc import Mapping, Sequence

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hficma.printable import one_line

from .. import metrics
from ..options import ServeOptions
from ..refusals import Busy, Forbidden, Refusal, Unauthorized, Unavailable
from ..service import Service

_log = logging.getLogger("hficma.requests")

OPEN_PATHS = ("/health/", "/static/", "/favicon")
"""Beginnings of paths that need no key; the page itself, `/`, is one too."""
SEARCHES = ("/search",)
"""Paths that a full queue refuses before their body is read."""

SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    # Scripts, styles and calls are the service's own; photos may also be those that the page holds.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "cache-control": "no-store",
}

REFUSAL = (
    b'{"error":"too many requests wait; try again in a moment","kind":"queue_full",'
    b'"request_id":"%s"}'
)
"""Body of the answer to a search that finds the queue full, as JSON."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_LOOPBACK_HOST = re.compile(rb"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?", re.IGNORECASE)


class Guard:
    """Lets requests through to an app, or refuses them; counts and logs them all.

    Args:
        app: behind it.
        service: whose queues say whether there is room.
        keys: one of which a request must show; none lets everybody in.
    """

    def __init__(self, app: ASGIApp, service: Service, keys: Sequence[bytes]) -> None:
        self._app = app
        self._service = service
        self._options: ServeOptions = service.options
        # Digests have one length, so comparing them tells nothing of a key's.
        self._digests = [hashlib.sha256(key).digest() for key in keys]
        self._headers = [
            (name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()
        ]
        self._refused, self._refusals_logged = 0, -math.inf
        self._refused_requests = metrics.REQUESTS.labels("/search", "429")
        self._refused_errors = metrics.ERRORS.labels(Busy.kind)
        lines = b"".join(b"%s: %s\r\n" % header for header in self._headers)
        self._refusal_head = (
            b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\n" + lines
            + b"retry-after: %d\r\nx-request-id: %s\r\ncontent-length: %d\r\n\r\n%s"
        )  # fmt: skip

    def quick_refusal(self) -> bytes | None:
        """Return the whole answer to a search that is refused, or None where there is room.

        It is for the protocol to send before a request is even parsed: asked for ten times what it
        can answer, a service that spent a millisecond on each refusal would do little else.
        """
        if not self._service.busy:
            return None
        self._refused_requests.inc()
        self._refused_errors.inc()
        self._refused += 1
        if (now := time.monotonic()) - self._refusals_logged > 1.0:
            _log.info("%d searches refused: the queue is full", self._refused)
            self._refused, self._refusals_logged = 0, now
        request_id = uuid.uuid4().hex
        body = REFUSAL % request_id.encode()
        return self._refusal_head % (
            self._service.searches.retry_after, request_id.encode(), len(body), body,
        )  # fmt: skip

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        headers = dict(scope["headers"])
        # A client's own id is taken only if nothing in it acts on a header or a log.
        client_id = headers.get(b"x-request-id", b"")
        request_id = client_id if _REQUEST_ID.fullmatch(client_id) else uuid.uuid4().hex.encode()
        scope["request_id"] = request_id.decode()
        status = 500

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                named = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(header for header in self._headers if header[0] not in named),
                    (b"x-request-id", request_id),
                ]
            await send(message)

        try:
            self._check(scope, headers)
            await self._app(scope, receive, send_guarded)
        except Refusal as refusal:
            await refusal_response(scope, refusal)(scope, receive, send_guarded)
        finally:
            self._record(scope, status, time.perf_counter() - start)

    def _check(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        """Refuse a request for what its head says.

        Raises:
            Refusal: it may not be answered, or not now.
        """
        path: str = scope["path"]
        # A page of a stranger's that the browser of this machine shows must not speak to a service
        # that trusts this machine: by another name for its address, or by a form.
        if self._options.on_loopback and not _LOOPBACK_HOST.fullmatch(headers.get(b"host", b"")):
            raise Forbidden("this service answers to localhost alone")
        if scope["method"] != "GET" and headers.get(b"sec-fetch-site") == b"cross-site":
            raise Forbidden("another site's page may not use this service")
        if self._digests and path != "/" and not path.startswith(OPEN_PATHS):
            self._check_key(headers)
        if path in SEARCHES and scope["method"] == "POST" and not self._service.ready:
            raise Unavailable("the service starts or ends; try again in a moment")

    def _check_key(self, headers: dict[bytes, bytes]) -> None:
        """Refuse a request without a known key.

        Raises:
            Unauthorized: it has none.
        """
        scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer":
            key = headers.get(b"x-api-key", b"")
        digest = hashlib.sha256(key.strip()).digest()
        # All are compared, in constant time: neither which nor how much of one is right shows.
        if not sum(hmac.compare_digest(digest, known) for known in self._digests):
            raise Unauthorized("needs a key: send the header Authorization: Bearer KEY")

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        """Count and log an answer."""
        route = scope.get("route")
        # The route, not the path: ids in it would make a time series each.
        path = getattr(route, "path", None) or (scope["path"] if scope["path"] in SEARCHES else "-")
        metrics.REQUESTS.labels(path, str(status)).inc()
        metrics.REQUEST_SECONDS.labels(path, "yes" if status < 400 else "no").observe(seconds)
        if _log.isEnabledFor(logging.INFO) and not scope["path"].startswith("/health/"):
            _log.info(
                "%s %s %d %.1f ms id=%s",
                scope["method"], one_line(scope["path"][:200]), status, 1000 * seconds,
                scope["request_id"],
            )  # fmt: skip


def refusal_response(scope: Scope, refusal: Refusal) -> Response:
    """Return the answer of a refused request.

    Args:
        scope: of the request.
        refusal: why.
    """
    headers = {}
    if refusal.retry_after is not None:
        headers["retry-after"] = str(refusal.retry_after)
    if refusal.status == 401:
        headers["www-authenticate"] = "Bearer"
    if refusal.closes:
        headers["connection"] = "close"
    return error_response(
        scope, refusal.message, refusal.kind, status=refusal.status, headers=headers
    )


def error_response(
    scope: Scope,
    message: str,
    kind: str,
    *,
    status: int,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return the answer of a request that failed, and count it.

    Args:
        scope: of the request.
        message: one line.
        kind: a word for it, as counted in the metrics.
        status: of HTTP.
        headers: besides those that every answer has.
    """
    metrics.ERRORS.labels(kind).inc()
    record = {
        "error": one_line(message),
        "kind": kind,
        "request_id": scope.get("request_id", ""),
    }
    return JSONResponse(record, status_code=status, headers=headers)
