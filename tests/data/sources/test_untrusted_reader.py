"""Records of others, whatever stands in them: a recipe's values, or one line of the project's."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from hficma.data.sources import open_source
from hficma.data.sources.recipe1m import untrusted_reader as foreign
from hficma.data.store.importing import import_dataset
from hficma.errors import InputError
from hficma.untrusted.pickles import loads

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.just(2**200)
    | st.sampled_from([np.float32(2), np.arange(4), np.zeros((2, 3)), np.zeros((2, 2, 2))])
    | st.just(np.array([1 + 2j])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
few = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def one_line(error: InputError) -> None:
    assert "\n" not in str(error)


def checked(record: foreign.Record) -> None:
    facts, vectors = record
    json.dumps(facts)
    assert np.isfinite(np.frombuffer(vectors, dtype="<f4")).all()
    assert len(vectors) == 4 * facts["rows"] * facts["dim"]


@few
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # numpy's, of one number in an array
@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(("ingrs", "intrs", "imgs", "classes"), values))
    | values
)
def test_any_im2recipe_record(record: Any) -> None:
    """A value of another kind ends its record, never the import by a traceback."""
    try:
        checked(foreign._im2recipe_record("x", record, "store recipe x"))
    except InputError as error:
        one_line(error)


class Fields(dict[str, Any]):
    """Stands for AdaMine's fields: each gives its one value at any position."""

    class Field(list[Any]):
        def __getitem__(self, position: Any) -> Any:
            return super().__getitem__(0)


@few
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@given(st.fixed_dictionaries({"ids": values}, optional=dict.fromkeys(foreign._BY_RECIPE, values)))
def test_any_adamine_record(record: dict[str, Any]) -> None:
    """The same, where each field is a value of its own."""
    fields = {name: Fields.Field([value]) for name, value in record.items()}
    fields["stvecs"] = Fields.Field([np.zeros(3, dtype="f4")] * 5)
    try:
        checked(foreign._adamine_record(Path("train"), fields, 0))  # type: ignore[arg-type]
    except InputError as error:
        one_line(error)


@few
@given(values)
def test_any_classes_and_vocabulary(tmp_path: Path, value: Any) -> None:
    """The two pickles that are read before any recipe."""
    path = tmp_path / "x.pkl"
    for content in ([value], [{"a": value}, {1: "b"}], [{"a": 1}, {2: value}]):
        path.write_bytes(b"".join(map(pickle.dumps, content)))
        for read in (foreign.read_classes, foreign.read_word_table):
            try:
                actual = read(path)
            except InputError as error:
                one_line(error)
            else:
                json.dumps(actual[0])


def test_numbers_without_end(im2recipe: Path, tmp_path: Path) -> None:
    """Neither JSON nor a message takes an integer of five thousand digits."""
    keys = pickle.loads((im2recipe / "val_keys.pkl").read_bytes())
    (im2recipe / "val_keys.pkl").write_bytes(pickle.dumps([*keys, 10**5000, [1]], 2))
    store = str(im2recipe / "test_lmdb")
    with lmdb.open(store, map_size=1 << 24) as opened, opened.begin(write=True) as change:
        key, value = next(iter(change.cursor()))
        change.put(key, pickle.dumps({**pickle.loads(value), "classes": 10**5000}))
    notes: list[str] = []
    result = import_dataset(open_source(str(im2recipe)), tmp_path / "out", on_bad=notes.append)
    assert (result.recipes, len(notes)) == (8, 3)


def test_python_2_records_are_read() -> None:
    """Recipe1M's LMDBs were written by Python 2, whose default protocol is text."""
    raw = b"\x00\xe9\\n\x01"
    program = (
        b"(dp0\nS'ingrs'\np1\ncnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n"
        b"(I0\ntp4\nS'b'\np5\ntp6\nRp7\n(I1\n(I2\ntp8\ncnumpy\ndtype\np9\n(S'u2'\np10\nI0\nI1\n"
        b"tp11\nRp12\n(I3\nS'<'\np13\nNNNI-1\nI-1\nI0\ntp14\nbI00\nS'" + raw + b"'\np15\ntp16\nbs."
    )
    actual = loads(program, name="py2")
    assert actual["ingrs"].tolist() == [0xE900, 0x010A]


@pytest.mark.parametrize(
    "image", [Image.new("L", (70_000, 1)), Image.new("RGB", (0, 5)), "text", None, [1]]
)
def test_images_that_are_none(adamine: Path, image: Any) -> None:
    """A picture without pixels, or longer than JPEG takes, is left out by its name."""
    store = adamine / "data_lmdb" / "val" / "ims.lmdb"
    with lmdb.open(str(store), map_size=1 << 24) as opened, opened.begin(write=True) as change:
        change.put(pickle.dumps(0, 3), pickle.dumps(image, 3))
    source = open_source(str(adamine))
    with pytest.raises(InputError, match="image 0"):
        source.photo("val/0")
    assert source.photo("val/1")[:2] == b"\xff\xd8"  # the next is read, by the same process
    source.close()
