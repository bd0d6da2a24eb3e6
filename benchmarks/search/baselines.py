"""The same answers by what people use today: eager torch, the published graph, FAISS alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from hficma.engine import Bundle, Engine
from hficma.engine.encoder import encode_photos, prepare_queries
from hficma.engine.retrieval.located_items import LocatedItems
from hficma.engine.retrieval.reranking import Reranker
from hficma.engine.retrieval.timing import StageTimer
from hficma.images import decode_photo, preprocess
from hficma.metrics import RECALLS, Figures
from hficma.model import HFICMA, Model, Tokens
from hficma.model.published_attention import published_scores
from hficma.model.similarity import FoldedWeights, PaddedEncodings, project, tabulate
from hficma.model.tiling import pair_scores

from ..common.report import Column, Figure, Row, Table
from ..common.timing import Recorder
from .exact_ranks import Ranks
from .stages import PERCENTILES, percentiles

ENGINE = "this engine"
EAGER = "eager torch, fast form"
PUBLISHED = "eager torch, published graph"
VECTORS = "dual encoder, FAISS alone"
BLOCK = 50
"""Pairs that the published code computes at once."""

Floats = npt.NDArray[np.floating]
Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class VectorSearch:
    """Another model that ranks by one inner product."""

    name: str
    """In tables."""
    engine: Engine
    """Over the same recipes."""
    figures: Figures
    """Image to recipe."""


@dataclass(frozen=True)
class _Kept:
    """The candidates of one query, made once, as each way keeps them."""

    items: Positions
    """(K,) in the index, the best by S_global."""
    tokens: Tokens
    """(K, T, d): the published graph's."""
    table: PaddedEncodings
    """At `tables`: the fast form's."""


class Others:
    """Re-ranks the same candidates in every way, with the bundle's own weights.

    Args:
        engine: over an index of recipes.
        scorer: its bundle, opened with one thread.
        model: the same in torch.
        pool: where the engine's tiles run.
        candidates: K.
    """

    def __init__(
        self,
        engine: Engine,
        scorer: Bundle,
        model: Model,
        pool: ThreadPoolExecutor,
        candidates: int,
    ) -> None:
        self._engine, self._model, self._count = engine, model, candidates
        self._pool = pool
        if isinstance(model, HFICMA):
            with torch.inference_mode():
                self._weights = model.fold()  # once, as an export would
        self._reranker = Reranker(scorer, engine.index.facts.role, pool, model.config.score_weights)

    def measure(
        self,
        rounds: Sequence[Sequence[bytes]],
        rival: VectorSearch | None,
        *,
        on_done: Callable[[int], None] = lambda count: None,
    ) -> tuple[Recorder, dict[str, float]]:
        """Time every way on every photo, in turn.

        Args:
            rounds: photos' bytes.
            rival: another model's.
            on_done: told of photos done.

        Returns:
            seconds from the photo's bytes to ranked items by way, those of re-ranking alone
            under `WAY re-rank`, and the largest difference of S_local from the engine's.
        """
        recorder = Recorder()
        differences: dict[str, float] = {}
        recorder.new_round()
        self._photo(rounds[0][0], rival, recorder)  # warms up
        recorder = Recorder()
        for photos in rounds:
            recorder.new_round()
            for photo in photos:
                local = self._photo(photo, rival, recorder)
                for name in local.keys() - {ENGINE}:
                    difference = float(np.abs(local[name] - local[ENGINE]).max())
                    differences[name] = max(differences.get(name, 0.0), difference)
                on_done(1)
        return recorder, differences

    def _photo(
        self, photo: bytes, rival: VectorSearch | None, recorder: Recorder
    ) -> dict[str, Floats]:
        for name, engine in [(VECTORS, self._engine)] + (
            [(rival.name, rival.engine)] if rival else []
        ):
            with recorder.timed(name):
                vectors = encode_photos(engine.bundle, _pixels(photo)).vectors
                first(engine, vectors, 10, self._pool)
        if not isinstance(self._model, HFICMA):
            return {}
        kept = self._kept(self._model, photo)
        local = {ENGINE: self._timed_engine(photo, recorder)}
        model = self._model
        ways: dict[str, Callable[[Tokens], torch.Tensor]] = {
            EAGER: lambda image: _fast(self._weights, image, kept),
            PUBLISHED: lambda image: _published(model, image, kept),
        }
        for name, way in ways.items():
            with recorder.timed(name), torch.inference_mode():
                pixels = torch.from_numpy(_pixels(photo).copy()).to(self._model.device)
                image = self._model.image_tokens(self._model.regions(pixels))
                first(self._engine, image.global_.cpu().numpy(), self._count, self._pool)
                with recorder.timed(f"{name} re-rank"):
                    local[name] = way(image)[0].cpu().numpy()
        return local

    def _timed_engine(self, photo: bytes, recorder: Recorder) -> Floats:
        index = self._engine.index
        with recorder.timed(ENGINE):
            encoded = encode_photos(self._engine.bundle, _pixels(photo))
            items = first(self._engine, encoded.vectors, self._count, self._pool)
            with recorder.timed(f"{ENGINE} re-rank"):
                [query] = prepare_queries(self._engine.bundle, "image", encoded)
                located = LocatedItems.of_index(index, items)
                scores = self._reranker.score(query, located, StageTimer())
        return scores.local

    @torch.inference_mode()
    def _kept(self, model: HFICMA, photo: bytes) -> _Kept:
        items = first(
            self._engine, encode_photos(self._engine.bundle, _pixels(photo)).vectors, self._count,
            self._pool,
        )  # fmt: skip
        index = self._engine.index
        shard_of, places = index.locate(items)
        recipes = [
            index.shards[shard].records.recipes([place])[place]
            for shard, place in zip(shard_of.tolist(), places.tolist(), strict=True)
        ]
        tokens = model.encode_recipes(recipes)
        table = tabulate(model.project_recipe(tokens), self._weights.recipe)
        return _Kept(items, tokens, table)


def first(
    engine: Engine, vectors: npt.NDArray[np.float32], count: int, pool: ThreadPoolExecutor
) -> Positions:
    """The best items by S_global for one query (1, D_g)."""
    index = engine.index
    return index.first_candidates(vectors, count, index.filter_masks(None), pool)[0].items


def others_table(
    recorder: Recorder,
    differences: Mapping[str, float],
    ranks: Ranks,
    candidates: int,
    rival: VectorSearch | None,
) -> Table:
    """Latency of every way, and what it finds."""
    found = {VECTORS: ranks.by_global()}
    found |= dict.fromkeys((ENGINE, EAGER, PUBLISHED), ranks.reranked(candidates))
    if rival is not None:
        found[rival.name] = rival.figures
    rows = []
    for name in (ENGINE, EAGER, PUBLISHED, *([rival.name] if rival else []), VECTORS):
        if name not in recorder.names():
            continue
        cells = percentiles(recorder, name)
        part = f"{name} re-rank"
        if part in recorder.names():
            seconds = recorder.percentile(part, 50)
            own = recorder.percentile(f"{ENGINE} re-rank", 50)
            noise = recorder.noise(part, 50)
            cells["rerank"] = Figure(1e3 * seconds, noise=noise)
            cells["times"] = Figure(seconds / own, noise=noise)
        cells["medR"] = Figure(found[name].median_rank)
        cells |= {f"R@{k}": Figure(found[name].recall[k]) for k in RECALLS}
        if name in differences:
            cells["difference"] = Figure(differences[name])
        rows.append(Row(name=name, cells=cells))
    columns = (
        *PERCENTILES,
        Column("rerank", "re-rank ms", better="lower", digits=2),
        Column("times", "x re-rank", digits=1),
        Column("medR", "medR", better="lower"),
        *(Column(f"R@{k}", f"R@{k} %", better="higher") for k in RECALLS),
        Column("difference", "max difference", digits=7),
    )
    note = (
        f"From a photo's bytes to ranked recipes, the same photos in turn; {candidates} candidates "
        "are re-ranked. Recipes are prepared beforehand for all: tables for the fast forms, tokens "
        "for the published graph. The three that re-rank use one set of weights and score the same "
        "pairs, so their recall is one figure; the last column says how far their S_local lies "
        f"from this engine's. Recall is of image to recipe over {len(ranks.found):,} queries."
    )
    return Table(
        key="others",
        title="Against what people use",
        first="way",
        columns=columns,
        rows=tuple(rows),
        note=note,
    )


def _fast(weights: FoldedWeights, image: Tokens, kept: _Kept) -> torch.Tensor:
    assert image.tokens is not None
    return pair_scores(project(image.tokens, image.lengths, weights.image), kept.table, weights)


def _published(model: HFICMA, image: Tokens, kept: _Kept) -> torch.Tensor:
    assert image.tokens is not None
    assert kept.tokens.tokens is not None
    return published_scores(
        model.cross_fusion, image.tokens, kept.tokens.tokens, kept.tokens.lengths, BLOCK
    )


def _pixels(photo: bytes) -> npt.NDArray[np.uint8]:
    return preprocess(decode_photo(photo, name="query"))[None]
