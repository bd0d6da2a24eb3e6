"""`Engine`: an index and its bundle, ready to answer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Unpack

import numpy as np

from hficma.artifacts.closing import Closing, Gate
from hficma.errors import ArtifactError, InputError
from hficma.recipe import Recipe

from .bundle.bundle import Bundle
from .encoder import encode
from .index.candidates import CandidateBatch
from .index.filters import Filter
from .index.index import Index
from .index.index_facts import model_mismatch
from .index.item_encoding import Role
from .index.vector_index import Mask
from .query import QuerySource, only_query, query_name, query_notes, read_query
from .results import Answer, Failure
from .retrieval.certificate import ItemScores, Positions, Ranking, rank_with_certificate
from .retrieval.filter_notes import filter_notes
from .retrieval.hits import build_hits
from .retrieval.reranking import EncodedQuery
from .retrieval.scoring import CpuScorer, Score, Scorer
from .retrieval.timing import Clock
from .runtimes.options import ExecutionKeywords, ExecutionOptions

if TYPE_CHECKING:
    from hficma.images import PhotoSource

CANDIDATES = 200
BATCH = 32
"""Queries of `search_many` that are worked on together."""

CACHED_FILTERS = 16
"""Filters whose outcome is remembered."""


class _SearchOptions(NamedTuple):
    """What is asked of every query of a batch."""

    k: int
    candidates: int
    exact: bool
    filter: Filter | None

    @property
    def first(self) -> int:
        """Items of the first visit."""
        return max(self.k, self.candidates)


class Engine(Closing):
    """Answers photos with recipes, or recipes with photos, from one index.

    Opened by `Engine.open`. Any number of threads may search at once; each search reads the
    state that the index had when the engine was opened.

    Example:
        engine = Engine.open(Path("workspace/indexes/mine"))
        for hit in engine.search(image=Path("photo.jpg"), k=10).hits:
            print(hit.rank, hit.title, hit.score)
    """

    def __init__(
        self, index: Index, bundle: Bundle, scorer: Scorer, pool: ThreadPoolExecutor
    ) -> None:
        self.index = index
        self.bundle = bundle
        self._scorer = scorer
        self._pool = pool
        self._masks: dict[Filter | None, tuple[Sequence[Mask | None], tuple[str, ...]]] = {}
        self._gate = Gate()

    @classmethod
    def open(
        cls,
        index: str | Path,
        *,
        bundle: str | Path | None = None,
        gpu_memory: float | None = None,
        **execution: Unpack[ExecutionKeywords],
    ) -> Engine:
        """Open an index for searching.

        Args:
            index: its folder.
            bundle: None takes the one that made it.
            gpu_memory: GiB of a GPU for the index; None takes half of what is free.
            **execution: `runtime`, `precision`, `device`, `threads` as in `ExecutionOptions`. The
                precision is of the branches that encode queries, pairs are scored in fp32; a device
                `cuda[:N]` runs branches, prefilter and scores on a GPU.

        Raises:
            ArtifactError: one of them is missing or damaged, or they are of different models.
        """
        options = ExecutionOptions(**execution).with_thread_count()
        # What was opened is closed again where the rest cannot be.
        with ExitStack() as stack:
            opened = stack.enter_context(Index.open(Path(index)))
            path = Path(bundle) if bundle else opened.facts.find_bundle(Path(index))
            encoder = stack.enter_context(Bundle.open(path, options))
            _refuse_another_model(opened, encoder)
            pool = ThreadPoolExecutor(options.thread_count, initializer=_one_thread)
            stack.callback(pool.shutdown)
            scorer: Scorer
            if options.device != "cpu":
                from .gpu.gpu_index import GpuIndex, cuda_device, memory_of
                from .gpu.gpu_scorer import GpuScorer

                gpu = cuda_device(options.device)
                placed = GpuIndex(opened, gpu, memory_of(gpu, gpu_memory))
                scorer = GpuScorer(placed, encoder)
            else:
                # Tiles run side by side, so each of their sessions takes one thread.
                one = Bundle.open(path, options.changed(precision="fp32", threads=1))
                scorer = CpuScorer(opened, one, pool)
            engine = cls(opened, encoder, scorer, pool)
            stack.pop_all()
        return engine

    def close(self) -> None:
        """Let go of files, memory and threads, when the searches that run have ended."""
        if self._gate.shut():
            self._pool.shutdown()
            self._scorer.close()
            self.bundle.close()
            self.index.close()
            self._masks.clear()

    @property
    def query_role(self) -> Role:
        """What it answers: `image` queries over recipes, `recipe` queries over photos."""
        return "image" if self.index.facts.of == "recipes" else "recipe"

    def search(
        self,
        *,
        image: PhotoSource | None = None,
        recipe: Recipe | None = None,
        k: int = 10,
        candidates: int = CANDIDATES,
        exact: bool = False,
        filter: Filter | None = None,
    ) -> Answer:
        """The k best items for one photo or one recipe.

        Args:
            image: a photo, over an index of recipes: a path, bytes, an open file, a PIL image or an
                array, as `hficma.images.preprocessing.load_photo` takes it.
            recipe: a recipe, over an index of photos.
            k: items wanted.
            candidates: items re-ranked; at least k are.
            exact: go on until all k ranks are proved.
            filter: which items may answer.

        Raises:
            InputError: a query that cannot be read, or of the wrong kind for this index.
        """
        wanted = _search_options(k, candidates, exact, filter)
        answers = self._answers([only_query(image, recipe)], wanted)
        if isinstance(answers[0], InputError):
            raise answers[0]
        return answers[0]

    def search_many(
        self,
        queries: Iterable[PhotoSource | Recipe],
        *,
        k: int = 10,
        candidates: int = CANDIDATES,
        exact: bool = False,
        filter: Filter | None = None,
        batch: int = BATCH,
    ) -> Iterator[Answer | Failure]:
        """Answers in the order of the queries; a bad one gives a `Failure`, the others go on.

        Args:
            queries: photos or recipes, as `search` takes them; read as answers are taken.
            k: items wanted, like the options below as in `search`.
            candidates: items re-ranked.
            exact: go on until all k ranks are proved.
            filter: which items may answer.
            batch: queries that are worked on together, sharing the loads of candidates.
        """
        wanted = _search_options(k, candidates, exact, filter)
        remaining = enumerate(queries)
        while chunk := list(islice(remaining, batch)):
            answers = self._answers([query for _, query in chunk], wanted)
            for (number, query), answer in zip(chunk, answers, strict=True):
                if isinstance(answer, InputError):
                    yield Failure(name=query_name(query, number), error=str(answer))
                else:
                    yield answer

    def _answers(
        self, asked: Sequence[QuerySource], wanted: _SearchOptions
    ) -> list[Answer | InputError]:
        with self._gate.entered() as inside:
            if not inside:
                raise InputError(f"{self.index.path}: this engine was closed; open it again")
            return self._answers_inside(asked, wanted)

    def _answers_inside(
        self, asked: Sequence[QuerySource], wanted: _SearchOptions
    ) -> list[Answer | InputError]:
        clock = Clock(len(asked))
        read = list(self._pool.map(lambda one: read_query(one, self.index, self.bundle), asked))
        good = {place: c for place, c in enumerate(read) if not isinstance(c, InputError)}
        clock.stage("decode")
        outcomes: list[Answer | InputError] = [c for c in read if isinstance(c, InputError)]
        if not good:
            return outcomes
        encoded = encode(self.bundle, list(good.values()))
        queries = EncodedQuery.prepared(self.bundle, self.query_role, *encoded)
        for query in queries:
            query.refuse_not_finite()
        clock.stage("encode")
        allowed, notes = self._allowed(wanted.filter)
        searched = self.index.candidate_count(allowed)
        firsts = self.index.first_candidates(
            np.stack([query.vector for query in queries]),
            wanted.first,
            allowed,
            self._pool,
        )
        clock.stage("prefilter")
        score = self._scorer.batch(queries, firsts)
        rankings = [
            self._ranked(number, queries[number], first, score, allowed, wanted, clock)
            for number, first in enumerate(firsts)
        ]
        clock.stage("rerank")
        hits = build_hits(self.index, rankings, has_local=self.bundle.has_local)
        clock.stage("records")
        milliseconds = clock.milliseconds()
        for place, ranking, found in zip(good, rankings, hits, strict=True):
            outcomes.insert(
                place,
                Answer(
                    hits=found,
                    certified=ranking.certified,
                    scored=ranking.scored,
                    searched=searched,
                    milliseconds=milliseconds,
                    verified=self.index.verified,
                    notes=(*query_notes(good[place]), *notes),
                ),
            )
        return outcomes

    def _allowed(self, filter: Filter | None) -> tuple[Sequence[Mask | None], tuple[str, ...]]:
        """Which items may answer, and what there is to say of the filter."""
        known = self._masks.get(filter)
        if known is None:
            notes = filter_notes(filter, self.index) if filter else ()
            known = self.index.filter_masks(filter), notes
            if len(self._masks) >= CACHED_FILTERS:
                self._masks.clear()
            self._masks[filter] = known
        return known

    def _ranked(
        self,
        number: int,
        query: EncodedQuery,
        first: CandidateBatch,
        score: Score,
        allowed: Sequence[Mask | None],
        wanted: _SearchOptions,
        clock: Clock,
    ) -> Ranking:
        def visits() -> Iterator[CandidateBatch]:
            yield first
            if first.upper_bound > -math.inf:
                yield from self.index.remaining_candidates(
                    query.vector, first.items, wanted.first, allowed
                )

        def scores(items: Positions) -> ItemScores:
            found, gathering = score(number, items)
            clock.add("gather", gathering)
            return found

        return rank_with_certificate(
            visits(), scores, k=wanted.k, exact=wanted.exact, weights=self.bundle.score_weights
        )


def _search_options(k: int, candidates: int, exact: bool, filter: Filter | None) -> _SearchOptions:
    if k < 1 or candidates < 1:
        raise InputError(f"k is {k} and candidates {candidates}: both must be at least 1")
    return _SearchOptions(k, candidates, exact, filter)


def _refuse_another_model(index: Index, bundle: Bundle) -> None:
    """Raise an ArtifactError where a bundle cannot search an index."""
    if bundle.model_id != index.facts.model_id:
        raise model_mismatch(index.path, index.facts, bundle)
    keeps = index.facts.level is not None
    for shard in index.shards[:1]:
        facts, sizes = shard.facts, bundle.facts
        if (
            keeps != bundle.has_local
            or facts.global_dim != sizes.global_dim
            or (keeps and facts.width != sizes.width)
            or (facts.level == "tables" and facts.heads != sizes.heads)
        ):
            raise ArtifactError(
                f"{index.path}: its arrays are not of the sizes of {bundle.path}; "
                "index again with this bundle"
            )


def _one_thread() -> None:
    """FAISS takes one thread in each of the pool's, not all of them in each."""
    import faiss

    faiss.omp_set_num_threads(1)
