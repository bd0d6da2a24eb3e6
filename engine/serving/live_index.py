"""An index that is served while it changes: the newest state answers, older ones end in peace.

    state 1   ------------------------| retired; closed when its last request has ended
    state 2      opened and warmed ---| live ------------------------------------------

The bar is one assignment in the event loop: no request is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from hficma.artifacts.manifest import MANIFEST
from hficma.errors import HficmaError, InputError

from ..engine import Engine
from ..index.index_facts import ItemKind
from . import metrics
from .options import POLL_SECONDS

_log = logging.getLogger("hficma")

ManifestStamp = tuple[int, int, int]
"""Inode, size and nanoseconds of change of a manifest, which is only ever replaced."""


class IndexState:
    """One state of an index, open, and how many requests it answers.

    Args:
        engine: open on it.
        version: how many states were live before, and 1.
    """

    def __init__(self, engine: Engine, version: int) -> None:
        self.engine = engine
        self.version = version
        self._users = 0
        self._retired = False
        self._unused = asyncio.Event()
        self._unused.set()

    @contextlib.contextmanager
    def used(self) -> Iterator[Engine]:
        """Keep the state open for a block of the event loop."""
        self._users += 1
        self._unused.clear()
        try:
            yield self.engine
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    async def close(self) -> None:
        """Close it when its last request has ended."""
        await self._unused.wait()
        # The engine's gate waits for searches whose clients have gone meanwhile: in a thread.
        await asyncio.to_thread(self.engine.close)


class LiveIndex:
    """The newest state of the index in a folder.

    Args:
        path: of the index.
        open_engine: opens an engine on it.
    """

    def __init__(self, path: Path, open_engine: Callable[[Path], Engine]) -> None:
        self.path = path
        self.name = path.resolve().name
        self._open_engine = open_engine
        self._state: IndexState | None = None
        self._stamp: ManifestStamp | None = None
        self._changing = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def state(self) -> IndexState:
        """Return the newest state that is open."""
        assert self._state is not None, "opened first"
        return self._state

    @property
    def of(self) -> ItemKind:
        """Return what the index holds."""
        return self.state.engine.index.facts.of

    @property
    def has_photos(self) -> bool:
        """Return whether the index knows photos of items."""
        return any(shard.photos is not None for shard in self.state.engine.index.shards)

    @property
    def share(self) -> float:
        """Return the share of the index's items that a search sees now."""
        cluster = self.state.engine.cluster_state
        return 1.0 if cluster is None else cluster.share

    async def open(self) -> None:
        """Open the index as it is now.

        Raises:
            ArtifactError: it cannot be opened.
        """
        stamp = manifest_stamp(self.path)
        self._go_live(await asyncio.to_thread(self._warm_engine), stamp)

    async def watch(self) -> None:
        """Follow the index's changes until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self.refresh()
            self._observe_cluster()

    async def refresh(self) -> None:
        """Make the index's present state the live one, if it is not."""
        async with self._changing:
            stamp = manifest_stamp(self.path)
            if stamp is None or stamp == self._stamp:
                return
            before = self.state
            try:
                engine = await asyncio.to_thread(self._warm_engine)
            except Exception as error:
                # Told once for each state that cannot be opened; the one before goes on answering,
                # and whatever a library raised, the next state is looked for.
                _log.warning(
                    "%s: its new state cannot be served (%s)", self.path, error,
                    exc_info=not isinstance(error, HficmaError),
                )  # fmt: skip
                metrics.ERRORS.labels("reload").inc()
                self._stamp = stamp
                return
            self._go_live(engine, stamp)
            task = asyncio.create_task(before.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close every state; requests have ended."""
        if self._state is not None:
            await self._state.close()
        await asyncio.gather(*self._closing)

    def _go_live(self, engine: Engine, stamp: ManifestStamp | None) -> None:
        """Let new requests be answered by an engine."""
        version = self._state.version + 1 if self._state else 1
        self._state = IndexState(engine, version)
        self._stamp = stamp
        metrics.INDEX_VERSION.labels(self.name).set(version)
        metrics.INDEX_ITEMS.labels(self.name).set(engine.index.item_count)
        size = sum(shard.bytes for shard in engine.index.shards)
        metrics.INDEX_BYTES.labels(self.name).set(size)
        self._observe_cluster()
        if version > 1:
            _log.info("%s: version %d is live", self.path, version)

    def _observe_cluster(self) -> None:
        """Measure how much of the index answers, where actors of a cluster hold it."""
        cluster = self.state.engine.cluster_state
        if cluster is not None:
            metrics.CLUSTER_ACTORS.labels(self.name, "all").set(cluster.actors)
            metrics.CLUSTER_ACTORS.labels(self.name, "ready").set(cluster.ready)
            metrics.CLUSTER_SHARE.labels(self.name).set(cluster.share)

    def _warm_engine(self) -> Engine:
        """Open an engine and answer one query, so that graphs are loaded and files compared."""
        engine = self._open_engine(self.path)
        try:
            if engine.index.item_count:
                _answer_one(engine)
        except BaseException:
            engine.close()
            raise
        return engine


def _answer_one(engine: Engine) -> None:
    """Search an index with a grey photo, or with the first recipe that the model can read."""
    query: dict[str, Any]
    if engine.query_role == "image":
        query = {"image": Image.new("RGB", (256, 256), "grey")}
    else:
        query = {"recipe": engine.index.recipe(0)}
    try:
        engine.search(**query, k=1)
    except InputError as error:  # such as a recipe without a known word
        _log.debug("%s: the first query was none (%s)", engine.index.path, error)


def manifest_stamp(path: Path) -> ManifestStamp | None:
    """Return what tells a manifest from the one that replaces it; None where there is none.

    Args:
        path: of the index.
    """
    try:
        status = (path / MANIFEST).stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
