"""Indexes and lanes together: what a request can ask of a service, without HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np

from hficma.errors import ArtifactError, InputError
from hficma.images import ImageInput
from hficma.recipe import Recipe
from hficma.types import Floats, Pixels

from ..encoder import centre_pixels
from ..engine import BATCH, Engine
from ..explain import NO_ATTENTION, PairExplanation
from ..index.index_facts import ItemKind
from ..query import ReadQuery
from ..results import Answer, Failure
from ..retrieval.search import SearchOptions
from ..runtimes.options import ExecutionKeywords, processors
from . import engine_work, metrics
from .engine_work import Query
from .lanes import Lane
from .live_index import LiveIndex
from .options import HEAVY_PHOTOS, LOOKUP_QUEUE, POLL_SECONDS, SLOW_QUEUE, ServeOptions
from .refusals import Busy, DeadlinePassed, NotThere, Refusal, Unusable

SearchLane: TypeAlias = Lane[tuple[Engine, ReadQuery, SearchOptions], Answer]
"""Answers queries that were read."""
Value = TypeVar("Value")

_log = logging.getLogger("hficma")


class Service:
    """Answers requests from the newest states of some indexes, a batch at a time.

    Args:
        options: of the service.
    """

    def __init__(self, options: ServeOptions) -> None:
        self.options = options
        self.ready = False
        # The workers share the machine: each with all threads would stand in the others' way.
        threads = options.execution.get("threads") or max(1, processors() // options.workers)
        self.execution: ExecutionKeywords = {**options.execution, "threads": threads}
        self.indexes = [LiveIndex(path, self._open_engine) for path in options.indexes]
        # What is searched fast, what may take seconds, and all else: none holds another up.
        self.searches: SearchLane = Lane(
            "search",
            engine_work.search,
            limit=options.queue,
            batch=options.batch,
            wait=options.batch_wait,
        )
        self.exact: SearchLane = Lane("exact", engine_work.search, limit=SLOW_QUEUE)
        self.others: Lane[Callable[[], Any], Any] = Lane(
            "other", engine_work.call, limit=SLOW_QUEUE
        )
        self.lookups: Lane[Callable[[], Any], Any] = Lane(
            "lookup", engine_work.call, limit=LOOKUP_QUEUE
        )
        self.changes: Lane[Callable[[], Any], Any] = Lane(
            "change", engine_work.call, limit=SLOW_QUEUE
        )
        self._decoders = ThreadPoolExecutor(threads, "decoder")
        self._heavy_decoder = ThreadPoolExecutor(1, "heavy-decoder")
        self._heavy_photos = 0
        self._searching = 0
        self._watches: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Open and warm every index, then follow its changes.

        Raises:
            ArtifactError: one of them cannot be opened.
        """
        for index in self.indexes:
            await index.open()
        self._watches = [asyncio.create_task(index.watch()) for index in self.indexes]
        self._watches.append(asyncio.create_task(_watch_memory()))
        self.ready = True
        for index in self.indexes:
            # Its graphs take half a second to load: neither the start nor the first who asks waits.
            self._watches.append(asyncio.create_task(self._load_explanations(index)))

    async def _load_explanations(self, index: LiveIndex) -> None:
        """Explain one pair, where there is one, so that the next is explained at once."""
        with index.state.used() as engine:
            if index.of != "recipes" or not engine.bundle.has_local or not engine.index.item_count:
                return
            try:
                with contextlib.suppress(InputError, Refusal):  # such as a recipe of no known word
                    await self.run(functools.partial(engine_work.explain_one, engine), math.inf)
            except ArtifactError as error:
                _log.warning("%s: its answers cannot be explained (%s)", index.path, error)

    async def close(self) -> None:
        """Finish what waits and close everything; no request comes any more."""
        self.ready = False
        for task in self._watches:
            task.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        for lane in (self.searches, self.exact, self.others, self.lookups, self.changes):
            await asyncio.to_thread(lane.close)
        for index in self.indexes:
            await index.close()
        self._decoders.shutdown()
        self._heavy_decoder.shutdown()

    def index(self, of: ItemKind | None, name: str | None) -> LiveIndex:
        """Return the index that answers a request.

        Args:
            of: what it must hold; None takes either.
            name: as the request says; None takes the first.

        Raises:
            NotThere: there is no such index.
        """
        for index in self.indexes:
            if of in (None, index.of) and name in (None, index.name):
                return index
        what = {"recipes": " that photos search", "images": " that recipes search", None: ""}[of]
        called = f" called {name[:80]!r}" if name is not None else ""
        raise NotThere(f"no index{called}{what} is served here; /info lists those that are")

    @property
    def busy(self) -> bool:
        """Return whether another search would be refused now."""
        return self._searching >= self.options.queue

    async def search(
        self, query: Query, options: SearchOptions, *, index: str | None, deadline: float
    ) -> Answer:
        """Answer one query.

        Args:
            query: a photo, for an index of recipes, or a recipe, for one of photos.
            options: how to search.
            index: name of the index; None takes the first that answers such a query.
            deadline: by `time.monotonic`.

        Raises:
            Refusal: it cannot be answered, or not now.
        """
        live = self.index("images" if isinstance(query, Recipe) else "recipes", index)
        with live.state.used() as engine, self._place(options.exact) as lane:
            read = await self._read(engine, query, deadline)
            # Queries that search the same state in the same way share a batch.
            work = (engine, read, options)
            future = lane.submit(work, key=(id(engine), options), deadline=deadline)
            answer = await _result(future, deadline)
        metrics.observe_stages(answer.milliseconds)
        return answer

    @contextlib.contextmanager
    def _place(self, exact: bool) -> Iterator[SearchLane]:
        """Hold a place among the searches that are under way for a block.

        Photos that are being read count too: else as many could wait there as in the queue.

        Raises:
            Busy: there is none.
        """
        if exact:
            yield self.exact
            return
        if self.busy:
            raise Busy("too many requests wait; try again in a moment")
        self._searching += 1
        try:
            yield self.searches
        finally:
            self._searching -= 1

    async def search_batch(
        self,
        queries: Sequence[Query],
        options: SearchOptions,
        *,
        index: str | None,
        deadline: float,
    ) -> list[Answer | Failure]:
        """Answer many queries of one kind, in their order; a bad one is a `Failure`.

        Args:
            queries: photos, or recipes.
            options: how to search.
            index: as in `search`.
            deadline: by `time.monotonic`.
        """
        live = self.index("images" if isinstance(queries[0], Recipe) else "recipes", index)
        with live.state.used() as engine:

            def answers() -> list[Answer | Failure]:
                return list(
                    engine.search_many(
                        queries, k=options.k, candidates=options.candidates, exact=options.exact,
                        filter=options.filter, batch=BATCH,
                    )
                )  # fmt: skip

            return await self.run(answers, deadline)

    async def embed(
        self, queries: Sequence[Query], *, index: str | None, deadline: float
    ) -> tuple[str, list[Floats | str]]:
        """Return the model's id, and the global vector (D_g,) of each photo or recipe.

        A query that cannot be read has its error instead of a vector.

        Args:
            queries: photos and recipes.
            index: name of the index whose model encodes them; None takes the first.
            deadline: by `time.monotonic`.
        """
        live = self.index(None, index)
        with live.state.used() as engine:
            vectors = functools.partial(engine_work.embed, engine, queries)
            return engine.bundle.model_id, await self.run(vectors, deadline)

    async def explain(
        self, photo: bytes, ids: Sequence[str], *, index: str | None, deadline: float
    ) -> tuple[Pixels, ImageInput, list[tuple[Recipe, PairExplanation]]]:
        """Return what the model sees of a photo, and its attention with some recipes.

        Args:
            photo: a photo's file.
            ids: of recipes in an index that photos search.
            index: name of the index; None takes the first.
            deadline: by `time.monotonic`.

        Returns:
            pixels (H, W, 3); how the model comes to them; each recipe with its explanation.
        """
        live = self.index("recipes", index)
        with live.state.used() as engine:
            if not engine.bundle.has_local:
                raise Unusable(NO_ATTENTION)
            recipes = await self.look_up(
                lambda: [engine_work.find_recipe(engine, one) for one in ids], deadline
            )
            read = await self._read(engine, photo, deadline)
            explained = await self.run(
                functools.partial(engine_work.explain, engine, read, recipes), deadline
            )
        assert isinstance(read.model_input, np.ndarray)
        pixels = centre_pixels(read.model_input)
        image_input = engine.bundle.facts.model.image_input
        return pixels, image_input, list(zip(recipes, explained, strict=True))

    async def run(self, work: Callable[[], Value], deadline: float) -> Value:
        """Do something in the lane of what is no plain search.

        Args:
            work: to do, in a thread.
            deadline: by `time.monotonic`.
        """
        return await _result(self.others.submit(work, key=None, deadline=deadline), deadline)

    async def look_up(self, work: Callable[[], Value], deadline: float) -> Value:
        """Look something up in an index, in a thread; see `run`."""
        return await _result(self.lookups.submit(work, key=None, deadline=deadline), deadline)

    async def change(self, work: Callable[[], Value]) -> Value:
        """Change an index, one change after the other; it is not given up halfway."""
        result: Value = await self.changes.submit(work, key=None, deadline=math.inf)
        return result

    async def _read(self, engine: Engine, query: Query, deadline: float) -> ReadQuery:
        """Read a query in a decoding thread; slow photos have a thread of their own.

        Raises:
            Unusable: it cannot be read.
            Busy: too many are being read.
        """
        heavy = isinstance(query, bytes) and engine_work.decodes_slowly(query)
        if heavy and self._heavy_photos >= HEAVY_PHOTOS:
            raise Busy("too many photos wait to be read; try again in a moment")
        pool: Executor = self._heavy_decoder if heavy else self._decoders
        self._heavy_photos += heavy
        name = "recipe" if isinstance(query, Recipe) else "photo"
        reading = asyncio.get_running_loop().run_in_executor(
            pool, functools.partial(_read_in_time, engine, query, name, deadline)
        )
        try:
            return await _result(reading, deadline)
        except InputError as error:
            raise Unusable(str(error)) from error
        finally:
            self._heavy_photos -= heavy

    def _open_engine(self, path: Path) -> Engine:
        """Open an engine as the options say."""
        memory, cluster = self.options.gpu_memory, self.options.cluster
        if cluster is None:
            return Engine.open(path, gpu_memory=memory, **self.execution)
        from ..cluster.engine import ClusterEngine

        # Actors share the cluster's processors, unless the options say how many each takes.
        execution = self.options.execution
        return ClusterEngine.open_on(path, cluster, gpu_memory=memory, **execution)


async def _result(future: Awaitable[Value], deadline: float) -> Value:
    """Wait for a result until a deadline; what is late is given up.

    Raises:
        DeadlinePassed: it was not there in time.
    """
    try:
        async with asyncio.timeout(None if math.isinf(deadline) else deadline - time.monotonic()):
            return await future
    except TimeoutError as error:
        raise DeadlinePassed("was not answered in time; try again") from error


def _read_in_time(engine: Engine, query: Query, name: str, deadline: float) -> ReadQuery:
    """Read a query, unless it waited past its deadline."""
    if time.monotonic() > deadline:
        raise DeadlinePassed("was not read in time; try again")
    return engine.read(query, name=name)


async def _watch_memory() -> None:
    """Measure the memory of the process until cancelled."""
    while True:
        metrics.MEMORY_BYTES.set(metrics.memory_bytes())
        await asyncio.sleep(POLL_SECONDS)
