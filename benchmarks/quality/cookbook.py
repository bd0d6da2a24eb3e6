"""`hficma bench cookbook`: does a photo of a dish that the cookbook has find it?

Over the test photos of a dataset, as `hficma search` answers them from the package's own index:

    hficma bench cookbook --data recipes.jsonl

or over the photos that a run learnt from, each asked of a model that had not seen it:

    hficma bench cookbook --run best

`labelled/cookbook_dishes.toml` says which photos of one collection show such a dish, by the ids of
their own recipes, and which of the cookbook's recipes count as right for each.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import comb
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from hficma.artifacts.workspace import Workspace
from hficma.data.dataset import COOKBOOK, Dataset, open_dataset, positions
from hficma.engine import Engine
from hficma.errors import InputError
from hficma.metrics import RECALLS, figure_text, figures, recall_interval
from hficma.pretrained import pretrained_path
from hficma.progress import Progress
from hficma.recipe import Recipe

from ..common.arguments import JsonFile
from ..common.report import markdown_table, print_markdown, write_json

DISHES = Path(__file__).parent / "labelled" / "cookbook_dishes.toml"
DEPTH = max(RECALLS)
"""Answers that are looked at."""
FOLDS = 5
COLUMNS = tuple(f"hit@{depth}" for depth in RECALLS)

Dishes = Mapping[str, Sequence[str]]
"""Ids of the cookbook's recipes that count as right, by the id of a photo's own recipe."""


@dataclass(frozen=True)
class PhotoAnswer:
    """What the cookbook answered to a photo of one of its dishes."""

    title: str
    """Of the photo's own recipe."""
    right: Sequence[str]
    """Ids of the cookbook's recipes that count."""
    first: str
    """Id of the first answer."""
    rank: int
    """Of the best recipe that counts, from 1; `DEPTH` + 1 where it is further down."""


def main(
    data: Annotated[
        str | None, typer.Option(help="The pairs that were labelled.", show_default="the run's")
    ] = None,
    index: Annotated[
        Path | None, typer.Option(help="Of the cookbook.", show_default="the package's own")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="A bundle.", show_default="the index's own")
    ] = None,
    run: Annotated[
        str | None, typer.Option(metavar="RUN", help="Ask models like it, a training a fold.")
    ] = None,
    photos: Annotated[bool, typer.Option("--photos", help="List every photo too.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Whether photos of dishes that the cookbook has find them there.

    Example: hficma bench cookbook --data recipes.jsonl
    """
    dishes = tomllib.loads(DISHES.read_text(encoding="utf-8"))
    if run is not None:
        answers = answers_of_folds(run, data, dishes)
    elif data is not None:
        answers = answers_of_index(open_dataset(data), dishes, index, bundle)
    else:
        raise InputError("the cookbook is asked photos of a dataset, or of a run: name one")
    record = summary(answers)
    lucky = [f"{record['chance'][name]:.1f}" for name in COLUMNS]
    rows = [["all", *_cells(record)], ["at random", "", *lucky]]
    rows += [[name, *_cells(one)] for name, one in record["categories"].items()]
    print_markdown("\n".join(markdown_table(("dish", "photos", *COLUMNS), rows)))
    if photos:
        order = sorted(answers, key=lambda one: (one.rank, one.title))
        ranks = [str(one.rank) if one.rank <= DEPTH else f"> {DEPTH}" for one in order]
        firsts = [one.first.removeprefix("cookbook:") for one in order]
        rows = [[one.title, *cells] for one, *cells in zip(order, ranks, firsts, strict=True)]
        print_markdown("\n" + "\n".join(markdown_table(("photo of", "rank", "first answer"), rows)))
    write_json(json_file, record | {"answers": [asdict(one) for one in answers]})


def answers_of_index(
    dataset: Dataset, dishes: Dishes, index: Path | None = None, bundle: Path | None = None
) -> list[PhotoAnswer]:
    """Ask an index of the cookbook the labelled test photos of a dataset.

    Args:
        dataset: was labelled.
        dishes: the right recipes of each photo.
        index: None takes the package's own.
        bundle: None takes the index's own.

    Raises:
        InputError: another dataset was labelled, a photo cannot be read, or the index is of other
            recipes.
    """
    rows = labelled_rows(dataset, dishes, ("test",))
    index = index or pretrained_path("index")
    with Engine.open(index, bundle=bundle) as engine:
        if engine.index.facts.dataset != COOKBOOK:
            raise InputError(f"{index}: is not of the cookbook; make one with `--data {COOKBOOK}`")
        hits = [engine.search(image=dataset.photo(row), k=DEPTH).hits for row in rows]
    return [
        _answer(dataset.recipe(row), dishes, [hit.id for hit in first])
        for row, first in zip(rows, hits, strict=True)
    ]


def answers_of_folds(
    run: str, data: str | None, dishes: Dishes, *, folds: int = FOLDS
) -> list[PhotoAnswer]:
    """Ask models trained like a run the labelled photos that it learnt from, fold by fold.

    Each ranks the whole cookbook by S for the photos that its training held out.

    Args:
        run: its name or directory.
        data: its pairs, where they are no longer where they were.
        dishes: the right recipes of each photo.
        folds: models to train.
    """
    from hficma.training.config.option_values import parse_options
    from hficma.training.encoding import encode_recipes
    from hficma.training.evaluation import dataset_of
    from hficma.training.runs.run import RunDirectory
    from hficma.training.scoring import score_tables
    from hficma.training.sureness.cross_fitting import encode_learnt, fold_models, learnt_pairs

    workspace, progress = Workspace.default(), Progress()
    directory = RunDirectory.open(workspace.resolve("run", run))
    dataset = dataset_of(directory, data, progress)
    listed = labelled_rows(dataset, dishes, ("train", "val"))
    rows, fold_of = learnt_pairs(dataset, folds, workspace.cache)
    cookbook = list(_cookbook().values())
    options = parse_options(directory.options)
    answers = []
    models = fold_models(options, dataset, rows, fold_of, workspace.cache, progress)
    for fold, model in enumerate(models):
        held_out = np.flatnonzero((fold_of == fold) & np.isin(rows, listed))
        encoded = encode_learnt(
            model, dataset, rows, held_out, options=options, cache=workspace.cache,
            progress=progress,
        )  # fmt: skip
        scores = score_tables(model, encoded.image, encode_recipes(model, cookbook)).total
        first = np.argsort(-scores, axis=1, kind="stable")[:, :DEPTH]
        for row, places in zip(rows[held_out[encoded.usable]], first, strict=True):
            ranked = [cookbook[place].id for place in places]
            answers.append(_answer(dataset.recipe(int(row)), dishes, ranked))
    return answers


def labelled_rows(dataset: Dataset, dishes: Dishes, partitions: Sequence[str]) -> list[int]:
    """Return the positions of the labelled photos in some partitions.

    Raises:
        InputError: none is, or another dataset was labelled: an id may be another recipe's here.
    """
    missing = dishes.keys() - {dataset.recipe(place).id for place in range(len(dataset))}
    if missing:
        raise InputError(
            f"{dataset.name}: lacks {len(missing)} of the {len(dishes)} recipes whose dishes were "
            f"labelled, such as {min(missing)}: they are of another dataset"
        )
    rows: list[int] = positions(dataset, partitions, with_photo=True).tolist()
    if not (rows := [row for row in rows if dataset.recipe(row).id in dishes]):
        raise InputError(f"{dataset.name}: no labelled photo is of {' or '.join(partitions)}")
    return rows


def summary(answers: Sequence[PhotoAnswer]) -> dict[str, Any]:
    """Return the figures of answers as JSON values: of all, of each category, and of chance."""
    cookbook = _cookbook()
    groups: dict[str, list[PhotoAnswer]] = {}
    for one in answers:
        groups.setdefault(cookbook[one.right[0]].category or "other", []).append(one)
    chances = [[chance(len(one.right), k, len(cookbook)) for k in RECALLS] for one in answers]
    return {
        **_hits(answers),
        "chance": dict(zip(COLUMNS, (100 * np.mean(chances, axis=0)).tolist(), strict=True)),
        "categories": {name: _hits(group) for name, group in sorted(groups.items())},
    }


def chance(right: int, depth: int, items: int) -> float:
    """Return how likely a random order has one of the right items among its first `depth`."""
    return 1 - comb(items - right, depth) / comb(items, depth)


def _cookbook() -> dict[str, Recipe]:
    dataset = open_dataset(COOKBOOK)
    return {recipe.id: recipe for recipe in map(dataset.recipe, range(len(dataset)))}


def _answer(recipe: Recipe, dishes: Dishes, ranked: Sequence[str]) -> PhotoAnswer:
    """Return what was answered to a recipe's photo: ids of the cookbook's, the first ones."""
    right = dishes[recipe.id]
    ranks = [rank for rank, name in enumerate(ranked, 1) if name in right]
    return PhotoAnswer(recipe.title, right, ranked[0], min(ranks, default=DEPTH + 1))


def _hits(answers: Sequence[PhotoAnswer]) -> dict[str, Any]:
    """Return the percentage of photos that hit within each depth, with Wilson's intervals."""
    recall = figures(np.array([one.rank for one in answers])).recall
    shares = dict(zip(COLUMNS, (recall[depth] for depth in RECALLS), strict=True))
    ends = {name: recall_interval(share, len(answers)) for name, share in shares.items()}
    return {"photos": len(answers), **shares, "intervals": ends}


def _cells(record: Mapping[str, Any]) -> list[str]:
    """Return a row of the table without its name."""
    texts = (figure_text(record[name], record["intervals"][name]) for name in COLUMNS)
    return [str(record["photos"]), *texts]


if __name__ == "__main__":
    typer.run(main)
