"""The loop: epochs, validation, checkpoints; resumed, it goes on to the same bits on a CPU."""

from __future__ import annotations

import math
import time
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from hficma.errors import InputError
from hficma.metrics import bags, direction_record, figures
from hficma.model import Model, RecipeBatch
from hficma.progress import Progress

from . import distributed
from .config.options import Options
from .data.pairs import Pairs
from .data.samplers import class_pair_batches, epoch_generator, shuffled_batches
from .encoding import encode
from .losses.criterion import Criterion
from .optim.averaging import raw_weights, restore_mean, running_mean
from .optim.optimizer import Optimizer, Parameters
from .optim.schedule import TrunkSchedule, learning_rate
from .optim.skipped_steps import SkippedSteps, TrainingError
from .runs.log import Log
from .runs.run import RunDirectory, State
from .scoring import both_directions, score_tables

Positions = npt.NDArray[np.int64]

LOG_EVERY = 10
VALIDATION_BATCH = 64
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class _Checkpoint(NamedTuple):
    """What an epoch leaves, measured but not yet written."""

    weights: dict[str, Tensor]
    """The model's whole state, of the running mean where there is one."""
    figures: dict[str, Any] | None
    """Of the validation pairs; None where nothing is held out."""
    best: dict[str, Any] | None
    """What the manifest says of it where it is the best so far."""


class Training:
    """Everything one run trains with.

    All random choices of an epoch are drawn from generators seeded by (seed, epoch), so an epoch
    begins the same way whether or not the process is a new one: no random state is stored.

    Args:
        options: of the run.
        model: new, or of the run's last checkpoint.
        pairs: what it learns from.
        classes: dish class of each row of `pairs`, 0 = none.
        run: where checkpoints go; None in processes that write nothing.
        progress: told of the work.
    """

    def __init__(
        self,
        options: Options,
        model: Model,
        pairs: Pairs,
        classes: Positions,
        run: RunDirectory | None,
        progress: Progress,
    ) -> None:
        self.options, self.model, self.pairs = options, model, pairs
        self.classes, self.run, self.progress = classes, run, progress
        # The dish-class head is drawn here: from the run's seed, not from what the process drew.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.trainer.seed)
            self.criterion = Criterion(options.loss, model, int(classes.max(initial=0)) + 1)
        self.criterion.to(model.device)
        self.parameters = Parameters(model, self.criterion, options.text)
        self.schedule = TrunkSchedule(options.trunk)
        self.optimizer = Optimizer(options, self.parameters, model.device)
        decay = options.trainer.average
        self.mean = running_mean(model, decay) if decay else None
        self.skipped = SkippedSteps(scaled=options.trainer.precision == "fp16")
        self.epoch, self.step, self.best = 0, 0, -1.0

    def fit(self) -> None:
        """Train to the last epoch.

        Raises:
            TrainingError: too many steps could not be taken; the last checkpoint stays.
        """
        # Each epoch seeds torch's own generators, which are the whole process's.
        device = self.model.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            self._fit()

    def _fit(self) -> None:
        log = Log(self.run.path, epoch=self.epoch) if self.run is not None else None
        try:
            while self.epoch < self.options.trainer.epochs:
                started = time.perf_counter()
                self.epoch += 1
                self.schedule.begin(self.epoch)
                losses = self._train_or_say_what_is_left(log)
                record: dict[str, Any] = {
                    "kind": "epoch",
                    "epoch": self.epoch,
                    "step": self.step,
                    "train": losses,
                    "trunk_trained": int(self.schedule.trunk),
                    "skipped": self.skipped.epoch,
                }
                if self.skipped.epoch:
                    self.progress.note(f"epoch {self.epoch}: {self.skipped}")
                checkpoint = self._validated() if self._keeps() else None
                if checkpoint is not None and checkpoint.figures is not None:
                    record["validation"] = checkpoint.figures
                record["seconds"] = round(time.perf_counter() - started, 3)
                # The line comes before the checkpoint is named: killed in between, the run goes on
                # from the epoch before and drops the line; the other way round it would be lost.
                if log is not None:
                    log.add(record)
                if checkpoint is not None and self.run is not None:
                    self.run.save_checkpoint(
                        self.epoch, checkpoint.weights, self._state(), best=checkpoint.best
                    )
                self.progress.epoch(record)
        finally:
            if log is not None:
                log.close()

    def restore(self, weights: dict[str, Tensor], state: State) -> None:
        """Go on from a checkpoint."""
        self.model.load_state_dict(weights)
        tensors = {name: value.to(self.model.device) for name, value in state.tensors.items()}
        # Runs of older versions counted no skipped steps.
        self.skipped.total = state.record.get("skipped", 0)
        if self.mean is not None:
            taken = state.record["step"] - self.skipped.total
            restore_mean(self.mean, self.model, weights, tensors, taken)
        prefix = "criterion."
        self.criterion.load_state_dict(
            {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        )
        self.optimizer.restore(tensors)
        self.optimizer.scaler.load_state_dict(state.record["scaler"])
        self.schedule.load_state(state.record["schedule"])
        self.epoch, self.step = state.record["epoch"], state.record["step"]
        self.best = state.record["best"]

    def _train_or_say_what_is_left(self, log: Log | None) -> dict[str, float]:
        """Train an epoch; where that fails, tell what the run still holds, and what to try."""
        try:
            return self._train_epoch(log)
        except TrainingError as error:
            last = self.run.facts["last"] if self.run is not None else None
            kept = f"; the checkpoint of epoch {last['epoch']} is kept" if last else ""
            raise TrainingError(
                f"training stopped in epoch {self.epoch}: {error}{kept}; try a smaller "
                "optimizer.lr, optimizer.clip=1 or trainer.precision=fp32"
            ) from error

    def _train_epoch(self, log: Log | None) -> dict[str, float]:
        options = self.options.trainer
        self.skipped.begin_epoch()
        torch.manual_seed(options.seed * 100_003 + self.epoch)
        self.pairs.prepare(self.model, original_trunk=not self.schedule.touched)
        self.schedule.apply(self.model, self.parameters)
        batches = self._batches()
        show = epoch_generator(options.seed, self.epoch, 1 + distributed.rank())
        draw = torch.Generator().manual_seed(options.seed * 100_003 + self.epoch)
        self.progress.stage(f"epoch {self.epoch}/{options.epochs}", len(batches))
        sums: dict[str, float] = {}
        for number, rows in enumerate(batches):
            rate = self._set_rate(number, len(batches))
            found, taken = self._step(rows, show, draw)
            self.step += 1
            if taken:
                for name, value in found.items():
                    sums[name] = sums.get(name, 0.0) + value
            if log is not None and (number % LOG_EVERY == 0 or not taken):
                # JSON knows no infinity.
                known = {name: value for name, value in found.items() if math.isfinite(value)}
                record = {"kind": "step", "epoch": self.epoch, "step": self.step, "lr": rate}
                log.add({**record, **known, **({} if taken else {"skipped": 1})})
            self.skipped.count(taken)
            self.progress.advance()
        self.skipped.end_epoch(last=self.epoch == options.epochs)
        return {name: value / self.skipped.taken for name, value in sums.items()}

    def _batches(self) -> list[Positions]:
        options = self.options
        generator = epoch_generator(options.trainer.seed, self.epoch, 0)
        train, size = self.pairs.train, min(options.trainer.batch_size, len(self.pairs.train))
        if options.sampler.name == "class-pairs":
            try:
                chosen = class_pair_batches(
                    self.classes[train], size, options.sampler.labelled, generator
                )
            except ValueError as error:
                raise InputError(f"sampler.name=class-pairs: {error}; take shuffle") from error
        else:
            chosen = shuffled_batches(len(train), size, generator)
        shared = [distributed.share(train[rows]) for rows in chosen]
        return [rows for rows in shared if len(rows)]

    def _step(
        self, rows: Positions, show: np.random.Generator, draw: torch.Generator
    ) -> tuple[dict[str, float], bool]:
        """One batch: its figures, and whether the weights moved."""
        model, options = self.model, self.options
        # A forward pass that overflows has put its infinities into BatchNorm's running statistics
        # before any gradient tells; where the step is not taken, they go back too.
        before = self._statistics() if self.schedule.trunk else []
        with self._autocast():
            regions = self.pairs.shown_regions(
                model,
                rows,
                show,
                original=not self.schedule.touched,
                small=self.epoch <= options.photos.small * options.trainer.epochs,
            )
            image = model.image_tokens(regions * self._kept_channels(regions))
            recipe = model.recipe_tokens(*self._recipes(rows, show))
            loss = self.criterion(
                model,
                image,
                recipe,
                classes=torch.from_numpy(self.classes[rows]).to(model.device),
                generator=draw,
            )
        step = self.optimizer.step(loss.value)
        if step.taken and self.mean is not None:
            self.mean.update_parameters(model)
        elif not step.taken:
            with torch.no_grad():
                for buffer, value in before:
                    buffer.copy_(value)
        return {"loss": float(loss.value.detach()), "norm": step.norm, **loss.parts}, step.taken

    def _statistics(self) -> list[tuple[Tensor, Tensor]]:
        """The trunk's buffers, each with a copy of what it holds now."""
        return [(buffer, buffer.clone()) for buffer in self.model.trunk.buffers()]

    def _recipes(self, rows: Positions, show: np.random.Generator) -> RecipeBatch:
        text = self.options.text
        found = self.pairs.texts.batch(self.model, rows, options=text, generator=show)
        return found._replace(sentences=F.dropout(found.sentences, text.dropout))

    def _kept_channels(self, regions: Tensor) -> Tensor:
        """Scale of each photo's channels (B, 1, C): 0 where dropped."""
        ones = regions.new_ones(len(regions), 1, regions.shape[2])
        return F.dropout(ones, self.options.photos.dropout)

    def _set_rate(self, number: int, batches: int) -> float:
        progress = self.epoch - 1 + (number + 1) / batches
        share = learning_rate(self.options.optimizer, progress, self.options.trainer.epochs)
        return self.optimizer.set_rate(share)

    def _keeps(self) -> bool:
        options = self.options.trainer
        return self.epoch in (1, options.epochs) or self.epoch % options.validate_every == 0

    def _validated(self) -> _Checkpoint:
        """Measure the model on the validation pairs, and note whether it is the best so far."""
        model = self.model if self.mean is None else cast(Model, self.mean.module)
        figures = self._validate(model.eval()) if len(self.pairs.validation) else None
        weights = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
        score = None
        better = self.options.trainer.keep == "last"
        if figures is not None:
            score = float(figures["recall_sum"])
            self.schedule.observe(score)
            better = better or score > self.best
            self.best = score if better else self.best
        best = {"recall_sum": score, "validation": figures} if better else None
        return _Checkpoint(weights, figures, best)

    def _validate(self, model: Model) -> dict[str, Any]:
        """Both directions over one bag of the validation pairs, and their recall sum."""
        pairs = self.pairs
        size = self.options.trainer.validation_pairs
        rows = pairs.validation[bags(len(pairs.validation), size)[0]]
        blocks = [
            rows[start : start + VALIDATION_BATCH]
            for start in range(0, len(rows), VALIDATION_BATCH)
        ]
        with torch.no_grad(), self._autocast():
            image, recipe = encode(
                model,
                (
                    pairs.centre_regions(model, block, original=not self.schedule.touched)
                    for block in blocks
                ),
                (pairs.texts.batch(model, block) for block in blocks),
            )
        # In float32, as they are served: in half precision many scores are the same.
        tables = score_tables(model, image, recipe)
        found = both_directions(tables.total)
        record: dict[str, Any] = {name: direction_record(one) for name, one in found.items()}
        return {**record, "recall_sum": sum(figures(one).recall_sum for one in found.values())}

    def _state(self) -> State:
        tensors = self.optimizer.state()
        tensors |= {f"criterion.{k}": v for k, v in self.criterion.state_dict().items()}
        record = {
            "epoch": self.epoch,
            "step": self.step,
            "skipped": self.skipped.total,
            "best": self.best,
            "schedule": self.schedule.state(),
            "scaler": self.optimizer.scaler.state_dict(),
        }
        return State({**tensors, **(raw_weights(self.model) if self.mean else {})}, record)

    def _autocast(self) -> torch.autocast:
        dtype = _AUTOCAST.get(self.options.trainer.precision)
        return torch.autocast(self.model.device.type, dtype=dtype, enabled=dtype is not None)
