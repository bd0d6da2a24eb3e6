"""Pickles made to harm: each is refused within a second, in one line, and nothing crashes."""

from __future__ import annotations

import argparse
import io
import pickle
import struct
import subprocess
import sys
import time
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from hficma.errors import InputError
from hficma.untrusted.pickle_globals import GLOBALS
from hficma.untrusted.pickle_records import Record
from hficma.untrusted.pickle_scan import scan_pickle
from hficma.untrusted.pickles import _Unpickler, load_all, loads
from hficma.untrusted.torch_checkpoints import load_checkpoint, load_weights

torch = pytest.importorskip("torch", reason="many of the pickles are torch's")

SECONDS = 3  # a refusal takes milliseconds; the rest is for a busy machine


def named(path: str) -> bytes:
    module, _, name = path.rpartition(".")
    return f"c{module}\n{name}\n".encode()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def content(value: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(value)) + value


def dtype(code: str) -> bytes:
    return named("numpy.dtype") + b"(" + text(code) + b"tR"


FRESH = (
    named("numpy.core.multiarray._reconstruct")
    + b"("
    + named("numpy.ndarray")
    + number(0)
    + b"\x85"
    + text("b")
    + b"tR"
)


def state(shape: bytes, code: str, values: bytes) -> bytes:
    return b"(" + number(1) + shape + dtype(code) + b"\x89" + values + b"t"


def array(shape: bytes, code: str, values: bytes) -> bytes:
    return FRESH + state(shape, code, values) + b"b"


def view(storage: bytes, size: int) -> bytes:
    function = named("torch._utils._rebuild_tensor_v2")
    return (
        function + b"(" + storage + number(0) + number(size) + b"\x85" + number(1) + b"\x85\x89NtR"
    )


def built_twice(code: str, values: bytes) -> bytes:
    """An array, a tensor that looks at it, and a second BUILD that frees what it looks at."""
    first = array(number(1000) + b"\x85", code, values) + b"q\x00"
    second = b"h\x00" + state(number(1) + b"\x85", "i8", content(b"B" * 8)) + b"b"
    filler = b"".join(content(b"C" * 7967) + b"q" + bytes([10 + k]) for k in range(20))
    return b"(" + first + view(b"h\x00", 1000) + b"q\x01" + second + filler + b"t."


def times(opcode: bytes, count: int) -> bytes:
    return opcode * count


def laughs(levels: int, fan: int) -> bytes:
    """A list of `fan` times a list of `fan` times a list ..."""
    program = b"]q\x00(K\x01K\x02e"
    for level in range(1, levels):
        program += b"]q" + bytes([level]) + b"(" + b"h" + bytes([level - 1])
        program += (b"h" + bytes([level - 1])) * (fan - 1) + b"e"
    # All levels stand on the stack: a tuple holds them.
    return b"(" + program + b"t."


PRIME = 2**61 - 1
COLLIDING = b"".join(
    b"\x8a" + bytes([len(raw)]) + raw
    for k in range(1, 20_000)
    for raw in [pickle.encode_long(k * PRIME)]
)
LONG_KEY = b"(" + number(7) * 100_000 + b"tq\x00"
OBJECTS = b"](" + text("zz") * 1000 + b"e"
SMALL = state(number(1) + b"\x85", "i8", content(b"B" * 8))

HOSTILE = {
    "a storage without bytes": view(
        array(number(10**6) + number(0) + b"\x86", "f8", content(b"")), 10**6
    )
    + b".",
    "built twice": built_twice("i8", content(b"A" * 8000)),
    "objects built twice": built_twice("O", OBJECTS),
    "a view of objects": view(array(number(1000) + b"\x85", "O", OBJECTS), 1000) + b".",
    "objects": array(number(1000) + b"\x85", "O", OBJECTS) + b".",
    "objects of bytes": array(number(1) + b"\x85", "O", content(b"C" * 8)) + b".",
    "texts": array(number(1) + b"\x85", "U2", content(b"C" * 8)) + b".",
    "void": array(number(1) + b"\x85", "V8", content(b"C" * 8)) + b".",
    "fields": array(number(1) + b"\x85", "i4,O", content(b"C" * 12)) + b".",
    "a number that is an object": named("numpy.core.multiarray.scalar")
    + b"("
    + dtype("O")
    + content(b"C" * 8)
    + b"tR.",
    "too few bytes": array(number(9) + b"\x85", "f8", content(b"C" * 8)) + b".",
    "a long empty array": array(number(10**9) + number(0) + b"\x86", "f8", content(b"")) + b".",
    "a dtype built twice": dtype("i8") + (b"(K\x03" + text("<") + b"NNNtb") * 2 + b".",
    "a class that is built": named("numpy.dtype") + b"}b.",
    "a class with attributes": named("PIL.Image.Image")
    + b"N}"
    + text("make")
    + named("builtins.set")
    + b"s\x86b.",
    "a class that takes items": named("collections.OrderedDict") + text("a") + b"K\x01s.",
    "a class that takes elements": named("builtins.set") + b"(K\x01e.",
    "a list that is built": b"]}b.",
    "an array within itself": FRESH + b"q\x00" + b"(K\x01h\x00\x85h\x00\x89h\x00tb.",
    "a list within itself": b"]q\x00h\x00a.",
    "a list within itself, often": b"]q\x00(" + times(b"h\x00", 50) + b"e.",
    "a dict within itself": b"}q\x00" + text("a") + b"h\x00s.",
    "deep lists": times(b"]", 100_000) + times(b"a", 99_999) + b".",
    "deep tuples": b")" + times(b"\x85", 200_000) + b".",
    "a deep key": b"})" + times(b"\x85", 200_000) + b"K\x01s.",
    "a deep key of a set": b"\x8f(" + b")" + times(b"\x85", 200_000) + b"\x90.",
    "a deep key by a call": named("builtins.set")
    + b"(](" + b")" + times(b"\x85", 200_000) + b"etR.",
    "a long key, often": b"}(" + LONG_KEY + b"K\x01" + times(b"h\x00K\x01", 20_000) + b"u.",
    "a long key of OrderedDict": named("collections.OrderedDict")
    + b")R(" + LONG_KEY + b"K\x01" + times(b"h\x00K\x01", 20_000) + b"u.",
    "colliding numbers in a set": b"\x8f(" + COLLIDING + b"\x90.",
    "colliding numbers by a call": named("builtins.set") + b"(](" + COLLIDING + b"etR.",
    "colliding numbers in a frozenset": b"(" + COLLIDING + b"\x91.",
    "colliding keys": b"(" + COLLIDING.replace(b"\x8a", b"N\x8a")[1:] + b"Nd.",
    "a key that is an array": b"}" + array(number(0) + b"\x85", "i8", content(b"")) + b"K\x01s.",
    "a large memo": b"]r\xff\xff\xff\x7f.",
    "a large memo by text": b"]p2147483647\n.",
    "a frame past the end": b"\x80\x04\x95" + (1 << 40).to_bytes(8, "little") + b"N.",
    "lists of lists of lists": laughs(40, 100),
    "one text very often": b"](" + text("x" * 9999) + b"q\x00" + times(b"h\x00", 400_000) + b"e.",
    "one array a hundred thousand times": b"]("
    + array(number(10_000) + b"\x85", "f8", content(bytes(80_000)))
    + b"q\x00"
    + times(b"h\x00", 10**5)
    + b"e.",
    "a tuple below a mark": b"K\x01(K\x02\x86.",
    "a mark in the memo": b"(q\x00.",
    "nothing": b".",
    "two values": b"NN.",
    "duplicates": b"N2\x86.",
    "popped": b"NN0.",
    "popped to a mark": b"N(N1.",
    "a persistent object": text("storage") + b"Q.",
    "a number of many digits": b"I" + b"9" * 100_000 + b"\n.",
    "a negative size": array(number(-8) + b"\x85", "i8", content(b"C" * 8)) + b".",
    "an image of another size": named("PIL.Image.Image")
    + b")\x81(}" + text("RGB") + number(10**5) * 2 + b"\x86N" + content(b"abc") + b"tb.",
    "an image without pixels": named("PIL.Image.Image") + b")\x81.",
    "a long bytearray": named("builtins.bytearray") + b"(\x8a\x06" + bytes(5) + b"\x10tR.",
    "a tensor of a list": view(b"](" + number(1) * 10 + b"e", 10) + b".",
    "a tensor of text": view(text("x" * 100), 10) + b".",
    "a storage that is no file": named("torch.storage._load_from_bytes")
    + b"(" + content(b"C" * 99) + b"tR.",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_is_refused_in_time(name: str) -> None:
    """Each of these crashed, took memory or took minutes in some reader of pickles."""
    began = time.perf_counter()
    with pytest.raises(InputError, match=r"^evil\.pkl: [^\n]*$"):
        loads(HOSTILE[name], name="evil.pkl")
    assert time.perf_counter() - began < SECONDS


def test_an_array_is_its_own() -> None:
    """An array that looks at the pickle's bytes, or at another array, changes with them."""
    values = np.arange(4.0)
    first, second = loads(pickle.dumps([values, values[:2]]), name="x")
    for found in (first, second, loads(pickle.dumps(torch.from_numpy(values)), name="x")):
        assert found.flags.owndata
        assert found.flags.writeable
        assert found.ctypes.data % found.itemsize == 0


def torch_storage(values: np.ndarray, *, count: int | None = None, keys: Any = None) -> bytes:
    """A storage as torch.save's old form, whose parts may disagree."""
    stream = io.BytesIO()
    kept = torch.from_numpy(values).untyped_storage()
    typed = torch.storage.TypedStorage(wrap_storage=kept, dtype=torch.float32, _internal=True)
    torch.save(typed, stream, _use_new_zipfile_serialization=False)
    whole = stream.getvalue()
    at = whole.rindex(len(values).to_bytes(8, "little"))
    head = whole[:at]
    if keys is not None:
        end = 0
        for part in range(4):
            end = scan_pickle(whole, end, name="x", storages=part == 3)
        head = whole[:end] + pickle.dumps(keys, 2)
    return head + (len(values) if count is None else count).to_bytes(8, "little") + whole[at + 8 :]


def tensor_of(storage: bytes, size: int, *, offset: int = 0, stride: int = 1) -> bytes:
    """A pickled tensor over such a storage."""
    made = named("torch.storage._load_from_bytes") + b"(" + content(storage) + b"tR"
    sizes = number(offset) + number(size) + b"\x85" + number(stride) + b"\x85"
    return named("torch._utils._rebuild_tensor_v2") + b"(" + made + sizes + b"\x89NtR."


def test_tensors_stay_in_their_storage() -> None:
    """Size, stride and offset come from the file; what lies outside is other memory."""
    values = np.arange(8, dtype="f4")
    storage = torch_storage(values)
    assert np.array_equal(loads(tensor_of(storage, 3, offset=1, stride=2), name="x"), [1, 3, 5])
    for size, offset, stride in (
        (9, 0, 1), (8, 1, 1), (2, 0, 8), (1, 8, 1), (8, -1, 1), (3, 0, -1), (2**31 - 1, 0, 0),
    ):  # fmt: skip
        with pytest.raises(InputError, match="x: is no readable pickle"):
            loads(tensor_of(storage, size, offset=offset, stride=stride), name="x")
    for wrong in (
        torch_storage(values, count=7),
        torch_storage(values, count=2**40),
        torch_storage(values, keys=[]),
        torch_storage(values, keys=["another"]),
        storage[:-1],
    ):
        with pytest.raises(InputError, match="x: "):
            loads(tensor_of(wrong, 3), name="x")


OLD = {"_use_new_zipfile_serialization": False}


def test_what_checkpoints_hold_beside_weights(tmp_path: Path) -> None:
    """HF-ICMA's best score is a number of numpy's, others keep their options: weights are read."""
    weight = torch.arange(6.0).reshape(2, 3)
    record = {
        "epoch": 3,
        "best_val": np.mean([1.0, 2.0]),
        "curr_val": np.float32(1),
        "history": np.arange(3),
        "options": argparse.Namespace(lr=0.1),
        "state_dict": OrderedDict(weight=weight, half=weight.half(), wide=weight.bfloat16()),
        "optimizer": {"state": {140_234_567_890_123: {"exp_avg": weight}}, "param_groups": [{}]},
    }
    for options in (OLD, {}):
        torch.save(record, tmp_path / "model.pth.tar", **options)
        found = load_weights(tmp_path / "model.pth.tar")
        assert sorted(found) == ["half", "weight", "wide"]
        for array_of in found.values():
            assert np.array_equal(array_of.astype("f4"), weight.numpy())


def refused_checkpoint(path: Path, expected: str) -> None:
    began = time.perf_counter()
    with pytest.raises(InputError, match=expected) as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert time.perf_counter() - began < 3


def old_form(program: bytes, keys: bytes = b"].") -> bytes:
    head = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)
    return head + b"\x80\x02" + program + b"." + keys


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (built_twice("O", OBJECTS)[:-1], "no readable file|refused"),
        (named("builtins.bytearray") + b"(\x8a\x06" + bytes(5) + b"\x10tR", "builtins.bytearray"),
        (named("torch.FloatTensor") + number(2**31 - 1) + b"\x85R", "torch.FloatTensor"),
        (named("torch.Tensor") + number(2**31 - 1) + b"\x85R", "torch.Tensor"),
        (named("posix.system") + text("true") + b"\x85R", "posix.system"),
        (b"})" + b"\x85" * 200_000 + b"K\x01s", "a key"),
        (b"}(" + LONG_KEY + b"K\x01" + b"h\x00K\x01" * 20_000 + b"u", "a key"),
        (b"\x8f(" + COLLIDING + b"\x90", "a key"),
    ],
)
def test_hostile_checkpoints(tmp_path: Path, program: bytes, expected: str) -> None:
    """What torch itself would take memory or minutes for is refused before it sees it."""
    path = tmp_path / "model.pth.tar"
    path.write_bytes(old_form(program))
    refused_checkpoint(path, expected)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", b"\x80\x02" + program + b".")
        archive.writestr("model/version", "3\n")
    refused_checkpoint(path, expected)


def test_a_tensor_without_values_is_refused(tmp_path: Path) -> None:
    """Its storage would hold whatever stood in the memory before."""
    storage = b"(" + text("storage") + named("torch.FloatStorage") + text("0") + text("cpu")
    storage += number(1000) + b"NtQ"
    path = tmp_path / "model.pth.tar"
    path.write_bytes(old_form(view(storage, 1000)) + bytes(8000))
    refused_checkpoint(path, "larger than the file")


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    """torch.save stores; a member that unpacks to more than the file was made by another."""
    path = tmp_path / "model.pth.tar"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", bytes(50_000_000))
    refused_checkpoint(path, "larger than the file")


@pytest.mark.parametrize("kind", ["directory", "device", "missing"])
def test_what_is_no_file(tmp_path: Path, kind: str) -> None:
    """/dev/zero never ends."""
    path = {"directory": tmp_path, "device": Path("/dev/zero"), "missing": tmp_path / "x"}[kind]
    for read in (load_all, load_checkpoint):
        with pytest.raises(InputError):
            read(path)


# What the fuzz draws from: whole opcodes with small arguments, and pieces that picklers write.
_NUMBERS = [number(n) for n in (0, 1, 2, 8, -1, 10**6)]
_PIECES = [
    *_NUMBERS, b"N", b"\x88", b")", b"]", b"}", b"\x8f", b"(", b"t", b"l", b"d", b"a", b"e", b"s",
    b"u", b"\x85", b"\x86", b"\x87", b"R", b"b", b"\x81", b"\x90", b"\x91", b"\x94", b"0", b"1",
    b"2", b"Q", b"\x93", b"o", b"\x92", text("f8"), text("a"), content(b"C" * 8),
    content(bytes(64)),
    *(b"q" + bytes([k]) for k in range(4)), *(b"h" + bytes([k]) for k in range(4)),
    *(named(".".join(key)) for key in GLOBALS), dtype("f8"), FRESH, SMALL, SMALL + b"b",
    array(number(8) + b"\x85", "f8", content(bytes(64))),
    named("PIL.Image.Image") + b")\x81", view(b"h\x00", 8), view(b"h\x01", 1),
    tensor_of(torch_storage(np.arange(8, dtype="f4")), 8)[:-1],
]  # fmt: skip
_GOOD = [
    pickle.dumps(value, protocol)
    for protocol in range(6)
    for value in (
        {"a": [np.arange(5.0), Image.new("L", (4, 4))], "b": {1, 2}, "c": frozenset("ab")},
        [torch.arange(12.0).reshape(3, 4).t(), np.float32(2), np.arange(3, dtype=">i2")],
        OrderedDict(a=(1, 2), b=[b"xy", bytearray(b"z"), "é"]),
    )
]
programs = st.one_of(
    st.lists(st.sampled_from(_PIECES), max_size=40).map(lambda parts: b"".join(parts) + b"."),
    st.binary(max_size=60).map(lambda tail: b"\x80\x04" + tail + b"."),
    st.builds(
        lambda good, edits: _edited(good, edits),
        st.sampled_from(_GOOD),
        st.lists(st.tuples(st.integers(0, 10_000), st.binary(max_size=4)), max_size=6),
    ),
    st.builds(
        lambda good, at, piece: good[: at % len(good)] + piece + good[at % len(good) :],
        st.sampled_from(_GOOD),
        st.integers(0, 10_000),
        st.sampled_from(_PIECES),
    ),
)


def _edited(good: bytes, edits: list[tuple[int, bytes]]) -> bytes:
    changed = bytearray(good)
    for place, new in edits:
        at = place % len(changed)
        changed[at : at + len(new)] = new
    return bytes(changed)


def everything(value: Any) -> Iterator[Any]:
    """The value and what is in it, each object once."""
    waiting, seen = [value], set()
    while waiting:
        item = waiting.pop()
        yield item
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Record):
            waiting += [item.arguments, item.state, getattr(item, "items", None)]
        elif isinstance(item, dict):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, (list, tuple, set, frozenset)):
            waiting.extend(item)


def check_program(program: bytes) -> None:
    """Whatever is read can be touched; what the scan let pass has keys that are cheap."""
    try:
        end = scan_pickle(program, name="x")
        loaded = _Unpickler(program[:end], "x").load()
    except InputError:
        pass
    except Exception:  # as `loads` does
        pass
    else:
        for item in everything(loaded):
            if isinstance(item, (dict, set, frozenset)):
                for key in item:
                    assert key is None or isinstance(key, (str, bytes, int, float))
                    assert not isinstance(key, int) or abs(key) < PRIME
    try:
        value = loads(program, name="x")
    except InputError:
        return
    for item in everything(value):
        assert not isinstance(item, (Record, type))
        if isinstance(item, np.ndarray):
            assert item.dtype.kind in "biufc"
            assert item.nbytes <= 200 * len(program)
            item.copy().fill(0)
        elif isinstance(item, Image.Image):
            item.tobytes()


def test_fuzz_in_a_child() -> None:
    """A thousand programs of opcodes and of damaged pickles: the interpreter must not crash."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", __file__],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) >= 1000
    assert time.monotonic() - began < 60


def main() -> None:
    """Run the fuzz; print how many programs were tried. A seed as argument draws others."""
    tried = 0

    @seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    @settings(
        max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(programs)
    def fuzz(program: bytes) -> None:
        nonlocal tried
        tried += 1
        began = time.perf_counter()
        check_program(program)
        assert time.perf_counter() - began < 5

    fuzz()
    print(tried)


if __name__ == "__main__":
    main()
