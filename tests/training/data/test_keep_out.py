"""Pairs kept out of training where the data name none: whole dishes, by seed, remembered."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hficma.artifacts.manifest import read_manifest
from hficma.artifacts.workspace import Workspace
from hficma.data.dataset import RecipeList, open_dataset, positions
from hficma.data.partitions import open_runs_dataset, read_partitions
from hficma.errors import InputError
from hficma.progress import Progress
from hficma.recipe import Recipe
from hficma.training import evaluate, train
from hficma.training.data.keep_out import (
    LEAST,
    HoldOut,
    dish_groups,
    first_that_fit,
    keep_out,
    title_key,
)
from tests.training.conftest import SMALL

SAMPLE = open_dataset("sample:100")


def own_pairs(folder: Path, count: int = 60) -> Path:
    """A user's pairs, without ids or partitions: photos of the sample, every title twice."""
    folder.mkdir()
    lines = []
    for number in range(count):
        SAMPLE.photo(number).save(folder / f"{number}.png")
        recipe = SAMPLE.recipe(number)
        record = {"title": f"Dish {number // 2}", "ingredients": list(recipe.ingredients)}
        record["instructions"] = list(recipe.instructions)
        lines.append(json.dumps({**record, "image": f"{number}.png"}))
    (folder / "r.jsonl").write_text("\n".join(lines))
    return folder / "r.jsonl"


class Notes(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return own_pairs(tmp_path_factory.mktemp("own") / "data")


@pytest.fixture(scope="module")
def run_and_notes(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A run that kept a fifth of the pairs out, and what was said."""
    space = Workspace(tmp_path_factory.mktemp("home"))
    notes = Notes()
    run = train(
        "hf-icma-small", [*SMALL, "trainer.epochs=1"], data=str(data), run=space.home / "run",
        hold_out="20%", workspace=space, progress=notes,
    )  # fmt: skip
    return run, notes.lines


def test_a_run_keeps_pairs_out_and_evaluation_exports_and_resumption_know_them(
    run_and_notes: tuple[Path, list[str]], data: Path
) -> None:
    run, notes = run_and_notes
    assert any("12 test pairs" in line and "seed 1234" in line for line in notes)
    partitions = read_partitions(run)
    facts = read_manifest(run, kind="run").facts
    assert facts["test_pairs"] == 12
    assert facts["validation_pairs"] == list(partitions.values()).count("val") >= 2
    assert facts["training_pairs"] + facts["validation_pairs"] + 12 == 60
    evaluation = evaluate(run, setup="all")
    assert evaluation.items == 12
    assert evaluation.trained_on is None
    dataset = open_runs_dataset(run)
    assert dataset is not None
    by_partition: dict[str, set[str]] = {"train": set(), "val": set(), "test": set()}
    for index in range(len(dataset)):
        recipe = dataset.recipe(index)
        by_partition[recipe.partition or "train"].add(recipe.title)
    assert not by_partition["train"] & by_partition["test"], "a dish is on both sides"
    assert not by_partition["train"] & by_partition["val"]
    assert len(positions(open_dataset(str(data)), ("test",))) == 0, "the data are as they were"


def test_validation_pairs_and_training_pairs_are_judged_with_a_word(
    run_and_notes: tuple[Path, list[str]],
) -> None:
    run, _ = run_and_notes
    assert "chosen by these pairs" in evaluate(run, split="val", setup="all").notes[-1]
    assert "trained on these pairs" in evaluate(run, split="train", setup="all").notes[-1]


def test_a_run_goes_on_with_the_pairs_that_it_kept_out(
    run_and_notes: tuple[Path, list[str]], tmp_path: Path
) -> None:
    run, _ = run_and_notes
    before = read_partitions(run)
    train(run=run, overrides=["trainer.epochs=2"], resume=True, workspace=Workspace(tmp_path))
    assert read_partitions(run) == before
    with pytest.raises(InputError, match="hold_out"):
        train(run=run, resume=True, hold_out="10%", workspace=Workspace(tmp_path))


def test_pairs_that_were_moved_are_known_again_and_others_are_left_alone(
    run_and_notes: tuple[Path, list[str]], data: Path, tmp_path: Path
) -> None:
    run, _ = run_and_notes
    (tmp_path / "r.jsonl").write_bytes(data.read_bytes())
    moved = open_runs_dataset(run, str(tmp_path / "r.jsonl"))
    assert moved is not None
    assert len(positions(moved, ("test",))) == 12
    other = open_runs_dataset(run, "sample:100")
    assert other is not None
    assert positions(other, ("test",)).tolist() == positions(SAMPLE, ("test",)).tolist()


def test_without_test_pairs_train_and_eval_say_how_to_make_them(
    data: Path, tmp_path: Path, trained: Callable[..., Path]
) -> None:
    notes = Notes()
    space = Workspace(tmp_path)
    run = train(
        "hf-icma-small", [*SMALL, "trainer.epochs=1"], data=str(data), run=tmp_path / "run",
        workspace=space, progress=notes,
    )  # fmt: skip
    assert sum("hold_out=10%" in line for line in notes.lines) == 1
    with pytest.raises(InputError, match=r"no test pairs.*hold_out=10%.*partition"):
        evaluate(run)


def recipes(*titles: str) -> list[Recipe]:
    return [
        Recipe(id=str(n), title=title, image=f"{n}.jpg", ingredients=(f"thing {n}",))
        for n, title in enumerate(titles)
    ]


def test_titles_that_are_nearly_the_same_are_one_dish() -> None:
    same = ("Crème Brûlée", "creme brulee!", "The Best Easy Creme Brulees", "Brulee, crème (II)")
    assert len({title_key(title) for title in same}) == 1
    groups = dish_groups(recipes("Tomato soup", *same, "", ""), [str(n) for n in range(7)])
    assert groups == [[0], [1, 2, 3, 4], [5], [6]], "recipes without a title are not one dish"


def test_one_photo_or_one_text_is_one_dish_under_any_title() -> None:
    """Sites publish a recipe again under a new title, or with a new photo."""
    rng = random.Random(0)
    words = [f"word{rng.randrange(5000)}" for _ in range(120)]
    edited = [*words[:50], "newly", *words[50:]]
    other = [f"word{rng.randrange(5000)}" for _ in range(120)]
    texts = (" ".join(words), " ".join(edited), " ".join(other), "Mix.", "Mix.")
    items = [
        Recipe(id=str(n), title=f"Title {chr(97 + n)}", ingredients=("x",), instructions=(text,))
        for n, text in enumerate(texts)
    ]
    assert dish_groups(items, ["a", "b", "c", "d", "c"]) == [[0, 1], [2, 4], [3]]


@given(
    names=st.lists(st.sampled_from("abcdef"), min_size=8, max_size=40),
    size=st.integers(2, 6),
    seed=st.integers(0, 50),
)
def test_no_title_is_on_two_by_partition_and_the_share_is_not_exceeded(
    names: list[str], size: int, seed: int
) -> None:
    data = recipes(*(f"dish {name}" for name in names))
    dataset = RecipeList(data, name="own", folder=Path("nowhere"))
    hold_out = HoldOut.parse(str(size))
    try:
        chosen = keep_out(dataset, hold_out, seed, lambda note: None, cache=CACHE, validate=False)
    except InputError:  # all of few dishes, see below
        assume(False)
    assert 2 <= len(chosen) <= size
    test = {data[int(name)].title for name in chosen}
    assert all((recipe.title in test) == (recipe.id in chosen) for recipe in data)
    again = keep_out(dataset, hold_out, seed, lambda note: None, cache=CACHE, validate=False)
    assert again == chosen


CACHE = Path("nowhere")


def test_groups_larger_than_the_room_are_passed_over() -> None:
    assert first_that_fit([[0, 1, 2], [3], [4, 5]], 2) == ([[3]], [[0, 1, 2], [4, 5]])


@pytest.mark.parametrize("text", ["", "0", "1", "0%", "100%", "-5", "ten", "5.5", "1e9", "nan%"])
def test_a_share_that_makes_no_sense_is_one_line(text: str) -> None:
    with pytest.raises(InputError, match="10%"):
        HoldOut.parse(text)


def test_a_share_and_a_number_are_read() -> None:
    assert HoldOut.parse("12.5%").of(400) == 50
    assert HoldOut.parse(" 10 % ").of(30) == 3
    assert HoldOut.parse("50").of(400) == 50
    assert HoldOut.parse("1%").of(30) == 2


def test_data_that_name_test_pairs_keep_them() -> None:
    with pytest.raises(InputError, match=r"names \d+ test pairs itself"):
        keep_out(SAMPLE, HoldOut.parse("10%"), 0, lambda note: None, cache=CACHE, validate=True)


def test_too_few_dishes_are_one_line_that_says_why() -> None:
    """All of one title: whatever is kept out, the dish is on both by_partition."""
    data = RecipeList(recipes(*["Soup"] * 30), name="own", folder=Path("nowhere"))
    with pytest.raises(InputError, match="30 training pairs are 1 dishes"):
        keep_out(data, HoldOut.parse("10%"), 0, lambda note: None, cache=CACHE, validate=False)


def test_too_few_dishes_to_validate_on_are_said_and_trained_on() -> None:
    """Photos of one dish were refused, though nobody had asked to measure anything."""
    data = RecipeList(recipes(*["Soup"] * 30), name="own", folder=Path("nowhere"))
    notes: list[str] = []
    chosen = keep_out(data, None, 0, notes.append, cache=CACHE, validate=True)
    assert set(chosen.values()) == {"val"}
    assert LEAST <= len(chosen) <= 28
    assert any("dishes that it is trained on" in note for note in notes)


def test_validation_pairs_are_whole_dishes_too() -> None:
    data = recipes(*(f"Dish {n // 3}" for n in range(90)))
    named = [dataclasses.replace(one, partition="test") for one in recipes("a", "b")]
    both = [dataclasses.replace(one, id=f"t{one.id}") for one in named]
    dataset = RecipeList([*data, *both], name="own", folder=Path("nowhere"))
    chosen = keep_out(dataset, None, 0, lambda note: None, cache=CACHE, validate=True)
    assert set(chosen.values()) == {"val"}
    titles = {one.title for one in data if one.id in chosen}
    assert {one.id for one in data if one.title in titles} == set(chosen)
