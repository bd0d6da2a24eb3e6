"""`hficma bench pair_scores`: what one pair's S_local costs, form by form."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table
from torch import Tensor

from hficma.model.fusion import CrossFusion
from hficma.model.numerics import unit_rows
from hficma.model.published_attention import multiply_adds, published_scores
from hficma.model.similarity import project, tabulate
from hficma.model.tiling import pair_scores
from hficma.terminal import TextConsole

from ..common.timing import Timing, environment, interleaved, noise_warning, torch_threads

REGIONS = 49
GEMM_SIZE = 1024
REAL_LENGTHS = (6, 8, 9, 10, 12)
"""Quantiles of ingredients a recipe in Recipe1M: about 9 on average."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One form's cost."""

    form: str
    """`published`, `tokens`, `projections` or `tables`."""
    milliseconds: float
    """Median a pair."""
    spread: float
    """Interquartile range over the median."""
    multiply_adds: float
    """Million a pair, this form's own."""
    gemm_share: float
    """Its arithmetic rate over the machine's matrix-product rate of the same run."""
    ratio: float
    """How many times faster than the published graph."""
    difference: float
    """Largest absolute difference of S_local from the published graph's."""
    kept_kb: float
    """What a recipe's side takes at this level, float32 (half in fp16)."""


def costs(width: int, heads: int, slots: float, photos: int = 1) -> dict[str, float]:
    """Multiply-adds a pair of each form; a recipe's own are shared by the photos of a block."""
    attention = 4 * REGIONS * slots * width
    gathered = 2 * REGIONS * heads * slots * width
    tables = attention + gathered + 2 * width * width + width
    on_the_fly = tables + slots * width * width / photos
    return {
        "tables": tables,
        "projections": on_the_fly,
        "tokens": on_the_fly + 5 * slots * width * width / photos,
    }


def measure(
    *, width: int, heads: int, photos: int, lengths: Tensor, repeats: int, seed: int,
    dtype: torch.dtype = torch.float32,
) -> tuple[list[Row], float, list[Timing]]:  # fmt: skip
    """Measure every form on the same photos and recipes, interleaved.

    Args:
        width: d.
        heads: H.
        photos: B.
        lengths: (M,) ingredients of each recipe.
        repeats: interleaved repetitions.
        seed: of weights and tokens.
        dtype: of weights and tokens.

    Returns:
        rows, the machine's matrix-product rate in multiply-adds a second, all timings.
    """
    torch.manual_seed(seed)
    fusion = CrossFusion(width, heads).requires_grad_(False).to(dtype)
    slots = int(lengths.max())
    image_tokens = unit_rows(torch.randn(photos, REGIONS, width).relu()).to(dtype)
    valid = torch.arange(slots) < lengths[:, None]
    recipe_tokens = unit_rows(torch.randn(len(lengths), slots, width).relu()) * valid[..., None]
    recipe_tokens = recipe_tokens.to(dtype)
    weights = fusion.fold()
    regions = torch.full((photos,), REGIONS)
    image = tabulate(project(image_tokens, regions, weights.image), weights.image)
    recipe = project(recipe_tokens, lengths, weights.recipe)
    table = tabulate(recipe, weights.recipe)
    block = _best_block(fusion, image_tokens, recipe_tokens, lengths)
    left, right = torch.randn(2, GEMM_SIZE, GEMM_SIZE).to(dtype)
    product = torch.empty(GEMM_SIZE, GEMM_SIZE, dtype=dtype)
    tasks: dict[str, Callable[[], Any]] = {
        "gemm": lambda: torch.mm(left, right, out=product),
        "published": lambda: published_scores(fusion, image_tokens, recipe_tokens, lengths, block),
        "tokens": lambda: pair_scores(
            image, project(recipe_tokens, lengths, weights.recipe), weights
        ),
        "projections": lambda: pair_scores(image, recipe, weights),
        "tables": lambda: pair_scores(image, table, weights),
    }
    expected = tasks["published"]()
    differences = {
        form: float((tasks[form]() - expected).abs().max())
        for form in ("published", "tokens", "projections", "tables")
    }
    timings = interleaved(tasks, repeats=repeats)
    rate = GEMM_SIZE**3 / timings["gemm"].median
    mean = float(lengths.double().mean())
    amounts = {"published": float(multiply_adds(width, REGIONS, slots))}
    amounts |= costs(width, heads, mean, photos)
    kept = {"tokens": 1, "projections": 5, "tables": 5 + heads}
    pairs = photos * len(lengths)
    rows = [
        Row(
            form=form,
            milliseconds=timings[form].median / pairs * 1e3,
            spread=timings[form].spread,
            multiply_adds=amounts[form] / 1e6,
            gemm_share=amounts[form] * pairs / timings[form].median / rate,
            ratio=timings["published"].median / timings[form].median,
            difference=differences[form],
            kept_kb=kept.get(form, 1) * mean * width * 4 / 1024,
        )
        for form in ("published", "tokens", "projections", "tables")
    ]
    return rows, rate, list(timings.values())


def _best_block(fusion: CrossFusion, image: Tensor, recipe: Tensor, lengths: Tensor) -> int:
    """The block size at which the published graph is fastest here."""
    sizes = [size for size in (1, 2, 4, 8, 16, 32, 50) if size <= max(len(image), len(recipe))]

    def task(size: int) -> Callable[[], Tensor]:
        return lambda: published_scores(fusion, image[:8], recipe[:16], lengths[:16], size)

    timings = interleaved({str(size): task(size) for size in sizes}, repeats=2)
    return min(sizes, key=lambda size: timings[str(size)].median)


def main(
    width: Annotated[int, typer.Option(help="d.")] = 1024,
    heads: Annotated[int, typer.Option(help="H.")] = 8,
    repeats: Annotated[int, typer.Option(help="Interleaved repetitions.")] = 5,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 takes torch's default.")] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures.")] = None,
) -> None:
    """Milliseconds, multiply-adds and memory a pair: published graph, tokens, projections, tables.

    Example: python -m hficma.benchmarks.kernels.pair_scores --json pair-scores.json
    """
    with torch_threads(threads or torch.get_num_threads()):
        _report(width, heads, repeats, json_file)


def _report(width: int, heads: int, repeats: int, json_file: Path | None) -> None:
    """Measure every case and show it."""
    full = torch.full((100,), 20)
    real = torch.tensor(REAL_LENGTHS).repeat(20)
    cases: list[tuple[str, int, Tensor, torch.dtype]] = [
        ("float32, 1 photo x 100 recipes of 20 ingredients", 1, full, torch.float32),
        ("float32, 32 x 32, 20 ingredients", 32, full[:32], torch.float32),
        ("float32, 1 photo x 100 recipes of real lengths", 1, real, torch.float32),
    ]
    console = TextConsole()
    machine = environment()
    if any(name in machine["processor"] for name in ("avx512_bf16", "amx")):
        title = "bfloat16, 1 photo x 100 recipes of 20 ingredients"
        cases.append((title, 1, full, torch.bfloat16))
    else:
        console.print(
            "bfloat16 is left out: this processor has no such products, only emulates them"
        )
    report: dict[str, Any] = {
        "environment": machine | {"threads": torch.get_num_threads()},
        "width": width, "heads": heads, "cases": {},
    }  # fmt: skip
    for title, photos, lengths, dtype in cases:
        rows, rate, timings = measure(
            width=width, heads=heads, photos=photos, lengths=lengths, repeats=repeats, seed=0,
            dtype=dtype,
        )  # fmt: skip
        console.print(_table(f"{title}; GEMM {2 * rate / 1e9:.0f} GFLOP/s", rows))
        if warning := noise_warning(timings):
            console.print(warning)
        report["cases"][title] = {"gemm_gflops": 2 * rate / 1e9, "rows": [asdict(r) for r in rows]}
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=1), encoding="utf-8")


def _table(title: str, rows: list[Row]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in ("form", "ms a pair", "±", "M mult-adds", "of GEMM rate", "x published",
                 "max difference", "recipe KB"):  # fmt: skip
        table.add_column(name, justify="left" if name == "form" else "right")
    for row in rows:
        table.add_row(
            row.form,
            f"{row.milliseconds:.3f}",
            f"{row.spread:.0%}",
            f"{row.multiply_adds:.1f}",
            f"{row.gemm_share:.0%}",
            f"{row.ratio:.1f}",
            f"{row.difference:.0e}",
            f"{row.kept_kb:.0f}",
        )
    return table


if __name__ == "__main__":
    typer.run(main)
