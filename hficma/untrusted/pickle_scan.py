"""A look through a pickle before it is loaded: what cannot be data is refused, nothing is built.

A pickle is a program for a small stack machine. Running it costs what it asks for: one opcode can
make a gigabyte of memo, a key can be a tuple that takes seconds to hash or overflows the C stack.
So the program is first followed without values: for each thing on the stack only its kind is
known. `pickletools` says what each opcode takes from the stack and leaves there.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable
from typing import IO, Any, NamedTuple

from ..errors import InputError

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
"""Opcodes that picklers of data write: not POP, DUP, INST, OBJ, EXT*, PERSID or buffers."""
_SCALARS = frozenset(
    {
        pickletools.pyint, pickletools.pylong, pickletools.pyinteger_or_bool, pickletools.pybool,
        pickletools.pyfloat, pickletools.pynone, pickletools.pystring, pickletools.pybytes,
        pickletools.pybytes_or_str, pickletools.pyunicode,
    }
)  # fmt: skip
"""Kinds of what can be a key: hashing them is quick."""
_Kind = pickletools.StackObject
_MARK = pickletools.markobject
_ANY = pickletools.anyobject


class UnsafePickleError(InputError):
    """A pickle that asks for what no data file needs."""


def refusal(name: str, what: str) -> UnsafePickleError:
    """Return the error for a pickle that asks for `what`."""
    return UnsafePickleError(f"{name}: asks for {what[:200]!r}, which no data file needs; refused")


class _Effect(NamedTuple):
    """What an opcode does to the stack."""

    name: str
    read: Callable[[IO[bytes]], Any] | None
    """Reads its argument."""
    takes: int
    """Things it takes, below the last mark where it takes all above that."""
    to_mark: bool
    leaves: tuple[_Kind, ...]
    plain: bool
    """Whether that is all: nothing of it need be looked at."""


def _effect(opcode: pickletools.OpcodeInfo) -> _Effect:
    before = opcode.stack_before
    to_mark = _MARK in before
    read = None if opcode.arg is None else opcode.arg.reader
    # Their own readers take only ASCII, and Python 2 wrote the bytes of arrays as STRING.
    if opcode.name == "STRING":
        read = _read_line
    elif opcode.name == "GLOBAL":
        read = _read_path
    return _Effect(
        name=opcode.name,
        read=read,
        takes=before.index(_MARK) if to_mark else len(before),
        to_mark=to_mark,
        leaves=tuple(opcode.stack_after),
        plain=opcode.name in _PLAIN,
    )


def _read_line(file: IO[bytes]) -> bytes:
    line = file.readline()
    if not line.endswith(b"\n"):
        raise ValueError("it ends early")
    return line[:-1]


def _read_path(file: IO[bytes]) -> str:
    module, name = _read_line(file), _read_line(file)
    return f"{module.decode()}.{name.decode()}"


_PLAIN = frozenset(
    "PROTO NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 FLOAT BINFLOAT STRING BINSTRING "
    "SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 UNICODE SHORT_BINUNICODE "
    "BINUNICODE BINUNICODE8 EMPTY_LIST APPEND EMPTY_TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT "
    "EMPTY_SET STACK_GLOBAL REDUCE NEWOBJ".split()
)
"""Opcodes of which the kinds that they take and leave are all there is to know."""
_EFFECTS = {
    opcode.code.encode("latin-1"): _effect(opcode)
    for opcode in pickletools.opcodes
    if opcode.name in _USED
}
_UNUSED = {
    opcode.code.encode("latin-1"): opcode.name
    for opcode in pickletools.opcodes
    if opcode.name not in _USED
}


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
    try:
        _Machine(file, len(content), name, storages, on_global).run()
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        text = " ".join(str(error).split())[:120]
        raise InputError(f"{name}: is no readable pickle ({text})") from error
    return file.tell()


class _Machine:
    """The kinds of what stands on the stack and in the memo."""

    def __init__(
        self,
        file: io.BytesIO,
        size: int,
        name: str,
        storages: bool,
        on_global: Callable[[str], None],
    ) -> None:
        self._file = file
        self._size = size
        self._name = name
        self._storages = storages
        self._on_global = on_global
        self._stack: list[_Kind] = []
        self._marks: list[int] = []
        self._memo: dict[int, _Kind] = {}

    def run(self) -> None:
        """Follow the program to STOP."""
        file, stack = self._file, self._stack
        for count in range(MAX_OPCODES):
            code = file.read(1)
            effect = _EFFECTS.get(code)
            if effect is None:
                if code in _UNUSED:
                    raise refusal(self._name, f"the opcode {_UNUSED[code]}")
                raise ValueError(f"opcode {code!r}" if code else "it ends early")
            argument = None if effect.read is None else effect.read(file)
            if effect.plain:
                if effect.takes:
                    self._take(effect)
                stack += effect.leaves
                continue
            self._step(effect, argument, count)
            if effect.name == "STOP":
                return
        raise InputError(f"{self._name}: is a pickle of more than {MAX_OPCODES:,} steps")

    def _take(self, effect: _Effect) -> list[_Kind]:
        """Take the things below the mark; none of them may lie below an older one."""
        first = len(self._stack) - effect.takes
        if first <= (self._marks[-1] if self._marks else -1):
            raise ValueError(f"{effect.name} finds too little on the stack")
        taken = self._stack[first:]
        del self._stack[first:]
        return taken

    def _step(self, effect: _Effect, argument: Any, count: int) -> None:
        """Do to the kinds what the opcode does to values, and look at what is dangerous."""
        name = effect.name
        if name == "BINPERSID" and not self._storages:
            raise refusal(self._name, f"the opcode {name}")
        if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            # The unpickler's memo is an array: a large index alone would take gigabytes.
            index = len(self._memo) if name == "MEMOIZE" else argument
            if not 0 <= index <= count:
                raise ValueError(f"memo entry {index} after {count} steps")
            if not self._stack or self._stack[-1] is _MARK:
                raise ValueError("a memo entry of nothing")
            self._memo[index] = self._stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self._stack.append(self._memo[argument])
        elif name == "MARK":
            self._marks.append(len(self._stack))
            self._stack.append(_MARK)
        elif name in ("INT", "LONG", "LONG1", "LONG4"):
            small = -MAX_KEY < argument < MAX_KEY
            self._stack.append(effect.leaves[0] if small else _ANY)
        elif name == "FRAME":
            if argument > self._size - self._file.tell():
                raise ValueError("a frame is longer than the file")
        else:
            self._apply(effect)
            if name == "GLOBAL":
                self._on_global(argument)

    def _apply(self, effect: _Effect) -> None:
        items: list[_Kind] = []
        if effect.to_mark:
            mark = self._marks.pop()
            items = self._stack[mark + 1 :]
            del self._stack[mark:]
        taken = self._take(effect)
        self._check(effect.name, taken, items)
        if effect.name == "STOP" and self._stack:
            raise ValueError("the stack is not empty at the end")
        # What items are set of stays what it is: a `state_dict` is an OrderedDict with a state.
        self._stack += taken[:1] if effect.name in ("SETITEM", "SETITEMS") else effect.leaves

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
                kind = "an object or a large number" if key is _ANY else f"a {key.name}"
                raise ValueError(f"a key that is no text and no plain number, but {kind}")
        if name == "BUILD" and taken[0] is not _ANY:
            raise refusal(self._name, f"setting the state of {taken[0].name}")
