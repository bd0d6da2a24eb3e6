"""Re-ranking at full width: the engine beside eager torch, the published graph and a GEMM."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from hficma.engine import Bundle
from hficma.engine.encoder import encode_queries
from hficma.engine.index.index import Index
from hficma.engine.index.item_encoding import EncodingPrecision, Level
from hficma.engine.opening import open_pool
from hficma.engine.query import photo_input
from hficma.engine.retrieval.kernel_reranking import MEASURED
from hficma.engine.retrieval.scoring import CpuScorer
from hficma.engine.retrieval.timing import StageTimer
from hficma.engine.runtimes.options import ExecutionOptions
from hficma.model import HFICMA, load_model
from hficma.model.published_attention import published_scores
from hficma.model.similarity import project, tabulate
from hficma.model.tiling import pair_scores

from ..common.costs import StageCost, pair_multiply_adds
from ..common.hardware import Limits
from ..common.synthetic_index import REAL_LENGTHS, random_tokens, synthetic_index
from ..common.timing import interleaved

CANDIDATES = 200
K = 10
"""Ranks of the answer: what may be among them is scored in float32."""
BLOCK = 50
"""Pairs that the published code computes at once."""
STORED: tuple[tuple[Level, EncodingPrecision], ...] = (
    ("tokens", "fp16"), ("projections", "fp32"), ("tables", "fp32"),
)  # fmt: skip

Cells: TypeAlias = dict[str, str | float]
"""A case's figures by name, under `what` its own name."""


def rerank_table(
    bundle: Path, folder: Path, photo: Path, *, threads: int, repeats: int
) -> list[Cells]:
    """Measure re-ranking 200 recipes, gathering included, in turns with other ways to do it.

    Rows are a level at 20 ingredients each, and at real lengths. The engine re-ranks in float32,
    and in bfloat16 with the best again in float32 where this machine does so.

    Args:
        bundle: random weights do.
        folder: where synthetic indexes lie between runs.
        photo: the query.
        threads: of the engine.
        repeats: interleaved repetitions.
    """
    model = load_model(bundle)
    assert isinstance(model, HFICMA)
    width, heads, regions = model.config.width, model.config.heads, model.region_count
    rows: list[Cells] = []
    for title, lengths in (("20 each", (20,)), ("real", REAL_LENGTHS)):
        torch_forms = _TorchForms.draw(model, lengths)
        # Seconds a run: a few tell enough.
        published = interleaved({"published": torch_forms.published}, repeats=2).median("published")
        for level, precision in STORED:
            index = synthetic_index(
                bundle, folder / f"rerank-{level}-{lengths[0]}-{bundle.name}", CANDIDATES,
                level=level, precision=precision, prefilter="Flat", lengths=lengths,
            )  # fmt: skip
            limits = Limits("cpu")
            tasks: dict[str, Callable[[], object]] = {"limits": limits.measure}
            tasks["eager"] = torch_forms.eager(level)
            with _engine_forms(index, bundle, photo, threads) as forms:
                recorder = interleaved(tasks | forms, repeats=repeats)
            seconds, eager = recorder.median("fp32"), recorder.median("eager")
            screened = recorder.median("screened") if "screened" in forms else math.inf
            pair = pair_multiply_adds(
                level, width=width, heads=heads, tokens=float(np.mean(lengths)), regions=regions
            )
            rows.append(
                {
                    "what": f"{level}, {title}",
                    "ms": 1000 * seconds,
                    "spread": recorder.spread("fp32"),
                    "screened": f"{1000 * screened:.1f}" if screened < math.inf else "–",
                    "eager_ms": 1000 * eager,
                    "times_eager": eager / min(seconds, screened),
                    "gemm_share": limits.share(StageCost(CANDIDATES * pair), seconds),
                    "published_ms": 1000 * published,
                    "ratio": published / seconds,
                }
            )
    return rows


@contextmanager
def _engine_forms(
    index: Path, bundle: Path, photo: Path, threads: int
) -> Iterator[dict[str, Callable[[], object]]]:
    """Yield what re-ranks all items of an index as an engine does, warmed up, by name.

    Args:
        index: of as many items as are re-ranked.
        bundle: of its model.
        photo: the query.
        threads: that run tiles.
    """
    with ExitStack() as stack:
        opened = stack.enter_context(Index.open(index))
        pool = stack.enter_context(open_pool(threads))
        options = ExecutionOptions(threads=1)
        encoder = stack.enter_context(Bundle.open(bundle, options))
        pixels = photo_input(photo, encoder.image_input, name="photo")
        queries = encode_queries(encoder, "image", [pixels])
        [first] = opened.first_candidates(queries[0].vector[None], CANDIDATES, [None], pool)

        def rerank(scorer: CpuScorer) -> None:
            scorer.prepare(queries, [first], StageTimer(), K).score(0, first.items)

        forms: dict[str, Callable[[], object]] = {}
        for name in ("fp32", "screened"):
            scorer = CpuScorer(
                opened, Bundle.open(bundle, options), pool, screened=name == "screened"
            )
            stack.callback(scorer.close)
            for _ in range(MEASURED + 1):  # until it is settled whether bfloat16 pays
                rerank(scorer)
            if name == "fp32" or scorer.is_screened:
                forms[name] = partial(rerank, scorer)
        yield forms


class _TorchForms(NamedTuple):
    """A photo and random recipes in eager torch."""

    model: HFICMA
    image: Tensor
    """(1, R, D) tokens."""
    tokens: Tensor
    """(M, T, D) of the recipes."""
    lengths: Tensor
    """(M,)."""

    @classmethod
    def draw(cls, model: HFICMA, lengths: Sequence[int]) -> _TorchForms:
        """Return a photo and as many random recipes as are re-ranked, of lengths in turn."""
        width, generator = model.config.width, torch.Generator().manual_seed(1)
        image, _ = random_tokens([model.region_count], width, generator)
        tokens, counts = random_tokens(np.resize(lengths, CANDIDATES).tolist(), width, generator)
        return cls(model, image, tokens, counts)

    @torch.inference_mode()
    def published(self) -> Tensor:
        """Score by the published graph."""
        return published_scores(
            self.model.cross_fusion, self.image, self.tokens, self.lengths, BLOCK
        )

    def eager(self, level: Level) -> Callable[[], Tensor]:
        """Return what scores by the folded form, recipes being ready up to a level."""
        with torch.inference_mode():
            weights = self.model.fold()
            regions = torch.full((1,), self.image.shape[1])
            image = tabulate(project(self.image, regions, weights.image), weights.image)
            recipe = project(self.tokens, self.lengths, weights.recipe)
            if level == "tables":
                recipe = tabulate(recipe, weights.recipe)

        @torch.inference_mode()
        def run() -> Tensor:
            ready = recipe
            if level == "tokens":
                ready = project(self.tokens, self.lengths, weights.recipe)
            return pair_scores(image, ready, weights)

        return run
