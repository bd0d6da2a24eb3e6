"""Screens that are as wrong as they may be: what a search by one is held to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from hficma.engine import Answer, Engine, Filter, IndexWriter, build_index
from hficma.engine.results import NarrowPrecision
from hficma.engine.retrieval import screening
from hficma.engine.retrieval.screening import MEASUREMENTS, ScreenBound
from hficma.recipe import Recipe
from hficma.types import Floats64
from tests.engine.datasets import NoiseDataset

DISTINCT = 23
"""Recipes that are not alike: of more, each comes again, and scores the same."""


class Repeated(NoiseDataset):
    """Recipes that say the same under several ids, so that ranks are tied, at the last one too."""

    def recipe(self, index: int) -> Recipe:
        return replace(super().recipe(index % DISTINCT), id=f"r{index}")


def tied_index(bundle: Path, folder: Path) -> Path:
    """An index in several shards, of whose items some were removed and most are repeated."""
    path = build_index(
        bundle, Repeated(110), folder / "index", keep="projections", side_precision="fp16",
        shard_items=40,
    )  # fmt: skip
    with IndexWriter(path) as writer:
        writer.remove([f"r{number}" for number in (0, 5, 24, 46, 109)])
    return path


@dataclass(frozen=True)
class Search:
    """A search, and a screen that is off by up to ε."""

    query: int
    options: dict[str, Any]
    epsilon: float
    """In units of S_local."""
    against: int
    """The rank by S_local around which errors push the better down and the worse up; 0 draws
    errors, most of them of the full ε."""
    seed: int

    def screened(self, exact: Floats64) -> Floats64:
        """What the screen says of items whose S_local is `exact`, (..., K)."""
        if self.against:
            order = np.argsort(np.argsort(-exact, axis=-1), axis=-1)
            error = np.where(order < self.against, -1.0, 1.0)
        else:
            rng = np.random.default_rng(self.seed)
            error = np.clip(rng.uniform(-2, 2, exact.shape), -1, 1)
        # A hair less, since sums round.
        return exact + 0.999 * self.epsilon * error

    def answer(self, engine: Engine) -> Answer:
        """Answer it."""
        return engine.search(image=NoiseDataset(9).photo(self.query), **self.options)


@st.composite
def searches(draw: st.DrawFn) -> Search:
    """Searches of a `tied_index`, with screens from exact ones to ones that say nothing."""
    options = {
        "k": draw(st.integers(1, 12)),
        "candidates": draw(st.sampled_from([20, 60, 200])),
        "exact": draw(st.booleans()),
        "filter": draw(
            st.sampled_from([None, Filter(categories=("soup",)), Filter(without_ids=("r7", "r30"))])
        ),
    }
    return Search(
        query=draw(st.integers(0, 8)),
        options=options,
        epsilon=draw(st.sampled_from([1e-6, 1e-4, 1e-3, 1e-2, 0.3])),
        against=draw(st.integers(0, 15)),
        seed=draw(st.integers(0, 1000)),
    )


@dataclass
class LateScreen:
    """A screen that hides the best item at first, and shows how wrong it is only later on."""

    best: float
    """S_local of the item that it hides."""
    error: float = 0.3
    batches: int = 0
    """That were screened."""

    def screened(self, exact: Floats64) -> Floats64:
        """What the screen says of the next batch, whose S_local is `exact`."""
        self.batches += 1
        if self.batches == 1:
            return exact - self.error * np.isclose(exact, self.best, rtol=0, atol=1e-7)
        return exact + self.error


def bound_of(precision: NarrowPrecision, epsilon: float) -> ScreenBound:
    """A bound of exactly ε; where `MARGIN` is 1, no difference of up to ε widens it."""
    measured = MEASUREMENTS[precision]
    scale = epsilon / (screening.MARGIN * measured.largest * measured.roundoff)
    return ScreenBound(precision, scale, first_pairs=0)


def assert_identical(answer: Answer, expected: Answer) -> None:
    """Items, their order, scores to the last bit, and what is proved."""
    assert [(hit.id, hit.score, hit.local_score) for hit in answer.hits] == [
        (hit.id, hit.score, hit.local_score) for hit in expected.hits
    ]
    assert answer.certified == expected.certified
    assert answer.scored == expected.scored
