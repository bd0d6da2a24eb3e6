"""Vocabularies, keys and fields that are not of one data set: said, never misread."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest

from hficma.data.sources import open_source
from hficma.data.sources.recipe1m.published_vocabulary import VocabularyError
from hficma.data.store.importing import ImportCounts, import_dataset
from hficma.errors import InputError
from tests.data.conftest import WORDS


def write_words(path: Path, words: list[str]) -> None:
    path.write_text("\n".join(words) + "\n", encoding="utf-8")


def import_of(source: Path, out: Path) -> tuple[ImportCounts, list[str]]:
    notes: list[str] = []
    result = import_dataset(open_source(str(source)), out, on_bad=notes.append)
    named = (out / "left_out.txt").read_text().splitlines()
    assert named == notes
    assert result.left_out == len(notes)
    return result, notes


def refused(source: Path, out: Path, pattern: str) -> None:
    with pytest.raises(InputError, match=pattern) as caught:
        import_dataset(open_source(str(source)), out)
    assert "\n" not in str(caught.value)
    assert not out.exists()


@pytest.mark.parametrize("form", ["im2recipe", "layers"])
@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        (lambda words: [*words, "leek"], r"vocab\.txt has 8 words, .*vocab\.bin 7"),
        (lambda words: words[1:], r"vocab\.txt has 6 words, .*vocab\.bin 7"),
        (
            lambda words: [*words[:3], "zzz", *words[4:]],
            "word 4 is 'zzz' in .*vocab.txt and 'flour'",
        ),
    ],
)
def test_vocabularies_of_other_sizes_or_words(
    form: str,
    change: Callable[[list[str]], list[str]],
    pattern: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """Every ingredient got its neighbour's name."""
    source = request.getfixturevalue(form)
    write_words(source / "vocab.txt", change(list(WORDS)))
    refused(source, tmp_path / "out", pattern)
    pytest.importorskip("torch", reason="converting imports torch")
    from hficma.training.convert import _vocabulary

    with pytest.raises(VocabularyError, match=pattern):
        _vocabulary(source)  # `hficma convert` reads the same files


def test_a_vocabulary_file_in_other_line_ends(im2recipe: Path, tmp_path: Path) -> None:
    """A byte order mark and Windows's line ends are not words."""
    (im2recipe / "vocab.txt").write_bytes(("\ufeff" + "\r\n".join(WORDS) + "\r\n").encode())
    assert import_of(im2recipe, tmp_path / "out")[1] == []


def test_a_pickled_vocabulary_that_disagrees(adamine: Path, tmp_path: Path) -> None:
    """AdaMine's is a pickle; its rows and its words must be as many, and vocab.txt's the same."""
    write_words(adamine / "vocab.txt", list(WORDS[:-1]))
    refused(adamine, tmp_path / "out", r"vocab\.txt has 6 words, .*vocab\.pkl 7")
    (adamine / "vocab.txt").unlink()
    table = np.zeros((len(WORDS) + 1, 4), dtype="f4")
    (adamine / "text" / "vocab.pkl").write_bytes(pickle.dumps([table, list(WORDS)]))
    refused(adamine, tmp_path / "out", r"vocab\.pkl: has 8 vectors for 7 words")


@pytest.mark.parametrize("form", ["im2recipe", "adamine"])
def test_ids_past_the_vocabulary(form: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """They were left out of the recipe in silence, and the others named by the wrong list."""
    source = request.getfixturevalue(form)
    for found in (*source.rglob("vocab.bin"), *source.rglob("vocab.pkl")):
        found.unlink()
    write_words(source / "vocab.txt", list(WORDS[:4]))
    last = r"names ingredient [678], but .*vocab\.txt has 4 words \(ids 2 to 5\)"
    refused(source, tmp_path / "out", last)


def rewrite(path: Path, change: Callable[[Any], Any]) -> None:
    path.write_bytes(pickle.dumps(change(pickle.loads(path.read_bytes())), 2))


def test_keys_that_the_lmdb_lacks_are_named(im2recipe: Path, tmp_path: Path) -> None:
    """The record is gone, and who trains must know which."""
    rewrite(im2recipe / "train_keys.pkl", lambda keys: [*keys, "ffffffffff"])
    result, notes = import_of(im2recipe, tmp_path / "out")
    assert result.recipes == 9
    assert len(notes) == 1
    assert "recipe ffffffffff: " in notes[0]
    assert "train_keys.pkl names it, the LMDB does not hold it" in notes[0]


def test_recipes_that_the_keys_lack_are_counted(im2recipe: Path, tmp_path: Path) -> None:
    """A list of keys of another download hides recipes."""
    rewrite(im2recipe / "train_keys.pkl", lambda keys: keys[:3])
    result, notes = import_of(im2recipe, tmp_path / "out")
    assert result.recipes == 7
    assert len(notes) == 1
    assert "train_lmdb holds 5 recipes" in notes[0]
    assert "train_keys.pkl names 3" in notes[0]
    with pytest.raises(InputError, match="names 3"):
        import_dataset(open_source(str(im2recipe)), tmp_path / "strict", strict=True)


@pytest.mark.parametrize("missing", ["val_keys.pkl", "val_lmdb"])
def test_half_a_split_is_named(im2recipe: Path, tmp_path: Path, missing: str) -> None:
    """A split without its other half was not there, without a word."""
    path = im2recipe / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    result, notes = import_of(im2recipe, tmp_path / "out")
    assert result.recipes == 7
    assert len(notes) == 1
    assert missing in notes[0]


@pytest.mark.parametrize("form", ["im2recipe", "layers"])
def test_photos_without_folders_are_one_line(
    form: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Recipes name photos; without the image folders they came in without any, and exit 0."""
    source = request.getfixturevalue(form)
    shutil.rmtree(source / "images")
    result, notes = import_of(source, tmp_path / "out")
    assert (result.recipes, result.photos) == (9, 0)
    assert len(notes) == 1
    assert "has no image folders, so the 9 photos that its recipes name are left out" in notes[0]


def test_a_missing_photo_is_named(im2recipe: Path, corpus: Any, tmp_path: Path) -> None:
    """One of many: its recipe stays, its name is in the list."""
    image = corpus.entries[4].image
    next(im2recipe.rglob(image)).unlink()
    result, notes = import_of(im2recipe, tmp_path / "out")
    assert (result.recipes, result.photos) == (9, 8)
    assert [image in note for note in notes] == [True]


def change_field(adamine: Path, part: str, field: str, change: Callable[[Any, Any], None]) -> None:
    path = adamine / "data_lmdb" / part / f"{field}.lmdb"
    with lmdb.open(str(path), map_size=1 << 24) as store, store.begin(write=True) as transaction:
        change(transaction, lambda value: pickle.dumps(value, 3))


def test_fields_of_other_lengths(adamine: Path, tmp_path: Path) -> None:
    """A field of another split would give every recipe another's ingredients."""
    change_field(adamine, "train", "ingrs", lambda store, key: store.delete(key(4)))
    pattern = r"ingrs\.lmdb has values for 4 recipes, .*ids\.lmdb names 5"
    refused(adamine, tmp_path / "out", pattern)


def test_counts_of_images_that_disagree(adamine: Path, tmp_path: Path) -> None:
    """numims says two where impos points to one: the record is named and left out."""
    change_field(adamine, "val", "numims", lambda store, key: store.put(key(0), key(2)))
    result, notes = import_of(adamine, tmp_path / "out")
    assert result.recipes == 8
    assert len(notes) == 1
    assert "numims says 2 images, impos names 1" in notes[0]


def test_images_that_the_store_lacks(adamine: Path, tmp_path: Path) -> None:
    """A pointer behind the image store's end, and a split without one."""
    change_field(adamine, "test", "ims", lambda store, key: store.delete(key(1)))
    shutil.rmtree(adamine / "data_lmdb" / "val" / "ims.lmdb")
    result, notes = import_of(adamine, tmp_path / "out")
    assert (result.recipes, result.photos) == (9, 6)
    assert len(notes) == 2
    assert any("ims.lmdb: holds no value 1" in note for note in notes)
    assert any("ims.lmdb: is missing" in note for note in notes)


def test_a_hostile_vocabulary_ends_the_import_in_a_line(adamine: Path, tmp_path: Path) -> None:
    """It ended in a segmentation fault at an address of the file's choosing."""
    shape = b"J\x08\x00\x00\x00\x85"
    program = (
        b"](cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR(K\x01"
        + shape + b"cnumpy\ndtype\n(U\x01OtR\x89](" + b"U\x02zz" * 8 + b"etb](U\x01aee."
    )  # fmt: skip
    (adamine / "text" / "vocab.pkl").write_bytes(program)
    refused(adamine, tmp_path / "out", r"vocab\.pkl: is no readable pickle")


def test_half_a_character_leaves_out_one_recipe(layers: Path, tmp_path: Path) -> None:
    """JSON may hold half an emoji, which no file of text or Parquet takes."""
    detected = json.loads((layers / "det_ingrs.json").read_text())
    detected[2]["ingredients"][0]["text"] = "leek \ud83d"
    (layers / "det_ingrs.json").write_text(json.dumps(detected))
    result, notes = import_of(layers, tmp_path / "out")
    assert result.recipes == 8
    assert len(notes) == 1
    assert detected[2]["id"] in notes[0]
