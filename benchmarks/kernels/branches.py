"""`hficma bench branches`: each compiled branch against the eager torch model."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from hficma.engine.bundle.bundle import Bundle
from hficma.engine.encoder import encode_photos, encode_recipes
from hficma.engine.runtimes import runtime_class
from hficma.engine.runtimes.options import ExecutionOptions
from hficma.engine.runtimes.registry import installed
from hficma.export import export_model
from hficma.export.calibration_items import smooth_items
from hficma.model import HFICMA, PaddedEncodings, load_model
from hficma.model.encoders.batches import Tokens
from hficma.model.numerics import unit_rows
from hficma.model.similarity import tabulate
from hficma.model.tiling import pair_scores
from hficma.training.config.option_files import load_options
from hficma.types import Array

from ..common.arguments import JsonFile, Repeats
from ..common.synthetic_index import random_model
from ..common.timing import environment, interleaved, peak_resident_mb
from ..pages.parts import publish

WORDS = 20_000
"""Words of the random model's vocabulary; a word costs a row of a table and no time."""
CANDIDATES = 100
INGREDIENTS = 20
TILE = 25
"""Candidates a run of the cross graph: few enough for the caches, enough to fill the cores."""
CROSS = "cross_recipe_projections"

Task = Callable[[], Any]


def measure(path: Path, *, repeats: int, threads: int) -> list[dict[str, Any]]:
    """Time every branch in every runtime and precision, interleaved with eager torch.

    Args:
        path: a bundle.
        repeats: interleaved repetitions.
        threads: cores for each.

    Returns:
        a row a branch, runtime and precision: the median milliseconds, their spread (interquartile
        range over median) and `ratio`, how many times faster it is than eager torch in float32.
    """
    bundles = [Bundle.open(path, ExecutionOptions(runtime="torch", threads=threads))]
    for name in installed("cpu"):
        for precision in runtime_class(name).precisions:
            if precision in bundles[0].facts.precisions:
                execution = ExecutionOptions(runtime=name, precision=precision, threads=threads)
                bundles.append(Bundle.open(path, execution))
    items = smooth_items(bundles[0], 64)
    photos, recipes = items.photos[:16], items.recipes
    cases: dict[str, tuple[str, Callable[[Bundle], Task]]] = {
        "image, 1 photo": ("image", lambda bundle: partial(encode_photos, bundle, photos[:1])),
        "image, 16 photos": ("image", lambda bundle: partial(encode_photos, bundle, photos)),
        "recipe, 1 recipe": ("recipe", lambda bundle: partial(encode_recipes, bundle, recipes[:1])),
        "recipe, 64 recipes": ("recipe", lambda bundle: partial(encode_recipes, bundle, recipes)),
    }
    model = load_model(path)
    if isinstance(model, HFICMA):
        image, recipe = _cross_encodings(model)
        weights = model.fold()
        title = f"cross, 1 photo x {CANDIDATES} recipes"
        cases[title] = CROSS, lambda bundle: _cross_task(bundle, image, recipe)
    rows = []
    for title, (graph, task_of) in cases.items():
        # Where a graph lacks the precision, it would be the fp32 graph again.
        tasks = {
            (bundle.runtime(graph).describe().runtime, bundle.execution.precision): task_of(bundle)
            for bundle in bundles
            if bundle.graph(graph).precision == bundle.execution.precision
        }
        if graph == CROSS:
            # The model's own form, in its own tiles, not the graph run eagerly.
            tasks["torch", "fp32"] = torch.inference_mode()(
                lambda: pair_scores(image, recipe, weights)
            )
        timings = interleaved({" ".join(way): task for way, task in tasks.items()}, repeats=repeats)
        for way in tasks:
            seconds = timings.median(" ".join(way))
            rows.append(
                {
                    "branch": title,
                    "runtime": way[0],
                    "precision": way[1],
                    "milliseconds": 1000 * seconds,
                    "spread": timings.spread(" ".join(way)),
                    "ratio": timings.median("torch fp32") / seconds,
                }
            )
    return rows


def main(
    bundle: Annotated[Path | None, typer.Option(help="Take this bundle.")] = None,
    preset: Annotated[
        str, typer.Option(help="Else export this preset's model with random weights.")
    ] = "hf-icma",
    repeats: Repeats = 5,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
    json_file: JsonFile = None,
) -> None:
    """Milliseconds of each graph in each runtime and precision; the published sizes by default.

    Example: hficma bench branches --json branches.json
    """
    with tempfile.TemporaryDirectory() as folder:
        path = bundle or Path(folder) / "bundle"
        export = None
        if bundle is None:
            wide = ("bf16",) if "openvino" in installed("cpu") else ()
            began = time.perf_counter()
            model = random_model(load_options(preset).model, WORDS)
            export_model(model, path, precisions=("fp16", "int8", *wide))
            export = {"seconds": time.perf_counter() - began, "peak_mb": peak_resident_mb()}
        facts = Bundle.open(path).facts
        sizes: Counter[str] = Counter()
        for graph in facts.graphs.values():
            for name, file in graph.files.items():
                sizes[name] += (path / file).stat().st_size
        rows = measure(path, repeats=repeats, threads=threads)
    report = {
        "environment": environment(threads=threads),
        "model": facts.model.to_json(),
        "export": export,
        "graphs_mb": {name: size / 1e6 for name, size in sizes.items()},
        "rows": rows,
    }
    publish("branches", report, json_file, (row["spread"] for row in rows))


@torch.inference_mode()
def _cross_encodings(model: HFICMA) -> tuple[PaddedEncodings, PaddedEncodings]:
    """Draw a photo at `tables` and candidates at `projections`."""
    generator = torch.Generator().manual_seed(0)

    def tokens(count: int, size: int) -> Tokens:
        rows = torch.randn(count, size, model.config.width, generator=generator).relu()
        return Tokens(rows[:, 0], unit_rows(rows), torch.full((count,), size))

    image = tabulate(model.project_image(tokens(1, model.region_count)), model.fold().image)
    return image, model.project_recipe(tokens(CANDIDATES, INGREDIENTS))


def _cross_task(bundle: Bundle, image: PaddedEncodings, recipe: PaddedEncodings) -> Task:
    """Return what scores the photo with every candidate, in tiles."""
    whole: dict[str, Array] = {}
    for name in bundle.graph(CROSS).inputs:
        role, _, part = name.partition("_")
        encodings = image if role == "image" else recipe
        if part == "global":
            shape = (1, len(encodings.mean), bundle.facts.global_dim)
            whole[name] = np.ones(shape, dtype=np.float32)
        else:
            whole[name] = getattr(encodings, part).numpy()[None]
    tiles = [
        {
            name: array[:, start : start + TILE] if name.startswith("recipe") else array
            for name, array in whole.items()
        }
        for start in range(0, CANDIDATES, TILE)
    ]
    return lambda: [bundle.run(CROSS, tile)["local"] for tile in tiles]


if __name__ == "__main__":
    typer.run(main)
