"""`hficma bench sample_hardness`: is the synthetic sample a toy?

What colours alone tell about it, and what a wrong table of looks costs a model that has learned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image
from rich.progress import track

from hficma.data.sample import SampleDataset
from hficma.data.sample.pantry import PANTRY
from hficma.errors import InputError
from hficma.metrics import DIRECTIONS, chance, figures, ranks
from hficma.model import Model, load_model
from hficma.recipe import Recipe
from hficma.training.runs.run import RunDirectory
from hficma.training.scoring import score_tables
from hficma.types import AnyFloats

from ..common.arguments import JsonFile
from ..common.timing import environment
from ..pages.parts import publish
from .bootstrap import figures_of
from .cca import correlate

Evaluate = Callable[[Sequence[Image.Image], Sequence[Recipe]], AnyFloats]
"""From B photos and M recipes to the scores of all pairs, (B, M)."""

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
    features = {part: _features(dataset, indices, part) for part, indices in parts.items()}
    scorers = {ridge: correlate(*features["train"], ridge) for ridge in _RIDGES}

    def recall(ridge: float) -> float:
        return figures(ranks(scorers[ridge](*features["val"]))).recall_sum

    ridge = max(_RIDGES, key=recall)
    counts = {"items": bag, "train": len(parts["train"]), "ridge": ridge}
    return counts | _both_ways(scorers[ridge](*features["test"]))


def shuffled_table_check(
    dataset: SampleDataset, evaluate: Evaluate, *, bag: int = 1000
) -> dict[str, Any]:
    """Return what a trained model finds on true photos, and on photos by the shuffled table.

    Args:
        dataset: the sample it was trained on.
        evaluate: scores all pairs of photos and recipes by the model.
        bag: test items.

    Returns:
        `RUN` and `SHUFFLED`, each by direction as in `cca_baseline`.
    """
    indices = _test_bag(dataset, bag)
    recipes = [dataset.recipe(index) for index in indices]
    # The same recipes, photographed with every look dealt anew.
    shuffled = SampleDataset(len(dataset), seed=dataset.seed, appearance_seed=1)
    return {
        name: _both_ways(evaluate([source.photo(index) for index in indices], recipes))
        for name, source in ((RUN, dataset), (SHUFFLED, shuffled))
    }


def measure(
    data: str | None, run: Path | None, *, train: int = 4000, bag: int = 1000
) -> dict[str, Any]:
    """Measure both checks beside chance, and a trained run where one is given.

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
    data = data or (DATA if run is None else str(RunDirectory.open(run).facts["dataset"]))
    if not data.startswith("sample:"):
        raise InputError(f"{run}: was trained on {data}; the checks are of sample:SIZE alone")
    dataset = SampleDataset.from_spec(data)
    rows: dict[str, Any] = {"chance": dict.fromkeys(DIRECTIONS, chance(bag))}
    rows[CCA] = cca_baseline(dataset, train=train, bag=bag)
    if run is not None:
        rows |= shuffled_table_check(dataset, _evaluate_by(load_model(run)), bag=bag)
    return {"environment": environment(), "data": data, "items": bag, "rows": rows}


def main(
    run: Annotated[Path | None, typer.Option(help="A run trained on the sample.")] = None,
    data: Annotated[
        str | None, typer.Option(help="sample:N[:SEED].", show_default=f"the run's, or {DATA}")
    ] = None,
    train: Annotated[int, typer.Option(help="Training items for CCA.")] = 4000,
    bag: Annotated[int, typer.Option(help="Test items.")] = 1000,
    json_file: JsonFile = None,
) -> None:
    """A run's recall on the synthetic sample, beside chance, colours alone, and a wrong table.

    Example: hficma bench sample_hardness --run workspace/runs/mine
    """
    publish("sample-hardness", measure(data, run, train=train, bag=bag), json_file)


def _members(dataset: SampleDataset, partition: str, count: int) -> list[int]:
    members = (i for i in range(len(dataset)) if dataset.partition(i) == partition)
    return list(islice(members, count))


def _test_bag(dataset: SampleDataset, bag: int) -> list[int]:
    if len(indices := _members(dataset, "test", bag)) == bag:
        return indices
    raise InputError(
        f"{dataset.name}: has {len(indices)} test items, the bag takes {bag}; "
        f"ask for sample:{12 * bag} or a smaller bag"
    )


def _features(dataset: SampleDataset, indices: list[int], part: str) -> tuple[AnyFloats, AnyFloats]:
    photos = [_histogram(dataset.photo(index)) for index in track(indices, f"{part} photos")]
    columns = {name: i for i, name in enumerate(sorted(PANTRY))}
    recipes = np.zeros((len(indices), len(columns)))
    for row, index in enumerate(indices):
        recipes[row, [columns[name] for name in dataset.ingredients(index)]] = 1
    return np.stack(photos), recipes


def _histogram(photo: Image.Image) -> AnyFloats:
    """Return the joint RGB histogram; its root is compared by inner products (Hellinger)."""
    codes = np.asarray(photo).astype(np.int64) * _BINS // 256 @ np.array([_BINS**2, _BINS, 1])
    counts = np.bincount(codes.ravel(), minlength=_BINS**3)
    root: AnyFloats = np.sqrt(counts / counts.sum())
    return root


def _both_ways(scores: AnyFloats) -> dict[str, dict[str, float]]:
    return dict(zip(DIRECTIONS, map(figures_of, (scores, scores.T)), strict=True))


def _evaluate_by(model: Model) -> Evaluate:
    """Return what scores photos and recipes by S of a trained model."""

    def scores(photos: Sequence[Image.Image], recipes: Sequence[Recipe]) -> AnyFloats:
        with torch.inference_mode():
            tokens = model.encode_images(photos), model.encode_recipes(recipes)
        return score_tables(model, *tokens).total

    return scores


if __name__ == "__main__":
    typer.run(main)
