"""A model that learns from batches of a benchmark, with the seconds of each part of its steps."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from hficma.data.dataset import Dataset
from hficma.model import Model
from hficma.progress import Progress
from hficma.training.config.option_files import load_options
from hficma.training.config.options import Options
from hficma.training.data.pairs.pairs import PairBatch, Pairs
from hficma.training.data.samplers import epoch_generator, shuffled_batches
from hficma.training.losses.criterion import Criterion
from hficma.training.optim.optimizer import Optimizer, Parameters
from hficma.training.optim.schedule import ImageEncoderSchedule
from hficma.training.runs.first_model import new_model, with_image_encoder
from hficma.training.step import TrainingStep
from hficma.types import Positions

READ_WORDS = 2_000
"""Recipes that the words are learnt from: how many there are changes no time here."""


def trained_model(
    preset: str, overrides: list[str], dataset: Dataset, cache: Path, device: str
) -> tuple[Options, Model]:
    """Return the model that a run of a preset begins with, and the options it has.

    Args:
        preset: its name.
        overrides: `section.name=value`.
        dataset: whose recipes its words are of.
        cache: the workspace's cache folder.
        device: where it is trained.
    """
    # No photo is cached: that is what is measured.
    fixed = ["loader.cache_limit=0", "trunk.weights=random", "trainer.validation_pairs=0",
             "trainer.keep=last"]  # fmt: skip
    options, weights = with_image_encoder(load_options(preset, [*fixed, *overrides]))
    recipes = [dataset.recipe(index) for index in range(min(READ_WORDS, len(dataset)))]
    return new_model(
        options, recipes, weights, torch.device(device), split_seed=0, cache=cache,
        progress=Progress(),
    )  # fmt: skip


def epoch_batches(pairs: Pairs, options: Options, count: int | None = None) -> list[Positions]:
    """Return the batches of an epoch, or as many as are asked for, in a random order."""
    generator = epoch_generator(options.trainer.seed, 1, 0)
    batches = [
        pairs.train[rows]
        for rows in shuffled_batches(len(pairs.train), options.trainer.batch_size, generator)
    ]
    return batches if count is None else (batches * (1 + count // len(batches)))[:count]


class Learner:
    """Takes the steps that a training takes.

    Args:
        options: of the run.
        model: that is trained.
        pairs: what it learns from.
    """

    def __init__(self, options: Options, model: Model, pairs: Pairs) -> None:
        criterion = Criterion(options.loss, model, 1).to(model.device)
        parameters = Parameters(model, criterion, options.text)
        schedule = ImageEncoderSchedule(options.trunk)
        schedule.begin(1)
        schedule.apply(model, parameters)
        classes = np.zeros(len(pairs.recipes), dtype=np.int64)
        self._step = TrainingStep(options, model, criterion, pairs, classes)
        self._optimizer = Optimizer(options, parameters, model.device)
        self._optimizer.set_rate(1.0)
        self._model, self.pairs = model, pairs
        self.frozen = not schedule.touched
        self._last_gradient = 0.0
        for parameter in self._step.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(self._note_gradient)

    def batches(self, rows: list[Positions], *, small: bool) -> Iterator[PairBatch]:
        """Yield batches as a training reads them."""
        views = epoch_generator(0, 1, 1)
        return self.pairs.epoch(self._model, rows, views, epoch=1, cached=self.frozen, small=small)

    def learn(self, batches: Iterable[PairBatch], *, skipped: int) -> dict[str, float]:
        """Learn from batches, and return the seconds of each part, and the `pairs`.

        Args:
            batches: one a step.
            skipped: steps at the beginning that are not counted: the first ones find batches that
                were made while nothing was learnt.
        """
        parts = ("waiting", "forward", "backward", "step")
        sums = dict.fromkeys((*parts, "pairs"), 0.0)
        generator = torch.Generator().manual_seed(0)
        before = self._clock()
        for number, batch in enumerate(batches):
            times = [before, self._clock()]
            loss = self._step(batch, generator)
            times.append(self._clock())
            self._optimizer.step(loss.value)
            before = self._clock()
            times += [max(times[-1], self._last_gradient), before]
            if number >= skipped:
                for name, start, end in zip(parts, times, times[1:], strict=False):
                    sums[name] += end - start
                sums["pairs"] += len(batch.rows)
        return sums

    def _clock(self) -> float:
        """Return the time, once all that a GPU was given is done."""
        if self._model.device.type == "cuda":
            torch.cuda.synchronize(self._model.device)
        return time.perf_counter()

    def _note_gradient(self, _: torch.nn.Parameter) -> None:
        """Note when a gradient was there; the last one ends the backward pass."""
        # On a GPU it was only asked for, so that the backward pass ends within `step` there.
        self._last_gradient = time.perf_counter()
