"""`hficma eval`: how well a run finds recipes for photos and photos for recipes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from hficma.data.dataset import Dataset, positions
from hficma.data.partitions import open_runs_dataset
from hficma.errors import InputError
from hficma.metrics import (
    DIRECTIONS,
    RECALLS,
    Figures,
    Interval,
    bags,
    chance,
    figure_text,
    figures,
    intervals,
    prefilter_recall,
    prefiltered_ranks,
    ranks,
    summary,
)
from hficma.model import Model, Tokens, load_model
from hficma.progress import Progress
from hficma.types import Positions, Ranks

from .data.photo_cache import ENCODE_BATCH, read_photos
from .data.recipe_batches import RecipeTexts
from .runs.run import RunDirectory
from .scoring import ScoreTables, chosen, joined, score_tables
from .training import pick_device

SETUPS = {"1k": 1_000, "10k": 10_000, "all": None}
"""Items a bag; None takes all of them in one."""
BAGS = 10
SEED = 1234
PREFILTER_DEPTHS = (10, 50, 100)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The figures of one model on one split."""

    run: str
    """The run's path."""
    dataset: str
    """What `open_dataset` takes."""
    split: str
    """`train`, `val` or `test`."""
    setup: str
    """`1k`, `10k` or `all`."""
    items: int
    """Pairs of the split that could be read."""
    bag_size: int
    """Pairs a bag; less than the setup asks for where there are fewer."""
    bag_count: int
    """Bags."""
    total: dict[str, dict[str, tuple[float, float | None]]]
    """By direction and figure: mean and deviation over bags, by S; one bag has no deviation."""
    global_only: dict[str, dict[str, tuple[float, float | None]]]
    """The same by S_global alone."""
    prefilter_recall: dict[str, dict[int, float]]
    """By direction and K: percent of queries whose best item by S is in the top K by S_global."""
    prefilter: int | None = None
    """K of `prefiltered`."""
    prefiltered: dict[str, dict[str, tuple[float, float | None]]] | None = None
    """The same figures where only the best K by S_global are scored by S."""
    intervals: dict[str, dict[str, dict[str, Interval]]] | None = None
    """Of one bag: by `total`, `global_only` or `prefiltered`, direction and figure: the 95 %
    interval over queries. None for several bags."""
    trained_on: str | None = None
    """Why the figures say little of new pairs, where the run saw these; None where it did not."""
    left_out: tuple[str, ...] = ()
    """Photos that could not be read, one line each."""

    def to_json(self) -> dict[str, Any]:
        """The evaluation as JSON values."""
        record = dict(self.__dict__)
        record["left_out"] = list(self.left_out)
        return record

    def rows(self) -> list[list[str]]:
        """Table rows: direction, scored by, medR, R@1, R@5, R@10."""
        table = []
        for direction in DIRECTIONS:
            parts = [("S", "total", self.total), ("S_global", "global_only", self.global_only)]
            if self.prefiltered is not None:
                parts.append((f"top {self.prefilter} by S", "prefiltered", self.prefiltered))
            for name, part, found in parts:
                cells = [
                    self._cell(part, direction, key, found[direction][key])
                    for key in ("medR", "R@1", "R@5", "R@10")
                ]
                table.append([direction.replace("_", " "), name, *cells])
            if self.prefiltered is not None:
                table.append([direction.replace("_", " "), "difference", *self._loss(direction)])
        return table

    def _loss(self, direction: str) -> list[str]:
        assert self.prefiltered is not None
        before, after = self.total[direction], self.prefiltered[direction]
        return [f"{after[key][0] - before[key][0]:+.1f}" for key in before]

    def _cell(self, part: str, direction: str, key: str, figure: tuple[float, float | None]) -> str:
        mean, deviation = figure
        if deviation is not None:
            return f"{mean:.1f} ± {deviation:.1f}"
        ends = None if self.intervals is None else self.intervals[part][direction][key]
        return figure_text(mean, ends)

    @property
    def notes(self) -> list[str]:
        """What must be said beside the figures, a line each."""
        asked = SETUPS[self.setup]
        found = (
            [f"fewer than the {asked:,} pairs of a bag"] if asked and self.bag_size < asked else []
        )
        by_chance = chance(self.bag_size)
        guess = f"chance: medR {by_chance['medR']:.0f}, " + ", ".join(
            f"R@{k} {by_chance[f'R@{k}']:.3g}" for k in RECALLS
        )
        if self.bag_count == 1:
            few = "" if not found else f", {found[0]}"
            notes = [
                f"n = {self.bag_size} pairs, one bag of all{few}; 95 % intervals are over "
                f"queries; {guess}"
            ]
        else:
            notes = [f"±: deviation over {self.bag_count} bags; {guess}"]
            if self.bag_count * self.bag_size > self.items:
                notes[0] += (
                    f"; the bags are drawn from n = {self.items:,} pairs and overlap, so other "
                    "pairs may differ by more"
                )
        return [*notes, self.trained_on] if self.trained_on else notes


def evaluate(
    run: Path,
    data: str | None = None,
    split: str = "test",
    setup: Literal["1k", "10k", "all"] = "1k",
    *,
    prefilter: int | None = None,
    weights: Literal["best", "last"] = "best",
    device: str = "auto",
    name: str | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate a run: seeded bags, centre crop, first photo, ranks from 1, ties against us.

    Args:
        run: the run directory.
        data: another dataset than the run's own.
        split: `train`, `val` or `test`.
        setup: `1k` (10 bags of 1,000), `10k` (10 bags of 10,000) or `all` (one bag of all).
        prefilter: also report what re-ranking the top K by S_global gives.
        weights: which of the run's weights.
        device: `cpu`, `cuda`, `cuda:N` or `auto`.
        name: keep the figures in the run under this name; None takes split and setup.
        progress: told of the work.

    Raises:
        InputError: the split has too few pairs, or the options make no sense.
    """
    if setup not in SETUPS:
        raise InputError(f"{setup}: the setup must be one of {', '.join(SETUPS)}")
    if split not in ("train", "val", "test"):
        raise InputError(f"{split}: the split must be train, val or test")
    progress = progress or Progress()
    directory = RunDirectory.open(run)
    dataset = dataset_of(directory, data, progress)
    model = load_model(run, weights=weights).to(pick_device(device))
    rows = positions(dataset, (split,), with_photo=True)
    if len(rows) < 2:
        raise InputError(_no_pairs(dataset, split, len(rows)))
    drawn = bags(len(rows), SETUPS[setup] or len(rows), count=BAGS, seed=SEED)
    wanted = np.unique(np.concatenate(drawn))
    encoded = encode_positions(model, dataset, rows[wanted], progress)
    places = np.full(len(rows), -1)
    places[wanted[encoded.usable]] = np.arange(len(encoded.image.lengths))
    left_out = encoded.complaints
    result = evaluation_of(
        _score_bags(model, encoded, [places[bag] for bag in drawn], progress),
        run=str(run),
        dataset=dataset.name,
        split=split,
        setup=setup,
        items=len(rows) - len(left_out),
        prefilter=prefilter,
        left_out=left_out,
        trained_on=_trained_on(directory, dataset, split),
    )
    directory.save_evaluation(name or f"{split}-{setup}", result.to_json())
    return result


def _no_pairs(dataset: Dataset, split: str, count: int) -> str:
    named = f"has {count or 'no'} {split} {'pair' if count == 1 else 'pairs'} with photos"
    if split == "test" and not count:
        return (
            f"{dataset.name}: {named}; `hficma train --hold-out 10%` keeps a tenth of the pairs "
            "out of training and remembers them, or give recipes a partition (train, val, test)"
        )
    return f"{dataset.name}: {named}; two are the fewest that can be ranked"


def _trained_on(run: RunDirectory, dataset: Dataset, split: str) -> str | None:
    """What the run already knew of the pairs that it is judged by, in one line."""
    if dataset.name != run.facts.get("dataset"):
        return None
    if split == "train" or (split == "val" and not run.facts.get("validation_pairs")):
        return "the run was trained on these pairs: the figures say nothing of new ones"
    if split == "val" and run.options["trainer"]["keep"] == "best":
        return "the run's epoch was chosen by these pairs: new ones are found a little less often"
    return None


def dataset_of(run: RunDirectory, data: str | None, progress: Progress) -> Dataset:
    """The dataset that is asked for, or else the one that a run was trained on.

    Raises:
        InputError: none is asked for, and the run knows of none: it was converted.
    """
    dataset = open_runs_dataset(run.path, data, on_bad=progress.bad)
    if dataset is None:
        raise InputError(
            f"{run.path}: a converted run does not know what it was trained on; "
            "name pairs with --data"
        )
    return dataset


def evaluation_of(
    tables: Iterator[ScoreTables],
    *,
    run: str,
    dataset: str,
    split: str,
    setup: str,
    items: int,
    prefilter: int | None = None,
    left_out: Sequence[str] = (),
    trained_on: str | None = None,
) -> Evaluation:
    """Figures of the score tables of one or more bags."""
    own_ranks: dict[str, dict[str, Ranks]] = {"total": {}, "global_only": {}, "prefiltered": {}}
    total: dict[str, list[Figures]] = {name: [] for name in DIRECTIONS}
    global_only: dict[str, list[Figures]] = {name: [] for name in DIRECTIONS}
    filtered: dict[str, list[Figures]] = {name: [] for name in DIRECTIONS}
    recall: dict[str, dict[int, list[float]]] = {
        name: {depth: [] for depth in PREFILTER_DEPTHS} for name in DIRECTIONS
    }
    size = count = 0
    for table in tables:
        size, count = len(table.total), count + 1
        pairs = ((table.total, table.global_), (table.total.T, table.global_.T))
        for name, (scores, cheap) in zip(DIRECTIONS, pairs, strict=True):
            found = {"total": ranks(scores), "global_only": ranks(cheap)}
            if prefilter is not None:
                found["prefiltered"] = prefiltered_ranks(scores, cheap, prefilter)
            for part, by_direction in (
                ("total", total), ("global_only", global_only), ("prefiltered", filtered),
            ):  # fmt: skip
                if part in found:
                    by_direction[name].append(figures(found[part]))
                    own_ranks[part][name] = found[part]
            for depth in PREFILTER_DEPTHS:
                recall[name][depth].append(prefilter_recall(scores, cheap, depth))
    return Evaluation(
        run=run,
        dataset=dataset,
        split=split,
        setup=setup,
        items=items,
        bag_size=size,
        bag_count=count,
        total={name: summary(found) for name, found in total.items()},
        global_only={name: summary(found) for name, found in global_only.items()},
        prefilter_recall={
            name: {depth: float(np.mean(found)) for depth, found in by_depth.items()}
            for name, by_depth in recall.items()
        },
        prefilter=prefilter,
        prefiltered=(
            None if prefilter is None else {n: summary(found) for n, found in filtered.items()}
        ),
        left_out=tuple(left_out),
        intervals=(
            None
            if count != 1
            else {
                part: {name: intervals(one) for name, one in by_direction.items()}
                for part, by_direction in own_ranks.items()
                if by_direction
            }
        ),
        trained_on=trained_on,
    )


@dataclass(frozen=True)
class EncodedPairs:
    """Pairs of a dataset as tokens."""

    image: Tokens
    """Photos that could be read."""
    recipe: Tokens
    """Their recipes."""
    usable: npt.NDArray[np.bool_]
    """Which of the positions asked for they are."""
    complaints: tuple[str, ...]
    """Why the others are not there, one line each."""


@torch.inference_mode()
def encode_positions(
    model: Model, dataset: Dataset, rows: Positions, progress: Progress
) -> EncodedPairs:
    """Photos (centre crop) and recipes at the given positions, to tokens.

    Raises:
        InputError: no photo can be read.
    """
    progress.stage("photos", len(rows))
    complaints: list[str | None] = []
    image = [
        model.image_tokens(model.regions(torch.from_numpy(pixels).to(model.device)))
        for pixels in _photo_batches(dataset, rows, complaints, progress)
    ]
    told = tuple(text for text in complaints if text is not None)
    if not image:
        raise InputError(f"{dataset.name}: no photo can be read; the first: {told[0]}")
    usable = np.array([complaint is None for complaint in complaints], dtype=np.bool_)
    texts = RecipeTexts((dataset.recipe(int(row)) for row in rows[usable]), model.tokenizer)
    recipe = [
        model.recipe_tokens(
            *texts.batch(model, range(start, min(start + ENCODE_BATCH, len(texts))))
        )
        for start in range(0, len(texts), ENCODE_BATCH)
    ]
    return EncodedPairs(joined(image), joined(recipe), usable, told)


def _photo_batches(
    dataset: Dataset, rows: Positions, complaints: list[str | None], progress: Progress
) -> Iterator[npt.NDArray[np.uint8]]:
    waiting: list[npt.NDArray[np.uint8]] = []
    for pixels, complaint in read_photos(dataset, rows):
        complaints.append(complaint)
        progress.advance()
        if pixels is not None:
            waiting.append(pixels)
        if len(waiting) == ENCODE_BATCH:
            yield np.concatenate(waiting)
            waiting.clear()
    if waiting:
        yield np.concatenate(waiting)


def _score_bags(
    model: Model, encoded: EncodedPairs, drawn: Sequence[Positions], progress: Progress
) -> Iterator[ScoreTables]:
    for number, bag in enumerate(drawn, 1):
        kept = bag[bag >= 0]
        progress.stage(f"bag {number} of {len(drawn)}", len(kept))
        yield score_tables(
            model,
            chosen(encoded.image, kept),
            chosen(encoded.recipe, kept),
            on_done=progress.advance,
        )
