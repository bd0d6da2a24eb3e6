"""A sample small enough to train on within a test, and the options that make a model so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from hficma.artifacts.workspace import Workspace
from hficma.training import train

DATA = "sample:100"

SMALL = (
    "model.image.encoder=tiny",
    "model.image.pooled=last",
    "model.image.crops=1",
    "model.image.input=null",
    "model.members=1",
    "model.width=16",
    "model.heads=2",
    "model.global_dim=16",
    "photos.views=0",
    "model.word_dim=16",
    "model.sentence=mean",
    "model.sentence_dim=16",
    "model.ingredient_width=8",
    "text.pretrain_steps=0",
    "text.neighbours=0",
    "trunk.weights=random",
    "trunk.schedule=frozen",
    "trainer.epochs=2",
    "trainer.batch_size=32",
    "trainer.device=cpu",
)
"""Overrides that shrink any preset; the losses, samplers and schedules stay its own."""

REFERENCE = ("trainer.epochs=4", "trainer.average=0.9")


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """One workspace for the session, so that photos and word vectors are made once."""
    return Workspace(tmp_path_factory.mktemp("workspace"))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


Trained = Callable[..., Path]


@pytest.fixture(scope="session")
def trained(workspace: Workspace) -> Trained:
    """Trains a shrunken preset on the small sample: `trained(name, *overrides, preset=...)`."""

    def make(name: str, *overrides: str, preset: str = "hf-icma-small") -> Path:
        run = workspace.home / "runs" / name
        return train(preset, [*SMALL, *overrides], data=DATA, run=run, workspace=workspace)

    return make


@pytest.fixture(scope="session")
def reference(trained: Trained) -> Path:
    """An uninterrupted run of four epochs."""
    return trained("reference", *REFERENCE)
