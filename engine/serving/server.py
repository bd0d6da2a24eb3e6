"""The process of a service: uvicorn, with limits on clients that are slow or many, and workers."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import re
import socket
import sys
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.supervisors import Multiprocess

from hficma.errors import HficmaError, InputError

from .options import CONNECTIONS, HEAD_SECONDS, ServeOptions

if TYPE_CHECKING:
    from starlette.types import ASGIApp

KEEP_ALIVE_SECONDS = 15
"""Seconds that a connection may stay idle between two requests."""
_WORKER_FILES = "PROMETHEUS_MULTIPROC_DIR"  # see metrics.WORKER_FILES, which must be imported later

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*(?=\r\n|$)", re.IGNORECASE)
_NOT_PLAIN = re.compile(rb"\r\n(?:transfer-encoding|expect|connection):", re.IGNORECASE)
SWITCH_SECONDS = 0.001
"""Seconds that a thread holds Python's lock while another waits; with the usual 5 ms a batch waits
that long behind requests at each of its steps."""

_log = logging.getLogger("hficma")


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, which ends connections whose request's head does not come to an end.

    uvicorn itself waits for a head for ever, and takes any number of connections: a client that
    sends a byte now and then on each of a thousand would leave none for the others.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._head_timer: asyncio.TimerHandle | None = None
        self._unread = 0
        """Bytes of a refused request's body that are still to come."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin a connection, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            transport.abort()
            return
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Read on; the timer runs while a head is awaited of which something has come."""
        data = self._after_refusals(data)
        if not data:
            return
        super().data_received(data)
        if self._reads_head:
            if self._head_timer is None:
                self._await_head()
        else:
            self._stop_timer()

    def _after_refusals(self, data: bytes) -> bytes:
        """Refuse the searches that data begins with, if the queue is full, and return the rest.

        Nothing of them reaches the parser: not their heads, and not what comes later of their
        bodies, which is counted and thrown away. A head that is not whole or not plain (a body in
        chunks, one that waits for leave, or too large) goes the long way.
        """
        while True:
            skipped = min(self._unread, len(data))
            self._unread -= skipped
            data = data[skipped:]
            if not data.startswith((b"POST /search ", b"POST /search?")) or not self._is_between:
                return data
            head, end, body = data.partition(b"\r\n\r\n")
            lengths = _LENGTH.findall(head)
            if not end or len(lengths) != 1 or _NOT_PLAIN.search(head) or len(lengths[0]) > 7:
                return data
            answer = self._quick_refusal()
            if answer is None:
                return data
            self.transport.write(answer)
            self._stop_timer()
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
            self._unread, data = int(lengths[0]), body

    @property
    def _is_between(self) -> bool:
        """Return whether the parser has ended one request and has nothing of the next."""
        return self._reads_head and not self.conn.trailing_data[0]

    def _quick_refusal(self) -> bytes | None:
        """Return the answer to a search that finds the queue full, or None while there is room."""
        refuse = getattr(self.app, "quick_refusal", None)
        return None if refuse is None else refuse()

    def connection_lost(self, exc: Exception | None) -> None:
        """End a connection."""
        self._stop_timer()
        super().connection_lost(exc)

    @property
    def _reads_head(self) -> bool:
        """Return whether the next thing that must come is a request's head."""
        idle = self.cycle is None or self.cycle.response_complete
        return idle and self.conn.their_state is h11.IDLE

    def _await_head(self) -> None:
        """Start the timer of a head."""
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def _head_is_late(self) -> None:
        """End the connection, unless its head is there by now."""
        self._head_timer = None
        if self._reads_head and not self.transport.is_closing():
            self.transport.abort()

    def _stop_timer(self) -> None:
        """Stop the timer of a head, if it runs."""
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def serve(options: ServeOptions) -> None:
    """Serve until the process is told to end (SIGINT, SIGTERM); requests that run are answered.

    Args:
        options: of the service.

    Raises:
        InputError: the API keys cannot be read, or the address cannot be listened on.
        ArtifactError: an index cannot be opened.
    """
    _set_up_logging()
    failures: list[HficmaError] = []
    alone = options.workers == 1
    make = functools.partial(_make_app, options, failures.append if alone else _log_failure)
    config = uvicorn.Config(
        make,
        factory=True,
        http=BoundedProtocol,
        ws="none",
        workers=options.workers,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        # Whoever is being answered has at most so long to wait.
        timeout_graceful_shutdown=int(options.deadline) + 1,
        ssl_certfile=options.ssl_certfile,
        ssl_keyfile=options.ssl_keyfile,
    )
    if not options.on_loopback and options.api_key_file is None:
        _log.warning("no keys: whoever reaches this machine may ask, and read every recipe")
    with _listening(options) as listener:
        if alone:
            _Server(config, options).run([listener])
            if failures:
                raise failures[0]
            return
        with tempfile.TemporaryDirectory(prefix="hficma-metrics-") as folder:
            os.environ[_WORKER_FILES] = folder
            _say_where(options, listener)
            Multiprocess(config, sockets=[listener]).run()


class _Server(uvicorn.Server):
    """Says where the page is once it is served."""

    def __init__(self, config: uvicorn.Config, options: ServeOptions) -> None:
        super().__init__(config)
        self._options = options

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the indexes, listen, and say so."""
        try:
            await super().startup(sockets)
        except SystemExit:  # the lifespan has failed; `serve` raises why
            self.should_exit = True
            return
        assert sockets is not None
        _say_where(self._options, sockets[0])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what was asked, and end."""
        await super().shutdown(sockets)
        # uvicorn would now send itself the signals that it got: an end that was asked for is no
        # failure of the command.
        self._captured_signals.clear()


def _listening(options: ServeOptions) -> socket.socket:
    """Return a socket that listens at the address of the options.

    Raises:
        InputError: it is not this machine's, or taken.
    """
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    # Said to be TCP: else the event loop leaves Nagle's algorithm on, and an answer waits 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((options.host, options.port))
        listener.listen(2048)
        return listener
    except OSError as error:
        listener.close()
        raise InputError(
            f"{options.host}, port {options.port}: cannot be listened on ({error.strerror}); "
            "choose another"
        ) from error


def _make_app(options: ServeOptions, on_failure: Callable[[HficmaError], None]) -> ASGIApp:
    """Return the app, in a worker too."""
    from .http.app import make_app

    _set_up_logging()
    sys.setswitchinterval(SWITCH_SECONDS)
    return make_app(options, on_failure)


def _set_up_logging() -> None:
    """Log requests and changes, in this process, which may be a worker that has no handler yet."""
    log = logging.getLogger("hficma")
    log.setLevel(logging.INFO)
    if not log.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("hficma: %(message)s"))
        log.addHandler(handler)
    # uvicorn's own lines say less than ours, and why a start has failed is told by `serve`.
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)


def _log_failure(error: HficmaError) -> None:
    """Say why a worker cannot start."""
    _log.error("%s", error)


def _say_where(options: ServeOptions, listener: socket.socket) -> None:
    """Log the address of the page."""
    scheme = "https" if options.ssl_certfile else "http"
    host = f"[{options.host}]" if ":" in options.host else options.host
    port = listener.getsockname()[1]
    _log.info("serving at %s://%s:%d (Ctrl-C ends)", scheme, host, port)
