"""Every published form of the same recipes must import to the same dataset."""

from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hficma.data.directory import DatasetDirectory
from hficma.data.sources import open_source
from hficma.data.store.importing import import_dataset
from hficma.errors import InputError
from hficma.text.vocabulary import FIRST_WORD_ID
from hficma.text.word_vectors import WordVectors

FORMS = ["layers", "im2recipe", "adamine", "adamine_new", "jsonl", "json_folder", "json_ld"]
WITH_VECTORS = FORMS[:4]


def imported(source: Path, out: Path) -> DatasetDirectory:
    result = import_dataset(open_source(str(source)), out)
    assert result.left_out == 0
    return DatasetDirectory(out)


@pytest.mark.parametrize("form", FORMS)
def test_recipes_are_equal(
    form: str, corpus: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A form whose text, order, partition or class differs would train another model."""
    dataset = imported(request.getfixturevalue(form), tmp_path / "out")
    actual = [dataset.recipe(index) for index in range(len(dataset))]
    expected = [entry.recipe for entry in corpus.entries]
    if form == "json_ld":  # the standard has no id and no partition
        actual = [dataclasses.replace(recipe, id="", partition=None) for recipe in actual]
        expected = [dataclasses.replace(recipe, id="", partition=None) for recipe in expected]
    assert all(recipe.image for recipe in actual)
    assert [dataclasses.replace(recipe, image=None) for recipe in actual] == expected


@pytest.mark.parametrize("form", [form for form in FORMS if not form.startswith("adamine")])
def test_photos_keep_their_bytes(
    form: str, corpus: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A photo under another recipe, or encoded again without need."""
    dataset = imported(request.getfixturevalue(form), tmp_path / "out")
    assert [dataset.jpeg(i) for i in range(len(dataset))] == [e.jpeg for e in corpus.entries]


def test_adamine_pixels(adamine: Path, corpus: Any, tmp_path: Path) -> None:
    """AdaMine stores pixels: they must come out nearly as they went in, under the same recipe."""
    from hficma.images import decode_photo

    dataset = imported(adamine, tmp_path / "out")
    for index, entry in enumerate(corpus.entries):
        before = np.asarray(decode_photo(entry.jpeg, name="before"), dtype=float)
        after = np.asarray(dataset.photo(index), dtype=float)
        assert np.abs(before - after).mean() < 3


@pytest.mark.parametrize("form", WITH_VECTORS)
def test_vectors_are_equal(
    form: str, corpus: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Vectors of another recipe, off by one (pointers count from 1), or rounded."""
    dataset = imported(request.getfixturevalue(form), tmp_path / "out")
    for index, entry in enumerate(corpus.entries):
        vectors = dataset.sentence_vectors(index)
        assert vectors is not None
        assert vectors.tobytes() == entry.vectors.tobytes()
        assert dataset.names(index) == entry.names
    words = dataset.word_vectors()
    assert words is not None
    assert words.rows.tobytes() == corpus.table.tobytes()


def test_published_ids_are_two_off(im2recipe: Path, corpus: Any) -> None:
    """Trap one: row i of vocab.bin is word i, but its id is i + 2; our table shifts the rows."""
    vectors = open_source(str(im2recipe)).word_vectors()
    assert isinstance(vectors, WordVectors)
    assert vectors.vocabulary.id_of("</s>") == FIRST_WORD_ID
    assert not vectors.table[:FIRST_WORD_ID].any()
    number = vectors.vocabulary.id_of("olive_oil")
    assert number == 2 + 2  # the third word of the file
    assert np.array_equal(vectors.table[number], corpus.table[2])


def test_last_words_keep_their_names(im2recipe: Path, corpus: Any, tmp_path: Path) -> None:
    """Trap two: without the shift the two rarest words lie outside the table."""
    dataset = imported(im2recipe, tmp_path / "out")
    words = dataset.word_vectors()
    assert words is not None
    assert "sugar" in dataset.names(0)  # the file's last word
    assert np.array_equal(words["sugar"], corpus.table[-1])


def test_lmdb_without_layers_names_ingredients(im2recipe: Path, tmp_path: Path) -> None:
    """Where the text cannot be had, the ingredient ids still say what is in the dish."""
    (im2recipe / "layer1.json").unlink()
    dataset = imported(im2recipe, tmp_path / "out")
    assert dataset.recipe(1).ingredients == ("olive oil", "ripe tomatoes", "salt")


def test_first_removed_id_goes_too(layers: Path, tmp_path: Path) -> None:
    """The published reader keeps the first recipe of remove1M.txt by mistake."""
    dataset = imported(layers, tmp_path / "out")
    assert "Taken back" not in {dataset.recipe(i).title for i in range(len(dataset))}


def test_malicious_record_is_refused_and_left_out(im2recipe: Path, tmp_path: Path) -> None:
    """One poisoned value must neither run nor stop the import of the others."""
    import os

    import lmdb

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    (key, *_) = pickle.loads((im2recipe / "train_keys.pkl").read_bytes())
    with (
        lmdb.open(str(im2recipe / "train_lmdb"), map_size=1 << 24) as store,
        store.begin(write=True) as transaction,
    ):
        transaction.put(key.encode(), pickle.dumps(Evil()))
    notes: list[str] = []
    source = open_source(str(im2recipe))
    result = import_dataset(source, tmp_path / "out", on_bad=notes.append)
    assert result.left_out == 1
    assert "posix.system" in notes[0] or "nt.system" in notes[0]
    assert not (tmp_path / "ran").exists()


def test_layer_with_what_is_no_record(layers: Path, tmp_path: Path) -> None:
    """A number in the list ended the import of a million recipes."""
    records = json.loads((layers / "layer1.json").read_text())
    records[1]["ingredients"] = []
    (layers / "layer1.json").write_text(json.dumps([5, *records]))
    notes: list[str] = []
    import_dataset(open_source(str(layers)), tmp_path / "out", on_bad=notes.append)
    assert notes[0] == f"{layers / 'layer1.json'} record 1: is no JSON object"
    assert "record 3: the recipe has no ingredients" in notes[1]
    assert len(notes) == 2
    with pytest.raises(InputError, match="is no JSON object"):
        import_dataset(open_source(str(layers)), tmp_path / "strict", strict=True)


def test_layer_with_a_bad_record(layers: Path, tmp_path: Path) -> None:
    """A record without ingredients is named by its number; strict makes it an error."""
    records = json.loads((layers / "layer1.json").read_text())
    records[3]["ingredients"] = []
    (layers / "layer1.json").write_text(json.dumps(records))
    notes: list[str] = []
    import_dataset(open_source(str(layers)), tmp_path / "out", on_bad=notes.append)
    assert len(notes) == 1
    assert "record 4" in notes[0]
    with pytest.raises(InputError, match="record 4"):
        import_dataset(open_source(str(layers)), tmp_path / "strict", strict=True)
