"""`Engine`: an open index and its bundle, ready to answer queries."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import numpy as np

from hficma.artifacts.closing import Closing, Gate
from hficma.errors import InputError
from hficma.recipe import Recipe
from hficma.types import Floats, Pixels

from .bundle.bundle import Bundle
from .encoder import ModelInput, encode, photo_memory
from .index.filters import Filter
from .index.index import Index, IndexRecords
from .index.item_encoding import Role
from .opening import open_encoder, open_index_and_bundle, open_pool, open_scorer
from .query import (
    QuerySource,
    ReadQuery,
    only_query,
    photo_input,
    query_name,
    read_query,
    recipe_input,
    several,
)
from .results import Answer, Failure
from .retrieval.search import BatchSearcher, Searcher, SearchOptions, whole_number
from .retrieval.timing import StageTimer
from .runtimes.options import ExecutionKeywords, ExecutionOptions

if TYPE_CHECKING:
    from hficma.images import PhotoSource

CANDIDATES = 200
"""Items that are re-ranked for a query where nothing else is said."""
BATCH = 32
"""Queries of `search_many` that are worked on together."""
GPU_BATCHES = 3
"""Batches of `search_many` at once on a GPU: one is decoded, one encoded, one scored."""
CPU_BATCHES = 2
"""The same on processors, where there are several: what one batch does on a single thread leaves
the others to the next."""


class ClusterState(NamedTuple):
    """How much of an index that actors of a cluster hold answers now."""

    actors: int
    """Actors in all."""
    ready: int
    """Actors that answer."""
    share: float
    """Share of the index's items that a search sees."""


class Engine(Closing):
    """Answers photos with recipes, or recipes with photos, from one index.

    Opened by `Engine.open`. Any number of threads may search at once; each search reads the
    state that the index had when the engine was opened.

    Example:
        with Engine.open("workspace/indexes/mine") as engine:
            answer = engine.search(image="photo.jpg", k=10)
            print(answer)
            for hit in answer.hits:
                print(hit.rank, hit.recipe.title, hit.score)

    Args:
        index: open; closed with the engine.
        bundle: open, of the index's model; closed with the engine.
        searcher: answers batches of queries from the index; closed with the engine.
        pool: decodes photos, searches shards and scores tiles.
        views: crops of a photo; None takes as many as the index was made for.
        batches: batches of `search_many` that are worked on at once. On the processors one batch
            takes all of them; on a GPU a second is decoded, and a third encoded, meanwhile.
    """

    def __init__(
        self,
        index: IndexRecords,
        bundle: Bundle,
        searcher: BatchSearcher,
        pool: ThreadPoolExecutor,
        views: int | None = None,
        batches: int = 1,
    ) -> None:
        self.index = index
        self.bundle = bundle
        self._crops = index.facts.crops if views is None else views
        self._pool = pool
        self._searcher = searcher
        self._batches = ThreadPoolExecutor(batches) if batches > 1 else None
        self._most_batches = batches
        self._gate = Gate()

    @classmethod
    def open(
        cls,
        index: str | os.PathLike[str],
        *,
        bundle: str | os.PathLike[str] | None = None,
        gpu_memory: float | None = None,
        photos: str | os.PathLike[str] | None = None,
        crops: int | None = None,
        **execution: Unpack[ExecutionKeywords],
    ) -> Engine:
        """Open an index for searching.

        Args:
            index: its folder.
            bundle: folder of a bundle of the index's model; None takes the one that made it.
            gpu_memory: GiB of a GPU for the index; None takes half of what is free.
            photos: folder of the photos that the index remembers, if they were moved; None takes
                what the environment variable `HFICMA_PHOTOS` names, or else the recorded one.
            crops: crops of a photo whose vectors are averaged, 1 or 5; None takes as many as the
                index was made for.
            **execution: `runtime`, `precision`, `device`, `threads` as in `ExecutionOptions`. The
                precision is of the branches that encode queries, pairs are scored in fp32; a device
                `cuda[:N]` runs branches, prefilter and scores on a GPU.

        Raises:
            ArtifactError: one of them is missing or damaged, or they are of different models.
        """
        options = ExecutionOptions(**execution).with_thread_count()
        # Whatever is open is closed again where the rest cannot be opened.
        with ExitStack() as stack:
            open_index, open_bundle = open_index_and_bundle(
                Index, stack, index, options, bundle=bundle, photos=photos, crops=crops
            )
            pool = open_pool(options.thread_count)
            stack.callback(pool.shutdown)
            scorer = open_scorer(open_index, open_bundle, options, pool, gpu_memory)
            encoder = open_encoder(open_bundle, options)
            searcher = Searcher(open_index, open_bundle, scorer, pool, encoder)
            on_cpu = 1 if options.thread_count == 1 else CPU_BATCHES
            batches = on_cpu if options.device == "cpu" else GPU_BATCHES
            engine = cls(open_index, open_bundle, searcher, pool, crops, batches)
            stack.pop_all()  # from here on the engine closes them
        return engine

    def close(self) -> None:
        """Release files, memory and threads, when the searches that run have ended."""
        if self._gate.shut():
            if self._batches is not None:
                self._batches.shutdown()
            self._pool.shutdown()
            self._searcher.close()
            self.bundle.close()
            self.index.close()

    @property
    def cluster_state(self) -> ClusterState | None:
        """Return how much of the index answers; None for an engine of one machine."""
        return None

    @property
    def query_role(self) -> Role:
        """Return the role of queries: `image` over an index of recipes, else `recipe`."""
        return self.index.facts.query_role

    def search(
        self,
        *,
        image: PhotoSource | None = None,
        recipe: Recipe | None = None,
        k: int = 10,
        candidates: int = CANDIDATES,
        exact: bool = False,
        filter: Filter | None = None,
        keep_query: bool = False,
        exact_precision: bool = False,
    ) -> Answer:
        """Return the k best items for one photo or one recipe.

        Args:
            image: a photo, over an index of recipes: a path, bytes, an open file, a PIL image or an
                array, as `hficma.images.load_photo` takes it.
            recipe: a recipe, over an index of photos.
            k: items to return.
            candidates: items to re-rank; at least k are.
            exact: re-rank more, until all k ranks are proved.
            filter: which items may answer.
            keep_query: leave what was computed of the query in `Answer.query`, some megabytes, for
                `write_page` to explain the answer with.
            exact_precision: score the best again by the exact tokens that an index may keep beside
                those in int8 or int4.

        Raises:
            InputError: a query that cannot be read, or of the wrong kind for this index; an index
                that keeps no exact tokens.
        """
        options = SearchOptions(k, candidates, exact, filter, keep_query, exact_precision).checked()
        query = only_query(image, recipe)
        [answer] = self._answer_batch(
            [query], ["photo" if image is not None else "recipe"], options
        )
        if isinstance(answer, InputError):
            raise answer
        return answer

    def read(self, query: PhotoSource | Recipe, *, name: str) -> ReadQuery:
        """Read one query, for `search_many` to search it later.

        Args:
            query: a photo or a recipe, whichever this index is searched with.
            name: how to name it in an error, where it has no name of its own.

        Raises:
            InputError: it cannot be read, or is of the wrong kind for this index.
        """
        with self._entered():
            model_input = self._read_query(query, name)
        if isinstance(model_input, InputError):
            raise model_input
        return ReadQuery(self.bundle.model_id, model_input)

    def search_many(
        self,
        queries: Iterable[QuerySource],
        *,
        k: int = 10,
        candidates: int = CANDIDATES,
        exact: bool = False,
        filter: Filter | None = None,
        batch: int = BATCH,
        exact_precision: bool = False,
    ) -> Iterator[Answer | Failure]:
        """Yield an answer for each query, in their order; a bad one gives a `Failure` instead.

        Args:
            queries: photos or recipes, as `search` takes them, or as `read` gives them; read as
                answers are taken.
            k: items to return for each, like the options below as in `search`.
            candidates: items to re-rank.
            exact: re-rank more, until all k ranks are proved.
            filter: which items may answer.
            batch: queries that are worked on together: they share runs of the branches, and
                candidates that several of them have.
            exact_precision: score the best again by exact tokens.

        Raises:
            InputError: an option that cannot be used, at once and not with the first answer.
        """
        options = SearchOptions(
            k, candidates, exact, filter, exact_precision=exact_precision
        ).checked()
        batch_size = whole_number("batch", batch)
        return self._answer_many(several(queries, caller="search_many"), options, batch_size)

    def encode(
        self,
        *,
        images: Iterable[PhotoSource] | None = None,
        recipes: Iterable[Recipe] | None = None,
    ) -> Floats:
        """Return the global vectors of photos or of recipes.

        An inner product of a photo's and a recipe's is S_global, which the first stage searches by;
        any vector database can do the same. Either kind may be encoded, whatever the index holds.

        Args:
            images: N photos, as `search` takes them.
            recipes: N recipes.

        Returns:
            (N, D_g) float32, in their order.

        Raises:
            InputError: one of them cannot be read, or both kinds were given, or none.
        """
        if (images is None) == (recipes is None):
            raise InputError("encode takes photos or recipes, one of them")
        remaining = enumerate(several(recipes if images is None else images, caller="encode"))

        def read(numbered: tuple[int, Any]) -> ModelInput:
            number, source = numbered
            if images is not None:
                name = f"photo {number + 1}"
                return photo_input(source, self.bundle.image_input, name=name, views=self._crops)
            return recipe_input(source, self.bundle, name=f"recipe {number + 1}")

        vectors = [np.empty((0, self.bundle.facts.global_dim), np.float32)]
        # Entered for a batch, not for all: reading the next ones may take the caller any time.
        while chunk := list(islice(remaining, BATCH)):
            with self._entered():
                inputs = list(self._pool.map(read, chunk))
                vectors.append(encode(self.bundle, inputs).vectors)
        return np.concatenate(vectors)

    def _answer_many(
        self, queries: Iterator[QuerySource], options: SearchOptions, batch_size: int
    ) -> Iterator[Answer | Failure]:
        """Yield the answers of `search_many`."""
        numbered = enumerate(queries)
        waiting: deque[tuple[list[str], Future[list[Answer | InputError]]]] = deque()
        is_last = False
        try:
            while True:
                while len(waiting) < self._most_batches and not is_last:
                    names, answers = self._begin_batch(numbered, options, batch_size)
                    is_last = not names
                    waiting.append((names, answers))
                names, answers = waiting.popleft()
                for name, answer in zip(names, answers.result(), strict=True):
                    if isinstance(answer, InputError):
                        yield Failure(name=name, error=str(answer))
                    else:
                        yield answer
                if not names:
                    return
        finally:
            for _, answers in waiting:
                answers.cancel()

    def _begin_batch(
        self, numbered: Iterator[tuple[int, QuerySource]], options: SearchOptions, batch_size: int
    ) -> tuple[list[str], Future[list[Answer | InputError]]]:
        """Return the names of the next queries, none at their end, and what becomes their answers.

        Where batches run one after the other, the answers are there.
        """
        answers: Future[list[Answer | InputError]] = Future()
        names: list[str] = []
        try:
            chunk = list(islice(numbered, batch_size))
            names = [query_name(query, number) for number, query in chunk]
            arguments = [query for _, query in chunk], names, options
            if chunk and self._batches is not None:
                with self._entered():
                    return names, self._batches.submit(self._answer_batch, *arguments)
            answers.set_result(self._answer_batch(*arguments) if chunk else [])
        # The caller's own iterator may raise anything: in its turn, after the answers before it.
        except BaseException as error:
            answers.set_exception(error)
        return names, answers

    def _answer_batch(
        self, queries: Sequence[QuerySource], names: Sequence[str], options: SearchOptions
    ) -> list[Answer | InputError]:
        """Return each query's answer, or what is wrong with the query."""
        with self._entered():
            timer = StageTimer(len(queries))
            memory: Sequence[Pixels | None] = [None] * len(queries)
            if self.query_role == "image":
                views = self._crops if self._crops > 1 else None
                memory = photo_memory(self.bundle, len(queries), views)
            inputs = list(self._pool.map(self._read_query, queries, names, memory))
            timer.end_stage("decode")
            readable = [one for one in inputs if not isinstance(one, InputError)]
            answers = iter(self._searcher.search(readable, options, timer) if readable else ())
            return [one if isinstance(one, InputError) else next(answers) for one in inputs]

    def _read_query(
        self, query: QuerySource, name: str, out: Pixels | None = None
    ) -> ModelInput | InputError:
        """Return what the branches read of a query, or what is wrong with it."""
        return read_query(query, self.index, self.bundle, name=name, views=self._crops, out=out)

    def _entered(self) -> ExitStack:
        """Keep the engine open for a `with` block.

        Raises:
            InputError: it was closed.
        """
        with ExitStack() as stack:
            if not stack.enter_context(self._gate.entered()):
                raise InputError(f"{self.index.path}: this engine was closed; open it again")
            return stack.pop_all()
