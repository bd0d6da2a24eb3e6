"""What the page shows is what the model did."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hficma.engine import Engine, build_index, explain, write_page
from hficma.engine.bundle.bundle import Bundle
from hficma.engine.encoder import EncodedQuery, encode_queries
from hficma.engine.explain import PairExplanation, explain_pairs, shades
from hficma.errors import InputError
from hficma.images import preprocess
from hficma.recipe import Recipe
from hficma.types import Floats
from tests.engine.datasets import NoiseDataset

DATA = NoiseDataset(5)


def encoded(bundle: Bundle, photo: int) -> EncodedQuery:
    """A photo of the dataset as an engine encodes it."""
    [query] = encode_queries(bundle, "image", [preprocess(DATA.photo(photo), bundle.image_input)])
    return query


def explained(path: Path, photo: int, recipe: Recipe) -> PairExplanation:
    """A pair, explained in numpy."""
    bundle = Bundle.open(path)
    [explanation] = explain_pairs(bundle, encoded(bundle, photo), [recipe])
    return explanation


def test_attention_and_gates_equal_the_torch_model(hf_icma_bundle: Path) -> None:
    """The engine computes them again in numpy, from the projections."""
    pytest.importorskip("torch", reason="the truth is the torch model's")
    from hficma.model import HFICMA, load_model
    from hficma.model.attention_maps import attention_maps

    explanation = explained(hf_icma_bundle, 1, DATA.recipe(2))
    model = load_model(hf_icma_bundle)
    assert isinstance(model, HFICMA)
    reference = attention_maps(
        model, model.encode_images([DATA.photo(1)]), model.encode_recipes([DATA.recipe(2)])
    )
    np.testing.assert_allclose(
        explanation.on_regions, reference.mean_ingredient_to_regions, atol=1e-5
    )
    np.testing.assert_allclose(explanation.ingredient_gates, reference.ingredient_gates, atol=1e-5)
    np.testing.assert_allclose(explanation.region_gates, reference.region_gates, atol=1e-5)
    assert len(explanation.ingredients) == len(explanation.on_regions)


def test_unknown_ingredients_are_not_shown_as_read(hf_icma_bundle: Path) -> None:
    """Each line must stand beside its own attention."""
    recipe = Recipe(id="x", ingredients=("salt", "xyzzy", "butter", "xyzzy"))
    explanation = explained(hf_icma_bundle, 0, recipe)
    assert explanation.ingredients == ("salt", "butter")


def test_a_line_that_stands_there_again_past_the_limit_keeps_its_place(
    hf_icma_bundle: Path,
) -> None:
    """Looked up by its text, the first "salt" was taken for the one that was not read."""
    lines = ("salt", "butter", *["egg"] * 18, "salt", "butter")
    explanation = explained(hf_icma_bundle, 0, Recipe(id="x", ingredients=lines))
    assert explanation.ingredients == lines[:20]


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
        answer = engine.search(image=DATA.photo(0), k=5, keep_query=True)
        file = tmp_path / "why.html"
        page = write_page(file, engine.bundle, answer, name="a<script>alert.jpg").read_text()
    assert "<script>alert" not in page
    assert "<h1>Why these recipes for a&lt;script&gt;alert.jpg</h1>" in page
    assert "<img src=x>" not in page
    assert "http" not in page
    assert page.count("<section>") == 5
    assert "5 of 5 items scored; the same as scoring all 5." in page


def test_regions_are_shaded_by_their_share_above_an_even_one() -> None:
    """Scaled to the largest weight, every photo was coloured, also where nothing was looked at."""
    even = np.full(49, 1 / 49, np.float32)
    assert not shades(even).any()
    almost = even.copy()
    almost[:24] *= 1.05
    assert not shades(almost / almost.sum()).any(), "flat but for noise"
    weak = even.copy()
    weak[3] *= 1.5
    weak /= weak.sum()
    assert np.flatnonzero(shades(weak)).tolist() == [3], "below even is not shaded"
    assert shades(weak)[3] == pytest.approx(weak[3] * 49 - 1, abs=1e-5), "weak attention looks weak"
    sharp = np.full(49, 0.4 / 47, np.float32)
    sharp[5], sharp[6] = 0.4, 0.2
    expected = (0.2 * 49 - 1) / (0.4 * 49 - 1)
    assert (shades(sharp)[5], shades(sharp)[6]) == (1.0, pytest.approx(expected, abs=1e-5))
    assert shades(sharp)[7] == 0.0


@pytest.mark.parametrize("sharp", [False, True])
def test_a_page_shows_something_before_it_is_touched_or_says_that_there_is_nothing(
    sharp: bool, hf_icma_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A photo without any mark explained nothing, and noise in colours explained it wrongly."""
    attention = explain._attention

    def sharpened(query: Floats, key: Floats, heads: int) -> Floats:
        # Models this small look everywhere alike: a power takes the share of all but the largest.
        weights = attention(query, key, heads).astype(np.float64)
        powers = (weights / weights.max(axis=-1, keepdims=True)) ** (1000 if sharp else 0.01)
        result: Floats = (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)
        return result

    monkeypatch.setattr(explain, "_attention", sharpened)
    index = build_index(hf_icma_bundle, DATA, tmp_path / "i")
    with Engine.open(index, threads=1) as engine:
        answer = engine.search(image=DATA.photo(0), k=2, keep_query=True)
        page = write_page(tmp_path / "why.html", engine.bundle, answer).read_text()
    opacities = [float(one) for one in re.findall(r'<i style="opacity:([0-9.]+)"', page)]
    assert len(opacities) == 49
    assert ("has not learnt to look" in page) != sharp
    assert page.count(" class=shown>") == sharp
    assert (max(opacities) > 0) == sharp


def test_models_without_attention_say_so(adamine_bundle: Path) -> None:
    """Rather than showing a page of nothing."""
    with pytest.raises(InputError, match="no attention"):
        explained(adamine_bundle, 0, DATA.recipe(0))


def test_a_page_reuses_what_the_search_computed(
    hf_icma_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The photo was encoded once more for every hit, by the slowest graph of all."""
    runs: Counter[str] = Counter()
    run = Bundle.run

    def counted(bundle: Bundle, graph: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        runs[graph] += 1
        return run(bundle, graph, inputs)

    index = build_index(hf_icma_bundle, DATA, tmp_path / "i")
    monkeypatch.setattr(Bundle, "run", counted)
    with Engine.open(index, threads=1) as engine:
        answer = engine.search(image=DATA.photo(0), k=5, keep_query=True)
        write_page(tmp_path / "why.html", engine.bundle, answer)
    assert (runs["image"], runs["project_image"], runs["tabulate_image"]) == (1, 1, 1)
    assert (runs["recipe"], runs["project_recipe"]) == (1, 1)  # all hits together


def test_each_pair_of_a_page_is_explained_as_it_is_alone(hf_icma_bundle: Path) -> None:
    """Recipes are padded to the longest of their batch, which must not show."""
    bundle = Bundle.open(hf_icma_bundle)
    recipes = [DATA.recipe(i) for i in range(5)]
    for recipe, together in zip(
        recipes, explain_pairs(bundle, encoded(bundle, 0), recipes), strict=True
    ):
        alone = explained(hf_icma_bundle, 0, recipe)
        assert together.ingredients == alone.ingredients
        for one, other in zip(together[1:], alone[1:], strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)


def test_answers_that_cannot_be_explained_say_why(hf_icma_bundle: Path, tmp_path: Path) -> None:
    """A page of somebody else's photo would be worse than none."""
    page = tmp_path / "why.html"
    recipes = build_index(hf_icma_bundle, DATA, tmp_path / "recipes")
    with Engine.open(recipes, threads=1) as engine:
        answer = engine.search(image=DATA.photo(0))
        with pytest.raises(InputError, match="keep_query=True"):
            write_page(page, engine.bundle, answer)
    photos = build_index(hf_icma_bundle, DATA, tmp_path / "photos", of="images")
    with Engine.open(photos, threads=1) as engine:
        answer = engine.search(recipe=DATA.recipe(0), keep_query=True)
        with pytest.raises(InputError, match="explains answers to photos"):
            write_page(page, engine.bundle, answer)
    assert not page.exists()
