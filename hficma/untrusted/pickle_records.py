"""Records of what a pickle asks for, and the builder that makes values of them afterwards.

While a pickle runs, each call of a global that it may name (`pickle_globals`) only makes a record:
its arguments, and the state that the pickle sets once. Values are built of the records when the
pickle has ended and nothing of it can run any more. So an array is built once, of bytes whose
number was compared with its shape, and no later opcode can reach into it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np

from ..types import Array

MAX_DEPTH = 60
"""Containers and calls inside each other; a list of tensors takes about ten."""
MAX_EMPTY = 100_000
"""The longest side of an array without values."""

UNSET = object()
"""The state of a record for which the pickle sets none."""


class NotDataError(Exception):
    """A global that is used in a way that no data file needs; its text names the global."""


class Record(ABC):
    """What the pickle called, with what; `build` returns the value.

    The classes themselves stand on the unpickler's stack. Nothing there can be changed: they take
    no item and no attribute, and an instance takes a state once.
    """

    __slots__ = ("arguments", "state")
    __hash__ = None  # type: ignore[assignment]
    path: ClassVar[str]
    """The global's, as the pickle names it."""
    takes_state: ClassVar[bool] = False
    """Whether a pickle of data sets a state on it."""

    def __new__(cls, *arguments: Any) -> Self:
        """Record a call: what REDUCE and NEWOBJ do."""
        record = super().__new__(cls)
        record.arguments = arguments
        record.state = UNSET
        return record

    arguments: tuple[Any, ...]
    state: Any

    def __setstate__(self, state: Any) -> None:
        """Record what BUILD sets, once."""
        if not self.takes_state or self.state is not UNSET:
            raise NotDataError(f"setting the state of {self.path}")
        self.state = state

    @abstractmethod
    def build(self, builder: ValueBuilder) -> Any:
        """Return the value of the record; arguments that are records go through `builder`."""


class ValueBuilder:
    """Builds the values of a loaded pickle, each of its objects once.

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
        # By id: the loaded object, its value and size. The object, so that its id is not reused.
        self._built: dict[int, tuple[Any, Any, int]] = {}
        self._open: set[int] = set()

    def value(self, item: Any) -> Any:
        """Return the value of what the unpickler left.

        Raises:
            ValueError: nested too deeply, within itself, too large, or no data.
        """
        if item is None or isinstance(item, (bool, int, float, complex)):
            self.charge(8)
            return item
        if isinstance(item, (str, bytes, bytearray)):
            self.charge(8 + len(item))
            return item
        known = self._built.get(id(item))
        if known is not None:
            self.charge(known[2])
            return known[1]
        if id(item) in self._open or self._depth >= MAX_DEPTH:
            raise ValueError("it is nested too deeply for a data file")
        before = self._left
        self._open.add(id(item))
        self._depth += 1
        self.charge(16)
        built = self._container(item)
        self._depth -= 1
        self._open.remove(id(item))
        self._built[id(item)] = (item, built, before - self._left)
        return built

    def array(self, content: bytes, dtype: np.dtype[Any], shape: Any, order: Any = "C") -> Array:
        """Return a fresh array of bytes that are exactly as many as its shape needs."""
        shape = tuple(shape)
        if len(content) != count_of(shape) * dtype.itemsize:
            raise ValueError(f"an array of shape {shape} with {len(content)} bytes")
        self.charge(len(content))
        flat = np.frombuffer(content, dtype=dtype)
        return flat.reshape(shape, order="F" if order == "F" else "C").copy()

    def charge(self, size: int) -> None:
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
            return item.build(self)
        if isinstance(item, dict):
            # Keys are plain texts and numbers: the scan saw to that.
            return {value(key): value(content) for key, content in item.items()}
        if isinstance(item, (list, tuple, set, frozenset)):
            return type(item)(value(content) for content in item)
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
