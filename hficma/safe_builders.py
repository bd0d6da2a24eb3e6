"""What a pickle from outside may build, each by a function that checks what it is given.

Nothing is allocated that the file's own bytes do not back.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

STORAGES = {
    "DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "LongStorage": "<i8",
    "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "i1", "ByteStorage": "u1",
    "BoolStorage": "?",
}  # fmt: skip
"""torch's storages and how numpy names what they hold."""
_DTYPE = re.compile(r"[<>|=]?(?:[biufc]\d{1,2}|\?|b|O8?|[SU]\d{1,4})")
_IMAGE_BANDS = {"L": 1, "RGB": 3, "RGBA": 4, "CMYK": 4}


@dataclass(frozen=True)
class Allowed:
    """A global that may be named; calling it calls `make`, nothing else."""

    name: str
    """As the pickle names it."""
    make: Callable[..., Any] | None = None
    """What a call does; None where it may only be named."""


def checked_keys(values: Iterable[Any]) -> list[Any]:
    """Keys of a dict or items of a set: hashing a deeply nested one would end the process."""
    keys = list(values)
    for key in keys:
        flat = key if isinstance(key, tuple) else (key,)
        if any(not isinstance(part, (str, bytes, int, float, type(None))) for part in flat):
            raise ValueError(f"a key that is {type(key).__name__}")
    return keys


def set_state(target: Any, state: Any) -> bool:
    """What BUILD does; False where the object takes no state."""
    if isinstance(target, np.ndarray):
        _set_array(target, state)
    elif isinstance(target, _DType):
        target.set(state)
    elif type(target).__module__ == "PIL.Image":
        _set_image(target, state)
    else:
        return isinstance(target, OrderedDict)  # torch keeps module versions there: not needed
    return True


class _DType:
    """A numpy dtype while it is read: arrays take it with its byte order."""

    def __init__(self, name: Any, align: Any = False, copy: Any = True) -> None:
        if isinstance(name, bytes):
            name = name.decode("ascii")
        if not isinstance(name, str) or not _DTYPE.fullmatch(name):
            raise ValueError(f"dtype {name!r}")
        self.value = np.dtype(name)

    def set(self, state: Any) -> None:
        """Take the byte order from numpy's state tuple; fields and subarrays are refused."""
        order = state[1]
        order = order.decode("ascii") if isinstance(order, bytes) else order
        if order not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
            raise ValueError("a dtype with fields")
        if order in "<>":
            self.value = self.value.newbyteorder("<" if order == "<" else ">")


def _new_array(kind: Any, shape: Any, code: Any) -> Array:
    return np.ndarray((0,), dtype="i1")  # `_set_array` gives it shape and values


def _set_array(array: Array, state: Any) -> None:
    _version, shape, dtype, fortran, values = state
    if not isinstance(dtype, _DType):
        raise ValueError("an array without a dtype")
    if isinstance(values, str):
        values = values.encode("latin1")
    count = _count(shape)
    have = len(values) if dtype.value.hasobject else len(values) // dtype.value.itemsize
    if have != count or (dtype.value.hasobject and not isinstance(values, list)):
        raise ValueError(f"an array of shape {shape} with {have} values")
    state = (1, tuple(shape), dtype.value, bool(fortran), values)
    array.__setstate__(state)


def _count(shape: Any) -> int:
    if len(shape) > 32 or any(type(size) is not int or size < 0 for size in shape):
        raise ValueError(f"shape {shape!r}")
    return math.prod(shape)


def _scalar(dtype: Any, value: Any) -> Any:
    if not isinstance(dtype, _DType) or dtype.value.hasobject:
        raise ValueError("a number without a dtype")
    raw = value.encode("latin1") if isinstance(value, str) else bytes(value)
    if len(raw) != dtype.value.itemsize:
        raise ValueError(f"a number of {len(raw)} bytes")
    return np.frombuffer(raw, dtype=dtype.value)[0]


def _from_buffer(buffer: Any, dtype: Any, shape: Any, order: Any) -> Array:
    if not isinstance(buffer, (bytes, bytearray)) or not isinstance(dtype, _DType):
        raise ValueError("an array without a buffer")
    array = np.frombuffer(buffer, dtype=dtype.value)
    return array.reshape(tuple(shape), order="F" if order == "F" else "C")


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "utf-8", "ascii"):
        raise ValueError("an encoding of what is no text")
    return text.encode(encoding)


def _new_image(*_arguments: Any) -> Any:
    from PIL import Image

    return Image.Image()


def _set_image(image: Any, state: Any) -> None:
    _info, mode, size, _palette, values = list(state)[:5]
    if mode not in _IMAGE_BANDS or _count(size) * _IMAGE_BANDS[mode] != len(values):
        raise ValueError(f"an image of mode {mode!r} and size {size!r}")
    image.__setstate__([{}, mode, tuple(size), None, values])


def _reconstructor(kind: Any, base: Any, state: Any) -> Any:
    if not isinstance(kind, Allowed) or kind.make is not _new_image:
        raise ValueError("an object that is no image")
    return _new_image()


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_rest: Any) -> Array:
    """A strided view of a storage, as `torch._utils._rebuild_tensor_v2` makes one.

    It copies nothing: the values may follow later in the file, and a thousand tensors of one
    storage take no more memory than one.
    """
    if not isinstance(storage, np.ndarray):
        raise ValueError("a tensor without a storage")
    size, stride = tuple(size), tuple(stride)
    count = _count(size)
    _count(stride)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if offset < 0 or count > len(storage) or (count and last >= len(storage)):
        raise ValueError(f"a tensor of size {size} in a storage of {len(storage)}")
    if not count:
        return np.zeros(size, dtype=storage.dtype)
    steps = tuple(step * storage.itemsize for step in stride)
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps)


def _parameter(tensor: Any, *_rest: Any) -> Any:
    return tensor


def _storage_bytes(content: Any) -> Any:
    from hficma.safe_torch import read_torch  # which reads pickles by this module

    if not isinstance(content, bytes):
        raise ValueError("a storage that is no bytes")
    return read_torch(content, name="a tensor's storage")


def _byte_array(value: Any = b"", encoding: Any = "latin1") -> bytearray:
    # `bytearray(10**12)` would allocate that much.
    return bytearray(
        _encode(value, encoding) if isinstance(value, str) else bytes(memoryview(value))
    )


def _ordered(items: Any = ()) -> OrderedDict[Any, Any]:
    pairs = [tuple(item) for item in items]
    checked_keys(key for key, _ in pairs)
    return OrderedDict(pairs)


def _set(items: Any = ()) -> set[Any]:
    return set(checked_keys(items))


def _globals() -> Mapping[tuple[str, str], Allowed]:
    table: dict[tuple[str, str], Callable[..., Any] | None] = {
        ("collections", "OrderedDict"): _ordered,
        ("_codecs", "encode"): _encode,
        ("numpy", "dtype"): _DType,
        ("numpy", "ndarray"): None,
        ("PIL.Image", "Image"): _new_image,
        ("PIL.JpegImagePlugin", "JpegImageFile"): _new_image,
        ("torch._utils", "_rebuild_tensor"): _tensor,
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        ("torch._utils", "_rebuild_parameter"): _parameter,
        ("torch.storage", "_load_from_bytes"): _storage_bytes,
        ("torch", "Size"): lambda sizes: tuple(sizes),
    }
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        table[module, "_reconstruct"] = _new_array
        table[module, "scalar"] = _scalar
    for module in ("numpy.core.numeric", "numpy._core.numeric"):
        table[module, "_frombuffer"] = _from_buffer
    for module in ("builtins", "__builtin__"):
        table.update({(module, "set"): _set, (module, "frozenset"): _set})
        table.update({(module, "bytearray"): _byte_array, (module, "object"): None})
    for module in ("copyreg", "copy_reg"):
        table[module, "_reconstructor"] = _reconstructor
    for storage in STORAGES:
        table["torch", storage] = None
    return {key: Allowed(".".join(key), make) for key, make in table.items()}


GLOBALS = _globals()
"""Everything a pickle may name, by module and name."""
