"""One bad photo ends one photo: every command that reads photos goes on through the whole zoo."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hficma.data.dataset import JsonlDataset, RecipeList, open_dataset
from hficma.data.sources import open_source
from hficma.data.store.importing import import_dataset
from hficma.data.summary import contact_sheet
from hficma.engine import Answer, Engine, Failure, build_index
from hficma.errors import InputError
from hficma.images import ImageInput
from hficma.images.photo_folder import photo_folder
from hficma.recipe import Recipe
from tests.cli.conftest import Hficma
from tests.photo_zoo import BAD, GOOD, JPEG, halves, on_its_side, write_zoo

SPECIAL = ("pipe.jpg", "endless.jpg", "gone.jpg", "folder.jpg")
READ = set(GOOD)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every photo of the zoo in a folder, and a JSONL beside it with a recipe for each."""
    folder = tmp_path_factory.mktemp("zoo") / "photos"
    folder.mkdir()
    write_zoo(folder)
    names = sorted(path.name for path in folder.iterdir())
    lines = [
        json.dumps({"id": name, "ingredients": ["salt"], "image": f"photos/{name}"})
        for name in names
    ]
    (folder.parent / "recipes.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def recipes(zoo: Path) -> JsonlDataset:
    """The recipes of the zoo."""
    return JsonlDataset(zoo.parent / "recipes.jsonl")


def test_search_of_a_folder_answers_or_names_every_file(
    hficma: Hficma,
    zoo: Path,
) -> None:
    """HEIC, AVIF and .jfif were passed over without a word; one DDS ended all."""
    ended = hficma("search", "--images", zoo, "-k", 1)
    assert ended.code == 0, ended.err
    lines = [json.loads(line) for line in ended.out.splitlines()]
    by_name = {Path(line["query"]).name: line for line in lines}
    assert list(by_name) == sorted([*GOOD, *BAD, *SPECIAL])
    assert {name for name, line in by_name.items() if "hits" in line} == READ
    for name, line in by_name.items():
        if name not in READ:
            assert name in line["error"]
            assert "\n" not in line["error"]
    bad = len(BAD) + len(SPECIAL)
    assert f"{len(GOOD)} answered, {bad} could not be read" in ended.err


def test_search_of_a_folder_without_photos_fails(
    hficma: Hficma,
    tmp_path: Path,
) -> None:
    """A script that looks at the exit code must not take "0 answered" for success."""
    with pytest.raises(InputError, match="is no folder"):
        photo_folder(tmp_path / "none")
    with pytest.raises(InputError, match="holds no file"):
        photo_folder(tmp_path)
    (tmp_path / "a.jpg").write_bytes(b"no image")
    (tmp_path / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "notes.txt").write_text("not a photo")
    ended = hficma("search", "--images", tmp_path)
    assert ended.code == 2
    assert [json.loads(line)["error"] for line in ended.out.splitlines()]
    assert "0 answered, 2 could not be read, 1 hidden passed over" in ended.err
    assert "holds no photo that can be read" in ended.err


def test_a_folder_that_may_not_be_entered_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends itself, not the others; root may enter all, so its refusal is made here."""
    for name in ("closed/a.jpg", "open/b.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(JPEG)
    scandir = os.scandir

    def refusing(path: str) -> object:
        if os.path.basename(path) == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    names = [str(path.relative_to(tmp_path)) for path in photo_folder(tmp_path).files]
    assert names == ["closed", "open/b.jpg"]


def test_names_of_any_bytes_are_answered(
    hficma: Hficma,
    tmp_path: Path,
) -> None:
    """An old archive's names are not UTF-8; JSON must still hold and give them back."""
    names = [b"\xe4pfel.jpg", b"line\nend.jpg", b"clear\x1b[2J.jpg"]
    for name in names:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(JPEG)
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg")).write_bytes(b"bad")
    ended = hficma("search", "--images", tmp_path, "-k", 1)
    assert ended.code == 0, ended.err
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert sorted(os.path.basename(os.fsencode(line["query"])) for line in lines) == sorted(
        [*names, b"\xff.jpg"]
    )
    assert sum("hits" in line for line in lines) == 3
    assert "\x1b" not in ended.out + ended.err


def test_import_goes_on(zoo: Path, tmp_path: Path) -> None:
    """The recipes stay, and left_out.txt names each photo that does not."""
    out = tmp_path / "dataset"
    done = import_dataset(open_source(str(zoo.parent / "recipes.jsonl")), out)
    assert done.recipes == len(GOOD) + len(BAD) + len(SPECIAL)
    assert done.photos == len(GOOD)
    left_out = (out / "left_out.txt").read_text(encoding="utf-8").splitlines()
    assert len(left_out) == len(BAD) + len(SPECIAL)
    for name in (*BAD, *SPECIAL):
        assert any(f"/{name}: " in line for line in left_out), name


def test_training_and_evaluation_go_on(recipes: JsonlDataset, tmp_path: Path) -> None:
    """Both read through `training.photos`: each bad photo is one line, in its place."""
    pytest.importorskip("torch", reason="trains")
    from hficma.training.data.photo_cache import cached_pixels
    from hficma.training.data.photo_reading import read_photos

    rows = np.arange(len(recipes))
    expected = [recipes.recipe(int(row)).id in READ for row in rows]
    pixels = cached_pixels(recipes, rows, ImageInput(), tmp_path, lambda count: None)
    assert pixels.usable.tolist() == expected
    assert len(pixels.complaints) == expected.count(False)
    read = [actual is not None for actual, _ in read_photos(recipes, rows, ImageInput())]
    assert read == expected


def test_index_of_photos_goes_on(home: Path, recipes: JsonlDataset, tmp_path: Path) -> None:
    """An index of a million photos must not end at the first damaged one."""
    bad: list[str] = []
    bundle = next((home / "bundles").iterdir())
    build_index(bundle, recipes, tmp_path / "index", of="images", on_bad=bad.append)
    assert len(bad) == len(BAD) + len(SPECIAL)
    with Engine.open(tmp_path / "index", bundle=bundle) as engine:
        answer = engine.search(recipe=Recipe(id="q", ingredients=("salt",)), k=1000)
    assert {hit.id for hit in answer.hits} == READ


def test_export_and_contact_sheet_go_on(
    home: Path,
    recipes: JsonlDataset,
    tmp_path: Path,
) -> None:
    """Calibration takes the photos that there are; a sheet shows others in their place."""
    pytest.importorskip("torch", reason="exports")
    from hficma.engine.bundle.bundle import Bundle
    from hficma.export.calibration_items import real_items

    bundle = Bundle.open(next((home / "bundles").iterdir()))
    items = real_items(recipes, bundle, ("train",), 1000)
    assert len(items.photos) == len(items.recipes) == len(GOOD)
    assert contact_sheet(recipes, count=12).width > 0
    nothing = RecipeList(
        [Recipe(id="a", ingredients=("salt",), image="none.jpg")], name="n", folder=tmp_path
    )
    with pytest.raises(InputError, match=r"no photo can be read; the first: .*none\.jpg"):
        contact_sheet(nothing)


BROKEN: dict[str, Callable[[Path], object]] = {
    "None": lambda folder: None,
    "number": lambda folder: 5,
    "array of a batch": lambda folder: np.zeros((2, 9, 9, 3), np.uint8),
    "no file": lambda folder: folder / "none.jpg",
    "a folder": str,
    "closed": lambda folder: _closed(folder / "dish.jpg"),
    "text": lambda folder: b"no image",
}


def test_any_bad_query_of_many_is_a_failure(home: Path, tmp_path: Path) -> None:
    """Whatever is wrong with it: a program's mistake in one must not cost the batch."""
    (tmp_path / "dish.jpg").write_bytes(JPEG)
    (tmp_path / "lying.png").write_bytes(on_its_side(6, "PNG"))
    good = [
        tmp_path / "dish.jpg", str(tmp_path / "dish.jpg"), JPEG, halves(), np.asarray(halves()),
        (tmp_path / "dish.jpg").open("rb"), halves().convert("RGBA"),
        tmp_path / "lying.png", Image.open(tmp_path / "lying.png"),
    ]  # fmt: skip
    queries: list[object] = [*good[:4], *(make(tmp_path) for make in BROKEN.values()), *good[4:]]
    with Engine.open(home / "indexes" / "recipes") as engine:
        answers = list(engine.search_many(queries, k=3))  # type: ignore[arg-type]
        with pytest.raises(InputError):
            engine.search(image=5)  # type: ignore[arg-type]
    kinds = [isinstance(answer, Answer) for answer in answers]
    assert kinds == [True] * 4 + [False] * len(BROKEN) + [True] * 5
    failures = [answer for answer in answers if isinstance(answer, Failure)]
    assert all(failure.error and "\n" not in failure.error for failure in failures)
    plain = [answer for answer in answers if isinstance(answer, Answer)]
    # The same photo, however it is given, has the same scores; the first three are one file.
    scores = [[hit.score for hit in answer.hits] for answer in plain]
    assert scores[0] == scores[1] == scores[2] == scores[5]
    assert scores[3] == scores[4] == scores[6]
    assert scores[7] == scores[8]


def _closed(path: Path) -> object:
    with path.open("rb") as file:
        return file


def test_the_zoo_is_whole(zoo: Path) -> None:
    """A name that is both good and bad, or missing, would weaken every test above."""
    assert not set(GOOD) & set(BAD)
    assert {path.name for path in zoo.iterdir()} == {*GOOD, *BAD, *SPECIAL}
    assert len(open_dataset(str(zoo.parent / "recipes.jsonl"))) == len(list(zoo.iterdir()))
