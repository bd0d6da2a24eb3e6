"""What a pickle from outside may name: plain containers, numbers' arrays, torch's tensors, images.

Each global is a class of records (`pickle_records`), which says how its value is built. A global
that is not here is refused, so that no code but this file's runs for a pickle.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Any, Self

import numpy as np

from ..types import Array
from .pickle_records import UNSET, NotDataError, Record, ValueBuilder, count_of

STORAGES = {
    "DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "LongStorage": "<i8",
    "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "i1", "ByteStorage": "u1",
    "BoolStorage": "?",
}  # fmt: skip
"""torch's storages and how numpy names what they hold."""
# Numbers only: objects are pointers, and texts have no use in an array.
_DTYPE = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248]|c(?:8|16)|[?b])")
_IMAGE_BANDS = {"L": 1, "RGB": 3, "RGBA": 4, "CMYK": 4}


class _Named(Record):
    """A global that is named as an argument, and never called."""

    def __new__(cls, *_arguments: Any) -> Self:
        """Refuse the call."""
        raise NotDataError(f"a call of {cls.path}")

    def build(self, builder: ValueBuilder) -> Any:
        raise AssertionError("nothing has called it")


class _DType(Record):
    """`numpy.dtype(name, align, copy)`, with the byte order in its state."""

    takes_state = True

    def build(self, builder: ValueBuilder) -> np.dtype[Any]:
        name, *_ = self.arguments
        name = name.decode("latin1") if isinstance(name, bytes) else name
        if not isinstance(name, str) or not _DTYPE.fullmatch(name):
            raise ValueError(f"an array of {str(name)[:20]!r}, which are no numbers")
        dtype = np.dtype(name)
        if self.state is not UNSET:
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

    def build(self, builder: ValueBuilder) -> Array:
        if self.state is UNSET:
            raise ValueError("an array without values")
        _version, shape, dtype, fortran, content = self.state
        return builder.array(
            _bytes(builder.value(content)),
            _numbers(dtype, builder),
            builder.value(shape),
            "F" if fortran else "C",
        )


class _Buffer(Record):
    """`numpy.core.numeric._frombuffer(buffer, dtype, shape, order)`, of protocol 5."""

    def build(self, builder: ValueBuilder) -> Array:
        content, dtype, shape, order = self.arguments
        content, shape = _bytes(builder.value(content)), builder.value(shape)
        return builder.array(content, _numbers(dtype, builder), shape, order)


class _Scalar(Record):
    """`numpy.core.multiarray.scalar(dtype, content)`."""

    def build(self, builder: ValueBuilder) -> Any:
        dtype, content = self.arguments
        return builder.array(_bytes(builder.value(content)), _numbers(dtype, builder), ())[()]


class _Encoded(Record):
    """`_codecs.encode(text, encoding)`: how protocols 0 to 2 write bytes."""

    def build(self, builder: ValueBuilder) -> bytes:
        text, *encoding = self.arguments
        if not isinstance(text, str) or encoding not in ([], ["latin1"], ["latin-1"]):
            raise ValueError("bytes of what is no text")
        builder.value(text)  # counts its size
        return text.encode("latin1")


class _ByteArray(Record):
    """`bytearray()`, `bytearray(content)` or `bytearray(text, "latin-1")`."""

    def build(self, builder: ValueBuilder) -> bytearray:
        content, *_ = (*self.arguments, b"")
        return bytearray(_bytes(builder.value(content)))


class _Set(Record):
    """`set(items)` and `frozenset(items)`, as protocols 0 to 3 write them."""

    def build(self, builder: ValueBuilder) -> set[Any]:
        items, *_ = (*self.arguments, [])
        return {_key(item) for item in builder.value(items)}


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

    def build(self, builder: ValueBuilder) -> OrderedDict[Any, Any]:
        pairs, *_ = (*self.arguments, [])
        ordered = OrderedDict((_key(key), value) for key, value in builder.value(pairs))
        for key, record in self.items.items():
            ordered[_key(key)] = builder.value(record)
        return ordered


class _Image(Record):
    """A PIL image, its state (info, mode, size, palette, pixels)."""

    takes_state = True

    def build(self, builder: ValueBuilder) -> Any:
        return _image(self.state, builder)


class _Reconstructed(Record):
    """`copyreg._reconstructor(type, object, None)`: how protocols 0 and 1 write an image."""

    takes_state = True

    def build(self, builder: ValueBuilder) -> Any:
        if self.arguments[0] is not GLOBALS["PIL.Image", "Image"]:
            raise NotDataError(f"a call of {self.path}")
        return _image(self.state, builder)


class _Tensor(Record):
    """`torch._utils._rebuild_tensor_v2(storage, offset, size, stride, ...)`, as an array."""

    def build(self, builder: ValueBuilder) -> Array:
        storage, offset, size, stride, *_ = self.arguments
        if not isinstance(storage, _Storage):
            raise ValueError("a tensor without a storage")
        flat = builder.value(storage)
        size, stride = tuple(builder.value(size)), tuple(builder.value(stride))
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
        builder.charge(count * flat.itemsize)
        view = np.lib.stride_tricks.as_strided(flat[offset:], size, steps, writeable=False)
        return view.copy()


class _Parameter(Record):
    """`torch._utils._rebuild_parameter(tensor, ...)`."""

    def build(self, builder: ValueBuilder) -> Any:
        return builder.value(self.arguments[0])


class _Storage(Record):
    """`torch.storage._load_from_bytes(content)`: content is what `torch.save` wrote of it."""

    def build(self, builder: ValueBuilder) -> Array:
        content = builder.value(self.arguments[0])
        if not isinstance(content, bytes):
            raise ValueError("a storage that is no bytes")
        return builder.storage(content)


class _Size(Record):
    """`torch.Size(sizes)`."""

    def build(self, builder: ValueBuilder) -> tuple[Any, ...]:
        return tuple(builder.value(self.arguments[0]))


def _numbers(dtype: Any, builder: ValueBuilder) -> np.dtype[Any]:
    if not isinstance(dtype, _DType):
        raise ValueError("an array without a dtype")
    built = builder.value(dtype)
    assert isinstance(built, np.dtype)
    return built


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


def _image(state: Any, builder: ValueBuilder) -> Any:
    from PIL import Image

    if not isinstance(state, (list, tuple)) or len(state) < 5:
        raise ValueError("an image without pixels")
    _info, mode, size, _palette, pixels = list(state)[:5]
    content = _bytes(builder.value(pixels))
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
"""Everything that a pickle may name, by module and name."""
