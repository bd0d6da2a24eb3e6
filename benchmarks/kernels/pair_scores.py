"""`hficma bench pair_scores`: what one pair's S_local costs, form by form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import typer
from torch import Tensor

from hficma.model.fusion import CrossFusion
from hficma.model.numerics import unit_rows
from hficma.model.published_attention import multiply_adds, published_scores
from hficma.model.similarity import project, tabulate
from hficma.model.tiling import pair_scores

from ..common.arguments import Heads, JsonFile, Repeats, Threads, Width
from ..common.costs import pair_multiply_adds
from ..common.hardware import GEMM_SIZE
from ..common.timing import REGIONS, environment, interleaved, torch_threads
from ..pages.parts import publish
from .compiled_pairs import native_forms, runtime_forms, torch_bf16

REAL_LENGTHS = (6, 8, 9, 10, 12)
"""Quantiles of ingredients a recipe in Recipe1M: about 9 on average."""


def measure(
    *, width: int, heads: int, photos: int, lengths: Tensor, repeats: int, threads: int = 1
) -> tuple[list[dict[str, Any]], float]:
    """Measure every form on the same random photos and recipes, interleaved.

    The published graph and the levels are eager torch in float32; the other forms name what scores
    the pairs, and in which precision.

    Args:
        width: D.
        heads: H.
        photos: B.
        lengths: (M,) ingredients of each recipe.
        repeats: interleaved repetitions.
        threads: of everything but torch, whose own number counts.

    Returns:
        a row a form, and the machine's matrix-product rate in multiply-adds a second. In a row are
        the median milliseconds a pair and their spread (interquartile range over median), the
        form's own multiply-adds (millions a pair), `gemm_share`, their rate over the machine's,
        `ratio` and the largest `difference` of S_local, both to the published graph, and `kept_kb`,
        what an index stores of a recipe in float32.
    """
    torch.manual_seed(0)
    fusion = CrossFusion(width, heads).requires_grad_(False)
    tokens = int(lengths.max())
    image_tokens = unit_rows(torch.randn(photos, REGIONS, width).relu())
    valid = torch.arange(tokens) < lengths[:, None]
    recipe_tokens = unit_rows(torch.randn(len(lengths), tokens, width).relu()) * valid[..., None]
    weights = fusion.fold()
    regions = torch.full((photos,), REGIONS)
    image = tabulate(project(image_tokens, regions, weights.image), weights.image)
    recipe = project(recipe_tokens, lengths, weights.recipe)
    table = tabulate(recipe, weights.recipe)
    block = _best_block(fusion, image_tokens, recipe_tokens, lengths)
    forms: dict[str, Callable[[], Tensor]] = {
        "published": lambda: published_scores(fusion, image_tokens, recipe_tokens, lengths, block),
        "tokens": lambda: pair_scores(
            image, project(recipe_tokens, lengths, weights.recipe), weights
        ),
        "projections": lambda: pair_scores(image, recipe, weights),
        "tables": lambda: pair_scores(image, table, weights),
    }
    with TemporaryDirectory() as folder, ThreadPoolExecutor(threads) as pool:
        forms["tables, torch bf16"] = torch_bf16(image, table, weights)
        forms |= dict(runtime_forms(image, table, weights, pool, Path(folder)))
        forms |= dict(native_forms(image, table, recipe_tokens, weights, pool))
        return _rows(
            forms, width=width, heads=heads, lengths=lengths, photos=photos, repeats=repeats
        )


def _rows(
    forms: Mapping[str, Callable[[], Tensor]],
    *,
    width: int,
    heads: int,
    lengths: Tensor,
    photos: int,
    repeats: int,
) -> tuple[list[dict[str, Any]], float]:
    """Time forms beside a matrix product; see `measure`."""
    tokens = int(lengths.max())
    left, right = torch.randn(2, GEMM_SIZE, GEMM_SIZE)
    product = torch.empty(GEMM_SIZE, GEMM_SIZE)
    expected = forms["published"]()
    differences = {form: float((run() - expected).abs().max()) for form, run in forms.items()}
    timings = interleaved(
        {"gemm": lambda: torch.mm(left, right, out=product), **forms}, repeats=repeats
    )
    mean, pairs = float(lengths.double().mean()), photos * len(lengths)
    steps = {"published": float(multiply_adds(width, REGIONS, tokens))} | {
        level: pair_multiply_adds(level, width=width, heads=heads, tokens=mean, photos=photos)
        for level in ("tokens", "projections", "tables")
    }
    # Rows of width d a token that an index stores of a recipe.
    stored = {"projections": 5, "tables": 5 + heads}
    rate = GEMM_SIZE**3 / timings.median("gemm")
    rows = [
        {
            "form": form,
            "milliseconds": timings.median(form) / pairs * 1e3,
            "spread": timings.spread(form),
            "multiply_adds": steps[level_of(form)] / 1e6,
            "gemm_share": steps[level_of(form)] * pairs / timings.median(form) / rate,
            "ratio": timings.median("published") / timings.median(form),
            "difference": differences[form],
            "kept_kb": stored.get(level_of(form), 1) * mean * width * 4 / 1024,
        }
        for form in forms
    ]
    return rows, rate


def level_of(form: str) -> str:
    """Return the level that a form reads: `tables, native fp32` reads tables."""
    return form.partition(",")[0]


def _best_block(fusion: CrossFusion, image: Tensor, recipe: Tensor, lengths: Tensor) -> int:
    """Return the block size at which the published graph is fastest here."""
    sizes = [size for size in (1, 2, 4, 8, 16, 32, 50) if size <= max(len(image), len(recipe))]

    def task(size: int) -> Callable[[], Tensor]:
        return lambda: published_scores(fusion, image[:8], recipe[:16], lengths[:16], size)

    timings = interleaved({str(size): task(size) for size in sizes}, repeats=2)
    return min(sizes, key=lambda size: timings.median(str(size)))


def main(
    width: Width = 1024,
    heads: Heads = 8,
    repeats: Repeats = 5,
    threads: Threads = 0,
    json_file: JsonFile = None,
) -> None:
    """Milliseconds, multiply-adds and memory a pair: published graph, levels, runtimes, kernels.

    Example: hficma bench pair_scores --json pair-scores.json
    """
    full, real = torch.full((100,), 20), torch.tensor(REAL_LENGTHS).repeat(20)
    cases: dict[str, tuple[int, Tensor]] = {
        "1 photo x 100 recipes of 20 ingredients": (1, full),
        "32 x 32, 20 ingredients": (32, full[:32]),
        "1 photo x 100 recipes of real lengths": (1, real),
    }
    threads = threads or torch.get_num_threads()
    report: dict[str, Any] = {"environment": environment(threads=threads)}
    report |= {"width": width, "heads": heads, "cases": {}}
    spreads: list[float] = []
    for title, (photos, lengths) in cases.items():
        with torch_threads(threads):
            rows, rate = measure(
                width=width, heads=heads, photos=photos, lengths=lengths, repeats=repeats,
                threads=threads,
            )  # fmt: skip
        report["cases"][title] = {"gemm_gflops": 2 * rate / 1e9, "rows": rows}
        spreads += [row["spread"] for row in rows]
    publish("pair-scores", report, json_file, spreads)


if __name__ == "__main__":
    typer.run(main)
