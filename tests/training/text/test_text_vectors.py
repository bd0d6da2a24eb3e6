"""Where word and sentence vectors come from: recipes named as a source train both, once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from hficma.artifacts.manifest import read_manifest
from hficma.artifacts.workspace import Workspace
from hficma.data import open_dataset
from hficma.progress import Progress
from hficma.training import train
from tests.training.conftest import DATA, SMALL


class Heard(Progress):
    def __init__(self) -> None:
        self.stages: list[str] = []
        self.notes: list[str] = []

    def stage(self, name: str, total: int | None = None) -> None:
        self.stages.append(name)

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dataset = open_dataset("sample:300:9")
    path = tmp_path_factory.mktemp("text") / "recipes.jsonl"
    lines = [json.dumps(dataset.recipe(index).to_json()) for index in range(len(dataset))]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def encoder_of(run: Path, which: str) -> dict[str, Tensor]:
    weights = load_file(run / read_manifest(run, kind="run").facts[which]["file"])
    return {name: value for name, value in weights.items() if name.startswith("sentence_encoder")}


def test_recipes_train_a_frozen_sentence_encoder_once(workspace: Workspace, recipes: Path) -> None:
    """Without it a frozen GRU would read sentences with random weights."""
    options = [*SMALL, "model.sentence=gru", f"text.vectors={recipes}"]
    first, second = Heard(), Heard()
    runs = [workspace.home / "runs" / f"sentences-{number}" for number in (1, 2)]
    for run, heard in zip(runs, (first, second), strict=True):
        train("hf-icma-small", options, data=DATA, run=run, workspace=workspace, progress=heard)
    assert "sentence vectors" in first.stages
    assert "sentence vectors" not in second.stages
    assert not first.notes
    (file,) = workspace.cache.glob("vectors/*/sentences.safetensors")
    trained = load_file(file)
    for run in runs:
        encoder = encoder_of(run, "last")
        assert encoder.keys() == {f"sentence_encoder.{name}" for name in trained}
        for name, value in trained.items():
            assert torch.equal(encoder[f"sentence_encoder.{name}"], value)


def test_an_encoder_that_is_trained_with_the_rest_does_not_wait_for_its_own_training(
    workspace: Workspace, recipes: Path
) -> None:
    options = [*SMALL, "model.sentence=gru", "text.tune_sentences=true", f"text.vectors={recipes}"]
    heard = Heard()
    run = workspace.home / "runs" / "sentences-tuned"
    train("hf-icma-small", options, data=DATA, run=run, workspace=workspace, progress=heard)
    assert "sentence vectors" not in heard.stages


def test_without_a_source_the_encoder_is_trained_with_the_rest_and_that_is_said(
    workspace: Workspace,
) -> None:
    heard = Heard()
    run = workspace.home / "runs" / "sentences-none"
    options = [*SMALL, "model.sentence=gru"]
    train("hf-icma-small", options, data=DATA, run=run, workspace=workspace, progress=heard)
    assert any("trained with the rest" in note for note in heard.notes)
