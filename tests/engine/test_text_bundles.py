"""Bundles of models with a pretrained text encoder: exported, proved, indexed, searched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hficma.engine.bundle.bundle import Bundle
from hficma.engine.encoder import encode_recipes
from hficma.engine.runtimes.options import ExecutionOptions
from hficma.errors import ArtifactError, InputError
from hficma.export import check_bundle, export_model
from hficma.model import HeadConfig, Model, build_model, load_model
from hficma.model.encoders.text_folder import read_text_folder
from hficma.recipe import Recipe
from hficma.text.vocabulary import TextConfig
from tests.model.factories import make_vectors, tiny_config
from tests.model.text_folders import text_folder

RECIPES = (
    Recipe(
        id="a",
        title="Tomato soup",
        ingredients=("2 tomato", "salt", "1 cup olive oil"),
        instructions=("Stir the tomato with oil. Bake.", "Serve with salt"),
    ),
    Recipe(id="b", title="", ingredients=("flour",), instructions=()),
    Recipe(id="c", title="Soup", ingredients=(), instructions=("Stir with a cup of soup.",)),
)


def text_model(folder: Path, kind: str = "dual", **options: object) -> Model:
    """A random model with the text encoder of a folder, in evaluation mode."""
    tokenizer = read_text_folder(folder)
    text = TextConfig(encoder=folder.name, architecture=tokenizer.architecture.to_text())
    fields = {"global_text": "fields", "global_similarity": "cosine", "text": text}
    config = tiny_config(kind, **{**fields, **options})
    return build_model(
        config, make_vectors(), text_tokenizer=tokenizer, text_weights=folder, seed=3
    ).eval()


@pytest.mark.parametrize(
    ("encoder", "kind", "options"),
    [
        ("bert", "dual", {"recipe_head": HeadConfig(layers="mlp", hidden=5)}),
        ("mpnet", "dual", {"sentence": "none"}),
        ("distilbert", "hf-icma", {}),
        ("roberta", "hf-icma", {"sentence": "none", "global_text": "fused"}),
        ("clip", "dual", {"sentence": "none"}),
        ("siglip", "adamine", {"sentence": "none", "global_text": "fused"}),
    ],
)
def test_a_bundle_gives_what_the_model_gives(
    encoder: str, kind: str, options: dict[str, object], tmp_path: Path
) -> None:
    """With texts alone or beside words, of any length, and fields that a recipe lacks."""
    model = text_model(text_folder(tmp_path / encoder, encoder), kind, **options)
    out = export_model(model, tmp_path / "bundle", runtimes=["onnxruntime"])
    check_bundle(out)
    bundle = Bundle.open(out, ExecutionOptions(runtime="onnxruntime", threads=1))
    assert bundle.model_id == model.model_id == load_model(out).model_id
    assert ("sentence" in bundle.facts.graphs) == (options.get("sentence") != "none")
    ids = [bundle.tokenizer(recipe) for recipe in RECIPES]
    assert [one.text_fields for one in ids] == [(1, 2, 2, 2, 3), (3,), (1, 2)]
    with torch.no_grad():
        expected = model.encode_recipes(RECIPES).global_.numpy()
    np.testing.assert_allclose(encode_recipes(bundle, ids).vectors, expected, atol=2e-5)
    assert len(np.unique(expected.round(3), axis=0)) == len(RECIPES)


def test_texts_are_encoded_in_half_precision(tmp_path: Path) -> None:
    """Masks and norms must hold in eleven bits: a mask of -1e9 is infinite there."""
    model = text_model(text_folder(tmp_path / "bert", "bert"))
    out = export_model(model, tmp_path / "bundle", precisions=["fp16"], runtimes=["onnxruntime"])
    wide, narrow = (
        encode_recipes(bundle, [bundle.tokenizer(recipe) for recipe in RECIPES]).vectors
        for precision in ("fp32", "fp16")
        for bundle in [Bundle.open(out, ExecutionOptions(precision=precision, threads=1))]
    )
    np.testing.assert_allclose(narrow, wide, atol=5e-3)


def test_a_tokenizer_that_was_changed_is_refused(tmp_path: Path) -> None:
    """Other words would be looked up in the same table, and all answers be wrong."""
    model = text_model(text_folder(tmp_path / "bert", "bert"))
    out = export_model(model, tmp_path / "bundle", runtimes=["onnxruntime"])
    file = out / "text_tokenizer.json"
    file.write_bytes(file.read_bytes().replace(b"tomato", b"potato"))
    with pytest.raises(ArtifactError, match=r"text_tokenizer\.json"):
        _ = Bundle.open(out).tokenizer


def test_a_recipe_of_unknown_words_is_no_query_where_texts_say_nothing(tmp_path: Path) -> None:
    model = text_model(text_folder(tmp_path / "bert", "bert"), sentence="none")
    known = replace(RECIPES[1], title="soup")
    assert model.tokenizer.query(known).texts
    with pytest.raises(InputError, match="no word of this recipe"):
        model.tokenizer.query(Recipe(id="x", title="", ingredients=(), instructions=("",)))
