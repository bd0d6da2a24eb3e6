"""CLIP and SigLIP from their folders: their own cosine, through export, index and search."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hficma.artifacts.workspace import Workspace
from hficma.engine.bundle.bundle import Bundle
from hficma.engine.encoder import encode_photos, encode_recipes
from hficma.engine.runtimes.options import ExecutionOptions
from hficma.errors import ArtifactError, InputError
from hficma.export import export_run
from hficma.images import preprocess
from hficma.model import load_model
from hficma.progress import Progress
from hficma.recipe import Recipe
from hficma.training import train
from hficma.training.runs.convert_dual import convert_dual
from tests.model.text_folders import text_folder, transformers
from tests.training.conftest import DATA, SMALL

RECIPES = tuple(
    Recipe(id=title, title=title, ingredients=lines, instructions=("Bake.",))
    for title, lines in (
        ("Tomato soup", ("2 tomato", "salt")),
        ("Soup", ("flour", "1 cup olive oil")),
        ("Flour with salt", ("350 flour", "salt", "oil")),
    )
)


def dual_folder(folder: Path, kind: str) -> Path:
    """A tiny CLIP, SigLIP or SigLIP 2 for photos of any shape (NaFlex), with all its files."""
    text_folder(folder, kind)
    name = {"clip": "CLIP", "siglip": "Siglip", "siglip2": "Siglip2"}[kind] + "ImageProcessor"
    processor = {
        "image_processor_type": name, "size": {"height": 32, "width": 32}, "resample": 3,
        "do_center_crop": False, "do_rescale": True, "do_normalize": True,
        "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4],
        "patch_size": 16, "max_num_patches": 4,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


@pytest.mark.parametrize("kind", ["clip", "siglip", "siglip2"])
def test_its_scores_are_the_model_s_own_cosine(kind: str, tmp_path: Path) -> None:
    """Through the run, the bundle and the index: nothing is learnt and nothing is lost."""
    library = transformers()
    folder = dual_folder(tmp_path / kind, kind)
    converted = convert_dual(folder, tmp_path / "run")
    assert (converted.kind, converted.tokens) == (kind, 24)
    model = load_model(tmp_path / "run")
    random = np.random.default_rng(0)
    photos = [
        Image.fromarray(random.integers(0, 255, (40, 50, 3), dtype=np.uint8)) for _ in range(2)
    ]
    pixels = np.stack([preprocess(photo, model.image_input) for photo in photos])

    own = library.AutoModel.from_pretrained(folder).eval()
    image_input = model.image_input
    values = (pixels / 255 - image_input.mean) / image_input.deviation
    tokenizer = model.tokenizer.text_tokenizer
    assert tokenizer is not None
    with torch.no_grad():
        photo_inputs = {"pixel_values": torch.from_numpy(values).permute(0, 3, 1, 2).float()}
        if kind == "siglip2":
            parted = photo_inputs["pixel_values"].reshape(2, 3, 2, 16, 2, 16)
            photo_inputs = {
                "pixel_values": parted.permute(0, 2, 4, 3, 5, 1).reshape(2, 4, -1),
                "pixel_attention_mask": torch.ones(2, 4, dtype=torch.int64),
                "spatial_shapes": torch.tensor([[2, 2], [2, 2]]),
            }
        features = own.get_image_features(**photo_inputs)
        image = getattr(features, "pooler_output", features)
        texts = []
        for recipe in RECIPES:
            ids, cut = tokenizer.ids(", ".join([recipe.title, *recipe.ingredients]))
            assert not cut
            one = own.get_text_features(input_ids=torch.from_numpy(ids)[None])
            texts.append(getattr(one, "pooler_output", one)[0])
    unit = torch.nn.functional.normalize
    expected = (unit(image, dim=1) @ unit(torch.stack(texts), dim=1).T).numpy()

    out = export_run(tmp_path / "run", tmp_path / "bundle", runtimes=["onnxruntime"])
    bundle = Bundle.open(out, ExecutionOptions(runtime="onnxruntime", threads=1))
    vectors = encode_recipes(bundle, [bundle.tokenizer(one) for one in RECIPES]).vectors
    scores = encode_photos(bundle, pixels).vectors @ vectors.T
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_training_on_top_says_that_it_begins_anew(tmp_path: Path) -> None:
    """Whoever expects the model's own cosine to be kept would be worse off than untrained."""
    folder = dual_folder(tmp_path / "clip", "clip")
    notes: list[str] = []

    class Notes(Progress):
        def note(self, text: str) -> None:
            notes.append(text)

    encoders = [f"model.{part}.encoder={folder}" for part in ("image", "text")]
    options = [*SMALL, *encoders, "trunk.weights=null", "trainer.epochs=1"]
    space = Workspace(tmp_path / "space")
    train("best", options, data=DATA, run=tmp_path / "run", workspace=space, progress=Notes())
    assert sum("not as the model's own cosine" in note for note in notes) == 1


def test_what_is_no_dual_encoder_is_refused(tmp_path: Path) -> None:
    folder = text_folder(tmp_path / "bert", "bert")
    with pytest.raises(InputError, match="holds bert, which reads texts alone"):
        convert_dual(folder, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    (tmp_path / "there").mkdir()
    with pytest.raises(ArtifactError, match="exists already"):
        convert_dual(folder, tmp_path / "there")
