"""Is the synthetic sample a toy? What colours alone tell about it, and what a wrong table costs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import typer
from PIL import Image
from rich.progress import track
from rich.table import Table

from hficma.data.sample import SampleDataset
from hficma.data.sample.pantry import PANTRY
from hficma.errors import InputError
from hficma.metrics import DIRECTIONS, figures, ranks
from hficma.model import Model, load_model
from hficma.recipe import Recipe
from hficma.terminal import TextConsole
from hficma.training.runs.run import RunDirectory
from hficma.training.scoring import score_tables

from ..common.timing import environment

Floats = npt.NDArray[np.float64]
Evaluate = Callable[[Sequence[Image.Image], Sequence[Recipe]], Floats]
"""Scores of all pairs, (B, M), photos down and recipes across."""

DATA = "sample:20000"
CCA, RUN, SHUFFLED = "colour histogram and CCA", "the run", "the run, looks shuffled"
"""Rows beside chance."""
_BINS = 8  # a channel
_RIDGES = (0.001, 0.01, 0.1)


def cca_baseline(dataset: SampleDataset, *, train: int = 4000, bag: int = 1000) -> dict[str, Any]:
    """Search with colour histograms against bags of ingredients, joined by regularised CCA.

    The bags hold the true names from the grammar, so the recipe's side makes no mistakes. The ridge
    is chosen on the validation partition.

    Args:
        dataset: the sample, with at least `bag` test items.
        train: training items at most.
        bag: test items.

    Returns:
        By direction, "medR" and "R@1", "R@5", "R@10" in percent; "items", "train", "ridge".

    Raises:
        InputError: the sample has too few test items.
    """
    parts = {
        "train": _members(dataset, "train", train),
        "val": _members(dataset, "val", bag // 2),
        "test": _test_bag(dataset, bag),
    }
    views = {part: _features(dataset, indices, part) for part, indices in parts.items()}

    def scored(part: str, ridge: float) -> Floats:
        photos, recipes = views[part]
        return correlate(*views["train"], ridge)(photos, recipes)

    ridge = max(_RIDGES, key=lambda ridge: figures(ranks(scored("val", ridge))).recall_sum)
    counts = {"items": bag, "train": len(parts["train"]), "ridge": ridge}
    return counts | _both_ways(scored("test", ridge))


def correlate(photos: Floats, recipes: Floats, ridge: float) -> Callable[[Floats, Floats], Floats]:
    """Fit regularised canonical correlation analysis (Hotelling 1936; ridge: Vinod 1976).

    Args:
        photos: features of the photos, (N, P).
        recipes: features of their recipes, (N, Q).
        ridge: what is added to both covariances, relative to their mean variance.

    Returns:
        A function of (B, P) and (M, Q) to cosines of the canonical projections, (B, M), each
        direction weighted by its correlation.
    """
    means = photos.mean(axis=0), recipes.mean(axis=0)
    whitening = [
        _whitening(x - mean, ridge) for x, mean in zip((photos, recipes), means, strict=True)
    ]
    white = [(x - mean) @ w for x, mean, w in zip((photos, recipes), means, whitening, strict=True)]
    left, correlations, right = np.linalg.svd(
        white[0].T @ white[1] / len(photos), full_matrices=False
    )
    weight = np.sqrt(correlations)
    projections = whitening[0] @ left * weight, whitening[1] @ right.T * weight

    def scores(photos: Floats, recipes: Floats) -> Floats:
        sides = [
            _unit((x - mean) @ projection)
            for x, mean, projection in zip((photos, recipes), means, projections, strict=True)
        ]
        product: Floats = sides[0] @ sides[1].T
        return product

    return scores


def shuffled_table_dataset(size: int, seed: int) -> SampleDataset:
    """The recipes of `SampleDataset(size, seed=seed)`, photographed with every look dealt anew."""
    return SampleDataset(size, seed=seed, appearance_seed=1)


def shuffled_table_check(
    dataset: SampleDataset, evaluate: Evaluate, *, bag: int = 1000
) -> dict[str, Any]:
    """What a trained model finds on true photos, and on photos by the shuffled table.

    Args:
        dataset: the sample it was trained on.
        evaluate: scores all pairs of photos and recipes by the model.
        bag: test items.

    Returns:
        "true" and "shuffled", each by direction as in `cca_baseline`.
    """
    indices = _test_bag(dataset, bag)
    recipes = [dataset.recipe(index) for index in indices]
    shuffled = shuffled_table_dataset(len(dataset), dataset.seed)
    return {
        name: _both_ways(evaluate([source.photo(index) for index in indices], recipes))
        for name, source in (("true", dataset), ("shuffled", shuffled))
    }


def chance(items: int) -> dict[str, float]:
    """The expected figures of guessing among `items`."""
    return {"medR": (items + 1) / 2} | {f"R@{k}": 100 * k / items for k in (1, 5, 10)}


def report(rows: dict[str, dict[str, Any]], title: str) -> Table:
    """Figures as a table: a line for each method and direction."""
    table = Table(title=title)
    for column in ("method", "direction", "medR", "R@1 %", "R@5 %", "R@10 %"):
        table.add_column(column, justify="right" if "R" in column else "left", no_wrap=True)
    for name, row in rows.items():
        for way in DIRECTIONS:
            cells = (f"{row[way][figure]:.1f}" for figure in ("medR", "R@1", "R@5", "R@10"))
            table.add_row(name, way.replace("_", " "), *cells)
    return table


def _members(dataset: SampleDataset, partition: str, most: int) -> list[int]:
    found: list[int] = []
    for index in range(len(dataset)):
        if len(found) == most:
            break
        if dataset.partition(index) == partition:
            found.append(index)
    return found


def _test_bag(dataset: SampleDataset, bag: int) -> list[int]:
    indices = _members(dataset, "test", bag)
    if len(indices) < bag:
        raise InputError(
            f"{dataset.name}: has {len(indices)} test items, the bag takes {bag}; "
            f"ask for sample:{12 * bag} or a smaller bag"
        )
    return indices


def _features(dataset: SampleDataset, indices: list[int], part: str) -> tuple[Floats, Floats]:
    photos = [_histogram(dataset.photo(index)) for index in track(indices, f"{part} photos")]
    columns = {name: i for i, name in enumerate(sorted(PANTRY))}
    recipes = np.zeros((len(indices), len(columns)))
    for row, index in enumerate(indices):
        recipes[row, [columns[name] for name in dataset.ingredients(index)]] = 1
    return np.stack(photos), recipes


def _histogram(photo: Image.Image) -> Floats:
    """Joint RGB histogram; the root makes it comparable by inner products (Hellinger)."""
    codes = np.asarray(photo).astype(np.int64) * _BINS // 256 @ np.array([_BINS**2, _BINS, 1])
    counts = np.bincount(codes.ravel(), minlength=_BINS**3)
    root: Floats = np.sqrt(counts / counts.sum())
    return root


def _whitening(centred: Floats, ridge: float) -> Floats:
    """The matrix that makes the columns uncorrelated, of unit variance but for the ridge."""
    covariance = centred.T @ centred / len(centred)
    values, vectors = np.linalg.eigh(covariance)
    matrix: Floats = vectors / np.sqrt(
        np.maximum(values, 0) + ridge * np.trace(covariance) / len(values)
    )
    return matrix


def _unit(x: Floats) -> Floats:
    lengths: Floats = np.linalg.norm(x, axis=1, keepdims=True)
    return x / lengths


def _both_ways(scores: Floats) -> dict[str, dict[str, float]]:
    ways = dict(zip(DIRECTIONS, (scores, scores.T), strict=True))
    return {way: _row(asdict(figures(ranks(s)))) for way, s in ways.items()}


def _row(found: dict[str, Any]) -> dict[str, float]:
    return {"medR": found["median_rank"]} | {f"R@{k}": x for k, x in found["recall"].items()}


def measure(
    data: str | None, run: Path | None, *, train: int = 4000, bag: int = 1000
) -> dict[str, Any]:
    """Both checks beside chance, and the figures of a trained run where one is given.

    Args:
        data: the sample; None takes the run's own, or `DATA`.
        run: trained on it.
        train: training items for CCA.
        bag: test items, one bag.

    Returns:
        "data", "items", "environment", and "rows": by method, what `cca_baseline` gives.

    Raises:
        InputError: the run was trained on something else, or the sample is too small.
    """
    trained_on = None if run is None else RunDirectory.open(run).facts["dataset"]
    data = data or trained_on or DATA
    if not data.startswith("sample:"):
        raise InputError(f"{run}: was trained on {data}; the checks are of sample:SIZE alone")
    dataset = SampleDataset.from_spec(data)
    rows = {"chance": dict.fromkeys(DIRECTIONS, chance(bag))}
    rows[CCA] = cca_baseline(dataset, train=train, bag=bag)
    if run is not None:
        found = shuffled_table_check(dataset, scores_of(load_model(run)), bag=bag)
        rows |= {RUN: found["true"], SHUFFLED: found["shuffled"]}
    return {"environment": environment(), "data": data, "items": bag, "rows": rows}


def scores_of(model: Model) -> Evaluate:
    """S of a trained model, for `shuffled_table_check`."""

    def scores(photos: Sequence[Image.Image], recipes: Sequence[Recipe]) -> Floats:
        with torch.inference_mode():
            tokens = model.encode_images(photos), model.encode_recipes(recipes)
        return score_tables(model, *tokens).total.astype(np.float64)

    return scores


def main(
    run: Annotated[Path | None, typer.Option(help="A run trained on the sample.")] = None,
    data: Annotated[
        str | None, typer.Option(help="sample:N[:SEED].", show_default=f"the run's, or {DATA}")
    ] = None,
    train: Annotated[int, typer.Option(help="Training items for CCA.")] = 4000,
    bag: Annotated[int, typer.Option(help="Test items.")] = 1000,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures.")] = None,
) -> None:
    """A run's recall on the synthetic sample, beside chance, colours alone, and a wrong table.

    Example: hficma bench sample_hardness --run workspace/runs/mine
    """
    found = measure(data, run, train=train, bag=bag)
    TextConsole().print(report(found["rows"], f"{found['data']} (synthetic), {bag} test items"))
    if json_file:
        json_file.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
