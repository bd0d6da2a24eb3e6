"""`hficma bench training`: pairs learnt a second, what they wait for, and what they could be.

    loader alone     photos a second that workers read, beside what one core decodes
    by part          a pair's time in each part of reading, and of a training step
    fed by           pairs a second that are learnt from workers' photos, and from memory

`--size 340000` measures something else: an epoch's reading of a dataset of that size without a
model, and the memory of all processes; `--test-pairs 51000` the evaluation of as many.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import torch
import typer

from hficma.artifacts.workspace import Workspace
from hficma.data.directory import DatasetDirectory
from hficma.progress import Progress
from hficma.training.data.loader.workers import default_workers
from hficma.training.data.pairs.pairs import Pairs

from ..common.arguments import JsonFile
from ..common.timing import environment
from ..pages.parts import publish
from .evaluation import evaluation_record
from .learner import Learner, epoch_batches, trained_model
from .memory import PeakMemory, peak_memory
from .reading import Record, photo_record, skipped_batches
from .simulated import SimulatedDataset, stored_photos


def main(
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Options of the preset.")
    ] = None,
    preset: Annotated[str, typer.Option(help="A preset's name.")] = "hf-icma-small",
    data: Annotated[
        str | None, typer.Option(help="Photos to read.", show_default="of the sample")
    ] = None,
    workers: Annotated[
        str | None, typer.Option(help="Processes that read: 0,1,2.", show_default="the default's")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda[:N].")] = "cpu",
    steps: Annotated[int, typer.Option(min=1, help="Steps of a measurement.")] = 16,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of all measurements.")] = 2,
    size: Annotated[
        int | None, typer.Option(min=100, help="Read a dataset of so many pairs instead.")
    ] = None,
    test_pairs: Annotated[
        int | None, typer.Option(min=2, help="Rank so many test pairs of random features instead.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Pairs learnt a second, part by part, beside the same model fed from memory.

    Example: hficma bench training --size 340000
    """
    cache = Workspace.default().cache
    photos = stored_photos(data, cache)
    numbers = [default_workers()] if workers is None else [int(one) for one in workers.split(",")]
    chosen = list(overrides or ())
    if test_pairs is not None:
        record = evaluation_record(test_pairs, preset, chosen, photos, cache, device)
        publish("training-evaluation", {"environment": environment(), **record}, json_file)
        return
    with tempfile.TemporaryDirectory(prefix="hficma-bench-") as scratch:
        if size is not None:
            record = size_record(
                photos, size, preset, chosen, numbers[-1], device, cache, Path(scratch)
            )
            publish("training-size", {"environment": environment(), **record}, json_file)
            return
        record = {
            **photo_record(photos, rounds),
            **learning_record(
                photos, preset, chosen, numbers, device, steps, rounds, cache, Path(scratch)
            ),
        }
    publish("training-rate", {"environment": environment(), **record}, json_file)


def learning_record(
    photos: DatasetDirectory,
    preset: str,
    overrides: list[str],
    workers: list[int],
    device: str,
    steps: int,
    rounds: int,
    cache: Path,
    scratch: Path,
) -> Record:
    """Learn from photos that workers read, and from the same ones in memory, by turns."""
    options, model = trained_model(preset, overrides, photos, cache, device)
    rows = np.arange(len(photos))
    feeds: dict[str, Learner] = {}
    for number in workers:
        chosen = [*overrides, f"loader.workers={number}"]
        fed, _ = trained_model(preset, chosen, photos, cache, device)
        pairs = Pairs(photos, rows, rows[:0], model, fed, scratch, Progress())
        feeds[f"{number} worker{'' if number == 1 else 's'}"] = Learner(fed, model, pairs)
    learner = next(iter(feeds.values()))
    sizes = {"whole photos": False}
    if options.photos.small and not learner.frozen:
        sizes = {"photos at half their size": True, **sizes}
    total: dict[tuple[str, str], list[dict[str, float]]] = {}
    skipped = skipped_batches(max(workers))
    batches = epoch_batches(learner.pairs, options, skipped + steps)
    for size, small in sizes.items():
        # In a GPU's own memory, where there is one: copying them there is the loader's work.
        stored = [
            replace(batch, shown=batch.shown.clone())
            for batch in learner.batches(batches[:4], small=small)
            if isinstance(batch.shown, torch.Tensor)
        ]
        for _ in range(rounds):
            memory: Iterator[Any] = (stored[n % len(stored)] for n in range(skipped + steps))
            total.setdefault((size, "memory"), []).append(learner.learn(memory, skipped=skipped))
            for name, one in feeds.items():
                read = one.batches(batches, small=small)
                total.setdefault((size, name), []).append(one.learn(read, skipped=skipped))
    table: list[Record] = []
    for (size, feed), runs in total.items():
        parts = ("waiting", "forward", "backward", "step")
        per_pair = {
            name: 1000 * sum(run[name] for run in runs) / sum(run["pairs"] for run in runs)
            for name in parts
        }
        rates = [run["pairs"] / sum(run[name] for name in parts) for run in runs]
        limit = next((row["pairs"] for row in table if row["size"] == size), median(rates))
        table.append(
            {"size": size, "feed": feed, "pairs": median(rates), "share": median(rates) / limit,
             "spread": (max(rates) - min(rates)) / median(rates), **per_pair}
        )  # fmt: skip
    return {
        "preset": preset,
        "device": str(model.device),
        "batch": options.trainer.batch_size,
        "learning": table,
    }


def size_record(
    photos: DatasetDirectory,
    size: int,
    preset: str,
    overrides: list[str],
    workers: int,
    device: str,
    cache: Path,
    scratch: Path,
) -> Record:
    """Read one epoch of a large dataset, without learning from it."""
    dataset = SimulatedDataset(photos, size)
    options, model = trained_model(
        preset, [*overrides, f"loader.workers={workers}"], dataset, cache, device
    )
    rows = np.arange(size)
    before = PeakMemory()
    before.look()
    with peak_memory() as reading:
        pairs = Pairs(dataset, rows, rows[:0], model, options, scratch, Progress())
    stages = [reading.stage("recipes, read once and kept as ids", size)]
    if not options.text.tune_sentences:
        with peak_memory() as encoding:
            pairs.texts.encode_sentences(model)
        stages.append(encoding.stage("distinct sentences, encoded", size))
    with peak_memory() as epoch:
        read = 0
        for batch in pairs.epoch(
            model, epoch_batches(pairs, options), np.random.default_rng(0), epoch=1,
            cached=options.trunk.schedule != "tuned",
        ):  # fmt: skip
            pairs.recipe_batch(model, batch)
            read += len(batch.rows)
    assert read == size
    stages.append(epoch.stage("an epoch, photos read and cropped", size))
    disk = sum(
        file.stat().st_size
        for folder in (Path(photos.name), scratch)
        for file in folder.rglob("*")
        if file.is_file()
    )
    return {
        "size": size,
        "preset": preset,
        "workers": workers,
        "photos": len(photos),
        "model_mb": before.memory_mb,
        "sentences": pairs.texts.distinct_sentences,
        "stages": stages,
        "disk_mb": disk / 1e6,
        "free_mb": shutil.disk_usage(scratch).free / 1e6,
    }


if __name__ == "__main__":
    typer.run(main)
