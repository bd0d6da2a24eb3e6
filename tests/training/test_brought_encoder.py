"""A run with an image encoder that its user brought, a folder of Hugging Face's."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from hficma.errors import InputError
from hficma.model import load_model
from hficma.training import train
from hficma.training.evaluation import evaluate
from tests.model.encoders.image.folders import save_folder
from tests.training.conftest import DATA, SMALL, Trained

pytestmark = pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is missing")


@pytest.mark.parametrize("preset", ["hf-icma-small", "adamine"])
def test_a_run_needs_its_encoders_folder_no_more(
    trained: Trained, preset: str, tmp_path: Path
) -> None:
    """A run that is taken elsewhere, or whose folder was tidied away, must open, and go on."""
    folder = tmp_path / "clip-tiny"
    save_folder("clip", folder)
    options = (f"model.image.encoder={folder}", "trunk.weights=null", "photos.views=1")
    run = trained(f"clip-{preset}", *options, "trainer.epochs=1", preset=preset)
    shutil.rmtree(folder)
    model = load_model(run)
    assert (model.config.image.encoder, model.grid) == ("clip-tiny", 4)
    assert str(tmp_path) not in model.config.image.architecture
    assert evaluate(run, split="val", setup="all").items > 2
    before = model.trunk.state_dict()
    train(overrides=["trainer.epochs=2"], run=run, resume=True)
    after = load_model(run, weights="last").trunk.state_dict()
    assert all(torch.equal(before[name], value) for name, value in after.items()), "it was frozen"


def test_what_does_not_suit_such_an_encoder_is_said(tmp_path: Path) -> None:
    """Photos at half their size have half the patches, for which it knows no places."""
    save_folder("vit", tmp_path / "vit")
    options = [*SMALL, f"model.image.encoder={tmp_path / 'vit'}", "trunk.weights=null"]
    with pytest.raises(InputError, match=r"photos\.small=0\.5: vit has learnt"):
        train(
            "hf-icma-small",
            [*options, "trunk.schedule=tuned", "photos.small=0.5"],
            data=DATA,
            run=tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()
