"""A run that is cut off in the middle of an epoch goes on from there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hficma.artifacts.manifest import read_manifest
from hficma.artifacts.workspace import Workspace
from hficma.progress import Progress
from hficma.training import train
from hficma.training.runs.log import read_log
from tests.training.conftest import DATA, SMALL

Trained = Callable[..., Path]
OPTIONS = (
    "trainer.batch_size=16", "trainer.average=0.9", "text.dropout=0.2", "photos.dropout=0.2",
    "photos.views=1", "text.drop_title=0.3", "text.drop_items=0.3",
)  # fmt: skip
"""Everything that draws at random."""


class CutError(Exception):
    """Stands for what ends a process."""


class Cut(Progress):
    """Ends a training after four steps of its second epoch."""

    def __init__(self) -> None:
        self.steps = -1

    def stage(self, name: str, total: int | None = None) -> None:
        self.steps = 0 if name.startswith("epoch 2") else -1

    def advance(self, count: int = 1) -> None:
        if self.steps >= 0:
            self.steps += count
            if self.steps == 5:
                raise CutError


@pytest.mark.parametrize("reading", [(), ("loader.cache_limit=0", "loader.workers=0")])
def test_a_run_cut_within_an_epoch_ends_at_the_same_bits(
    reading: tuple[str, ...], trained: Trained, workspace: Workspace
) -> None:
    """An epoch of Recipe1M takes half an hour, and five of them lie between two validations."""
    options = (*OPTIONS, *reading)
    whole = trained(f"whole-{len(reading)}", *options)
    run = workspace.home / "runs" / f"cut-{len(reading)}"
    with pytest.raises(CutError):
        train(
            "hf-icma-small", [*SMALL, *options, "trainer.save_minutes=1e-9"], data=DATA, run=run,
            workspace=workspace, progress=Cut(),
        )  # fmt: skip
    last = read_manifest(run, kind="run").facts["last"]
    assert (last["epoch"], last["batch"]) == (1, 4)
    train(run=run, resume=True, workspace=workspace)
    one, other = (
        load_file(path / read_manifest(path, kind="run").facts["last"]["file"])
        for path in (whole, run)
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    logs = [[r for r in read_log(path) if r["kind"] == "epoch"] for path in (whole, run)]
    for first, second in zip(*logs, strict=True):
        assert first["train"] == second["train"], "the means of an epoch are of all its steps"
    files = {f"checkpoints/{file.name}" for file in (run / "checkpoints").iterdir()}
    assert files <= set(read_manifest(run, kind="run").files), "a checkpoint is left behind"
