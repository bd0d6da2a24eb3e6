"""The same answers by what people use today: eager torch, the published graph, FAISS alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import faiss
import numpy as np
import torch

from hficma.engine import Engine
from hficma.engine.encoder import encode_photos
from hficma.engine.index.index import Index
from hficma.images import decode_photo, preprocess
from hficma.metrics import RECALLS
from hficma.model import HFICMA, Model, Tokens
from hficma.model.published_attention import published_scores
from hficma.model.similarity import project, tabulate
from hficma.model.tiling import pair_scores
from hficma.recipe import Recipe
from hficma.types import Floats, Pixels

from ..common.report import Column, Figure, Row, Table
from ..common.timing import Recorder
from .stages import PERCENTILES, KnownQuery, Rounds, percentiles

ENGINE = "this engine"
EAGER = "eager torch, fast form"
PUBLISHED = "eager torch, published graph"
VECTORS = "dual encoder, FAISS alone"
BLOCK = 50
"""Pairs that the published code computes at once."""


class Baselines:
    """Every way's times and recall, for the same photos and, where it re-ranks, candidates.

    Args:
        model: the engine's bundle in torch, with the same weights.
        engine: that is compared, over recipes; its vectors alone are the dual encoder.
        candidates: K.
    """

    def __init__(self, model: Model, engine: Engine, candidates: int) -> None:
        self._model, self._engine, self._candidates = model, engine, candidates
        assert isinstance(engine.index, Index)  # of one machine
        vectors = np.concatenate([part.vectors for part in engine.index.item_arrays])
        self._flat = faiss.IndexFlatIP(vectors.shape[1])
        self._flat.add(vectors)
        # Seconds from a photo's bytes to ranked items by way; `WAY re-rank` is a part.
        self._recorder = Recorder()
        # Largest absolute difference of S_local from the engine's, by way.
        self._differences: dict[str, float] = {}
        # The true item's rank for each query, past ten where it is not among ten.
        self._ranks: dict[str, list[int]] = {ENGINE: [], VECTORS: []}

    def time(self, rounds: Rounds, on_done: Callable[[], None]) -> None:
        """Time every way on every photo of the rounds, in turn."""
        self._recorder.new_round()
        self._ask(rounds[0][0].query)  # warms up
        self._recorder = Recorder()
        for queries in rounds:
            self._recorder.new_round()
            for item in queries:
                self._ask(item.query)
                on_done()

    def judge(self, queries: Sequence[KnownQuery]) -> None:
        """Rank the true item of every query, once for all ways that give the same answers."""
        k = self._candidates
        for item in queries:
            assert isinstance(item.query, bytes)
            hits = self._engine.search(image=item.query, k=k, candidates=k).hits
            # The candidates are the best by S_global, so its first ten are among them.
            by_vector = sorted(hits, key=lambda hit: -hit.global_score)
            for name, ranking in ((ENGINE, hits), (VECTORS, by_vector)):
                ids = [hit.id for hit in ranking[:10]]
                self._ranks[name].append(1 + ids.index(item.true_id) if item.true_id in ids else 11)

    def table(self) -> Table:
        """Return the latency of every way, and its recall."""
        rows = []
        for name in (ENGINE, EAGER, PUBLISHED, VECTORS):
            if name not in self._recorder.names():
                continue  # a model without S_local re-ranks nothing
            cells = percentiles(self._recorder, name)
            if name != VECTORS:
                part = f"{name} re-rank"
                seconds, noise = self._recorder.median(part), self._recorder.noise(part)
                cells["rerank"] = Figure(1e3 * seconds, noise=noise)
                engine = self._recorder.median(f"{ENGINE} re-rank")
                cells["times"] = Figure(seconds / engine, noise=noise)
            ranks = np.array(self._ranks.get(name, self._ranks[ENGINE]))
            cells |= {f"R@{k}": Figure(100 * float((ranks <= k).mean())) for k in RECALLS}
            if name in self._differences:
                cells["difference"] = Figure(self._differences[name])
            rows.append(Row(name=name, cells=cells))
        return Table(
            key="others",
            title="Against what people use",
            first="way",
            columns=(
                *PERCENTILES,
                Column("rerank", "re-rank ms", better="lower", digits=2),
                Column("times", "x re-rank", digits=1),
                *(Column(f"R@{k}", f"R@{k} %", better="higher") for k in RECALLS),
                Column("difference", "max difference", digits=7),
            ),
            rows=tuple(rows),
            note="From a photo's bytes to ranked recipes, the same photos in turn; "
            f"{self._candidates} candidates are re-ranked. Recipes are prepared beforehand for "
            "all: tables for the fast form, tokens for the published graph. The three that re-rank "
            "use one set of weights and score the same pairs, so their recall is one figure; the "
            "last column says how far their S_local lies from this engine's. Recall is over "
            f"{len(self._ranks[ENGINE]):,} photos.",
        )

    def _ask(self, photo: bytes | Recipe) -> None:
        assert isinstance(photo, bytes)
        engine, k = self._engine, self._candidates
        with self._recorder.timed(VECTORS):
            self._flat.search(encode_photos(engine.bundle, self._pixels(photo)).vectors, 10)
        if isinstance(self._model, HFICMA):
            with self._recorder.timed(ENGINE):
                answer = engine.search(image=photo, candidates=k)
            self._recorder.add(f"{ENGINE} re-rank", answer.milliseconds["rerank"] / 1000)
            hits = engine.search(image=photo, k=k, candidates=k).hits
            local = np.array([hit.local_score for hit in hits])
            self._rerank(self._model, photo, [hit.recipe for hit in hits], local)

    @torch.inference_mode()
    def _rerank(self, model: HFICMA, photo: bytes, recipes: list[Recipe], expected: Floats) -> None:
        """Time both ways in torch on K candidates, whose S_local (K,) by the engine is given."""
        weights = model.fold()
        items = model.encode_recipes(recipes)
        table = tabulate(model.project_recipe(items), weights.recipe)

        def fast(image: Tokens) -> torch.Tensor:
            assert image.tokens is not None
            return pair_scores(project(image.tokens, image.lengths, weights.image), table, weights)

        def published(image: Tokens) -> torch.Tensor:
            assert image.tokens is not None
            assert items.tokens is not None
            tokens = (image.tokens, items.tokens, items.lengths)
            return published_scores(model.cross_fusion, *tokens, BLOCK)

        for name, way in ((EAGER, fast), (PUBLISHED, published)):
            with self._recorder.timed(name):
                pixels = torch.from_numpy(self._pixels(photo).copy()).to(model.device)
                image = model.image_tokens(model.image_features(pixels))
                self._flat.search(image.global_.cpu().numpy(), self._candidates)
                with self._recorder.timed(f"{name} re-rank"):
                    local = way(image)[0].cpu().numpy()
            difference = float(np.abs(local - expected).max())
            self._differences[name] = max(self._differences.get(name, 0.0), difference)

    def _pixels(self, photo: bytes) -> Pixels:
        """Return a photo as the image branch reads it, (1, s, s, 3)."""
        image_input = self._engine.bundle.image_input
        return preprocess(decode_photo(photo, name="query"), image_input)[None]
