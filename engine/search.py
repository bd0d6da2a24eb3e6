"""`Engine`: an index and its bundle, ready to answer."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from hficma.errors import ArtifactError, InputError
from hficma.images import Pixels, decode_photo, preprocess, read_photo
from hficma.recipe import Recipe
from hficma.text import RecipeIds

from .answer import Answer, Failure, Hit
from .bundle import Bundle
from .certificate import Positions, Ranking, Scores, Visit, rank
from .encode import encode
from .filters import Filter
from .index import Index
from .prefilter import Mask
from .rerank import Query, Reranker
from .sides import Role
from .writing import processors

if TYPE_CHECKING:
    from types import TracebackType

    from PIL.Image import Image

CANDIDATES = 200
BATCH = 32
"""Queries of `search_many` that are worked on together."""

KEPT_FILTERS = 16
"""Filters whose outcome is remembered."""

Asked: TypeAlias = "Image | Path | bytes | Recipe"
Content: TypeAlias = "Pixels | RecipeIds"


class Engine:
    """Answers photos with recipes, or recipes with photos, from one index.

    Opened by `Engine.open`. Any number of threads may search at once; each search reads the
    state that the index had when the engine was opened.

    Example:
        engine = Engine.open(Path("workspace/indexes/mine"))
        for hit in engine.search(image=Path("photo.jpg"), k=10).hits:
            print(hit.rank, hit.title, hit.score)
    """

    def __init__(self, index: Index, encoder: Bundle, scorer: Bundle, threads: int) -> None:
        self.index = index
        self.bundle = encoder
        self._pool = ThreadPoolExecutor(threads, initializer=_one_thread)
        self._masks: dict[Filter | None, Sequence[Mask | None]] = {}
        config = encoder.facts["model"]
        self._global_weight = float(config["global_weight"])
        self._local_weight = float(config["local_weight"]) if encoder.has_local else 0.0
        self._reranker = Reranker(
            scorer,
            index.facts.role,
            self._pool,
            global_weight=self._global_weight,
            local_weight=self._local_weight,
        )

    @classmethod
    def open(
        cls,
        index: Path,
        *,
        bundle: Path | None = None,
        runtime: str = "auto",
        precision: str = "fp32",
        device: str = "cpu",
        threads: int | None = None,
    ) -> Engine:
        """Open an index for searching.

        Args:
            index: its folder.
            bundle: None takes the one that made it.
            runtime: see `Bundle.open`.
            precision: of the branches that encode queries; pairs are scored in fp32.
            device: where the branches run.
            threads: None takes all processors.

        Raises:
            ArtifactError: one of them is missing or damaged, or they are of different models.
        """
        opened = Index.open(index)
        path = bundle or Path(opened.facts.bundle)
        if bundle is None and not path.is_dir():
            raise ArtifactError(f"{index}: the bundle that made it is not at {path}; name one")
        threads = threads or processors()
        encoder = Bundle.open(
            path, runtime=runtime, precision=precision, device=device, threads=threads
        )
        if encoder.model_id != opened.facts.model_id:
            raise ArtifactError(
                f"{index}: was made with another model than {path}; index again with this bundle"
            )
        # Tiles run side by side, so each of their sessions takes one thread.
        scorer = Bundle.open(path, runtime=runtime, precision="fp32", device=device, threads=1)
        return cls(opened, encoder, scorer, threads)

    def close(self) -> None:
        """Stop the engine's threads."""
        self._pool.shutdown()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def query_role(self) -> Role:
        """What it answers: `image` queries over recipes, `recipe` queries over photos."""
        return "image" if self.index.facts.of == "recipes" else "recipe"

    def search(
        self,
        *,
        image: Image | Path | bytes | None = None,
        recipe: Recipe | None = None,
        k: int = 10,
        candidates: int = CANDIDATES,
        exact: bool = False,
        filter: Filter | None = None,
    ) -> Answer:
        """The k best items for one photo or one recipe.

        Args:
            image: a photo, over an index of recipes.
            recipe: a recipe, over an index of photos.
            k: items wanted.
            candidates: items re-ranked; at least k are.
            exact: go on until all k ranks are proved.
            filter: which items may answer.

        Raises:
            InputError: a query that cannot be read, or of the wrong kind for this index.
        """
        answers = self._answers(
            [_query_of(image, recipe)], k=k, candidates=candidates, exact=exact, filter=filter
        )
        if isinstance(answers[0], InputError):
            raise answers[0]
        return answers[0]

    def search_many(
        self,
        queries: Iterable[Image | Path | bytes | Recipe],
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
        remaining = enumerate(queries)
        while chunk := list(islice(remaining, batch)):
            answers = self._answers(
                [query for _, query in chunk], k=k, candidates=candidates, exact=exact,
                filter=filter,
            )  # fmt: skip
            for (number, query), answer in zip(chunk, answers, strict=True):
                if isinstance(answer, InputError):
                    yield Failure(name=_name(query, number), error=str(answer))
                else:
                    yield answer

    def _answers(
        self,
        asked: Sequence[Asked],
        *,
        k: int,
        candidates: int,
        exact: bool,
        filter: Filter | None,
    ) -> list[Answer | InputError]:
        if k < 1 or candidates < 1:
            raise InputError(f"k is {k} and candidates {candidates}: both must be at least 1")
        clock = _Clock(len(asked))
        read = list(self._pool.map(self._read, asked))
        good = {place: c for place, c in enumerate(read) if not isinstance(c, InputError)}
        clock.stage("decode")
        outcomes: list[Answer | InputError] = [c for c in read if isinstance(c, InputError)]
        if not good:
            return outcomes
        encoded = encode(self.bundle, list(good.values()))
        queries = Query.prepared(self.bundle, self.query_role, *encoded)
        clock.stage("encode")
        allowed = self._allowed(filter)
        searched = self.index.allowed_count(allowed)
        firsts = self.index.first_visits(
            np.stack([query.vector for query in queries]),
            max(k, candidates),
            allowed,
            run=lambda search: list(self._pool.map(search, range(len(self.index.shards)))),
        )
        clock.stage("prefilter")
        rankings = [
            self._ranked(
                query, first, allowed, k=k, step=max(k, candidates), exact=exact, clock=clock
            )
            for query, first in zip(queries, firsts, strict=True)
        ]
        clock.stage("rerank")
        hits = self._hits(rankings)
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
                    notes=_notes(good[place]),
                ),
            )
        return outcomes

    def _read(self, asked: Asked) -> Content | InputError:
        """A query's pixels or ids."""
        try:
            if isinstance(asked, Recipe):
                if self.query_role == "image":
                    raise InputError(
                        f"{self.index.path}: is an index of recipes, which photos search; "
                        "for a recipe make one with --of images"
                    )
                return self.bundle.tokenizer.query(asked)
            if self.query_role == "recipe":
                raise InputError(
                    f"{self.index.path}: is an index of photos, which recipes search; "
                    "for a photo make one with --of recipes"
                )
            if isinstance(asked, Path):
                return preprocess(read_photo(asked))
            if isinstance(asked, bytes):
                return preprocess(decode_photo(asked, name="photo"))
            return preprocess(asked)
        except InputError as error:
            return error

    def _allowed(self, filter: Filter | None) -> Sequence[Mask | None]:
        if filter not in self._masks:
            if len(self._masks) >= KEPT_FILTERS:
                self._masks.clear()
            self._masks[filter] = self.index.allowed(filter)
        return self._masks[filter]

    def _ranked(
        self,
        query: Query,
        first: Visit,
        allowed: Sequence[Mask | None],
        *,
        k: int,
        step: int,
        exact: bool,
        clock: _Clock,
    ) -> Ranking:
        def visits() -> Iterator[Visit]:
            yield first
            if first.ceiling > -math.inf:
                yield from self.index.further_visits(query.vector, first.items, step, allowed)

        def score(items: Positions) -> Scores:
            scores, gathering = self._reranker.score(
                query, self.index.parts, *self.index.located(items)
            )
            clock.add("gather", gathering)
            return scores

        return rank(
            visits(), score, k=k, exact=exact,
            global_weight=self._global_weight, local_weight=self._local_weight,
        )  # fmt: skip

    def _hits(self, rankings: Sequence[Ranking]) -> list[tuple[Hit, ...]]:
        """Each ranking's items with their records, which are looked up once a shard."""
        positions = np.unique(np.concatenate([ranking.items for ranking in rankings]))
        shard_of, places = self.index.located(positions)
        recipes: dict[int, Recipe] = {}
        for number in np.unique(shard_of):
            start = int(self.index.starts[number])
            found = self.index.shards[number].records.recipes(places[shard_of == number].tolist())
            recipes.update({start + place: recipe for place, recipe in found.items()})
        return [
            tuple(
                self._hit(place, recipes[int(item)], ranking.scores)
                for place, item in enumerate(ranking.items)
            )
            for ranking in rankings
        ]

    def _hit(self, place: int, recipe: Recipe, scores: Scores) -> Hit:
        return Hit(
            rank=place + 1,
            id=recipe.id,
            title=recipe.title,
            score=float(scores.total[place]),
            global_score=float(scores.global_[place]),
            local_score=float(scores.local[place]) if self.bundle.has_local else None,
            ingredients=recipe.ingredients,
            instructions=recipe.instructions,
            url=recipe.url,
            image=recipe.image,
            category=recipe.category,
            partition=recipe.partition,
        )


class _Clock:
    """Milliseconds a stage, shared among the queries of a batch."""

    def __init__(self, queries: int) -> None:
        self._queries = queries
        self._began = self._last = time.perf_counter()
        self._seconds: dict[str, float] = {}

    def stage(self, name: str) -> None:
        """The time since the stage before was `name`'s."""
        now = time.perf_counter()
        self.add(name, now - self._last)
        self._last = now

    def add(self, name: str, seconds: float) -> None:
        """Count seconds that were measured elsewhere."""
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    def milliseconds(self) -> dict[str, float]:
        """A query's share of each stage, and of the whole."""
        whole = {**self._seconds, "total": self._last - self._began}
        return {name: 1000 * seconds / self._queries for name, seconds in whole.items()}


def _query_of(image: Image | Path | bytes | None, recipe: Recipe | None) -> Asked:
    if (image is None) == (recipe is None):
        raise InputError("search takes a photo or a recipe, one of them")
    asked = recipe if image is None else image
    assert asked is not None
    return asked


def _name(query: Asked, number: int) -> str:
    if isinstance(query, Recipe):
        return query.id
    return str(query) if isinstance(query, Path) else f"query {number + 1}"


def _notes(content: Content) -> tuple[str, ...]:
    if not isinstance(content, RecipeIds):
        return ()
    return tuple(f"not read, unknown or past the limit: {line}" for line in content.left_out)


def _one_thread() -> None:
    """FAISS takes one thread in each of the pool's, not all of them in each."""
    import faiss

    faiss.omp_set_num_threads(1)
