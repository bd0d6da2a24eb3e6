"""What a pickle from outside may build: first recorded, then made.

While the pickle runs, each call of a global that is on the list only makes a record of it: its
arguments, and the state that the pickle sets once. Values are made of the records when the pickle
has ended and nothing of it can run any more. So an array is made once, of bytes whose number was
compared with its shape, and no later opcode can reach into it.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MAX_DEPTH = 60
"""Containers and calls inside each other; a list of tensors takes about ten."""
MAX_EMPTY = 100_000
"""The longest side of an array without values."""

STORAGES = {
    "DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "LongStorage": "<i8",
    "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "i1", "ByteStorage": "u1",
    "BoolStorage": "?",
}  # fmt: skip
"""torch's storages and how numpy names what they hold."""
# Numbers only: objects are pointers, and texts have no use in an array.
_DTYPE = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248]|c(?:8|16)|[?b])")
_IMAGE_BANDS = {"L": 1, "RGB": 3, "RGBA": 4, "CMYK": 4}
_UNSET = object()


class NotDataError(Exception):
    """A global that is used in a way that no data file needs; its text names the global."""


class Record(ABC):
    """What the pickle called, with what; `make` gives the value.

    The classes themselves stand on the unpickler's stack. Nothing there can be changed: they take
    no item and no attribute, and an instance takes a state once.
    """

    __slots__ = ("arguments", "state")
    __hash__ = None  # type: ignore[assignment]
    path: ClassVar[str]
    """The global's, as the pickle names it."""
    takes_state: ClassVar[bool] = False

    def __new__(cls, *arguments: Any) -> Self:
        """Record a call: what REDUCE and NEWOBJ do."""
        record = super().__new__(cls)
        record.arguments = arguments
        record.state = _UNSET
        return record

    arguments: tuple[Any, ...]
    state: Any

    def __setstate__(self, state: Any) -> None:
        """Record what BUILD sets, once."""
        if not self.takes_state or self.state is not _UNSET:
            raise NotDataError(f"setting the state of {self.path}")
        self.state = state

    @abstractmethod
    def make(self, values: Maker) -> Any:
        """Make the value of the record; arguments that are records go through `values`."""


class Maker:
    """Makes the values of a loaded pickle, each of its objects once.

    Args:
        limit: bytes that the value may take with everything that stands in it several times: a
            list that holds a list ten times, which holds a list ten times, and so on, is short in
            a file and endless to whoever reads it.
        storage: reads the bytes that torch pickles a storage as.
    """

    def __init__(self, limit: int, storage: Callable[[bytes], Array]) -> None:
        self._left = limit
        self.storage = storage
        self._depth = 0
        # Of the loaded object, its value and size; the object is held, or its id would be reused.
        self._made: dict[int, tuple[Any, Any, int]] = {}
        self._open: set[int] = set()

    def value(self, item: Any) -> Any:
        """Make one value of what the unpickler left.

        Raises:
            ValueError: nested too deeply, within itself, too large, or no data.
        """
        if item is None or isinstance(item, (bool, int, float, complex)):
            self.pay(8)
            return item
        if isinstance(item, (str, bytes, bytearray)):
            self.pay(8 + len(item))
            return item
        known = self._made.get(id(item))
        if known is not None:
            self.pay(known[2])
            return known[1]
        if id(item) in self._open or self._depth >= MAX_DEPTH:
            raise ValueError("it is nested too deeply for a data file")
        before = self._left
        self._open.add(id(item))
        self._depth += 1
        self.pay(16)
        made = self._container(item)
        self._depth -= 1
        self._open.remove(id(item))
        self._made[id(item)] = (item, made, before - self._left)
        return made

    def array(self, content: bytes, dtype: np.dtype[Any], shape: Any, order: Any = "C") -> Array:
        """Make a fresh array of bytes that are exactly as many as its shape needs."""
        shape = tuple(shape)
        if len(content) != count_of(shape) * dtype.itemsize:
            raise ValueError(f"an array of shape {shape} with {len(content)} bytes")
        self.pay(len(content))
        flat = np.frombuffer(content, dtype=dtype)
        return flat.reshape(shape, order="F" if order == "F" else "C").copy()

    def pay(self, size: int) -> None:
        """Count so many bytes of the value.

        Raises:
            ValueError: they are too many.
        """
        self._left -= size
        if self._left < 0:
            raise ValueError("its value is too many times larger than the file")

    def _container(self, item: Any) -> Any:
        value = self.value
        if isinstance(item, Record):
            return item.make(self)
        if isinstance(item, dict):
            # Keys are plain texts and numbers: the scan saw to that.
            return {value(key): value(held) for key, held in item.items()}
        if isinstance(item, (list, tuple, set, frozenset)):
            return type(item)(value(held) for held in item)
        name = item.path if isinstance(item, type) and issubclass(item, Record) else type(item)
        raise ValueError(f"{name} stands where a value should")


def count_of(shape: tuple[Any, ...]) -> int:
    """Return how many values an array of a shape has.

    Raises:
        ValueError: it is no shape of an array that data can have.
    """
    if len(shape) > 32 or any(type(size) is not int or size < 0 for size in shape):
        raise ValueError(f"shape {shape!r}")
    count: int = math.prod(shape)
    if not count and max(shape) > MAX_EMPTY:
        raise ValueError(f"an array of shape {shape} without values")
    return count


class _Named(Record):
    """A global that is named as an argument, and never called."""

    def __new__(cls, *_arguments: Any) -> Self:
        """Refuse the call."""
        raise NotDataError(f"a call of {cls.path}")

    def make(self, values: Maker) -> Any:
        raise AssertionError("it is never made")


class _DType(Record):
    """`numpy.dtype(name, align, copy)`, with the byte order in its state."""

    takes_state = True

    def make(self, values: Maker) -> np.dtype[Any]:
        name, *_ = self.arguments
        name = name.decode("latin1") if isinstance(name, bytes) else name
        if not isinstance(name, str) or not _DTYPE.fullmatch(name):
            raise ValueError(f"an array of {str(name)[:20]!r}, which are no numbers")
        dtype = np.dtype(name)
        if self.state is not _UNSET:
            order = self.state[1]
            order = order.decode("latin1") if isinstance(order, bytes) else order
            if order not in ("<", ">", "|", "=") or any(p is not None for p in self.state[2:5]):
                raise ValueError("an array of fields")
            if order in "<>":
                dtype = dtype.newbyteorder("<" if order == "<" else ">")
        return dtype


class _Array(Record):
    """`numpy.core.multiarray._reconstruct(type, (0,), code)`, with all that counts in its state."""

    takes_state = True

    def make(self, values: Maker) -> Array:
        if self.state is _UNSET:
            raise ValueError("an array without values")
        _version, shape, dtype, fortran, content = self.state
        return values.array(
            _bytes(values.value(content)),
            _numbers(dtype, values),
            values.value(shape),
            "F" if fortran else "C",
        )


class _Buffer(Record):
    """`numpy.core.numeric._frombuffer(buffer, dtype, shape, order)`, of protocol 5."""

    def make(self, values: Maker) -> Array:
        content, dtype, shape, order = self.arguments
        content, shape = _bytes(values.value(content)), values.value(shape)
        return values.array(content, _numbers(dtype, values), shape, order)


class _Scalar(Record):
    """`numpy.core.multiarray.scalar(dtype, content)`."""

    def make(self, values: Maker) -> Any:
        dtype, content = self.arguments
        return values.array(_bytes(values.value(content)), _numbers(dtype, values), ())[()]


class _Encoded(Record):
    """`_codecs.encode(text, encoding)`: how protocols 0 to 2 write bytes."""

    def make(self, values: Maker) -> bytes:
        text, *encoding = self.arguments
        if not isinstance(text, str) or encoding not in ([], ["latin1"], ["latin-1"]):
            raise ValueError("bytes of what is no text")
        values.value(text)  # counts its size
        return text.encode("latin1")


class _ByteArray(Record):
    """`bytearray()`, `bytearray(content)` or `bytearray(text, "latin-1")`."""

    def make(self, values: Maker) -> bytearray:
        content, *_ = (*self.arguments, b"")
        return bytearray(_bytes(values.value(content)))


class _Set(Record):
    """`set(items)` and `frozenset(items)`, as protocols 0 to 3 write them."""

    def make(self, values: Maker) -> set[Any]:
        items, *_ = (*self.arguments, [])
        return {_key(item) for item in values.value(items)}


class _Ordered(Record):
    """`collections.OrderedDict()`, to which the pickle adds items, or has a list of pairs."""

    __slots__ = ("items",)
    takes_state = True  # torch keeps module versions there: not needed

    def __new__(cls, *arguments: Any) -> Self:
        """Record a call, and be ready for items."""
        record = super().__new__(cls, *arguments)
        record.items = {}
        return record

    items: dict[Any, Any]

    def __setitem__(self, key: Any, value: Any) -> None:
        """Add an item: what SETITEM does; the scan saw to the key."""
        self.items[key] = value

    def make(self, values: Maker) -> OrderedDict[Any, Any]:
        pairs, *_ = (*self.arguments, [])
        ordered = OrderedDict((_key(key), held) for key, held in values.value(pairs))
        for key, held in self.items.items():
            ordered[_key(key)] = values.value(held)
        return ordered


class _Image(Record):
    """A PIL image, its state (info, mode, size, palette, pixels)."""

    takes_state = True

    def make(self, values: Maker) -> Any:
        return _image(self.state, values)


class _Reconstructed(Record):
    """`copyreg._reconstructor(type, object, None)`: how protocols 0 and 1 write an image."""

    takes_state = True

    def make(self, values: Maker) -> Any:
        if self.arguments[0] is not GLOBALS["PIL.Image", "Image"]:
            raise NotDataError(f"a call of {self.path}")
        return _image(self.state, values)


class _Tensor(Record):
    """`torch._utils._rebuild_tensor_v2(storage, offset, size, stride, ...)`, as an array."""

    def make(self, values: Maker) -> Array:
        storage, offset, size, stride, *_ = self.arguments
        if not isinstance(storage, _Storage):
            raise ValueError("a tensor without a storage")
        flat = values.value(storage)
        size, stride = tuple(values.value(size)), tuple(values.value(stride))
        count = count_of(size)
        if type(offset) is not int or offset < 0 or len(size) != len(stride):
            raise ValueError(f"a tensor of size {size} and stride {stride}")
        if not count:
            return np.zeros(size, dtype=flat.dtype)
        if any(type(step) is not int or step < 0 for step in stride):
            raise ValueError(f"a tensor of stride {stride}")
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if count > flat.size or last >= flat.size:
            raise ValueError(f"a tensor of size {size} in a storage of {flat.size}")
        steps = tuple(step * flat.itemsize for step in stride)
        values.pay(count * flat.itemsize)
        view = np.lib.stride_tricks.as_strided(flat[offset:], size, steps, writeable=False)
        return view.copy()


class _Parameter(Record):
    """`torch._utils._rebuild_parameter(tensor, ...)`."""

    def make(self, values: Maker) -> Any:
        return values.value(self.arguments[0])


class _Storage(Record):
    """`torch.storage._load_from_bytes(content)`: content is what `torch.save` wrote of it."""

    def make(self, values: Maker) -> Array:
        content = values.value(self.arguments[0])
        if not isinstance(content, bytes):
            raise ValueError("a storage that is no bytes")
        return values.storage(content)


class _Size(Record):
    """`torch.Size(sizes)`."""

    def make(self, values: Maker) -> tuple[Any, ...]:
        return tuple(values.value(self.arguments[0]))


def _numbers(dtype: Any, values: Maker) -> np.dtype[Any]:
    if not isinstance(dtype, _DType):
        raise ValueError("an array without a dtype")
    made = values.value(dtype)
    assert isinstance(made, np.dtype)
    return made


def _bytes(content: Any) -> bytes:
    if isinstance(content, str):  # Python 2's byte strings
        return content.encode("latin1")
    if not isinstance(content, (bytes, bytearray)):
        raise ValueError("values that are no bytes")
    return bytes(content)


def _key(item: Any) -> Any:
    if item is not None and not isinstance(item, (str, bytes, int, float)):
        raise ValueError(f"a key that is {type(item).__name__}")
    if type(item) is int and abs(item) >= 2**61 - 1:
        raise ValueError("a key that is too large a number")
    return item


def _image(state: Any, values: Maker) -> Any:
    from PIL import Image

    if not isinstance(state, (list, tuple)) or len(state) < 5:
        raise ValueError("an image without pixels")
    _info, mode, size, _palette, pixels = list(state)[:5]
    content = _bytes(values.value(pixels))
    if mode not in _IMAGE_BANDS or count_of(tuple(size)) * _IMAGE_BANDS[mode] != len(content):
        raise ValueError(f"an image of mode {str(mode)[:10]!r} and size {str(size)[:40]}")
    return Image.frombytes(mode, tuple(size), content)


def _globals() -> dict[tuple[str, str], type[Record]]:
    table: dict[tuple[str, str], type[Record]] = {
        ("collections", "OrderedDict"): _Ordered,
        ("_codecs", "encode"): _Encoded,
        ("numpy", "dtype"): _DType,
        ("numpy", "ndarray"): _Named,
        ("PIL.Image", "Image"): _Image,
        ("torch._utils", "_rebuild_tensor"): _Tensor,
        ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
        ("torch._utils", "_rebuild_parameter"): _Parameter,
        ("torch.storage", "_load_from_bytes"): _Storage,
        ("torch", "Size"): _Size,
    }
    for module in ("numpy.core", "numpy._core"):
        table[f"{module}.multiarray", "_reconstruct"] = _Array
        table[f"{module}.multiarray", "scalar"] = _Scalar
        table[f"{module}.numeric", "_frombuffer"] = _Buffer
    for module in ("builtins", "__builtin__"):
        table.update({(module, "set"): _Set, (module, "frozenset"): _Set})
        table.update({(module, "bytearray"): _ByteArray, (module, "object"): _Named})
    for module in ("copyreg", "copy_reg"):
        table[module, "_reconstructor"] = _Reconstructed
    for storage in STORAGES:
        table["torch", storage] = _Named
    # A class of its own for each, so that errors name what the pickle named.
    classes = {
        key: type(kind.__name__, (kind,), {"__slots__": (), "path": ".".join(key)})
        for key, kind in table.items()
    }
    classes["PIL.JpegImagePlugin", "JpegImageFile"] = classes["PIL.Image", "Image"]
    return classes


GLOBALS = _globals()
"""Everything a pickle may name, by module and name."""
