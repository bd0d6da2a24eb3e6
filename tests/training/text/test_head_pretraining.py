"""Recipe heads that learnt from recipes without photos, before they see a pair."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from hficma.artifacts.workspace import Workspace
from hficma.data import open_dataset
from hficma.errors import InputError
from hficma.model import Model, load_model
from hficma.progress import Progress
from hficma.training import train
from hficma.training.data.field_means import recipe_fields
from hficma.training.text.head_pretraining import FieldTable, sides, split_fields, train_head
from tests.training.conftest import DATA, SMALL
from tests.training.text.test_text_vectors import Heard

DUAL = [
    *SMALL, "model.text.unit=field", "model.recipe_head.hidden=64", "trainer.epochs=1",
    "model.global_dim=32", "text.pretrain_steps=20",
]  # fmt: skip


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recipes without photos, of another seed than the pairs'."""
    dataset = open_dataset("sample:300:9")
    path = tmp_path_factory.mktemp("text") / "others.jsonl"
    lines = [json.dumps(dataset.recipe(index).to_json()) for index in range(len(dataset))]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def model(workspace: Workspace) -> Model:
    """A dual encoder of the small sample."""
    run = workspace.home / "runs" / "head-plain"
    options = [*DUAL, "text.pretrain_steps=0"]
    return load_model(train("photos", options, data=DATA, run=run, workspace=workspace))


def test_a_pretrained_head_finds_the_other_side_of_recipes_it_has_not_seen(model: Model) -> None:
    """Else it has learnt the recipes by heart, and pairs gain nothing from it."""
    dataset = open_dataset("sample:400:9")
    recipes = [dataset.recipe(index) for index in range(len(dataset))]
    seen, unseen = (
        FieldTable.of(model, part, Progress()) for part in (recipes[:300], recipes[300:])
    )
    head = deepcopy(recipe_fields(model).head).requires_grad_(True)

    def rank_share() -> float:
        """Return the mean rank of the other side, as a share of the recipes; chance is a half."""
        head.eval()
        with torch.no_grad():
            first, second = sides(head, unseen, np.arange(len(unseen)), np.random.default_rng(1))
        scores = first @ second.T
        better = (scores > scores.diagonal()[:, None]).sum(dim=1)
        return float(better.float().mean()) / len(unseen)

    before = rank_share()
    train_head(head, seen, steps=150, progress=Progress())
    assert before > 0.4
    assert rank_share() < 0.3


@given(
    present=st.lists(
        st.lists(st.booleans(), min_size=3, max_size=3).filter(lambda row: sum(row) > 1),
        min_size=1,
    ),
    seed=st.integers(0, 100),
)
def test_neither_side_of_a_recipe_is_empty(present: list[list[bool]], seed: int) -> None:
    """A side without a field is one and the same vector for all recipes: there is no finding it."""
    fields = np.array(present)
    first = split_fields(fields, np.random.default_rng(seed))
    assert (first & fields).any(axis=1).all()
    assert (~first & fields).any(axis=1).all()
    assert not (first & ~fields).any()


def test_a_head_is_pretrained_once_for_all_seeds_and_not_again_by_a_run_that_goes_on(
    workspace: Workspace, others: Path
) -> None:
    """Members of an ensemble and folds would all wait for it; resumed, a run would lose its own."""
    options = [
        *DUAL, f"text.vectors={others}", f"text.others={others}", "text.neighbours=0.5",
        "trainer.epochs=2",
    ]  # fmt: skip

    def trained(name: str, *overrides: str, heard: Progress | None = None) -> Path:
        run = workspace.home / "runs" / f"head-{name}"
        every = [*options, *overrides]
        return train("photos", every, data=DATA, run=run, workspace=workspace, progress=heard)

    first, again, before = Heard(), Heard(), heads(workspace)
    whole = trained("whole", heard=first)
    still = trained("still", "optimizer.lr=0", "trainer.seed=5", heard=again)
    assert "recipe head" in first.stages
    assert "recipe head" not in again.stages
    assert "titles of other recipes" in first.stages
    assert "titles of other recipes" not in again.stages
    (file,) = heads(workspace) - before
    layers = load_file(file)
    for name, value in layers_of(still).items():
        assert torch.equal(value, layers[name])
    file.unlink()
    with pytest.raises(KeyboardInterrupt):
        trained("killed", heard=Killed())
    (file,) = heads(workspace) - before
    assert all(torch.equal(value, layers[name]) for name, value in load_file(file).items())
    last = Heard()
    killed = workspace.home / "runs" / "head-killed"
    train(run=killed, resume=True, workspace=workspace, progress=last)
    assert "recipe head" not in last.stages
    for name, value in load_model(whole).state_dict().items():
        assert torch.equal(value, load_model(killed).state_dict()[name]), name


def test_hf_icma_whose_global_text_is_fields_has_such_a_head_too(
    workspace: Workspace, others: Path
) -> None:
    """Its ingredients are names, in a table of their own, which the head must have read."""
    options = [
        *SMALL, "model.global_text=fields", "model.global_similarity=cosine", "trainer.epochs=1",
        "text.pretrain_steps=3", "text.neighbours=0.5", f"text.others={others}", "optimizer.lr=0",
    ]  # fmt: skip
    run = workspace.home / "runs" / "head-hf-icma"
    before = heads(workspace)
    train("hf-icma-small", options, data=DATA, run=run, workspace=workspace)
    (file,) = heads(workspace) - before
    layers = load_file(file)
    assert all(torch.equal(value, layers[name]) for name, value in layers_of(run).items())


class Killed(Heard):
    """Ends a training after its first epoch."""

    def epoch(self, record: dict[str, object]) -> None:
        raise KeyboardInterrupt


def heads(workspace: Workspace) -> set[Path]:
    """Return the files of pretrained heads in the cache."""
    return set(workspace.cache.glob("heads/*"))


def layers_of(run: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a run's recipe head."""
    return recipe_fields(load_model(run)).head.layers.state_dict()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["text.others=x.jsonl", "text.pretrain_steps=0"], "nothing reads it"),
        ([], "text.others=FILE"),
        (["text.others=missing.jsonl"], "missing.jsonl"),
        (["text.others=x.jsonl", "model.recipe_head.layers=none"], "with layers"),
        (["text.others=x.jsonl", "text.tune_sentences=true"], "tune_sentences=false"),
        (["text.others=x.jsonl", "text.neighbours=2"], "0 to 1"),
    ],
)
def test_options_that_lack_another_are_refused(
    workspace: Workspace, options: list[str], message: str
) -> None:
    """Or a run would begin, and be another than what was meant."""
    run = workspace.home / "runs" / "head-refused"
    with pytest.raises(InputError, match=message):
        train("photos", [*DUAL, *options], data=DATA, run=run, workspace=workspace)
    assert not run.exists()
