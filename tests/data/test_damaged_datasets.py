"""A dataset directory whose files were cut off or changed: a line, no crash, no other recipes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from hficma.artifacts.manifest import read_manifest
from hficma.data.directory import DatasetDirectory
from hficma.data.sources import open_source
from hficma.data.store.importing import import_dataset
from hficma.errors import ArtifactError

LARGE = ("sentences.f32", "photos.lmdb/data.mdb")
"""May be larger than the memory: they are compared once on a machine, which remembers."""


def read_all(path: Path) -> None:
    dataset = DatasetDirectory(path)
    dataset.partitions()
    dataset.has_photo()
    dataset.word_vectors()
    for index in range(len(dataset)):
        dataset.recipe(index)
        dataset.jpeg(index)
        dataset.sentence_vectors(index)


@pytest.fixture
def dataset(layers: Path, tmp_path: Path) -> Path:
    import_dataset(open_source(str(layers)), tmp_path / "out", class_names=["ramen"])
    read_all(tmp_path / "out")
    return tmp_path / "out"


@pytest.mark.parametrize("name", [*LARGE, "photos.lmdb", "photo_counts.npy"])
def test_a_link_in_a_dataset_is_not_followed(dataset: Path, tmp_path: Path, name: str) -> None:
    """A stranger's dataset would read files that it does not hold."""
    (dataset / name).rename(tmp_path / "elsewhere")
    (dataset / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match="is a link"):
        read_all(dataset)


def test_every_file_cut_off_changed_or_missing(dataset: Path, tmp_path: Path) -> None:
    """Arrow, numpy and LMDB each have their own way to fail, some of them by SIGBUS."""
    names = set(read_manifest(dataset, kind="dataset").files) - {"left_out.txt"}
    assert names >= {*LARGE, "recipes-00000.parquet", "photo_counts.npy", "classes.npy"}
    for name in sorted(names):
        size = (dataset / name).stat().st_size
        for damage in ("missing", "cut", "half", "flipped"):
            copy = shutil.copytree(dataset, tmp_path / f"{name.replace('/', '-')}-{damage}")
            file = copy / name
            if damage == "missing":
                file.unlink()
            elif damage == "flipped":
                content = bytearray(file.read_bytes())
                content[size // 2] ^= 1
                file.write_bytes(content)
            else:
                os.truncate(file, size - 1 if damage == "cut" else size // 2)
            with pytest.raises(ArtifactError) as caught:
                read_all(copy)
            assert Path(name).name in str(caught.value), damage
            assert "\n" not in str(caught.value)
