"""Trainings in several processes: they end together, well or not, and learn what one learns."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from hficma.artifacts.manifest import read_manifest
from hficma.artifacts.workspace import Workspace
from hficma.data.dataset import open_dataset
from hficma.errors import InputError, MissingDependencyError
from hficma.progress import Progress
from hficma.training import train
from hficma.training.parallel import processes
from hficma.training.parallel.distributed import from_first, rank, start
from hficma.training.parallel.processes import (
    ProcessKilledError,
    count_devices,
    run_on_devices,
)
from hficma.training.runs.log import read_log
from tests.training.conftest import DATA, SMALL

OPTIONS = (
    *SMALL, "trunk.schedule=tuned", "photos.small=0.5", "loader.cache_limit=0", "loader.workers=0",
    "trainer.epochs=3", "trainer.batch_size=16", "trainer.average=0.9", "loss.group=0",
    "optimizer.name=adam", "optimizer.lr=3e-4", "text.drop_title=0.3", "text.drop_items=0.3",
)  # fmt: skip
"""With crops and left-out parts of recipes drawn at random, and batch normalisation. Groups are
left out: each process forms them of its own pairs."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of 48 training pairs, which make three batches of 16, and 8 to validate."""
    folder = tmp_path_factory.mktemp("pairs")
    sample, draws = open_dataset("sample:100"), np.random.default_rng(0)
    with (folder / "pairs.jsonl").open("w") as file:
        for number in range(56):
            pixels = draws.integers(256, size=(9, 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((90, 90)).save(folder / f"{number}.png")
            partition = "train" if number < 48 else "val"
            record = {"image": f"{number}.png", "partition": partition}
            file.write(json.dumps(sample.recipe(number).to_json() | record) + "\n")
    return str(folder / "pairs.jsonl")


class KillsOne(Progress):
    """Kills process 1 once an epoch is done."""

    def epoch(self, record: dict[str, Any]) -> None:
        (second,) = (p for p in multiprocessing.active_children() if p.name == "process 1 of 2")
        assert second.pid is not None
        os.kill(second.pid, signal.SIGKILL)


def test_two_processes_learn_what_one_learns_though_one_is_killed_and_they_are_resumed(
    data: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that waits for a dead one waits for ever; and a run that goes on is the same."""
    run = workspace.home / "runs" / "of-two"
    # Importing torch anew takes seconds; docs/howto/train.md starts processes as a user does.
    monkeypatch.setattr(processes, "_START", "fork")
    with pytest.raises(ProcessKilledError, match=r"process 1 of 2 was ended by SIGKILL") as error:
        train(
            "hf-icma-small", OPTIONS, data=data, run=run, devices=2, workspace=workspace,
            progress=KillsOne(),
        )  # fmt: skip
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2
    assert read_manifest(run, kind="run").facts["last"]["epoch"] < 3
    assert multiprocessing.active_children() == []
    train(run=run, resume=True, devices=2, workspace=workspace)
    epochs = [record for record in read_log(run) if record["kind"] == "epoch"]
    assert [record["epoch"] for record in epochs] == [1, 2, 3]

    alone = workspace.home / "runs" / "of-one"
    train("hf-icma-small", OPTIONS, data=data, run=alone, workspace=workspace)
    last, expected = (
        load_file(path / read_manifest(path, kind="run").facts["last"]["file"])
        for path in (run, alone)
    )
    assert last.keys() == expected.keys()
    # Not to the bit: sums are of other parts, and Adam makes much of little where gradients are 0.
    for name, value in expected.items():
        if value.ndim > 1:
            assert float((last[name] - value).norm()) <= 0.01 * float(value.norm()), name
    losses = [r["train"]["loss"] for r in read_log(alone) if r["kind"] == "epoch"]
    assert [r["train"]["loss"] for r in epochs] == pytest.approx(losses, rel=5e-3)


def fails(kind: str, progress: Progress) -> None:
    """Stands for a training whose processes fail."""
    progress.note(f"{kind} in process {os.environ['RANK']}")
    start(torch.device("cpu"))
    assert from_first(rank()) == 0
    if kind == "alike":
        raise MissingDependencyError("a package", "train", "this")
    if rank() == 1:
        if kind == "crash":
            raise KeyError("a fault of the program")
        raise InputError("photo.jpg: only process 1 met it")
    time.sleep(600)  # as one that waits for a peer


class Notes(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("alike", MissingDependencyError, r"^this needs a package, .*hficma\[train\]'$"),
        ("in one", InputError, "^photo.jpg: only process 1 met it$"),
        ("crash", RuntimeError, "process 1 of 2 failed:\n(.|\n)*a fault of the program"),
    ],
)
def test_what_fails_in_one_process_ends_all_and_is_said_once(
    kind: str, error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user would see as many errors as there are GPUs, or none and a command that hangs."""
    monkeypatch.setattr(processes, "_START", "fork")
    monkeypatch.setattr(processes, "_GRACE", 0.3)
    notes = Notes()
    with pytest.raises(error, match=message):
        run_on_devices(fails, {"kind": kind}, devices=2, progress=notes)
    assert notes.lines == [f"{kind} in process 0"]
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("devices", "device", "message"),
    [
        (0, "cpu", "must be 1 or more"),
        ("all", "cpu", "there is no GPU here"),
        (2, "cuda:1", "trainer.device=cuda:1: is one of 2 devices"),
        (99, "cuda", r"devices=99: there are \d+ GPUs"),
    ],
)
def test_devices_that_are_not_there_are_refused_before_anything_starts(
    devices: Any, device: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        count_devices(devices, device)
    assert count_devices(2, "cpu") == 2


def test_an_ensemble_is_trained_on_one_device(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its members would be written by every process at once."""
    monkeypatch.setattr(processes, "_START", "fork")
    options = [*SMALL, "model.kind=dual", "model.members=2"]
    with pytest.raises(InputError, match=r"members=2: .* one device"):
        train("photos", options, data=DATA, devices=2, workspace=workspace)
