"""`hficma bench branches`: each compiled branch against the eager torch model."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import typer
from rich.table import Table

from hficma.engine.bundle.bundle import Bundle
from hficma.engine.bundle.bundle_facts import BundleFacts
from hficma.engine.runtimes import runtime
from hficma.engine.runtimes.options import ExecutionOptions
from hficma.engine.runtimes.reference import arrays_of
from hficma.engine.runtimes.selection import installed
from hficma.export import export_model
from hficma.export.bundle_run import batch_sentences
from hficma.export.calibration_items import item_arrays, smooth_items
from hficma.model import HFICMA, Model, ModelConfig, PaddedEncodings, build_model, load_model
from hficma.model.base import Tokens
from hficma.model.numerics import unit_rows
from hficma.model.similarity import tabulate
from hficma.model.tiling import pair_scores
from hficma.terminal import TextConsole
from hficma.text.word_vectors import WordVectors
from hficma.training.config.option_files import load_options

from ..common.timing import Timing, environment, interleaved, noise_warning, peak_resident_mb

WORDS = 20_000
"""Words of the random model's vocabulary; a word costs a row of a table and no time."""
CANDIDATES = 100
INGREDIENTS = 20
TILE = 25
"""Candidates a run of the cross graph: few enough for the caches, enough to fill the cores."""

Inputs = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One branch in one runtime and precision."""

    branch: str
    """`image`, `recipe` or `cross`, with what it was given."""
    runtime: str
    """What ran it, as it says itself."""
    precision: str
    """What the graph computed in."""
    milliseconds: float
    """Median of a whole run."""
    spread: float
    """Interquartile range over the median."""
    ratio: float
    """How many times faster than eager torch in float32."""


def random_model(config: ModelConfig, seed: int = 0) -> Model:
    """A model with random weights: speed does not depend on them."""
    rows = np.random.default_rng(seed).normal(size=(WORDS, config.word_dim))
    words = tuple(f"word{number}" for number in range(WORDS))
    vectors = WordVectors.from_rows(words, tuple(range(WORDS, 0, -1)), rows)
    return build_model(config, vectors, seed=seed).eval()


def opened(path: Path, threads: int) -> list[Bundle]:
    """The bundle in every runtime and precision that is here, eager torch first."""
    found = [Bundle.open(path, ExecutionOptions(runtime="torch", threads=threads))]
    made = found[0].facts.precisions
    for name in installed("cpu"):
        for precision in runtime(name).precisions:
            if precision in made:
                execution = ExecutionOptions(runtime=name, precision=precision, threads=threads)
                found.append(Bundle.open(path, execution))
    return found


def graph_sizes(path: Path, facts: BundleFacts) -> dict[str, float]:
    """MB of a bundle's graphs, by precision."""
    sizes: dict[str, float] = {}
    for graph in facts.graphs.values():
        for precision, name in graph.files.items():
            megabytes = (path / name).stat().st_size / 1e6
            sizes[precision] = sizes.get(precision, 0.0) + megabytes
    return sizes


def image_task(bundle: Bundle, count: int) -> Callable[[], Any]:
    """Encode photos."""
    photos = smooth_items(bundle.tokenizer, count).photos
    return lambda: bundle.run("image", {"photos": photos})


def recipe_task(bundle: Bundle, count: int) -> Callable[[], Any]:
    """Encode recipes, sentences included."""
    have: Inputs = dict(item_arrays(smooth_items(bundle.tokenizer, count)))

    def run() -> Any:
        sentences = arrays_of("sentence", bundle.graph("sentence").inputs, have)
        vectors = bundle.run("sentence", sentences)["vectors"]
        have["sentences"] = batch_sentences(vectors, have["sentence_rows"])
        return bundle.run("recipe", arrays_of("recipe", bundle.graph("recipe").inputs, have))

    return run


@torch.inference_mode()
def cross_sides(model: HFICMA, seed: int = 0) -> tuple[PaddedEncodings, PaddedEncodings]:
    """A photo at `tables` and candidates at `projections`."""
    generator = torch.Generator().manual_seed(seed)

    def tokens(count: int, size: int) -> Tokens:
        rows = torch.randn(count, size, model.config.width, generator=generator).relu()
        return Tokens(rows[:, 0], unit_rows(rows), torch.full((count,), size))

    image = tabulate(model.project_image(tokens(1, 49)), model.fold().image)
    return image, model.project_recipe(tokens(CANDIDATES, INGREDIENTS))


def cross_task(
    bundle: Bundle, image: PaddedEncodings, recipe: PaddedEncodings
) -> Callable[[], Any]:
    """Score the photo with every candidate, in tiles."""
    ports = bundle.graph("cross_recipe_projections").inputs
    whole: Inputs = {}
    for name in ports:
        side, _, part = name.partition("_")
        held = image if side == "image" else recipe
        given = held.mean if part == "global" else getattr(held, part)
        whole[name] = given.numpy()[None]
    width = bundle.facts.global_dim
    for name in ("image_global", "recipe_global"):
        whole[name] = np.ones((*whole[name].shape[:2], width), dtype=np.float32)
    tiles = [
        {
            name: array[:, start : start + TILE] if name.startswith("recipe") else array
            for name, array in whole.items()
        }
        for start in range(0, CANDIDATES, TILE)
    ]
    return lambda: [bundle.run("cross_recipe_projections", tile)["local"] for tile in tiles]


def measure(path: Path, *, repeats: int, threads: int) -> tuple[list[Row], list[Timing]]:
    """Time every branch in every runtime and precision, interleaved with eager torch.

    Args:
        path: a bundle.
        repeats: interleaved repetitions.
        threads: cores for each.
    """
    bundles = opened(path, threads)
    cases: dict[str, tuple[str, Callable[[Bundle], Callable[[], Any]]]] = {
        "image, 1 photo": ("image", lambda bundle: image_task(bundle, 1)),
        "image, 16 photos": ("image", lambda bundle: image_task(bundle, 16)),
        "recipe, 1 recipe": ("recipe", lambda bundle: recipe_task(bundle, 1)),
        "recipe, 64 recipes": ("recipe", lambda bundle: recipe_task(bundle, 64)),
    }
    model = load_model(path)
    if isinstance(model, HFICMA):
        image, recipe = cross_sides(model)
        weights = model.fold()
        cases[f"cross, 1 photo x {CANDIDATES} recipes"] = (
            "cross_recipe_projections",
            lambda bundle: cross_task(bundle, image, recipe),
        )
    rows: list[Row] = []
    timings: list[Timing] = []
    for title, (graph, make) in cases.items():
        tasks: dict[str, Callable[[], Any]] = {}
        for bundle in bundles:
            if bundle.graph(graph).precision != bundle.execution.precision:
                continue  # would be the fp32 graph again
            says = bundle.runtime(graph).describe()
            tasks[f"{says.runtime} {bundle.execution.precision}"] = make(bundle)
        if graph.startswith("cross"):
            # The model's own form, in its own tiles, not the graph run eagerly.
            tasks["torch fp32"] = torch.inference_mode()(
                lambda: pair_scores(image, recipe, weights)
            )
        measured = interleaved(tasks, repeats=repeats)
        timings += measured.values()
        eager = measured["torch fp32"].median
        for name, timing in measured.items():
            which, _, precision = name.partition(" ")
            rows.append(
                Row(
                    branch=title,
                    runtime=which,
                    precision=precision,
                    milliseconds=1000 * timing.median,
                    spread=timing.spread,
                    ratio=eager / timing.median,
                )
            )
    return rows, timings


def main(
    bundle: Annotated[Path | None, typer.Option(help="Take this bundle.")] = None,
    preset: Annotated[
        str, typer.Option(help="Else export this preset's model with random weights.")
    ] = "hf-icma",
    precision: Annotated[
        list[str] | None,
        typer.Option(help="Export in it; may be repeated.", show_default="fp16, int8, bf16"),
    ] = None,
    repeats: Annotated[int, typer.Option(help="Interleaved repetitions.")] = 5,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures.")] = None,
) -> None:
    """Milliseconds of each branch, runtime and precision; the published sizes by default.

    Example: python -m hficma.benchmarks.kernels.branches --json branches.json
    """
    console = TextConsole()
    with tempfile.TemporaryDirectory() as folder:
        path = bundle or Path(folder) / "bundle"
        export = None
        if bundle is None:
            wide = ("bf16",) if "openvino" in installed("cpu") else ()
            began = time.perf_counter()
            export_model(
                random_model(load_options(preset).model),
                path,
                precisions=precision or ("fp16", "int8", *wide),
            )
            export = {"seconds": time.perf_counter() - began, "peak_mb": peak_resident_mb()}
            console.print(
                f"exported and proved in {export['seconds']:.0f} s, "
                f"at most {export['peak_mb']:,.0f} MB resident"
            )
        facts = Bundle.open(path).facts
        sizes = graph_sizes(path, facts)
        console.print(
            "MB of graphs: " + ", ".join(f"{name} {size:.0f}" for name, size in sizes.items())
        )
        rows, timings = measure(path, repeats=repeats, threads=threads)
    console.print(_table(f"{facts.model.kind}, width {facts.width}", rows))
    if warning := noise_warning(timings):
        console.print(warning)
    if json_file is not None:
        report = {
            "environment": environment() | {"threads": threads},
            "model": facts.model.to_json(),
            "export": export,
            "graphs_mb": sizes,
            "rows": [asdict(row) for row in rows],
        }
        json_file.write_text(json.dumps(report, indent=1), encoding="utf-8")


def _table(title: str, rows: list[Row]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in ("branch", "runtime", "precision", "ms", "±", "x eager torch"):
        table.add_column(name, justify="left" if name in ("branch", "runtime") else "right")
    for row in rows:
        table.add_row(
            row.branch,
            row.runtime,
            row.precision,
            f"{row.milliseconds:.1f}",
            f"{row.spread:.0%}",
            f"{row.ratio:.2f}",
        )
    return table


if __name__ == "__main__":
    typer.run(main)
