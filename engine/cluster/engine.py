"""`ClusterEngine`: an engine whose index is held and searched by actors of Ray's."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Unpack

from ..bundle.bundle import Bundle
from ..engine import ClusterState, Engine
from ..index.index import IndexRecords
from ..opening import open_index_and_bundle, open_pool
from ..runtimes.options import ExecutionKeywords, ExecutionOptions
from .options import ClusterOptions
from .search import ClusterSearcher
from .server_group import ServerGroup
from .session import connected


class ClusterEngine(Engine):
    """Answers from one index that actors of a Ray cluster hold, as an `Engine` does.

    The process that opens it is the head: it encodes queries, merges what the actors answer and
    reads the records of the hits. It and every machine of the cluster find the index and the bundle
    at the same path: a shared folder, or a copy on each machine.

    Example:
        with ClusterEngine.open_on("/shared/index", ClusterOptions(address="auto")) as engine:
            print(engine.search(image="photo.jpg"))

    Args:
        index: open, its records alone; closed with the engine.
        bundle: open, of the index's model; closed with the engine.
        searcher: over the actors; closed with the engine.
        pool: decodes photos.
        group: the actors, which the searcher closes.
        session: what holds the connection to Ray.
        views: crops of a photo; None takes as many as the index was made for.
    """

    def __init__(
        self,
        index: IndexRecords,
        bundle: Bundle,
        searcher: ClusterSearcher,
        pool: ThreadPoolExecutor,
        *,
        group: ServerGroup,
        session: ExitStack,
        views: int | None = None,
    ) -> None:
        super().__init__(index, bundle, searcher, pool, views)
        self.group = group
        self._session = session

    @classmethod
    def open_on(
        cls,
        index: str | os.PathLike[str],
        cluster: ClusterOptions,
        *,
        bundle: str | os.PathLike[str] | None = None,
        gpu_memory: float | None = None,
        photos: str | os.PathLike[str] | None = None,
        crops: int | None = None,
        **execution: Unpack[ExecutionKeywords],
    ) -> ClusterEngine:
        """Open an index for searching over a cluster.

        Args:
            index: its folder.
            cluster: where Ray runs, and how many actors hold the index.
            bundle: folder of a bundle of the index's model; None takes the one that made it.
            gpu_memory: GiB of a GPU for each actor's shards; None takes half of what is free.
            photos: folder of the photos that the index remembers, if they were moved.
            crops: crops of a photo whose vectors are averaged; None takes the index's.
            **execution: `runtime`, `precision`, `device`, `threads` as in `ExecutionOptions`, of
                the head. Actors run the same on their own device, and share the cluster's
                processors where no number of threads is named.

        Raises:
            ArtifactError: the index or the bundle is missing or damaged, or they are of different
                models.
            InputError: no Ray answers at the address, or it has not what the actors need.
            MissingDependencyError: Ray is not installed.
        """
        options = ExecutionOptions(**execution).with_thread_count()
        with ExitStack() as stack:
            session = stack.enter_context(ExitStack())
            open_index, open_bundle = open_index_and_bundle(
                IndexRecords, stack, index, options, bundle=bundle, photos=photos, crops=crops
            )
            pool = open_pool(options.thread_count)
            stack.callback(pool.shutdown)
            ray = session.enter_context(connected(cluster))
            group = ServerGroup(
                ray, open_index, open_bundle.path, cluster,
                gpu_memory=gpu_memory, execution=execution,
            )  # fmt: skip
            stack.callback(group.close)
            searcher = ClusterSearcher(open_index, open_bundle, group)
            engine = cls(
                open_index, open_bundle, searcher, pool, group=group, session=session, views=crops
            )
            stack.pop_all()  # from here on the engine closes them
        return engine

    @property
    def cluster_state(self) -> ClusterState:
        """Return how many actors answer, and for which share of the index."""
        return self.group.state

    def close(self) -> None:
        """End the actors, and the connection to Ray where no other engine uses it."""
        super().close()
        self._session.close()
