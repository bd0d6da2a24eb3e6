"""A look through a pickle before it is loaded: what cannot be data is refused, nothing is built.

A pickle is a program for a small stack machine. Running it costs what it asks for: one opcode can
make a gigabyte of memo, a key can be a tuple that takes seconds to hash or overflows the C stack.
So the program is first followed without values: for each thing on the stack only its kind is
known. `pickletools` says what each opcode takes from the stack and leaves there.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable, Iterator
from typing import Any

from hficma.errors import InputError

MAX_OPCODES = 20_000_000
"""Of one pickle; the classes of a million recipes take five million."""
MAX_KEY = 2**61 - 1
"""Integers of this size and above can be chosen to have one hash, so they are no keys."""

_USED = frozenset(
    "PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 "
    "FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 "
    "UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8 EMPTY_LIST APPEND APPENDS LIST EMPTY_TUPLE "
    "TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS EMPTY_SET ADDITEMS FROZENSET "
    "GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL REDUCE BUILD NEWOBJ "
    "BINPERSID".split()
)
"""What picklers of data write. POP, DUP, INST, OBJ, EXT*, PERSID and buffers they do not."""
_GETS = ("GET", "BINGET", "LONG_BINGET")
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")
_SCALARS = frozenset(
    {
        pickletools.pyint, pickletools.pylong, pickletools.pyinteger_or_bool, pickletools.pybool,
        pickletools.pyfloat, pickletools.pynone, pickletools.pystring, pickletools.pybytes,
        pickletools.pybytes_or_str, pickletools.pyunicode,
    }
)  # fmt: skip
_Kind = pickletools.StackObject
_MARK = pickletools.markobject
_ANY = pickletools.anyobject


class UnsafePickleError(InputError):
    """A pickle that asks for what no data file needs."""


def refusal(name: str, what: str) -> UnsafePickleError:
    """Return the error for a pickle that asks for `what`."""
    return UnsafePickleError(f"{name}: asks for {what[:200]!r}, which no data file needs; refused")


def scan_pickle(
    content: bytes,
    start: int = 0,
    *,
    name: str,
    storages: bool = False,
    on_global: Callable[[str], None] = lambda path: None,
) -> int:
    """Follow one pickle to its end.

    Args:
        content: where it lies.
        start: its first byte.
        name: how to name the source in an error.
        storages: whether it may refer to storages outside of itself, as a tensor's pickle does.
        on_global: told of each global by its path (`numpy.dtype`), except where protocol 4 makes
            the name of strings on the stack.

    Returns:
        the position behind its last byte.

    Raises:
        UnsafePickleError: an opcode that no pickler of data writes.
        InputError: damaged, too long, or a key of a dict that is no plain text or number.
    """
    file = io.BytesIO(content)
    file.seek(start)
    machine = _Machine(name, storages)
    try:
        for count, (opcode, argument) in enumerate(_opcodes(file)):
            if count >= MAX_OPCODES:
                raise InputError(f"{name}: is a pickle of more than {MAX_OPCODES:,} steps")
            if opcode.name == "GLOBAL":
                on_global(str(argument).replace(" ", "."))
            elif opcode.name == "FRAME" and argument > len(content) - file.tell():
                raise ValueError("a frame is longer than the file")
            machine.step(opcode, argument, count)
    except (ValueError, IndexError, KeyError, UnicodeDecodeError, OverflowError) as error:
        text = " ".join(str(error).split())[:120]
        raise InputError(f"{name}: is no readable pickle ({text})") from error
    return file.tell()


def _opcodes(file: io.BytesIO) -> Iterator[tuple[pickletools.OpcodeInfo, Any]]:
    """Parse opcodes and their arguments, as `pickletools.genops` does.

    That one takes only ASCII in the strings of Python 2, where bytes of arrays stand too.
    """
    while True:
        code = file.read(1)
        opcode = pickletools.code2op.get(code.decode("latin-1"))
        if opcode is None:
            raise ValueError(f"opcode {code!r}" if code else "it ends early")
        if opcode.name == "STRING":
            yield opcode, pickletools.read_stringnl(file, decode=False)
        else:
            yield opcode, None if opcode.arg is None else opcode.arg.reader(file)
        if opcode.name == "STOP":
            return


class _Machine:
    """The kinds of what stands on the stack and in the memo."""

    def __init__(self, name: str, storages: bool) -> None:
        self._name = name
        self._storages = storages
        self._stack: list[_Kind] = []
        self._marks: list[int] = []
        self._memo: dict[int, _Kind] = {}

    def step(self, opcode: pickletools.OpcodeInfo, argument: object, count: int) -> None:
        """Do to the kinds what the opcode does to values."""
        name = opcode.name
        if name not in _USED or (name == "BINPERSID" and not self._storages):
            raise refusal(self._name, f"the opcode {name}")
        if name in _PUTS:
            # The unpickler's memo is an array: a large index alone would take gigabytes.
            index = len(self._memo) if name == "MEMOIZE" else int(str(argument))
            if not 0 <= index <= count:
                raise ValueError(f"memo entry {index} after {count} steps")
            self._memo[index] = self._top()
        elif name in _GETS:
            self._stack.append(self._memo[int(str(argument))])
        elif name == "MARK":
            self._marks.append(len(self._stack))
            self._stack.append(_MARK)
        else:
            self._apply(opcode)
            if isinstance(argument, int) and not -MAX_KEY < argument < MAX_KEY and name != "FRAME":
                self._stack[-1] = _ANY

    def _apply(self, opcode: pickletools.OpcodeInfo) -> None:
        takes = opcode.stack_before
        items: list[_Kind] = []
        if _MARK in takes:
            mark = self._marks.pop()
            items = self._stack[mark + 1 :]
            del self._stack[mark:]
            takes = takes[: takes.index(_MARK)]
        first = len(self._stack) - len(takes)
        if first < (self._marks[-1] + 1 if self._marks else 0):
            raise ValueError(f"{opcode.name} finds too little on the stack")
        taken = self._stack[first:]
        del self._stack[first:]
        self._check(opcode.name, taken, items)
        if opcode.name == "STOP" and self._stack:
            raise ValueError("the stack is not empty at the end")
        self._stack.extend(opcode.stack_after)

    def _check(self, name: str, taken: list[_Kind], items: list[_Kind]) -> None:
        """Refuse keys that are costly to hash, and states for what has none."""
        if name == "SETITEM":
            keys = taken[1:2]
        elif name in ("SETITEMS", "DICT"):
            if len(items) % 2:
                raise ValueError("a key without a value")
            keys = items[::2]
        else:
            keys = items if name in ("ADDITEMS", "FROZENSET") else []
        for key in keys:
            if key not in _SCALARS:
                kind = "number of that size" if key is _ANY else key.name
                raise ValueError(f"a key that is no text and no plain number ({kind})")
        if name == "BUILD" and taken[0] is not _ANY:
            raise refusal(self._name, f"setting the state of {taken[0].name}")

    def _top(self) -> _Kind:
        if not self._stack or self._stack[-1] is _MARK:
            raise ValueError("a memo entry of nothing")
        return self._stack[-1]
