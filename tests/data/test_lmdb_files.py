"""LMDBs that are shorter than they say: a line, where LMDB itself ends the process by SIGBUS."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest

from hficma.data.directory import DatasetDirectory
from hficma.data.lmdb_files import open_lmdb, whole_size
from hficma.data.sources import open_source
from hficma.data.store.importing import import_dataset
from hficma.errors import ArtifactError, HficmaError, InputError


def make_lmdb(path: Path, values: int, *, size: int = 3000) -> Path:
    with lmdb.open(str(path), map_size=1 << 26) as store:
        for number in range(values):
            with store.begin(write=True) as transaction:
                transaction.put(b"%08d" % number, os.urandom(size))
    return path / "data.mdb"


@pytest.mark.parametrize("values", [0, 1, 200])
def test_whole_files_are_whole(tmp_path: Path, values: int) -> None:
    """A check that refuses what LMDB itself wrote would lose people their data."""
    file = make_lmdb(tmp_path / "store", values)
    assert whole_size(file) == file.stat().st_size
    with open_lmdb(tmp_path / "store").begin() as transaction:
        assert sum(1 for _ in transaction.cursor()) == values


def test_overwritten_and_deleted_values(tmp_path: Path) -> None:
    """Pages that are free again lie in the file, or behind what its head speaks of."""
    file = make_lmdb(tmp_path / "store", 50)
    with lmdb.open(str(file.parent), map_size=1 << 26) as store:
        for number in range(0, 50, 2):
            with store.begin(write=True) as transaction:
                transaction.put(b"%08d" % number, b"short")
                transaction.delete(b"%08d" % (number + 1))
        with store.begin(write=True) as transaction:
            for number in range(30):
                transaction.put(b"new%d" % number, bytes(9000))
            for number in range(30):
                transaction.put(b"new%d" % number, bytes(100))
    assert whole_size(file) == file.stat().st_size


READ = """
import sys
from pathlib import Path
from hficma.data.directory import DatasetDirectory
from hficma.errors import HficmaError
refused = 0
for path in sys.argv[1:]:
    try:
        dataset = DatasetDirectory(Path(path))
        for index in range(len(dataset)):
            dataset.jpeg(index)
    except HficmaError as error:
        assert "\\n" not in str(error)
        assert "data.mdb" in str(error), error
        refused += 1
print(refused)
"""


def test_every_cut_of_a_dataset_is_a_line(jsonl: Path, tmp_path: Path) -> None:
    """One page less is enough for a crash; the crash would be the child's."""
    import_dataset(open_source(str(jsonl)), tmp_path / "out")
    size = (tmp_path / "out" / "photos.lmdb" / "data.mdb").stat().st_size
    cuts = [0, 1, 100, 4096, 4200, 8192, size // 2, size - 4096, size - 1]
    for number, cut in enumerate(cuts):
        copy = shutil.copytree(tmp_path / "out", tmp_path / f"cut{number}")
        os.truncate(copy / "photos.lmdb" / "data.mdb", cut)
    paths = [str(tmp_path / f"cut{number}") for number in range(len(cuts))]
    done = subprocess.run(
        [sys.executable, "-c", READ, *paths], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"{len(cuts)}\n"), done.stderr


def test_a_cut_under_a_reader_is_a_line(jsonl: Path, tmp_path: Path) -> None:
    """Another import or a failing copy may cut the file while training reads it."""
    import_dataset(open_source(str(jsonl)), tmp_path / "out")
    dataset = DatasetDirectory(tmp_path / "out")
    assert dataset.jpeg(0)
    os.truncate(tmp_path / "out" / "photos.lmdb" / "data.mdb", 8192)
    with pytest.raises(ArtifactError, match="was cut off while it was open"):
        dataset.jpeg(5)


@pytest.mark.parametrize("content", [b"", b"x" * 100_000, bytes(100_000)])
def test_no_lmdb(tmp_path: Path, content: bytes) -> None:
    """A file of another kind under the name."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "data.mdb").write_bytes(content)
    with pytest.raises(InputError, match="is no LMDB"):
        open_lmdb(tmp_path / "store")


def test_a_published_lmdb_that_was_cut_off(im2recipe: Path, tmp_path: Path) -> None:
    """A download that broke off ends the import with a line that names the file."""
    file = im2recipe / "train_lmdb" / "data.mdb"
    os.truncate(file, file.stat().st_size - 4096)
    with pytest.raises(HficmaError, match=r"train_lmdb.*it was cut off, copy it again"):
        import_dataset(open_source(str(im2recipe)), tmp_path / "out")


@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_lmdb_ends_the_import_not_the_process(
    im2recipe: Path, tmp_path: Path, seed: int
) -> None:
    """LMDB trusts its pages: what a damaged one does to it happens in another process."""
    import random

    file = im2recipe / "train_lmdb" / "data.mdb"
    content = bytearray(file.read_bytes())
    rng = random.Random(seed)
    for _ in range(200):
        content[rng.randrange(300, len(content))] = rng.randrange(256)
    file.write_bytes(content)
    notes: list[str] = []
    try:
        import_dataset(open_source(str(im2recipe)), tmp_path / "out", on_bad=notes.append)
    except HficmaError as error:
        notes.append(str(error))
    assert notes
    assert all("\n" not in note for note in notes)
