"""What a service is told when it starts, and the limits that it keeps to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from hficma.errors import InputError
from hficma.limits import MEGABYTE, read_regular_file

from ..cluster.options import ClusterOptions
from ..runtimes.options import ExecutionKeywords

KEY_CHARACTERS = 16
"""Characters of an API key, at least: shorter ones can be tried out."""
KEY_FILE_BYTES = 64_000
"""Bytes of a file of API keys."""

MOST_HITS = 100
"""k of a request, at most."""
MOST_CANDIDATES = 10_000
"""Candidates of a request, at most."""
MOST_QUERIES = 64
"""Queries of one request to `/search/batch` or `/embed`, and items of one to `/explain`."""
MOST_FILTER_NAMES = 50
"""Names in one field of a filter."""

BODY_BYTES = 20 * MEGABYTE
"""Bytes of a request's body, at most, if not told otherwise; a phone's photo takes 2 to 8 MB."""
BODIES_BYTES = 256 * MEGABYTE
"""Bytes of request bodies that a process holds at once; past it requests wait outside (503)."""
BODY_GRACE = 10.0
"""Seconds that a body may take however small it is ..."""
BODY_RATE = 20_000.0
"""... and bytes a second that it must come with on the average from then on."""
HEAD_SECONDS = 10.0
"""Seconds from the first byte of a request's head to its last."""
CONNECTIONS = 1000
"""Connections that a process holds at once, far below the usual limit of descriptors."""

SLOW_QUEUE = 8
"""Requests that wait for an exact search; as many wait for what is not a plain search."""
LOOKUP_QUEUE = 128
"""Look-ups of items and their photos that wait: a page of answers asks for all photos at once."""
HEAVY_PHOTOS = 4
"""Photos that wait to be decoded by the slow decoder."""

POLL_SECONDS = 0.5
"""Seconds between two looks at an index's manifest."""


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """What `hficma serve` serves, where, and how much at once."""

    indexes: tuple[Path, ...]
    """Folders of the indexes; of several over items of one kind the first answers by default."""
    host: str = "127.0.0.1"
    """Address to listen on; loopback is reached from this machine alone."""
    port: int = 8000
    """TCP port; 0 takes a free one, which is printed."""
    api_key_file: Path | None = None
    """A file of keys, one a line; whoever asks must then show one of them."""
    writable: bool = False
    """Whether items may be added and removed; only with keys."""
    workers: int = 1
    """Processes; they share the indexes' pages, since indexes are mapped."""
    batch: int = 16
    """Queries that are answered together, at most."""
    batch_wait: float = 0.004
    """Seconds that a query waits for company; none while the engine is idle."""
    queue: int = 32
    """Queries that are being answered or wait for it, at most; more are refused (429). What is
    accepted is then answered within about `queue` / `batch` + 1 batches' time, however many ask."""
    deadline: float = 30.0
    """Seconds that a request may take; one that is not answered by then is dropped (504)."""
    body_bytes: int = BODY_BYTES
    """Bytes of a request's body, at most (413)."""
    ssl_certfile: Path | None = None
    """Certificate, for HTTPS: without it browsers give no camera away from loopback."""
    ssl_keyfile: Path | None = None
    """The certificate's key, where it is not in the same file."""
    gpu_memory: float | None = None
    """GiB of a GPU for each index; None takes half of what is free."""
    cluster: ClusterOptions | None = None
    """The Ray cluster whose actors hold the indexes; None holds them here."""
    execution: ExecutionKeywords = field(default_factory=lambda: ExecutionKeywords())
    """`runtime`, `precision`, `device`, `threads` as in `ExecutionOptions`."""

    def __post_init__(self) -> None:
        for name, least in (("workers", 1), ("batch", 1), ("queue", 1), ("body_bytes", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}: must be at least {least}")
        if not self.indexes:
            raise InputError("a service needs an index to serve")
        if self.batch_wait < 0 or self.deadline <= 0:
            raise InputError("batch_wait must not be negative, and deadline above 0 seconds")
        if self.writable and self.api_key_file is None:
            raise InputError("a service that may be written to needs a file of API keys")
        if self.cluster is not None and self.workers > 1:
            raise InputError("one process asks a cluster: each worker would fill it once more")
        names = [path.resolve().name for path in self.indexes]
        if twice := {name for name in names if names.count(name) > 1}:
            raise InputError(
                f"{min(twice)}: two indexes have this name, by which requests choose; rename one"
            )

    @property
    def on_loopback(self) -> bool:
        """Return whether only this machine reaches the service."""
        return self.host in ("127.0.0.1", "::1", "localhost")


def read_keys(path: Path) -> tuple[bytes, ...]:
    """Read the API keys of a file, one a line; empty lines and those after # are left out.

    Args:
        path: of the file.

    Raises:
        InputError: it cannot be read, holds no key, or one that is too short.
    """
    content = read_regular_file(path, limit=KEY_FILE_BYTES, what="a file of API keys")
    lines = [line.strip() for line in content.splitlines()]
    keys = tuple(line for line in lines if line and not line.startswith(b"#"))
    if not keys:
        raise InputError(f"{path}: holds no key; write one a line")
    if any(len(key) < KEY_CHARACTERS for key in keys):
        raise InputError(f"{path}: a key is shorter than {KEY_CHARACTERS} characters")
    return keys
