"""The training loop: epochs, validation, checkpoints.

On a CPU a run that was killed and resumed ends at the same bits as one that was not.
"""

from __future__ import annotations

import math
import time
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from hficma.errors import InputError
from hficma.model import Model
from hficma.progress import Progress
from hficma.types import Classes, Positions

from .config.options import Options
from .data.pairs.pairs import PairBatch, Pairs
from .data.samplers import class_pair_batches, epoch_generator, shuffled_batches
from .losses.criterion import BatchLoss, Criterion
from .optim.averaging import raw_weights, restore_mean, running_mean
from .optim.optimizer import Optimizer, Parameters
from .optim.schedule import ImageEncoderSchedule, learning_rate
from .optim.skipped_steps import SkippedSteps, TrainingError
from .parallel import distributed
from .runs.epoch_state import EpochState
from .runs.log import Log
from .runs.run import RunDirectory, State
from .step import TrainingStep, autocast
from .validation import validate

LOG_EVERY = 10
"""Steps from one line of the log to the next."""


class _Checkpoint(NamedTuple):
    """The outcome of an epoch, measured but not yet written."""

    weights: dict[str, Tensor]
    """The model's whole state, of the running mean where there is one."""
    figures: dict[str, Any] | None
    """Of the validation pairs; None where nothing is held out."""
    best: dict[str, Any] | None
    """What the manifest says of it where it is the best so far."""


class Trainer:
    """Trains the model of one run, epoch by epoch.

    All random choices of an epoch are drawn from generators seeded by (seed, epoch), so an epoch
    begins the same way whether or not the process is a new one; see `EpochState` for its middle.

    Args:
        options: of the run.
        model: whose weights are trained, on its device.
        pairs: what it learns from.
        classes: dish class of each row of `pairs`, (P,) int64, 0 = none.
        run: where checkpoints go; None in processes that write nothing.
        progress: receives stages, steps and notes.
    """

    def __init__(
        self,
        options: Options,
        model: Model,
        pairs: Pairs,
        classes: Classes,
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
        self._step = TrainingStep(options, model, self.criterion, pairs, classes)
        self._replicated: nn.Module = self._step
        self.parameters = Parameters(model, self.criterion, options.text)
        self.schedule = ImageEncoderSchedule(options.trunk)
        self.optimizer = Optimizer(options, self.parameters, model.device)
        decay = options.trainer.average
        self.mean = running_mean(model, decay) if decay else None
        if options.trainer.compile:
            model.trunk.compile()  # in place: weights keep their names
        self.skipped = SkippedSteps(scaled=options.trainer.precision == "fp16")
        self.epoch, self.step, self.best = 0, 0, -1.0
        self.rate = 0.0  # the learning rate of the last step
        # Where a run goes on from the middle of an epoch: the checkpoint's state until then.
        self._interrupted: State | None = None
        self._saved = time.monotonic()  # when the last checkpoint was written

    def fit(self) -> None:
        """Train to the last epoch, from whichever was the last one done.

        Raises:
            TrainingError: too many steps could not be taken; the last checkpoint stays.
        """
        # Each epoch seeds torch's own generators, which are the whole process's.
        device = self.model.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            self._fit()

    def _fit(self) -> None:
        """Train, with torch's generators free to be seeded."""
        log = Log(self.run.path, step=self.step) if self.run is not None else None
        try:
            while self.epoch < self.options.trainer.epochs:
                started = time.perf_counter()
                self.epoch += 1
                self.schedule.begin(self.epoch)
                losses = self._train_epoch(log)
                record: dict[str, Any] = {
                    "kind": "epoch",
                    "epoch": self.epoch,
                    "step": self.step,
                    "train": losses,
                    "lr": self.rate,
                    "trunk_trained": int(self.schedule.image_encoder),
                    "skipped": self.skipped.epoch,
                }
                if self.skipped.epoch:
                    self.progress.note(f"epoch {self.epoch}: {self.skipped}")
                checkpoint = self._checkpoint() if self._is_checkpoint_due() else None
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
                    self._saved = time.monotonic()
                self.progress.epoch(record)
        finally:
            if log is not None:
                log.close()

    def restore(self, weights: dict[str, Tensor], state: State) -> None:
        """Resume from a checkpoint.

        Args:
            weights: the model's, or their running mean's where there is one.
            state: what `_state` returned when they were saved, perhaps in an older release.
        """
        self.model.load_state_dict(weights)
        tensors = {name: value.to(self.model.device) for name, value in state.tensors.items()}
        # Runs of older releases counted no skipped steps.
        self.skipped.total = state.record.get("skipped", 0)
        # The checkpoint's weights are the mean's; the model's own stand among the tensors.
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
        if "within" in state.record:
            self._interrupted = state

    def _train_epoch(self, log: Log | None) -> dict[str, float]:
        """Train one epoch, and return the means of its figures over the steps taken.

        Raises:
            TrainingError: too many steps were skipped; says which checkpoint the run still holds.
        """
        try:
            return self._take_steps(log)
        except TrainingError as error:
            last = self.run.last_checkpoint if self.run is not None else None
            checkpoint = f"; {last} is kept" if last else ""
            raise TrainingError(
                f"training stopped in epoch {self.epoch}: {error}{checkpoint}; try a smaller "
                "optimizer.lr, optimizer.clip=1 or trainer.precision=fp32"
            ) from error

    def _take_steps(self, log: Log | None) -> dict[str, float]:
        """Take the steps of one epoch."""
        options = self.options.trainer
        self.skipped.begin_epoch()
        state = EpochState(options.seed, self.epoch, self.model.device)
        with distributed.first():
            self.pairs.prepare(self.model, cached=not self.schedule.touched)
        # A photo may have been out of one process's reach for a moment.
        self.pairs.train, self.pairs.validation = distributed.from_first(
            (self.pairs.train, self.pairs.validation)
        )
        self.schedule.apply(self.model, self.parameters)
        self._replicated = distributed.replicated(self._step)
        batches = self._batches()
        if self._interrupted is not None:
            within = self._interrupted.record["within"]
            state.restore(within, self._interrupted.tensors)
            self.skipped.restore_epoch(within["skipped"])
            self._interrupted = None
        shown = self.pairs.epoch(
            self.model,
            batches,
            state.views,
            epoch=self.epoch,
            # A frozen image encoder would see each photo again in every epoch, for the same
            # features: they are read from the cache until it is trained for the first time.
            cached=not self.schedule.touched,
            small=self.epoch <= self.options.photos.small * options.epochs,
            first=state.batch,
        )
        self.progress.stage(f"epoch {self.epoch}/{options.epochs}", len(batches))
        self.progress.advance(state.batch)
        for batch in shown:
            self.rate = self._set_rate(state.batch, len(batches))
            logged = state.batch % LOG_EVERY == 0
            figures, taken = self._take_step(batch, state.pairs)
            self.step += 1
            state.add(figures, taken=taken)
            if log is not None and (logged or not taken):
                # JSON knows no infinity.
                finite = {name: value for name, value in figures.items() if math.isfinite(value)}
                record = {"kind": "step", "epoch": self.epoch, "step": self.step, "lr": self.rate}
                log.add({**record, **finite, **({} if taken else {"skipped": 1})})
            self.skipped.count(taken)
            self.progress.advance()
            # Not after the last batch, when the epoch's own is near.
            if state.batch < len(batches) and self._is_time_to_save():
                self._save_within(state)
        self.skipped.end_epoch(last=self.epoch == options.epochs)
        return {name: value / self.skipped.taken for name, value in state.sums.items()}

    def _is_time_to_save(self) -> bool:
        """Return whether this process writes, and its last checkpoint is old."""
        minutes = self.options.trainer.save_minutes
        return self.run is not None and time.monotonic() - self._saved > 60 * minutes > 0

    def _save_within(self, epoch_state: EpochState) -> None:
        """Write a checkpoint in the middle of an epoch. No other process need know of it."""
        assert self.run is not None
        state = self._state()
        within = {**epoch_state.record(), "skipped": self.skipped.epoch_state()}
        self.run.save_checkpoint(
            self.epoch - 1,
            _on_cpu(self._averaged()),
            State(
                {**state.tensors, **epoch_state.tensors()},
                {**state.record, "epoch": self.epoch - 1, "within": within},
            ),
            best=None,
            batch=epoch_state.batch,
        )
        self._saved = time.monotonic()

    def _batches(self) -> list[Positions]:
        """Return this process's share of each batch of the epoch, as rows of `pairs`."""
        options = self.options
        generator = epoch_generator(options.trainer.seed, self.epoch, 0)
        train, size = self.pairs.train, min(options.trainer.batch_size, len(self.pairs.train))
        if options.sampler.name == "class-pairs":
            try:
                batches = class_pair_batches(
                    self.classes[train], size, options.sampler.labelled, generator
                )
            except ValueError as error:
                raise InputError(f"sampler.name=class-pairs: {error}; take shuffle") from error
        else:
            batches = shuffled_batches(len(train), size, generator)
        # Equal parts: gathering takes as many rows from every process.
        shared = [distributed.share(train[rows]) for rows in batches]
        return [rows for rows in shared if len(rows)]

    def _take_step(
        self, batch: PairBatch, pair_generator: torch.Generator
    ) -> tuple[dict[str, float], bool]:
        """Learn from one batch; return its figures, and whether the weights moved.

        Args:
            batch: of `pairs`.
            pair_generator: for losses that draw pairs.
        """
        model = self.model
        # A forward pass that overflows has put its infinities into BatchNorm's running statistics
        # before any gradient tells; where the step is not taken, they go back too.
        statistics = self._statistics() if self.schedule.image_encoder else []
        loss: BatchLoss = self._replicated(batch, pair_generator)
        step = self.optimizer.step(loss.value)
        if step.taken and self.mean is not None:
            self.mean.update_parameters(model)
        elif not step.taken:
            with torch.no_grad():
                for buffer, value in statistics:
                    buffer.copy_(value)
        values = torch.stack([value.float() for value in loss.parts.values()]).tolist()
        return {"norm": step.norm, **dict(zip(loss.parts, values, strict=True))}, step.taken

    def _statistics(self) -> list[tuple[Tensor, Tensor]]:
        """Return the image encoder's buffers, each with a copy of what it holds now."""
        return [(buffer, buffer.clone()) for buffer in self.model.trunk.buffers()]

    def _set_rate(self, number: int, batches: int) -> float:
        """Set the learning rate of the epoch's step of that number, and return it."""
        progress = self.epoch - 1 + (number + 1) / batches
        share = learning_rate(self.options.optimizer, progress, self.options.trainer.epochs)
        return self.optimizer.set_rate(share * self.schedule.rate)

    def _is_checkpoint_due(self) -> bool:
        """Return whether this epoch is validated and saved: the first, the last, some between."""
        options = self.options.trainer
        return self.epoch in (1, options.epochs) or self.epoch % options.validate_every == 0

    def _checkpoint(self) -> _Checkpoint:
        """Measure the model on the validation pairs, and note whether it is the best so far."""
        model = self._averaged()
        # By one process, and by its figures all decide: those of another GPU may differ in their
        # last digits, and its image encoder would take turns at another epoch.
        measures = distributed.rank() == 0
        figures = distributed.from_first(self._validated(model) if measures else None)
        weights = _on_cpu(model) if self.run is not None else {}
        score = None
        better = self.options.trainer.keep == "last"
        if figures is not None:
            score = float(figures["recall_sum"])
            # That of the first epoch is for the user: turns count the published ones.
            if self.epoch % self.options.trainer.validate_every == 0:
                self.schedule.observe(score)
            better = better or score > self.best
            self.best = score if better else self.best
        best = {"recall_sum": score, "validation": figures} if better else None
        return _Checkpoint(weights, figures, best)

    def _averaged(self) -> Model:
        """Return what is validated and kept: the running mean of the model, or the model."""
        return self.model if self.mean is None else cast(Model, self.mean.module)

    def _validated(self, model: Model) -> dict[str, Any] | None:
        """Return figures of a model on the validation pairs; None where there are none."""
        if not len(self.pairs.validation):
            return None
        return validate(
            model.eval(),
            self.pairs,
            cached=not self.schedule.touched,
            autocast=autocast(self.options, model.device),
        )

    def _state(self) -> State:
        """Return what a resumed run must know beside the weights; its names are a format."""
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


def _on_cpu(model: Model) -> dict[str, Tensor]:
    """Return a copy of a model's state."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
