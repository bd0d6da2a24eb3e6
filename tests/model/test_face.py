"""The Python face: build, save, load, encode, score, explain."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from hficma.artifacts.manifest import new_directory
from hficma.errors import ArtifactError, InputError
from hficma.model import HFICMA, ImageConfig, Model, load_model
from hficma.model.attention_maps import attention_maps
from hficma.model.encoders.image.image_encoder import make_image_encoder
from hficma.model.encoders.image.tiny import tiny_image_encoder
from hficma.recipe import Recipe
from tests.model.factories import make_model


def save_run(model: Model, path: Path) -> Path:
    with new_directory(path, kind="run", made_by="test") as (directory, facts):
        save_file(model.state_dict(), directory / "weights.safetensors")
        model.tokenizer.vocabulary.save(directory / "vocabulary.json")
        facts["model"] = model.config.to_json()
        facts["best"] = {"file": "weights.safetensors"}
    return path


def dishes() -> tuple[list[Image.Image], list[Recipe]]:
    random = np.random.default_rng(0)
    photos = [
        Image.fromarray(random.integers(0, 255, (300, 260 + 40 * n, 3), dtype=np.uint8))
        for n in range(3)
    ]
    recipes = [
        Recipe(id="a", title="Tomato soup", ingredients=("2 tomatoes", "1 onion", "salt"),
               instructions=("Cook the tomato. Stir.",)),
        Recipe(id="b", ingredients=("olive oil",)),
        Recipe(id="c", title="Cake", ingredients=("flour", "2 eggs", "brown sugar", "kryptonite"),
               instructions=("Bake.",)),
    ]  # fmt: skip
    return photos, recipes


@pytest.mark.parametrize("kind", ["hf-icma", "adamine"])
def test_a_saved_model_scores_as_before(kind: str, tmp_path: Path) -> None:
    """Weights, options and vocabulary are all of a model; one left out changes its scores."""
    model = make_model(kind, seed=3)
    photos, recipes = dishes()
    again = load_model(save_run(model, tmp_path / "run"))
    first = model.score(model.encode_images(photos), model.encode_recipes(recipes))
    second = again.score(again.encode_images(photos), again.encode_recipes(recipes))
    assert first.total.shape == (3, 3)
    assert torch.equal(first.total, second.total)
    assert again.model_id == model.model_id
    assert make_model(kind, seed=4).model_id != model.model_id


def test_encoding_in_batches_is_encoding_one_at_a_time() -> None:
    """Batches are padded and joined; a recipe alone must come out the same."""
    model = make_model()
    _, recipes = dishes()
    many = model.encode_recipes(recipes * 15)
    alone = model.encode_recipes(recipes[:1])
    assert many.tokens is not None
    assert alone.tokens is not None
    torch.testing.assert_close(many.global_[42], alone.global_[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(many.tokens[42, :3], alone.tokens[0], atol=1e-5, rtol=0)


def test_the_title_counts_only_where_the_model_reads_it() -> None:
    """`title: none` is the published model; `instruction` reads it as the first sentence."""
    from hficma.text.vocabulary import TextConfig

    _, (soup, *_) = dishes()
    renamed = Recipe(id="a", title="Brown sugar milk", ingredients=soup.ingredients,
                     instructions=soup.instructions)  # fmt: skip
    for title, same in (("none", True), ("instruction", False)):
        model = make_model(text=TextConfig(title=title))  # type: ignore[arg-type]
        tokens = model.encode_recipes([soup, renamed])
        assert torch.allclose(tokens.global_[0], tokens.global_[1]) is same


def test_the_explanation_is_of_this_pair() -> None:
    """Attention must sum to 1 over what was read, and belong to the score that is shown."""
    model = make_model()
    assert isinstance(model, HFICMA)
    photos, recipes = dishes()
    image, recipe = model.encode_images(photos[:1]), model.encode_recipes(recipes[:1])
    maps = attention_maps(model, image, recipe)
    count = int(recipe.lengths[0])
    assert maps.ingredient_to_regions.shape == (2, count, 49)
    assert maps.region_to_ingredients.shape == (2, 49, count)
    assert torch.allclose(maps.mean_ingredient_to_regions.sum(-1), torch.ones(count), atol=1e-5)
    assert torch.allclose(maps.mean_region_to_ingredients.sum(-1), torch.ones(49), atol=1e-5)
    assert maps.score == pytest.approx(model.score(image, recipe).total.item(), abs=1e-6)
    with pytest.raises(ValueError, match="one photo and one recipe"):
        attention_maps(model, model.encode_images(photos), recipe)


def test_a_changed_weights_file_is_refused(tmp_path: Path) -> None:
    """A flipped byte would rank silently wrong."""
    run = save_run(make_model(), tmp_path / "run")
    file = run / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"weights\.safetensors.*SHA-256"):
        load_model(run)
    with pytest.raises(ArtifactError, match="no such run"):
        load_model(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("backbone", "channels"), [("mobilenet_v2", 1280), ("resnet50", 2048), ("resnet101", 2048)]
)
def test_torchvision_trunks_give_49_regions(backbone: str, channels: int) -> None:
    """Any torchvision classifier of convolutions serves."""
    encoder = make_image_encoder(ImageConfig(encoder=backbone))
    assert (encoder.pooled_width, encoder.channels, encoder.grid) == (channels, channels, 7)
    with torch.no_grad():
        pixels = torch.zeros(1, 3, 224, 224)
        assert encoder.trunk.eval()(pixels).shape == (1, channels, 7, 7)


def test_global_vectors_of_two_widths_are_refused() -> None:
    """Their inner product would fail at the first score, far from the option that causes it."""
    with pytest.raises(InputError, match="global_dim"):
        make_model(global_dim=None)


def test_mistakes_of_an_image_encoder_are_said_in_one_line(tmp_path: Path) -> None:
    """Each would otherwise end in a traceback from inside torchvision."""
    wrong = tmp_path / "wrong.safetensors"
    save_file(tiny_image_encoder().state_dict(), wrong)
    mistakes = [
        ("no_such_net", None, "torchvision has no such classifier"),
        ("vit_b_16", None, "is no convolutional network"),
        ("mobilenet_v2", tmp_path / "absent.pth", "no such file"),
        ("mobilenet_v2", wrong, "are no weights of mobilenet_v2"),
        ("tiny", wrong, "trained from random"),
    ]
    for name, weights, message in mistakes:
        with pytest.raises(InputError, match=message) as caught:
            make_image_encoder(ImageConfig(encoder=name), weights)
        assert "\n" not in str(caught.value)


def test_importing_hficma_imports_no_torch() -> None:
    """Serving starts cold in under two seconds only without it."""
    code = "import sys, hficma; from hficma import Recipe; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
