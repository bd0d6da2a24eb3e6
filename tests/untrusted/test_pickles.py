"""Pickles from outside: what data needs is read, everything else is refused by name."""

from __future__ import annotations

import builtins
import contextlib
import io
import os
import pickle
import subprocess
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hficma.errors import InputError
from hficma.untrusted.pickles import UnsafePickleError, load_all, loads
from hficma.untrusted.torch_checkpoints import load_checkpoint

torch = pytest.importorskip("torch", reason="many of the pickles are torch's")

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


class Calls:
    """Pickles as a call of `function`, the usual malicious pickle."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


MALICIOUS = {
    "system": Calls(os.system, "true"),
    "eval": Calls(eval, "1 + 1"),
    "exec": Calls(exec, "pass"),
    "getattr": Calls(getattr, "text", "upper"),
    "getattr chain": Calls(getattr, Calls(__import__, "os"), "system"),
    "__import__": Calls(__import__, "os"),
    "open": Calls(open, "/dev/null"),
    "Popen": Calls(subprocess.Popen, "true"),
    "torch.load": Calls(torch.load, "x.pth"),
    "numpy.load": Calls(np.load, "x.npy"),
    "type": Calls(type, "text"),
    "apply": Calls(map, str, ["text"]),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", MALICIOUS)
def test_malicious_is_refused_by_name(name: str, protocol: int) -> None:
    """A reader that calls any of these runs a stranger's code."""
    with pytest.raises(UnsafePickleError, match=r"asks for '[\w.]+', which no data file needs"):
        loads(pickle.dumps(MALICIOUS[name], protocol), name="evil.pkl")


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(S'true'\ntR.",  # GLOBAL, REDUCE
        b"(S'true'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'true'\no.",  # OBJ
        b"\x80\x02cbuiltins\neval\n(X\x01\x00\x00\x001tR.",
        b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93.",  # STACK_GLOBAL alone
        b"\x80\x02\x82\x01.",  # EXT1: a registered extension
        b"\x80\x02ccopyreg\n_reconstructor\n(cbuiltins\nobject\ncbuiltins\nobject\nNtR.",
    ],
)
def test_hand_made_program_is_refused(program: bytes) -> None:
    """Opcodes that no pickler of data writes must lead nowhere."""
    with pytest.raises(InputError):
        loads(program, name="evil.pkl")


def test_a_global_that_is_allowed_cannot_be_used_for_another_purpose() -> None:
    """`numpy.ndarray` may be named, not called; a list takes no attributes."""
    with pytest.raises(UnsafePickleError, match=r"numpy\.ndarray"):
        loads(b"cnumpy\nndarray\n(I9\ntR.", name="evil.pkl")
    with pytest.raises(UnsafePickleError, match="state of list"):
        loads(b"]}b.", name="evil.pkl")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_data_is_read(protocol: int) -> None:
    """Containers, arrays, numbers, tensors and images come back as they were."""
    value = {
        "plain": [1, 2.5, "é", b"\xff", None, True, (1, (2,)), {1, 2}, frozenset("ab")],
        "order": OrderedDict([("b", 1), ("a", 2)]),
        "array": np.arange(6, dtype=np.uint16).reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(3, dtype=">f4"),
        "number": np.float32(1.5),
        "tensor": torch.arange(6.0).reshape(2, 3).t(),
        "image": Image.new("RGB", (3, 2), (9, 8, 7)),
    }
    found = loads(pickle.dumps(value, protocol), name="good.pkl")
    assert found["plain"] == value["plain"]
    assert list(found["order"].items()) == [("b", 1), ("a", 2)]
    for name in ("array", "columns", "big"):
        assert np.array_equal(found[name], value[name])
        assert found[name].dtype.newbyteorder("=") == value[name].dtype.newbyteorder("=")
    assert found["number"] == 1.5
    assert np.array_equal(found["tensor"], value["tensor"].numpy())
    assert found["image"].tobytes() == value["image"].tobytes()


def test_python_2_pickle_is_read() -> None:
    """Recipe1M's pickles are from Python 2: byte strings there are text here."""
    assert loads(b"\x80\x02}q\x00U\x02idq\x01]q\x02K\x01as.", name="py2.pkl") == {"id": [1]}


def test_consecutive_pickles(tmp_path: Path) -> None:
    """classes1M.pkl is two pickles in one file."""
    path = tmp_path / "two.pkl"
    path.write_bytes(pickle.dumps({"a": 1}) + pickle.dumps({1: "pie"}))
    assert load_all(path) == [{"a": 1}, {1: "pie"}]


@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoint(tmp_path: Path, zipped: bool) -> None:
    """Both forms of torch.save; tensors that share a storage keep their own values."""
    whole = torch.arange(12.0).reshape(3, 4)
    state = OrderedDict(whole=whole, part=whole[1:, ::2], half=torch.ones(2).half())
    path = tmp_path / "model.pth.tar"
    torch.save({"state_dict": state, "epoch": 3}, path, _use_new_zipfile_serialization=zipped)
    found = load_checkpoint(path)
    assert found["epoch"] == 3
    for name, tensor in state.items():
        assert torch.equal(found["state_dict"][name], tensor)


@pytest.mark.parametrize("zipped", [True, False])
def test_the_weights_of_a_module_are_read(tmp_path: Path, zipped: bool) -> None:
    """A `state_dict` is an OrderedDict with a state, and most files of weights are one."""
    layer = torch.nn.BatchNorm1d(3)
    torch.save(layer.state_dict(), tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    assert load_checkpoint(tmp_path / "a.pth").keys() == layer.state_dict().keys()


@pytest.mark.parametrize("zipped", [True, False])
def test_malicious_checkpoint(tmp_path: Path, zipped: bool) -> None:
    """A checkpoint is a pickle too."""
    path = tmp_path / "model.pth.tar"
    torch.save({"x": MALICIOUS["system"]}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UnsafePickleError, match="system"):
        load_checkpoint(path)


def test_sizes_that_the_file_does_not_back_are_refused() -> None:
    """A few bytes must not take gigabytes."""
    array = pickle.dumps(np.zeros(4, dtype=np.uint8), 2)
    huge = array.replace(b"K\x04\x85", b"\x8a\x06\x00\x00\x00\x00\x00\x10\x85")
    assert huge != array
    for program in (
        huge,
        b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b".",  # BYTEARRAY8
        b"\x80\x04\x8e" + (1 << 40).to_bytes(8, "little") + b".",  # BINBYTES8
        b"\x80\x02cbuiltins\nbytearray\n\x8a\x06\x00\x00\x00\x00\x00\x10\x85R.",
    ):
        with pytest.raises(InputError):
            loads(program, name="bomb.pkl")


def test_deep_keys_do_not_end_the_process() -> None:
    """Hashing a tuple nested a hundred thousand times overflows the C stack."""
    with pytest.raises(InputError):
        loads(b"\x80\x02})" + b"\x85" * 100_000 + b"K\x01s.", name="deep.pkl")


def test_damaged_files(tmp_path: Path) -> None:
    """Whatever is wrong is one line that names the file."""
    path = tmp_path / "x.pth.tar"
    for content in (b"", b"no pickle", b"PK\x03\x04", pickle.dumps([1, 2, 3])[:-4]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"x\.pth\.tar"):
            load_checkpoint(path)


GOOD = [
    pickle.dumps({"a": [np.arange(5.0), Image.new("L", (4, 4))], "b": {1, 2}}, protocol)
    for protocol in PROTOCOLS
]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(GOOD), st.lists(st.tuples(st.integers(0, 10_000), st.binary(max_size=4))))
def test_fuzzed_pickles(good: bytes, edits: list[tuple[int, bytes]]) -> None:
    """A damaged pickle is read or refused: no other error, no hang, nothing executed."""
    content = bytearray(good)
    for place, new in edits:
        at = place % len(content)
        content[at : at + len(new)] = new
    with contextlib.suppress(InputError):
        loads(bytes(content), name="fuzzed.pkl")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(range(256)), max_size=60).map(bytes))
def test_random_opcodes(program: bytes) -> None:
    """Bytes that were never a pickle."""
    with contextlib.suppress(InputError):
        loads(b"\x80\x04" + program + b".", name="random.pkl")


def test_nothing_of_builtins_slips_through() -> None:
    """Of Python's own names only plain containers may be called."""
    callable_names = [name for name, value in vars(builtins).items() if callable(value)]
    allowed = set()
    for name in callable_names:
        try:
            loads(f"cbuiltins\n{name}\n(tR.".encode(), name="x")
            allowed.add(name)
        except InputError as error:
            if not isinstance(error, UnsafePickleError):
                allowed.add(name)
    assert allowed <= {"set", "frozenset", "bytearray"}


def test_stream_position(tmp_path: Path) -> None:
    """Trailing bytes that are no pickle are an error, not ignored."""
    path = tmp_path / "tail.pkl"
    buffer = io.BytesIO()
    pickle.dump([1], buffer)
    path.write_bytes(buffer.getvalue() + b"tail")
    with pytest.raises(InputError, match=r"tail\.pkl"):
        load_all(path)
