"""Answers show photos: kept small ones, or the files where they were; and never another file."""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from hficma.data.dataset import Dataset, open_dataset
from hficma.data.photo_places import PhotoRoot
from hficma.engine import (
    Engine,
    Hit,
    IndexWriter,
    build_index,
    index_info,
    verify_index,
    write_page,
)
from hficma.engine.files.photo_file import PhotoRow
from hficma.engine.index.photos import PhotoFinder
from hficma.errors import ArtifactError
from tests.engine.datasets import NoiseDataset
from tests.torture.flips import OLDER

TURNED = 6
"""EXIF orientation of a photo whose first row is the right side of the scene."""


def dataset(folder: Path, images: Sequence[str], *, first: int = 0) -> Dataset:
    """Recipes in a JSONL file with the photos that they name, as a phone stores them."""
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    noise = NoiseDataset(len(images), first=first)
    lines = []
    for number, image in enumerate(images):
        path = folder / image
        if not path.exists():
            exif = Image.Exif()
            exif[0x0112] = TURNED
            exif[0x010E] = "taken at home"
            photo = noise.photo(number).resize((600, 400))
            photo.save(path, "JPEG", exif=exif, comment=b"taken at home")
        lines.append(json.dumps({**noise.recipe(number).to_json(), "image": image}))
    (folder / "recipes.jsonl").write_text("\n".join(lines))
    return open_dataset(str(folder / "recipes.jsonl"))


def hits(index: Path, photos: Path | None = None) -> dict[str, Hit]:
    """Every item of an index as a hit, by id, its photo read while the engine is open."""
    with Engine.open(index, photos=photos, threads=1) as engine:
        if engine.query_role == "image":
            answer = engine.search(image=NoiseDataset(1).photo(0), k=100)
        else:
            answer = engine.search(recipe=NoiseDataset(1).recipe(0), k=100)
        photos_read = {hit.id: hit.photo for hit in answer.hits}
    return {
        hit.id: Hit(**{**vars(hit), "photo_reader": lambda _, read=photos_read[hit.id]: read})
        for hit in answer.hits
    }


def check_small(photo: bytes | None) -> None:
    """A small upright JPEG that tells nothing of where it was taken."""
    assert photo is not None
    assert b"taken at home" not in photo
    with Image.open(io.BytesIO(photo)) as image:
        assert image.format == "JPEG"
        assert image.size == (171, 256)  # of 600 x 400, turned
        assert not image.getexif()


def test_an_index_shows_the_photo_files_where_they_are(
    adamine_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Moved away, answers go without and one line says so; told where, it shows them again."""
    data = dataset(tmp_path / "data", ["photos/a.jpg", "photos/b.jpg"])
    index = build_index(adamine_bundle, data, tmp_path / "index", threads=1)
    for hit in hits(index).values():
        check_small(hit.photo)
    with Engine.open(index, threads=1) as engine:
        assert engine.index.photo_file(1) == tmp_path / "data/photos/b.jpg"
        assert engine.index.photo(7) is None  # no item has this number
    (tmp_path / "data").rename(tmp_path / "moved")
    assert [hit.photo for hit in hits(index).values()] == [None, None]
    assert caplog.text.count("its photos cannot all be shown") == 1
    for hit in hits(index, tmp_path / "moved").values():
        check_small(hit.photo)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HFICMA_PHOTOS", str(tmp_path / "moved"))
        check_small(hits(index)["r0"].photo)


def test_an_index_and_its_photos_may_be_moved_together(
    adamine_bundle: Path, tmp_path: Path
) -> None:
    """A folder on a stick has another path on every machine."""
    data = dataset(tmp_path / "here/data", ["photos/a.jpg"])
    build_index(adamine_bundle, data, tmp_path / "here/index", threads=1)
    (tmp_path / "here").rename(tmp_path / "there")
    with Engine.open(tmp_path / "there/index", bundle=adamine_bundle, threads=1) as engine:
        check_small(engine.index.photo(0))


@pytest.mark.parametrize("of", ["recipes", "images"])
def test_kept_photos_outlive_their_files_and_every_change(
    adamine_bundle: Path, tmp_path: Path, of: str
) -> None:
    """An index that is copied to a server is all that the server has."""
    data = dataset(tmp_path / "one", [f"photos/{n}.jpg" for n in range(5)])
    more = dataset(tmp_path / "two", [f"photos/{n}.jpg" for n in range(3)], first=5)
    index = build_index(
        adamine_bundle, data, tmp_path / "index", of=of, keep_photos=True, shard_items=4, threads=1
    )
    with IndexWriter(index) as writer:
        writer.add(more, threads=1)
        writer.remove(["r1", "r6"])
        writer.compact()
    shutil.rmtree(tmp_path / "one")
    shutil.rmtree(tmp_path / "two")
    by_id = hits(index)
    assert set(by_id) == {f"r{n}" for n in range(8)} - {"r1", "r6"}
    for hit in by_id.values():
        check_small(hit.photo)
    assert index_info(index)["photos"] == {
        "remembered": 6, "kept": 6, "roots": [str(tmp_path / "one"), str(tmp_path / "two")],
    }  # fmt: skip
    assert not verify_index(index).problems


def test_each_addition_is_looked_for_in_its_own_folder(
    adamine_bundle: Path, tmp_path: Path
) -> None:
    """Two folders have a photo of the same name; merging shards must not mix them up."""
    one = dataset(tmp_path / "one", ["photos/a.jpg"])
    two = dataset(tmp_path / "two", ["photos/a.jpg"], first=1)
    index = build_index(adamine_bundle, one, tmp_path / "index", threads=1)
    with IndexWriter(index) as writer:
        writer.add(two, threads=1)
        assert len(index_info(index)["shards"]) == 1
    with Engine.open(index, threads=1) as engine:
        for number, folder in enumerate(("one", "two")):
            assert engine.index.photo_file(number) == tmp_path / folder / "photos/a.jpg"


def test_photos_inside_a_dataset_are_read_from_it(adamine_bundle: Path, tmp_path: Path) -> None:
    """An imported dataset has its photos in a database; a sample draws them."""
    from hficma.data.sources import open_source
    from hficma.data.store.importing import import_dataset

    dataset(tmp_path / "data", ["photos/a.jpg", "photos/b.jpg"])
    import_dataset(open_source(str(tmp_path / "data/recipes.jsonl")), tmp_path / "imported")
    for number, spec in enumerate((str(tmp_path / "imported"), "sample:100")):
        data = open_dataset(spec)
        index = build_index(adamine_bundle, data, tmp_path / f"index-{number}", threads=1)
        with Engine.open(index, threads=1) as engine:
            assert engine.index.photo(0)
            assert engine.index.photo_file(0) is None


@pytest.mark.parametrize("keep", [False, True])
def test_photos_outside_the_folder_of_the_data_are_nobodys(
    adamine_bundle: Path, tmp_path: Path, keep: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A stranger's recipes could name any picture of this machine, which a page would then show.

    Their owner, who sees no photos, must be told why.
    """
    (tmp_path / "data").mkdir()
    NoiseDataset(1).photo(0).save(tmp_path / "secret.jpg")
    images = ["../secret.jpg", str(tmp_path / "secret.jpg"), "photos/../../secret.jpg"]
    data = dataset(tmp_path / "data", images)
    index = build_index(adamine_bundle, data, tmp_path / "index", keep_photos=keep, threads=1)
    assert [hit.photo for hit in hits(index).values()] == [None] * 3
    assert index_info(index)["photos"]["remembered"] == 0
    (line,) = [one.getMessage() for one in caplog.records if "outside" in one.getMessage()]
    assert line.startswith(f"{tmp_path / 'data'}: ")
    assert ": 3;" in line


@pytest.mark.skipif(os.name == "nt", reason="makes links and pipes")
@pytest.mark.parametrize("place", ["../secret.jpg", "/dev/zero", "link.jpg", "pipe.jpg", "\0", 3])
def test_a_hostile_place_is_not_opened(
    tmp_path: Path, place: str | int, caplog: pytest.LogCaptureFixture
) -> None:
    """An index is a file that others may have written: a device has no end, a pipe waits."""
    folder = tmp_path / "photos"
    folder.mkdir()
    NoiseDataset(1).photo(0).save(tmp_path / "secret.jpg")
    (folder / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    os.mkfifo(folder / "pipe.jpg")
    finder = PhotoFinder(tmp_path / "index", [PhotoRoot("folder", str(folder))], None)
    assert finder.jpeg(PhotoRow(0, place, None)) is None
    assert finder.jpeg(PhotoRow(9, place, None)) is None
    assert caplog.text.count("its photos cannot all be shown") == 1


def test_a_changed_photo_in_an_index_is_not_shown(adamine_bundle: Path, tmp_path: Path) -> None:
    """A flipped bit would be a picture of nothing, or of something else."""
    data = dataset(tmp_path / "data", ["photos/a.jpg"])
    index = build_index(adamine_bundle, data, tmp_path / "i", keep_photos=True, threads=1)
    [file] = index.glob("shards/*/photos.sqlite")
    connection = sqlite3.connect(file)
    connection.execute("UPDATE photos SET jpeg = zeroblob(length(jpeg))")
    connection.commit()
    connection.close()
    assert "photos.sqlite" in verify_index(index).problems[0]
    with (
        Engine.open(index, threads=1) as engine,
        pytest.raises(ArtifactError, match="not as it was written"),
    ):
        engine.index.photo(0)


def test_pages_and_notebooks_show_photos(hf_icma_bundle: Path, tmp_path: Path) -> None:
    """They are what an index remembers photos for."""
    data = dataset(tmp_path / "data", ["photos/a.jpg", "photos/b.jpg"])
    index = build_index(hf_icma_bundle, data, tmp_path / "index", threads=1)
    with Engine.open(index, threads=1) as engine:
        answer = engine.search(image=NoiseDataset(1).photo(0), k=2, keep_query=True)
        page = write_page(tmp_path / "why.html", engine.bundle, answer).read_text()
        assert page.count('<img class="dish"') == 2
        assert answer._repr_html_().count("<img") == 2


def test_an_index_of_an_older_version_knows_no_photo(tmp_path: Path) -> None:
    """It opens and answers as before."""
    index = shutil.copytree(OLDER / "index", tmp_path / "i")
    with Engine.open(index, bundle=OLDER / "bundle", runtime="onnxruntime", threads=1) as engine:
        answer = engine.search(image=NoiseDataset(1).photo(0), k=2)
        assert [hit.photo for hit in answer.hits] == [None, None]
        assert "<img" not in answer._repr_html_()
    assert index_info(index)["photos"] == {"remembered": 0, "kept": 0, "roots": []}
