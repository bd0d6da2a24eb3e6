"""What `hficma bench engine` measures, a function for each of its tables."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from hficma.engine import Answer, Engine
from hficma.engine.bundle.bundle import Bundle
from hficma.engine.encoder import EncodedItems, prepare_queries, raise_level
from hficma.engine.index.item_encoding import (
    LEVELS,
    ItemArrays,
    Level,
    StoredEncodings,
    ragged_rows,
)
from hficma.engine.retrieval.located_items import LocatedItems
from hficma.engine.retrieval.reranking import Reranker
from hficma.engine.retrieval.timing import StageTimer
from hficma.engine.runtimes.options import ExecutionOptions
from hficma.model.published_attention import published_scores

from ..common.costs import photo_work, search_work
from ..common.hardware import Limits
from ..common.synthetic_index import REAL_LENGTHS, drawn_photo, drawn_recipes
from ..common.timing import REGIONS, interleaved

if TYPE_CHECKING:
    from PIL.Image import Image

    from hficma.data.dataset import Dataset

GEMM_SIZE = 1024
CANDIDATES = 200
TURN = 96
"""Photos that are answered one way before they are answered the other."""
LEVELS_MEASURED: tuple[Level, ...] = ("projections", "tables")


def rerank_table(bundle: Path, *, threads: int, repeats: int) -> list[dict[str, str | float]]:
    """Re-ranking 200 candidates, gathering included, beside the published graph and a GEMM.

    Rows are a level at 20 ingredients each, and at real lengths.
    """
    from hficma.model import HFICMA, load_model

    opened = Bundle.open(bundle, ExecutionOptions(threads=1))
    width, heads = opened.facts.width, opened.facts.heads
    model = load_model(bundle)
    assert isinstance(model, HFICMA)
    rows: list[dict[str, str | float]] = []
    square = torch.rand(GEMM_SIZE, GEMM_SIZE)
    photo = drawn_photo(width, seed=1)
    vectors = np.zeros((CANDIDATES, opened.facts.global_dim), np.float32)
    [query] = prepare_queries(opened, "image", EncodedItems(vectors[:1], photo))
    items = np.random.default_rng(0).permutation(CANDIDATES)
    with ThreadPoolExecutor(threads) as pool:
        reranker = Reranker(opened, "recipe", pool, opened.score_weights)
        for title, lengths in (
            ("20 ingredients", np.full(CANDIDATES, 20)),
            ("real lengths", np.resize(REAL_LENGTHS, CANDIDATES)),
        ):
            recipes = drawn_recipes(CANDIDATES, lengths.astype(np.int64), width, seed=2)
            image = torch.from_numpy(photo.arrays["tokens"])
            tokens = torch.from_numpy(recipes.arrays["tokens"])
            counts = torch.from_numpy(recipes.lengths)

            def published(
                image: torch.Tensor = image,
                tokens: torch.Tensor = tokens,
                counts: torch.Tensor = counts,
            ) -> torch.Tensor:
                with torch.inference_mode():
                    return published_scores(model.cross_fusion, image, tokens, counts, 50)

            wanted = published()[0].numpy()[items]
            slow = interleaved({"published": published}, repeats=2, warmup=0)["published"]
            for level in LEVELS_MEASURED:
                raised = raise_level(opened, "recipe", recipes, level)
                kept = {name: ragged_rows(raised, name) for name in LEVELS[level]}
                part = ItemArrays(vectors, StoredEncodings(recipes.lengths, kept, heads))

                def scored(part: ItemArrays = part) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
                    located = LocatedItems([part], np.zeros(CANDIDATES, int), items)
                    return reranker.score(query, located, StageTimer()).local

                timings = interleaved(
                    {
                        "gemm": lambda: square @ square,
                        "engine": scored,
                        "gemm again": lambda: square @ square,
                    },
                    repeats=repeats,
                )
                rate = 2 * GEMM_SIZE**3 / min(timings["gemm"].median, timings["gemm again"].median)
                seconds = timings["engine"].median
                work = sum(
                    2 * pair_multiply_adds(int(length), width, heads, level) for length in lengths
                )
                found = scored()
                rows.append(
                    {
                        "what": f"{level}, {title}",
                        "ms": 1000 * seconds,
                        "spread": timings["engine"].spread,
                        "gemm_share": work / seconds / rate,
                        "gemm_gflops": rate / 1e9,
                        "published_ms": 1000 * slow.median,
                        "ratio": slow.median / seconds,
                        "largest_difference": float(np.abs(found - wanted).max()),
                        "swapped_pairs": swapped(wanted, found),
                    }
                )
    return rows


def pair_multiply_adds(slots: int, width: int, heads: int, level: Level) -> int:
    """Multiply-adds that one pair needs: the attention, what it gathers, and the MLP."""
    attention = 4 * REGIONS * slots * width
    gathered = 2 * REGIONS * heads * slots * width
    match = 2 * width * width + width
    table = slots * width * width if level == "projections" else 0
    return attention + gathered + match + table


def swapped(wanted: np.ndarray, found: np.ndarray, tolerance: float = 1e-6) -> int:
    """Pairs of items whose order differs, where their scores differ by more than rounding."""
    order = np.argsort(-wanted, kind="stable")
    rises = found[order][None, :] - found[order][:, None]
    apart = wanted[order][:, None] - wanted[order][None, :] > tolerance
    return int(np.triu((rises > 0) & apart, 1).sum())


def answer_table(
    index: Path, dataset: Dataset, photos: Sequence[int], *, threads: int
) -> list[dict[str, str | float]]:
    """What 200 candidates find, what `exact` scores, and what S gains over S_global alone.

    Args:
        index: of the dataset's recipes.
        dataset: whose photo i belongs to recipe i.
        photos: positions of the queries.
        threads: of the engine.
    """
    found = {"same": 0, "certified": 0.0, "first": 0, "first_global": 0}
    shares: dict[int, list[float]] = {1: [], 10: []}
    times: dict[str, list[float]] = {"search": [], "exact": []}
    with Engine.open(index, threads=threads) as engine:
        for position in photos:
            photo, own = dataset.photo(position), dataset.recipe(position).id
            plain = engine.search(image=photo, k=10, candidates=CANDIDATES)
            exact = engine.search(image=photo, k=10, candidates=CANDIDATES, exact=True)
            times["search"].append(plain.milliseconds["total"])
            times["exact"].append(exact.milliseconds["total"])
            shares[10].append(exact.scored / exact.searched)
            first = engine.search(image=photo, k=1, candidates=CANDIDATES, exact=True)
            shares[1].append(first.scored / first.searched)
            found["same"] += [h.id for h in plain.hits] == [h.id for h in exact.hits]
            found["certified"] += plain.certified
            found["first"] += exact.hits[0].id == own
            everything = engine.search(image=photo, k=CANDIDATES, candidates=CANDIDATES)
            best = max(everything.hits, key=lambda hit: hit.global_score)
            found["first_global"] += best.id == own
        items = engine.index.item_count
        similarity = engine.bundle.facts.model.global_similarity
    count = len(photos)
    return [
        {
            "what": f"{items:,} recipes, {similarity}, {count} photos",
            "same_top_10": found["same"] / count,
            "certified_ranks": found["certified"] / count,
            "scored_k1": float(np.mean(shares[1])),
            "scored_k10": float(np.mean(shares[10])),
            "r1_global": found["first_global"] / count,
            "r1": found["first"] / count,
            "r1_gain": (found["first"] - found["first_global"]) / count,
            "search_ms": float(np.median(times["search"])),
            "exact_ms": float(np.median(times["exact"])),
        }
    ]


def batch_table(
    index: Path, dataset: Dataset, photos: Sequence[int], *, threads: int
) -> list[dict[str, str | float]]:
    """Photos answered one at a time and in batches, in turns, and each stage's share of a GEMM.

    Args:
        index: of recipes.
        dataset: of the photos.
        photos: their positions.
        threads: of the engine.
    """
    seconds = dict.fromkeys(("one at a time", "in batches"), 0.0)
    answers: dict[str, list[Answer]] = {name: [] for name in seconds}
    limits = Limits("cpu")
    with Engine.open(index, threads=threads) as engine:

        def alone(asked: list[Image]) -> list[Answer]:
            return [engine.search(image=photo, candidates=CANDIDATES) for photo in asked]

        def together(asked: list[Image]) -> list[Answer]:
            found = engine.search_many(asked, candidates=CANDIDATES)
            return [answer for answer in found if isinstance(answer, Answer)]

        ways = dict(zip(seconds, (alone, together), strict=True))
        for way in ways.values():
            way([dataset.photo(photos[0])] * 2)
        limits.measure()
        for start in range(0, len(photos), TURN):
            asked = [dataset.photo(position) for position in photos[start : start + TURN]]
            for name, way in ways.items():
                began = time.perf_counter()
                answers[name] += way(asked)
                seconds[name] += time.perf_counter() - began
            limits.measure()
        needed = _stage_work(engine)
    rows: list[dict[str, str | float]] = []
    for name, took in seconds.items():
        stages = _mean_stages(answers[name])
        shares = {
            f"{stage}_gemm_share": 1000 * steps / stages[stage] / limits.multiply_adds
            for stage, steps in needed.items()
        }
        rows.append(
            {
                "what": f"{len(photos):,} photos {name}",
                "queries_a_second": len(photos) / took,
                "times_one": seconds["one at a time"] / took,
                **{f"{stage}_ms": ms for stage, ms in stages.items()},
                **shares,
            }
        )
    return rows


def _stage_work(engine: Engine) -> dict[str, float]:
    """Multiply-adds of the stages that are matrix products, for one photo."""
    from hficma.model import load_model

    work = photo_work(load_model(engine.bundle.path))
    work |= search_work(engine.index, engine.bundle, CANDIDATES)
    stages = {"encode": ("image branch", "project"), "rerank": ("cross branch",)}
    return {
        stage: sum(work[name].multiply_adds or 0.0 for name in names if name in work)
        for stage, names in stages.items()
    }


def _mean_stages(answers: Sequence[Answer]) -> dict[str, float]:
    return {
        name: float(np.mean([answer.milliseconds[name] for answer in answers]))
        for name in answers[0].milliseconds
    }
