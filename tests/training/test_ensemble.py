"""Ensembles: heads of several seeds, joined into one model."""

from __future__ import annotations

import pytest
import torch

from hficma.artifacts.workspace import Workspace
from hficma.errors import InputError
from hficma.model import load_model
from hficma.model.encoders.image.features import mean_pooled
from hficma.training import train
from hficma.training.ensemble import joined_weights
from tests.model.factories import random_recipes, random_regions
from tests.training.conftest import DATA, SMALL

DUAL = [
    *SMALL, "trunk.weights=random", "trunk.schedule=frozen", "model.word_dim=8",
    "model.text.unit=field", "model.recipe_head.hidden=8", "model.global_dim=8",
    "photos.views=0", "trainer.epochs=1",
]  # fmt: skip


def test_the_cosine_of_an_ensemble_is_the_mean_of_its_members(workspace: Workspace) -> None:
    """Joined otherwise it would be another model than the one whose quality was measured."""

    def trained(name: str, *overrides: str) -> torch.nn.Module:
        run = workspace.home / "runs" / name
        train("photos", [*DUAL, *overrides], data=DATA, run=run, workspace=workspace)
        return load_model(run)

    both = trained("ensemble", "model.members=2", "trainer.seed=7")
    photos = mean_pooled(random_regions(3, 192, 0))
    recipes = random_recipes([(1, 4), (1, 3)], 8, 0)

    def cosines(model: torch.nn.Module) -> torch.Tensor:
        return model.score(model.image_tokens(photos), model.recipe_tokens(recipes)).global_

    members = [trained("member", "trainer.seed=7"), trained("other-member", "trainer.seed=7")]
    # The second member is the ensemble's own: what else is in it, another run does not have.
    state = {
        name.replace(".members.1.", "."): value
        for name, value in both.state_dict().items()
        if ".members.0." not in name
    }
    members[1].load_state_dict(state)
    first, second = map(cosines, members)
    assert not torch.allclose(first, second, atol=1e-3), "two members that learnt the same"
    torch.testing.assert_close(cosines(both), (first + second) / 2, atol=1e-6, rtol=0)
    assert both.global_dim == 16
    with pytest.raises(InputError, match="is an ensemble"):
        train(run=workspace.home / "runs" / "ensemble", resume=True, workspace=workspace)
    assert not [path for path in (workspace.home / "runs").iterdir() if "member-1" in path.name]


def test_members_that_trained_what_they_share_are_refused() -> None:
    """One of the encoders would read photos with the other's heads."""
    states = [{"trunk.0.weight": torch.full((2,), float(value))} for value in (1, 2)]
    with pytest.raises(InputError, match=r"trunk\.0\.weight"):
        joined_weights(states)
