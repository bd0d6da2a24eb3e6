"""Pairs scored as an engine may score them: by each runtime, and by the package's own kernels.

All of it in the engine's way: tiles of one thread each, side by side on a pool.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TypeAlias, cast

import numpy as np
import torch
from torch import Tensor

from hficma.engine.native.library import SCREEN, MissingKernelsError
from hficma.engine.native.pair_kernel import PairKernel, PairWeights, TileItems
from hficma.engine.retrieval.kernel_tiles import tile_tokens
from hficma.engine.retrieval.reranking import TILE_TOKENS
from hficma.engine.runtimes.base import Graph, Runtime
from hficma.engine.runtimes.registry import runtime_class
from hficma.export.trace import trace
from hficma.model import HFICMA
from hficma.model.graphs import ROLES, CrossBranch
from hficma.model.similarity import FoldedWeights, PaddedEncodings
from hficma.model.tiling import pair_scores
from hficma.scores import ScoreWeights
from hficma.types import Array, Floats

Form: TypeAlias = Callable[[], Tensor]
"""Scores all pairs: (B, M)."""
NAMES = ("query", "key", "value", "gate", "fuse", "gate_bias", "mean", "table")
RUNTIMES = (("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"))


def torch_bf16(image: PaddedEncodings, recipe: PaddedEncodings, weights: FoldedWeights) -> Form:
    """Return eager torch's form in bfloat16."""
    narrow = torch.bfloat16
    return partial(pair_scores, image.to(narrow), recipe.to(narrow), weights.to(dtype=narrow))


def runtime_forms(
    image: PaddedEncodings,
    recipe: PaddedEncodings,
    weights: FoldedWeights,
    pool: Executor,
    folder: Path,
) -> Iterator[tuple[str, Form]]:
    """Yield the graph of `tables` in each runtime that is installed, by name.

    Args:
        image: B photos, at `tables`.
        recipe: M recipes, at `tables`, padded to one length.
        weights: of the same model.
        pool: runs tiles.
        folder: where the graph is written.
    """
    regions, width = image.query.shape[1:]
    model = SimpleNamespace(
        region_count=regions, config=SimpleNamespace(score_weights=ScoreWeights(0.2, 0.8))
    )
    # The graph reads two facts of its model, and those are all that there is of one here.
    branch = CrossBranch(weights, cast(HFICMA, model), ROLES, width, torch.float32).eval()
    file = folder / "cross_tables.onnx"
    trace(branch, file)
    photos = {f"image_{name}": getattr(image, name).numpy()[None] for name in NAMES}
    photos["image_global"] = photos["image_mean"]
    recipes = {f"recipe_{name}": getattr(recipe, name).numpy()[None] for name in NAMES}
    recipes["recipe_global"] = recipes["recipe_mean"]
    recipes["recipe_lengths"] = recipe.lengths.numpy()[None]
    count = max(1, TILE_TOKENS // recipe.query.shape[1])
    starts = range(0, len(recipe.lengths), count)
    tiles = [{n: a[:, start : start + count] for n, a in recipes.items()} for start in starts]

    def run(loaded: Runtime) -> Tensor:
        jobs = [
            {n: a[:, photo : photo + 1] for n, a in photos.items()} | tile
            for photo in range(len(image.lengths))
            for tile in tiles
        ]
        parts = list(pool.map(lambda job: loaded.run(job)["local"].reshape(-1), jobs))
        return torch.from_numpy(np.concatenate(parts)).view(len(image.lengths), -1)

    for name, precision in RUNTIMES:
        if find_spec(name) is None:
            continue
        graph = Graph(
            name="cross_tables", precision=precision, file=file, sha256="", bundle=folder,
            model_id="", inputs=branch.inputs, outputs=branch.outputs, longest={},
        )  # fmt: skip
        loaded = runtime_class(name).load(graph, threads=1)
        yield f"tables, {name} {precision}", partial(run, loaded)


def native_forms(
    image: PaddedEncodings,
    recipe: PaddedEncodings,
    tokens: Tensor,
    weights: FoldedWeights,
    pool: Executor,
) -> Iterator[tuple[str, Form]]:
    """Yield the package's own kernels, from each level, by name; none where there are none.

    Args:
        image: B photos, at `tables`.
        recipe: M recipes, at `tables`.
        tokens: of the recipes, (M, T, D).
        weights: of the same model.
        pool: runs tiles.
    """
    lengths = recipe.lengths.numpy()
    valid = torch.arange(tokens.shape[1]) < recipe.lengths[:, None]
    ragged = {name: getattr(recipe, name)[valid].numpy() for name in NAMES[:6]}
    ragged["mean"], ragged["tokens"] = recipe.mean.numpy(), tokens[valid].numpy()
    assert recipe.table is not None
    tables = [table[:, :n].flatten(0, 1) for table, n in zip(recipe.table, lengths, strict=True)]
    ragged["table"] = torch.cat(tables).numpy()
    queries = [
        {name: getattr(image, name)[photo].numpy() for name in NAMES}
        for photo in range(len(image.lengths))
    ]
    levels = {"tokens": ("tokens",), "projections": NAMES[:-1], "tables": NAMES}
    for level, names in levels.items():
        for kind, precision in ((SCREEN, "bf16"), (None, "fp32")):
            try:
                kernel = PairKernel(_pair_weights(weights, level), query_first=True, kind=kind)
            except MissingKernelsError:
                continue
            arrays = {name: ragged[name] for name in names}
            yield (
                f"{level}, native {precision}",
                partial(_native_scores, kernel, queries, arrays, lengths, pool),
            )


def _native_scores(
    kernel: PairKernel,
    queries: list[dict[str, Floats]],
    arrays: dict[str, Array],
    lengths: Array,
    pool: Executor,
) -> Tensor:
    """Return S_local of all pairs as re-ranking does it: packing, tiles and the matching MLP.

    What several photos read of a recipe is brought to `tables` once, as in a batch of searches.
    """
    first = np.cumsum(lengths) - lengths
    size = tile_tokens(kernel.width)
    cuts = np.searchsorted(first, np.arange(size, int(lengths.sum()), size))
    tiles = [tile for tile in np.split(np.arange(len(lengths)), np.unique(cuts)) if len(tile)]
    if len(queries) > 1 and "table" not in arrays:
        items_of = [TileItems(lengths[tile], first[tile], tile, arrays, {}) for tile in tiles]
        tables = kernel.tabulate_tiles([lengths[t] for t in tiles], items_of.__getitem__, pool)
        arrays = dict(tables)
    threads = getattr(pool, "_max_workers", 1)
    parts = [kernel.match_parts * part // threads for part in range(threads + 1)]
    scores = []
    for arrays_of_query in queries:
        query = kernel.pack(arrays_of_query)
        means = kernel.means(len(lengths))
        logits = np.empty((len(lengths), kernel.match_parts), np.float32)

        def fuse(tile: Array) -> None:
            items = TileItems(lengths[tile], first[tile], tile, arrays, {})
            kernel.fuse(query, items, means[tile[0] : tile[-1] + 1])  # noqa: B023

        def match(start: int, stop: int) -> None:
            kernel.match(means, logits, start, stop)  # noqa: B023

        list(pool.map(fuse, tiles))
        list(pool.map(match, parts, parts[1:]))
        scores.append(kernel.finish(logits))
    return torch.from_numpy(np.stack(scores))


def _pair_weights(weights: FoldedWeights, level: str) -> PairWeights:
    """Return the weights that scoring recipes at a level reads."""
    recipe = weights.recipe
    tokens = level == "tokens"
    return PairWeights(
        heads=recipe.table.shape[0],
        query_bias=weights.image.fuse_bias.numpy(),
        item_bias=recipe.fuse_bias.numpy(),
        match_hidden=weights.match_hidden.T.numpy(),
        match_hidden_bias=weights.match_hidden_bias.numpy(),
        match_output=weights.match_output[0].numpy(),
        match_output_bias=float(weights.match_output_bias),
        table=None if level == "tables" else recipe.table.numpy(),
        projection=recipe.projection.T.numpy() if tokens else None,
        projection_bias=recipe.projection_bias.numpy() if tokens else None,
        gate_bias=recipe.gate_bias.numpy() if tokens else None,
    )
