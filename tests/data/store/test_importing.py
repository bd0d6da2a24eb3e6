"""Importing goes on after a kill, names what it leaves out, and reads back at random."""

from __future__ import annotations

import io
import json
import os
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hficma.artifacts.manifest import read_manifest, verified_file
from hficma.data import open_dataset, positions
from hficma.data.directory import DatasetDirectory
from hficma.data.partitions import Partitioned
from hficma.data.photos import photo_side
from hficma.data.sources import Source, SourceRecipe, open_source
from hficma.data.store import importing as importing_module
from hficma.data.store.importing import import_dataset
from hficma.errors import ArtifactError, InputError
from hficma.recipe import Recipe


class Interrupted(BaseException):
    """Stands for a kill: nothing in the importer may catch it."""


class Breaking(Source):
    """Wraps a source and is killed after some recipes or photos."""

    def __init__(self, inner: Source, recipes: int = 10**9, photos: int = 10**9) -> None:
        super().__init__(inner.path)
        self.inner, self.left, self.photos = inner, recipes, photos
        self.photos_read = 0

    def recipes(
        self, *, strict: bool, on_bad: Callable[[str], None], scratch: Path
    ) -> Iterator[SourceRecipe]:
        for recipe in self.inner.recipes(strict=strict, on_bad=on_bad, scratch=scratch):
            if not self.left:
                raise Interrupted
            self.left -= 1
            yield recipe

    def photo(self, image: str) -> bytes:
        if not self.photos:
            raise Interrupted
        self.photos -= 1
        self.photos_read += 1
        return self.inner.photo(image)

    def signature(self) -> dict[str, Any]:
        return self.inner.signature()


def everything(path: Path) -> Any:
    dataset = DatasetDirectory(path)
    return [
        (dataset.recipe(i), dataset.jpeg(i), np.asarray(dataset.sentence_vectors(i)).tobytes())
        for i in range(len(dataset))
    ]


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing_module, "SHARD", 2)
    monkeypatch.setattr(importing_module, "BATCH", 2)


@pytest.mark.usefixtures("small_steps")
def test_a_killed_import_goes_on(layers: Path, tmp_path: Path) -> None:
    """Killed among recipes, then among photos, the third run must end at the same dataset."""
    source = open_source(str(layers))
    import_dataset(source, tmp_path / "whole")
    for killed in (Breaking(source, recipes=5), Breaking(source, photos=3)):
        with pytest.raises(Interrupted):
            import_dataset(killed, tmp_path / "out", workers=1)
        assert not (tmp_path / "out").exists()
    last = Breaking(source, recipes=0)  # the recipes are all there: none may be read again
    import_dataset(last, tmp_path / "out", workers=1)
    assert last.photos_read < 9
    assert everything(tmp_path / "out") == everything(tmp_path / "whole")
    assert not list(tmp_path.glob(".*importing"))


@pytest.mark.usefixtures("small_steps")
def test_another_source_does_not_go_on(layers: Path, jsonl: Path, tmp_path: Path) -> None:
    """Two sources must not end up mixed in one dataset."""
    with pytest.raises(Interrupted):
        import_dataset(Breaking(open_source(str(layers)), recipes=5), tmp_path / "out")
    with pytest.raises(ArtifactError, match="pass restart"):
        import_dataset(open_source(str(jsonl)), tmp_path / "out")
    import_dataset(open_source(str(jsonl)), tmp_path / "out", restart=True)
    dataset = DatasetDirectory(tmp_path / "out")
    assert len(dataset) == 9
    assert dataset.sentence_vectors(0) is None


def test_bad_records_and_photos_are_left_out_and_named(jsonl: Path, tmp_path: Path) -> None:
    """A file of thousands must not fail for one line, and the line must be found again."""
    lines = jsonl.read_text().splitlines()
    lines[2] = "{not json"
    lines[4] = json.dumps({"id": "x", "ingredients": [1, 2]})
    lines.append(lines[0])
    jsonl.write_text("\n".join(lines) + "\n")
    broken = json.loads(lines[5])["image"]
    (jsonl.parent / broken).write_bytes(b"\xff\xd8 no photo")
    notes: list[str] = []
    result = import_dataset(open_source(str(jsonl)), tmp_path / "out", on_bad=notes.append)
    assert (result.recipes, result.photos, result.left_out) == (7, 6, 4)
    text = (tmp_path / "out" / "left_out.txt").read_text()
    assert text.count("\n") == 4
    for part in ("line 3", "line 5", "is there twice", broken):
        assert part in text
        assert any(part in note for note in notes)
    dataset = DatasetDirectory(tmp_path / "out")
    assert dataset.recipe(3).image is None  # the broken photo's recipe stays, without it
    with pytest.raises(InputError, match="has no photo"):
        dataset.photo(3)
    with pytest.raises(InputError, match="line 3"):
        import_dataset(open_source(str(jsonl)), tmp_path / "strict", strict=True)


def test_nothing_usable(tmp_path: Path) -> None:
    """An empty dataset would fail much later and say nothing of its source."""
    (tmp_path / "bad.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match="no usable recipe"):
        import_dataset(open_source(str(tmp_path / "bad.jsonl")), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.jsonl"]


def test_what_is_there_is_kept(jsonl: Path, tmp_path: Path) -> None:
    """An import must not write over another dataset."""
    (tmp_path / "out").mkdir()
    with pytest.raises(ArtifactError, match="exists already"):
        import_dataset(open_source(str(jsonl)), tmp_path / "out")


def test_large_photos_are_shrunk_once(tmp_path: Path) -> None:
    """Most encoders see 224 of 256 pixels: more would cost disk and time in every epoch."""

    Image.new("RGB", (1024, 600), "red").save(tmp_path / "a.png")
    Image.effect_noise((600, 1024), 40).convert("CMYK").save(tmp_path / "b.jpg")
    for name in ("a.png", "b.jpg"):
        record = {"ingredients": ["salt"], "image": name, "id": name}
        with (tmp_path / "r.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")
    import_dataset(open_source(str(tmp_path / "r.jsonl")), tmp_path / "out")
    dataset = DatasetDirectory(tmp_path / "out")
    assert [dataset.photo(i).size for i in range(2)] == [(437, 256), (256, 437)]


def test_larger_photos_are_kept_where_asked(tmp_path: Path) -> None:
    """An encoder of 384 pixels would be shown them enlarged, and see no more than one of 224."""
    noise = np.random.default_rng(0).integers(0, 256, (700, 900, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "p.png")
    record = {"id": "a", "title": "A", "ingredients": ["b"], "image": "p.png"}
    (tmp_path / "r.jsonl").write_text(json.dumps(record) + "\n")
    source = str(tmp_path / "r.jsonl")
    sizes = {}
    for side in (256, 384, 600):
        import_dataset(open_source(source), tmp_path / str(side), photo_side=side)
        opened = DatasetDirectory(tmp_path / str(side))
        assert photo_side(Partitioned(opened, {})) == side
        sizes[side] = min(Image.open(io.BytesIO(opened.jpeg(0))).size)
    assert sizes == {256: 256, 384: 384, 600: 600}
    with pytest.raises(InputError, match="photos of 5000 pixels: a dataset keeps 32 to 2,048"):
        import_dataset(open_source(source), tmp_path / "out", photo_side=5000)


@pytest.fixture
def dataset(layers: Path, tmp_path: Path) -> DatasetDirectory:
    import_dataset(open_source(str(layers)), tmp_path / "out")
    opened = open_dataset(str(tmp_path / "out"))
    assert isinstance(opened, DatasetDirectory)
    return opened


def read_all(opened: DatasetDirectory) -> list[Any]:
    return [(opened.recipe(i), opened.jpeg(i)) for i in reversed(range(len(opened)))]


def test_many_threads_and_processes(dataset: DatasetDirectory) -> None:
    """LMDB does not survive a fork and Parquet files are not shared: each opens its own."""
    expected = read_all(dataset)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read_all, [dataset] * 16)) == [expected] * 16
    with get_context("fork").Pool(2) as processes:
        assert processes.map(read_all, [dataset] * 4) == [expected] * 4
    assert read_all(pickle.loads(pickle.dumps(dataset))) == expected
    if hasattr(os, "fork"):
        child = os.fork()
        if child == 0:
            os._exit(0 if read_all(dataset) == expected else 1)
        assert os.waitpid(child, 0)[1] == 0


def test_positions_agree_with_reading_each(dataset: DatasetDirectory) -> None:
    """The fast way over columns must give what looking at every recipe gives."""
    for parts in (["train"], ["val", "test"], None):
        slow = [
            i for i in range(len(dataset))
            if parts is None or (dataset.recipe(i).partition or "train") in parts
        ]  # fmt: skip
        assert positions(dataset, parts).tolist() == slow
        assert positions(dataset, parts, with_photo=True).tolist() == slow
    assert positions(dataset).dtype == np.int64


def test_positions_out_of_range(dataset: DatasetDirectory) -> None:
    """-1 must not silently read the last recipe's photo."""
    for index in (-1, len(dataset)):
        with pytest.raises(IndexError):
            dataset.recipe(index)
        with pytest.raises(IndexError):
            dataset.jpeg(index)


def test_manifest_names_every_file(dataset: DatasetDirectory) -> None:
    """A file that no hash covers could change unseen."""
    root = Path(dataset.name)
    manifest = read_manifest(root, kind="dataset")
    actual = {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()}
    assert set(manifest.files) == actual - {"manifest.json", "photos.lmdb/lock.mdb"}
    for name in manifest.files:
        verified_file(root, manifest, name)


def test_title_classes_fill_in(tmp_path: Path) -> None:
    """Recipes without a class get one of their title where that is asked for."""
    recipes = [
        Recipe(id=f"{n}", title=f"{name} number", ingredients=("salt",))
        for n, name in enumerate(["Apple Pie"] * 25 + ["Fish Soup"] * 5 + ["Ramen"])
    ]
    path = tmp_path / "r.jsonl"
    path.write_text("".join(json.dumps(recipe.to_json()) + "\n" for recipe in recipes))
    import_dataset(open_source(str(path)), tmp_path / "out", class_names=["ramen"])
    opened = DatasetDirectory(tmp_path / "out")
    assert [opened.recipe(i).category for i in (0, 24, 25, 30)] == [
        "apple pie", "apple pie", None, "ramen",
    ]  # fmt: skip


def test_not_a_dataset(tmp_path: Path) -> None:
    """A folder of recipes given to --data is answered with the command that imports it."""
    (tmp_path / "x").mkdir()
    with pytest.raises(InputError, match="hficma data import"):
        open_dataset(str(tmp_path / "x"))
    with pytest.raises(InputError, match="holds nothing to import"):
        open_source(str(tmp_path / "x"))
    with pytest.raises(InputError, match="no such file"):
        open_source(str(tmp_path / "y"))


def test_a_link_where_a_dataset_is_written_is_not_followed(tmp_path: Path) -> None:
    """Leftovers of an import are removed by their names, which a stranger's folder may have too."""
    victim = tmp_path / "victim"
    (victim / "scratch-mine").mkdir(parents=True)
    (tmp_path / ".out.importing").symlink_to(victim)
    with pytest.raises(ArtifactError, match="is a link"):
        import_dataset(open_source("sample:100"), tmp_path / "out")
    assert [path.name for path in victim.iterdir()] == ["scratch-mine"]
