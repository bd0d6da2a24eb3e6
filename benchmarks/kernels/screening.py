"""`hficma bench screening`: how far scores in 16 bits are from float32, over a million pairs.

Candidates are screened in 16 bits, and what may be an answer is scored again in float32
(`hficma.engine.retrieval.screening`). How much that is hangs on the largest difference between the
two. It is measured here over real pairs of a run, every photo with every recipe, and over pairs
that are made to be hard, for each screen that there is: the GPU's in float16, for which plain torch
stands in, since it rounds where the kernels do, and the processors' in bfloat16, which is run. And
in float32: how far a pair's score moves with what is scored beside it.

The last lines, of all models, are what the engine counts with: the largest difference divided by
the unit roundoff u and by the scale of its model (`hficma.engine.bundle.rounding`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from hficma.artifacts.workspace import Workspace
from hficma.engine.index.item_encoding import LEVELS, Level
from hficma.errors import InputError

from ..common.arguments import JsonFile
from ..common.timing import environment
from ..pages.parts import publish
from .hard_pairs import INGREDIENTS, KINDS, REGIONS, TokenItems, made_models, made_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from hficma.engine.gpu.kernels.packed_items import PackedItems
    from hficma.model.similarity import FoldedItemWeights, FoldedWeights, PaddedEncodings

PHOTOS, RECIPES = 16, 64
"""Items of each kind that is made."""
PUBLISHED_ITEMS = 12
"""The same where D is 1,024: each pair costs as much as a hundred others."""
TILE_BYTES = 1 << 24
"""What plain torch may write at once: what stays in a core's cache is scored twice as fast."""
REAL_BLOCK = 64
"""Photos that meet all recipes of a run at once."""
ALL_LEVELS = 2
"""Blocks of a run whose recipes are scored from every level; the others from tables."""
ROUNDOFF = {"fp32": 2.0**-24, "fp16": 2.0**-11, "bf16": 2.0**-8}


class Scores(NamedTuple):
    """Scores of the same pairs in two ways."""

    precision: str
    """`fp16` or `bf16`, beside float32; `fp32` in one company, beside another."""
    form: str
    """What computes them, and from which level of the recipes' encodings."""
    screened: Tensor
    """(B, M) S_local."""
    exact: Tensor
    """(B, M)."""


def scored_twice(
    weights: FoldedWeights,
    photos: TokenItems,
    recipes: TokenItems,
    *,
    levels: Iterable[Level] = LEVELS,
) -> Iterator[Scores]:
    """Score all photos with all recipes, in each precision and beside it in float32.

    Args:
        weights: of the model, float32.
        photos: B of them.
        recipes: M of them.
        levels: from which recipes are scored.
    """
    import torch

    from hficma.engine.gpu.kernels.packed_items import pack_items
    from hficma.engine.gpu.kernels.pair_scores import kernel_weights, score_groups
    from hficma.model.similarity import project, tabulate

    from .compiled_pairs import native_forms

    heads = weights.image.table.shape[0]
    image = tabulate(project(*photos, weights.image), weights.image)
    recipe = tabulate(project(*recipes, weights.recipe), weights.recipe)
    every_photo = torch.arange(len(photos.lengths))[None]
    every_recipe = torch.arange(len(recipes.lengths))[None]

    def packed(items: PaddedEncodings, dtype: torch.dtype) -> PackedItems:
        return pack_items(items, dtype, heads=heads, uniform=False)

    exact_weights, narrow = (kernel_weights(weights, d) for d in (torch.float32, torch.float16))
    image32, recipe32 = packed(image, torch.float32), packed(recipe, torch.float32)

    def scores(sides: tuple[PackedItems, PackedItems], of: FoldedWeights, size: int) -> Tensor:
        return score_groups(*sides, every_photo, every_recipe, of, scratch_bytes=size)[0]

    exact = scores((image32, recipe32), exact_weights, TILE_BYTES)
    elsewhere = scores((image32, recipe32), exact_weights, TILE_BYTES // 4)
    yield Scores("fp32", "torch, in larger and in smaller tiles", elsewhere, exact)
    image16 = packed(image, torch.float16)
    for level in levels:
        if level == "tokens":
            recipe16 = _projected_in_half(recipes, narrow.recipe, heads)
        else:
            recipe16 = packed(recipe, torch.float16)
            if level == "projections":
                recipe16 = _without_tables(recipe16)
        screened = scores((image16, recipe16), narrow, TILE_BYTES)
        yield Scores("fp16", f"GPU, {level}", screened, exact)
    with ThreadPoolExecutor(1) as pool:
        forms = dict(native_forms(image, recipe, recipes.tokens, weights, pool))
        for level in levels:
            if f"{level}, native bf16" in forms:
                screened, beside = (forms[f"{level}, native {p}"]() for p in ("bf16", "fp32"))
                yield Scores("bf16", f"processor, {level}", screened, beside)


def _projected_in_half(items: TokenItems, weights: FoldedItemWeights, heads: int) -> PackedItems:
    """Project tokens as a GPU does whose index keeps tokens."""
    import torch

    from hficma.engine.gpu.kernels.packed_items import PackedItems
    from hficma.engine.gpu.packed_index import project_tokens

    valid = torch.arange(items.tokens.shape[1]) < items.lengths[:, None]
    arrays = project_tokens(items.tokens[valid].half(), items.lengths, weights)
    starts = items.lengths.cumsum(0) - items.lengths
    return PackedItems(
        **arrays, starts=starts, lengths=items.lengths.int(), table=None, heads=heads,
        longest=int(items.lengths.max()), shortest=int(items.lengths.min()),
    )  # fmt: skip


def _without_tables(items: PackedItems) -> PackedItems:
    """Return items whose tables are made as they are read."""
    from dataclasses import replace

    return replace(items, table=None)


def hard_pairs(name: str, weights: FoldedWeights) -> Iterator[dict[str, Any]]:
    """Measure pairs of tokens that are made, of one model.

    Args:
        name: of the model.
        weights: of it.
    """
    import torch

    scale = scale_of(weights)
    width = weights.match_hidden.shape[0]
    counts = (PHOTOS, RECIPES) if width < 1024 else (PUBLISHED_ITEMS, PUBLISHED_ITEMS)
    random = torch.Generator().manual_seed(0)
    for kind in KINDS:
        photos = made_tokens(kind, counts[0], REGIONS, width, random)
        recipes = made_tokens(kind, counts[1], INGREDIENTS, width, random)
        for scores in scored_twice(weights, photos, recipes):
            yield _row(name, kind, scale, scores)


def real_pairs(run: Path, data: str | None, most: int) -> Iterator[dict[str, Any]]:
    """Measure every photo of a run's dataset with every recipe, and made tokens by its weights.

    Args:
        run: of a model with a local part.
        data: a dataset; None takes the run's own.
        most: pairs of the dataset to read.
    """
    import torch

    from hficma.data.dataset import positions
    from hficma.model import HFICMA, load_model
    from hficma.progress import Progress
    from hficma.training.encoding import encode_positions
    from hficma.training.evaluation import dataset_of
    from hficma.training.runs.run import RunDirectory

    model = load_model(run)
    if not isinstance(model, HFICMA):
        raise InputError(f"{run}: its model has no local part, which alone is screened")
    weights = model.fold_in_float64().to(dtype=torch.float32)
    progress = Progress()
    dataset = dataset_of(RunDirectory.open(run), data, progress)
    rows = positions(dataset, ("train", "val", "test"), with_photo=True)[:most]
    encoded = encode_positions(model, dataset, rows, progress)
    image, recipe = encoded.image, encoded.recipe
    assert image.tokens is not None
    assert recipe.tokens is not None
    scale = scale_of(weights)
    recipes = TokenItems(recipe.tokens.float(), recipe.lengths)
    for number, start in enumerate(range(0, len(image.lengths), REAL_BLOCK)):
        block = slice(start, start + REAL_BLOCK)
        photos = TokenItems(image.tokens[block].float(), image.lengths[block])
        levels: Iterable[Level] = LEVELS if number < ALL_LEVELS else ("tables",)
        for scores in scored_twice(weights, photos, recipes, levels=levels):
            yield _row("trained", "real", scale, scores)
    yield from hard_pairs("trained", weights)


def scale_of(weights: FoldedWeights) -> float:
    """Return the scale of a model; see `rounding_scale`."""
    from hficma.engine.bundle.rounding import RoundedWeights, rounding_scale

    return rounding_scale(
        RoundedWeights(
            weights.image.table.shape[0],
            weights.image.projection.T.numpy(),
            weights.recipe.projection.T.numpy(),
            weights.match_hidden.T.numpy(),
            weights.match_output[0].numpy(),
        )
    )


def _row(model: str, pairs: str, scale: float, scores: Scores) -> dict[str, Any]:
    """Return how far scores in 16 bits are from float32."""
    error = (scores.screened.double() - scores.exact.double()).abs()
    return {
        "precision": scores.precision,
        "form": scores.form,
        "model": model,
        "pairs": pairs,
        "count": error.numel(),
        "from": float(scores.exact.min()),
        "to": float(scores.exact.max()),
        "mean": float(error.mean()),
        "largest": float(error.max()),
        "scaled": float(error.max()) / (ROUNDOFF[scores.precision] * scale),
    }


def merged(rows: Iterable[dict[str, Any]], *keys: str) -> list[dict[str, Any]]:
    """Return rows joined where they agree in some keys: counts added, the largest of the rest.

    Args:
        rows: of `_row`.
        keys: that tell rows apart.
    """

    def name(row: dict[str, Any]) -> tuple[str, ...]:
        return tuple(row[key] for key in keys)

    joined = []
    for values, group in groupby(sorted(rows, key=name), key=name):
        alike = list(group)
        count = sum(row["count"] for row in alike)
        joined.append(
            {
                **dict(zip(keys, values, strict=True)),
                "count": count,
                "from": min(row["from"] for row in alike),
                "to": max(row["to"] for row in alike),
                "mean": sum(row["mean"] * row["count"] for row in alike) / count,
                "largest": max(row["largest"] for row in alike),
                "scaled": max(row["scaled"] for row in alike),
            }
        )
    return joined


def measure(run: Path | None, data: str | None, most: int) -> list[dict[str, Any]]:
    """Measure all kinds of pairs, in every form.

    Args:
        run: whose pairs are the real ones; None leaves them out.
        data: a dataset; None takes the run's own.
        most: real pairs to read, of which every photo meets every recipe.
    """
    rows = [row for name, weights in made_models() for row in hard_pairs(name, weights)]
    if run is not None:
        rows += real_pairs(run, data, most)
    return rows


def main(
    run: Annotated[str | None, typer.Option(help="A run, whose pairs are the real ones.")] = None,
    data: Annotated[str | None, typer.Option(help="Pairs.", show_default="the run's")] = None,
    most: Annotated[int, typer.Option(help="Pairs of a photo and its recipe to read.")] = 1000,
    json_file: JsonFile = None,
) -> None:
    """How far scores in 16 bits are from float32; needs no GPU.

    Example: hficma bench screening --run real
    """
    path = None if run is None else Workspace.default().resolve("run", run)
    publish("screening", report(measure(path, data, most)), json_file)


def report(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the result file holds: figures by model and pairs, by model, and of all.

    Args:
        rows: of `measure`.
    """
    return {
        "environment": environment(),
        "rows": merged(rows, "model", "precision", "form", "pairs"),
        "models": merged(rows, "model", "precision"),
        "totals": merged(rows, "precision"),
    }


if __name__ == "__main__":
    typer.run(main)
