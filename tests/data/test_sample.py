"""The synthetic sample: the same everywhere, and what it promises."""

import hashlib
import json

import numpy as np
import pytest

from hficma.data.sample import SampleDataset
from hficma.data.sample.appearance import PRESENTATIONS, appearance
from hficma.data.sample.dishes import DISHES
from hficma.data.sample.grammar import MEASURES
from hficma.data.sample.layout import LAYOUTS
from hficma.data.sample.pantry import COLOURS, PANTRY
from hficma.data.sample.pieces import SHAPES, SPRITE, TEXTURES, sprite
from hficma.data.sample.vessels import BEDS, VESSELS
from hficma.errors import InputError
from hficma.recipe import Recipe

SAMPLE = SampleDataset(2000)
SOME = range(400)


def test_recipes_are_the_same_on_every_machine():
    """A change of the grammar or of its random streams would silently change every benchmark."""
    recipes = [SAMPLE.recipe(index).to_json() for index in range(50)]
    digest = hashlib.sha256(json.dumps(recipes, ensure_ascii=True).encode()).hexdigest()
    assert digest == "f2912ad1e89dac29e5dfe6a6d166c705553e25d4e25bf500faf982f553afc362"


def test_items_depend_on_seed_and_index_alone():
    """Else a larger sample would not begin with a smaller one, and reading order would matter."""
    small, large = SampleDataset(100), SampleDataset(1000)
    large.photo(7)
    assert small.recipe(5) == large.recipe(5)
    assert np.array_equal(small.photo(5), large.photo(5))
    assert SampleDataset(100, seed=1).recipe(5).ingredients != small.recipe(5).ingredients


def test_a_photo_renders_twice_the_same():
    """A photo that differs from epoch to epoch makes every cache of features wrong."""
    first = SAMPLE.photo(3)
    assert (first.mode, first.size) == ("RGB", (256, 256))
    assert np.array_equal(first, SAMPLE.photo(3))


def test_the_pantry_is_large_and_drawable():
    """A misspelt colour or shape would fail only when its ingredient is first photographed."""
    assert len(PANTRY) >= 80
    assert len(DISHES) == len({dish.kind for dish in DISHES}) == 12
    assert {dish.kind for dish in DISHES} == set(PRESENTATIONS)
    for item in PANTRY.values():
        assert item.measure in MEASURES
        assert item.tint is None or item.tint in COLOURS
        if item.look:
            assert item.look.shape in SHAPES
            assert item.look.texture in TEXTURES
            assert sprite(item.look).shape == (SPRITE, SPRITE, 4)
    for presentation in PRESENTATIONS.values():
        assert presentation.layout in LAYOUTS
        assert set(presentation.vessels) <= set(VESSELS)
        assert presentation.bed is None or presentation.bed in BEDS


def test_no_two_ingredients_look_the_same_and_none_owns_its_colour():
    """Twins would cap recall; a colour of one's own would let a histogram name the ingredient."""
    looks = [item.look for item in PANTRY.values() if item.look]
    assert len(set(looks)) == len(looks) >= 80
    shared = [sum(other.colour == look.colour for other in looks) for look in looks]
    assert min(shared) >= 2


def test_every_ingredient_and_dish_occurs():
    """A row of the tables that nothing draws would never be noticed."""
    contents = {name for index in range(len(SAMPLE)) for name in SAMPLE.ingredients(index)}
    assert contents == set(PANTRY)
    assert {SAMPLE.recipe(index).category for index in SOME} == set(PRESENTATIONS)


def test_every_recipe_is_whole():
    """Every ingredient has its line and appears in the instructions, of which there are 3 to 12."""
    for index in SOME:
        recipe, names = SAMPLE.recipe(index), SAMPLE.ingredients(index)
        text = " ".join(recipe.instructions)
        assert 5 <= len(names) == len(set(names)) <= 18
        assert all(name in line for name, line in zip(names, recipe.ingredients, strict=True))
        assert all(name in text for name in names)
        assert 3 <= len(recipe.instructions) <= 12
        assert not {"{", "}"} & set(f"{recipe.title} {text}")
        assert "  " not in text
        assert recipe.title
        assert Recipe.parse(recipe.to_json(), where="sample") == recipe


def test_a_photo_tells_most_but_not_all():
    """Recipes must be told apart by what shows; salt and oil must not show."""
    shown = [frozenset(SAMPLE.visible_ingredients(index)) for index in range(1000)]
    assert min(map(len, shown)) >= 2
    assert len(set(shown)) > 980
    assert all(not {"salt", "olive oil", "garlic"} & visible for visible in shown)


def test_a_soup_hides_what_a_salad_shows():
    """Without it, photos would show all that recipes say."""
    by_kind = {
        kind: [i for i in range(2000) if SAMPLE.recipe(i).category == kind]
        for kind in ("soup", "salad")
    }

    def hidden(kind):
        return {
            name for i in by_kind[kind] for name in SAMPLE.ingredients(i)
            if PANTRY[name].look and name not in SAMPLE.visible_ingredients(i)
        }  # fmt: skip

    assert "spinach" in hidden("soup")
    assert not hidden("salad")


def test_partitions_are_80_10_10_and_do_not_depend_on_the_size():
    """A test pair of a small sample would be a training pair of a large one."""
    names = [SAMPLE.partition(index) for index in range(len(SAMPLE))]
    assert names == [SampleDataset(1_000_000).partition(index) for index in range(len(SAMPLE))]
    for name, share in (("train", 0.8), ("val", 0.1), ("test", 0.1)):
        assert names.count(name) / len(names) == pytest.approx(share, abs=0.03)


def test_the_shuffled_table_changes_photos_not_recipes():
    """The second hardness check means something only if nothing but the looks differs."""
    shuffled = SampleDataset(2000, appearance_seed=1)
    assert shuffled.recipe(3) == SAMPLE.recipe(3)
    assert not np.array_equal(shuffled.photo(3), SAMPLE.photo(3))
    true, dealt = appearance(), appearance(1)
    assert all(dealt.looks[name] != look for name, look in true.looks.items())
    assert sorted(map(str, dealt.looks.values())) == sorted(map(str, true.looks.values()))
    assert all(
        dealt.presentations[kind] != presentation
        for kind, presentation in true.presentations.items()
    )


@pytest.mark.parametrize("spec", ["sample:100", "sample:20000", "sample:20000:7", "sample:1000000"])
def test_a_spec_names_its_sample(spec):
    """The name in a manifest must open the same sample again."""
    assert SampleDataset.from_spec(spec).name == spec


@pytest.mark.parametrize(
    "spec",
    ["sample", "sample:", "sample:99", "sample:1000001", "sample:-5", "sample:1e4", "sample:200:x",
     "sample:200:-1", "recipes.jsonl", "sample:200:1:2", "sample:٢٠٠"],
)  # fmt: skip
def test_a_wrong_spec_says_what_to_write(spec):
    """The numbers of a spec are easily swapped."""
    with pytest.raises(InputError, match=r"sample:SIZE|such as sample:20000") as caught:
        SampleDataset.from_spec(spec)
    assert spec in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_index_out_of_range_is_refused():
    """A negative index would give an item that no larger sample has."""
    with pytest.raises(IndexError):
        SampleDataset(100).recipe(100)
    with pytest.raises(IndexError):
        SampleDataset(100).photo(-1)
