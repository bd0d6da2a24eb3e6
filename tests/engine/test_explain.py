"""What the page shows is what the model did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hficma.engine import Engine, build_index, write_page
from hficma.engine.bundle.bundle import Bundle
from hficma.engine.explain import explain_pair
from hficma.errors import InputError
from hficma.recipe import Recipe
from tests.engine.datasets import NoiseDataset

DATA = NoiseDataset(5)


def test_attention_and_gates_equal_the_torch_model(hf_icma_bundle: Path) -> None:
    """The engine computes them again in numpy, from the sides."""
    pytest.importorskip("torch", reason="the truth is the torch model's")
    from hficma.model import HFICMA, load_model
    from hficma.model.attention_maps import attention_maps

    found = explain_pair(Bundle.open(hf_icma_bundle), DATA.photo(1), DATA.recipe(2))
    model = load_model(hf_icma_bundle)
    assert isinstance(model, HFICMA)
    wanted = attention_maps(
        model, model.encode_images([DATA.photo(1)]), model.encode_recipes([DATA.recipe(2)])
    )
    np.testing.assert_allclose(found.on_regions, wanted.mean_ingredient_to_regions, atol=1e-5)
    np.testing.assert_allclose(found.ingredient_gates, wanted.ingredient_gates, atol=1e-5)
    np.testing.assert_allclose(found.region_gates, wanted.region_gates, atol=1e-5)
    assert len(found.ingredients) == len(found.on_regions)


def test_unknown_ingredients_are_not_shown_as_read(hf_icma_bundle: Path) -> None:
    """Each line must stand beside its own attention."""
    recipe = Recipe(id="x", ingredients=("salt", "xyzzy", "butter", "xyzzy"))
    found = explain_pair(Bundle.open(hf_icma_bundle), DATA.photo(0), recipe)
    assert found.ingredients == ("salt", "butter")


def test_a_line_that_stands_there_again_past_the_limit_keeps_its_place(
    hf_icma_bundle: Path,
) -> None:
    """Looked up by its text, the first "salt" was taken for the one that was not read."""
    lines = ("salt", "butter", *["egg"] * 18, "salt", "butter")
    found = explain_pair(
        Bundle.open(hf_icma_bundle), DATA.photo(0), Recipe(id="x", ingredients=lines)
    )
    assert found.ingredients == lines[:20]


def test_the_page_stands_alone_and_escapes_what_it_shows(
    hf_icma_bundle: Path, tmp_path: Path
) -> None:
    """A recipe's title is foreign text; a page that loads from elsewhere shows nothing offline."""

    class Hostile(NoiseDataset):
        def recipe(self, index: int) -> Recipe:
            plain = super().recipe(index)
            return Recipe(
                id=plain.id, title="<script>alert(1)</script>",
                ingredients=(*plain.ingredients, 'salt"><img src=x>'),
            )  # fmt: skip

    index = build_index(hf_icma_bundle, Hostile(5), tmp_path / "i")
    with Engine.open(index, threads=1) as engine:
        answer = engine.search(image=DATA.photo(0), k=5)
        page = write_page(tmp_path / "why.html", engine.bundle, DATA.photo(0), answer).read_text()
    assert "<script>alert" not in page
    assert "<img src=x>" not in page
    assert "http" not in page
    assert page.count("<section>") == 5
    assert "5 of 5 items scored; the same as scoring all 5." in page


def test_models_without_attention_say_so(adamine_bundle: Path) -> None:
    """Rather than showing a page of nothing."""
    with pytest.raises(InputError, match="no attention"):
        explain_pair(Bundle.open(adamine_bundle), DATA.photo(0), DATA.recipe(0))
