"""Pickles from outside, read without danger.

A pickle is a program. This reader runs it with everything taken out that could do harm: it
builds plain containers, numpy arrays, torch tensors (as numpy arrays; torch itself is not
needed) and PIL images, each by a function of this file that checks what it is given. Any other
global is refused by name, and nothing is allocated that the file's own bytes do not back.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from hficma.errors import InputError
from hficma.safe_builders import GLOBALS, Allowed, checked_keys, set_state

Storages = Callable[[tuple[Any, ...]], Any]
"""From a persistent id to the storage it names: torch keeps tensors' values apart."""


class UnsafePickleError(InputError):
    """A pickle that asks for what no data file needs."""


def loads(content: bytes, *, name: str) -> Any:
    """Read one pickle.

    Args:
        content: its bytes, any protocol, Python 2 or 3.
        name: how to name the source in an error.

    Raises:
        UnsafePickleError: it names a global that is not on the list.
        InputError: it is damaged, or no pickle.
    """
    return read_pickle(io.BytesIO(content), name=name)


def load_all(path: Path) -> list[Any]:
    """Read a file of one or several pickles, one after the other, as `classes1M.pkl` is.

    Raises:
        InputError: as `loads`.
    """
    content = bytes_of(path)
    file = io.BytesIO(content)
    values: list[Any] = []
    while file.tell() < len(content):
        values.append(read_pickle(file, name=str(path)))
    return values


def bytes_of(path: Path) -> bytes:
    """A file's bytes.

    Raises:
        InputError: it is empty or cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if not content:
        raise InputError(f"{path}: the file is empty")
    return content


def read_pickle(file: io.BytesIO, *, name: str, storage_of: Storages | None = None) -> Any:
    """Read the pickle that begins at the file's position, and leave the position at its end.

    Raises:
        InputError: as `loads`.
    """
    try:
        return _Reader(_Bounded(file), name, storage_of).load()
    except InputError:
        raise
    except RecursionError as error:
        raise InputError(f"{name}: is nested too deeply for a data file") from error
    except Exception as error:  # a hostile program can fail in any way; none of them is ours
        raise InputError(f"{name}: is no readable pickle ({_one_line(error)})") from error


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:120]}"


class _Bounded:
    """A file that never reads (and so never allocates) past its end."""

    def __init__(self, file: io.BytesIO) -> None:
        self._file = file
        self._size = file.getbuffer().nbytes

    def read(self, count: int) -> bytes:
        if not 0 <= count <= self._size - self._file.tell():
            raise EOFError("the pickle ends early")
        return self._file.read(count)

    def readline(self) -> bytes:
        return self._file.readline()

    def readinto(self, buffer: Any) -> int:
        return self._file.readinto(buffer)


# The pure-Python unpickler: its opcodes can be replaced one by one, the C one's cannot.
class _Reader(pickle._Unpickler):
    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    # What the base class has while it loads.
    stack: list[Any]
    append: Callable[[Any], None]
    read: Callable[[int], bytes]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, file: _Bounded, name: str, storage_of: Storages | None) -> None:
        super().__init__(file, encoding="latin1", errors="strict")
        self._name = name
        self._storage_of = storage_of

    def find_class(self, module: str, name: str) -> Allowed:
        allowed = GLOBALS.get((module, name))
        if allowed is None:
            self._refuse(f"{module}.{name}")
        return allowed

    def persistent_load(self, identity: Any) -> Any:
        if self._storage_of is None or not isinstance(identity, tuple):
            raise InputError(f"{self._name}: refers to objects outside the file")
        return self._storage_of(identity)

    def _refuse(self, what: str) -> NoReturn:
        raise UnsafePickleError(
            f"{self._name}: asks for {what[:200]!r}, which no data file needs; refused"
        )

    def _call(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, Allowed) or function.make is None:
            self._refuse(f"a call of {getattr(function, 'name', type(function).__name__)}")
        if not isinstance(arguments, tuple):
            raise pickle.UnpicklingError("arguments that are no tuple")
        return function.make(*arguments)

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], arguments)

    def load_newobj(self) -> None:
        self.load_reduce()

    def load_newobj_ex(self) -> None:
        keywords = self.stack.pop()
        if keywords:
            self._refuse("a call with keyword arguments")
        self.load_reduce()

    def load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if not set_state(target, state):
            self._refuse(f"setting the state of {type(target).__name__}")

    def load_bytearray8(self) -> None:
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(size)))

    def load_refused(self) -> None:
        self._refuse("an opcode of hand-made pickles")

    # A container's own methods are called on what stands on the stack: it must be a container.
    def load_append(self) -> None:
        value = self.stack.pop()
        self._expect(list).append(value)

    def load_appends(self) -> None:
        values = self.pop_mark()
        self._expect(list).extend(values)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        checked_keys([key])
        self._expect(dict)[key] = value

    def load_setitems(self) -> None:
        values = self.pop_mark()
        self._expect(dict).update(zip(checked_keys(values[::2]), values[1::2], strict=True))

    def load_additems(self) -> None:
        values = self.pop_mark()
        self._expect(set).update(checked_keys(values))

    def load_dict(self) -> None:
        values = self.pop_mark()
        self.append(dict(zip(checked_keys(values[::2]), values[1::2], strict=True)))

    def load_frozenset(self) -> None:
        items = self.pop_mark()  # which changes what `append` appends to
        self.append(frozenset(checked_keys(items)))

    def _expect(self, kind: type) -> Any:
        target = self.stack[-1]
        if not isinstance(target, kind):
            self._refuse(f"items in a {type(target).__name__}")
        return target

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex
    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8
    dispatch[pickle.APPEND[0]] = load_append
    dispatch[pickle.APPENDS[0]] = load_appends
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.ADDITEMS[0]] = load_additems
    dispatch[pickle.DICT[0]] = load_dict
    dispatch[pickle.FROZENSET[0]] = load_frozenset
    for _opcode in (
        pickle.INST, pickle.OBJ, pickle.EXT1, pickle.EXT2, pickle.EXT4,
        pickle.NEXT_BUFFER, pickle.READONLY_BUFFER,
    ):  # fmt: skip
        dispatch[_opcode[0]] = load_refused
