"""`Worker`: a child process that reads what is not trusted, within seconds and memory.

A decoder, an HTML parser or an unpickler may take minutes, all memory, or crash on an input made
for that. No check beforehand finds all of those, and a thread cannot be stopped; a process can.
The child is started once and takes call after call, so that a thousand pages pay one start; a call
that overruns or crashes costs its own item, and the next one gets a fresh child.

What goes over the pipes is JSON values and bytes, never pickles: nothing that comes back from a
child, whatever became of it, runs code here.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import logging
import os
import platform
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from ..artifacts.closing import Closing
from ..errors import HficmaError, InputError
from ..limits import MEGABYTE

MEMORY = 2_000 * MEGABYTE
"""Bytes that a child may allocate, where the system knows such a limit (Linux)."""
SECONDS = 20.0
"""Seconds that a call, or the next item of a stream, may take."""
STARTING_SECONDS = 60.0
"""Seconds that a child may take for its start and imports, on a machine that is busy."""

_VALUE, _END, _INPUT_ERROR, _FAULT, _READY = b"v", b"e", b"i", b"f", b"r"
_log = logging.getLogger("hficma")
_START = "from hficma.untrusted.worker import serve; serve()"


class Worker(Closing):
    """Runs functions in a child process with limits.

    The functions are named by module and name, so they must be importable; their arguments and
    results are JSON values, `bytes` or `Path`, results also tuples of those. Calls of one worker
    come from one thread at a time.

    Args:
        memory: bytes that the child may allocate.
        modules: imported at the start, so that no call pays for them.

    Example:
        with Worker() as worker:
            title = worker.call(page_title, content, name="page.html")
    """

    def __init__(self, *, memory: int = MEMORY, modules: Sequence[str] = ()) -> None:
        self._memory = memory
        self._modules = list(modules)
        self._child: _Child | None = None

    def call(
        self, function: Callable[..., Any], *arguments: Any, name: str, seconds: float = SECONDS
    ) -> Any:
        """Return `function(*arguments)`.

        Args:
            function: a module-level function.
            arguments: JSON values, bytes or paths.
            name: of the input, for errors.
            seconds: it may take.

        Raises:
            InputError: the function raised one, took too long, took too much memory, or crashed.
        """
        results = list(self._results(function, arguments, name=name, seconds=seconds, many=False))
        return results[0]

    def stream(
        self,
        function: Callable[..., Iterator[Any]],
        *arguments: Any,
        name: str,
        seconds: float = SECONDS,
    ) -> Iterator[Any]:
        """Yield what the generator `function(*arguments)` yields, each item within `seconds`.

        The child runs ahead by what its pipe holds. A stream that is not read to its end takes its
        child with it.
        """
        return self._results(function, arguments, name=name, seconds=seconds, many=True)

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def _results(
        self,
        function: Callable[..., Any],
        arguments: Sequence[Any],
        *,
        name: str,
        seconds: float,
        many: bool,
    ) -> Iterator[Any]:
        child = self._child or _Child(self._memory, self._modules)
        self._child = None  # until this call has ended well
        whole = False
        try:
            child.send([function.__module__, function.__qualname__, many], *arguments)
            while True:
                kind, parts = child.receive(name, seconds)
                if kind == _VALUE:
                    yield parts[0] if len(parts) == 1 else tuple(parts)
                    continue
                if kind == _FAULT:
                    raise RuntimeError(f"a worker's function failed:\n{parts[0]}")
                whole = True
                if kind == _INPUT_ERROR:
                    raise InputError(parts[0])
                return
        finally:
            if whole:
                self._child = child
            else:
                child.close()


class _Child:
    """The parent's end of a child process."""

    def __init__(self, memory: int, modules: list[str]) -> None:
        # -P and the parent's own path: a folder named `hficma` where the user stands must not be
        # taken for the package.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # decoders chatter there
            env=environment,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests: IO[bytes] = self._process.stdin
        self._replies: IO[bytes] = self._process.stdout
        self.send([memory, modules])
        kind, parts = self.receive("a worker", STARTING_SECONDS)
        if kind != _READY:
            self.close()
            raise RuntimeError(f"a worker could not start:\n{parts[0] if parts else ''}")
        if not parts[0]:
            _log_no_memory_limit()

    def send(self, *parts: Any) -> None:
        """Send one message; a child that has ended is noticed when its reply is read."""
        with contextlib.suppress(BrokenPipeError):
            _write(self._requests, _VALUE, parts)

    def receive(self, name: str, seconds: float) -> tuple[bytes, list[Any]]:
        """Wait for the next message, at most `seconds`."""
        overrun = threading.Event()

        def stop() -> None:
            overrun.set()
            self._process.kill()

        # Pipes know no time-out on every system; a killed child's pipe ends at once.
        timer = threading.Timer(seconds, stop)
        timer.daemon = True
        timer.start()
        try:
            message = _read(self._replies)
        finally:
            timer.cancel()
        if message is not None:
            return message
        code = self._process.wait()
        if overrun.is_set():
            raise InputError(f"{name}: takes longer than {seconds:g} s to read; left out")
        raise InputError(f"{name}: ended the process that read it ({_ending(code)}); left out")

    def close(self) -> None:
        """End the process and close the pipes."""
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError):  # what was buffered for a dead child
            self._requests.close()
        self._replies.close()


def serve() -> None:
    """Run in the child: take calls from standard input until it ends."""
    # Whatever a library prints must not get between the replies.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = _Requests(sys.stdin.buffer)
    try:
        (memory, modules), *_ = requests.next()
        for module in modules:
            importlib.import_module(module)
        limited = _limit_memory(memory)
    except Exception:  # told to the parent, which raises it
        _write(replies, _FAULT, [traceback.format_exc()])
        return
    _write(replies, _READY, [limited])
    while True:
        (module, name, many), *arguments = requests.next()
        try:
            function = getattr(importlib.import_module(module), name)
            result = function(*arguments)
            for item in result if many else (result,):
                _write(replies, _VALUE, item if isinstance(item, tuple) else (item,))
            _write(replies, _END, [])
        except HficmaError as error:
            _write(replies, _INPUT_ERROR, [str(error)])
        except MemoryError:
            # Nothing can be said of a process whose allocations fail: it ends.
            os._exit(_OUT_OF_MEMORY)
        except Exception:  # a fault of ours: the parent raises it with its trace
            _write(replies, _FAULT, [traceback.format_exc()])


_OUT_OF_MEMORY = 86


class _Requests:
    """Reads calls on a thread of its own, which ends the process when the parent is gone."""

    def __init__(self, source: IO[bytes]) -> None:
        import queue

        self._source = source
        self._queue: queue.SimpleQueue[list[Any]] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def next(self) -> list[Any]:
        """Wait for the next call: its head and its arguments."""
        return self._queue.get()

    def _read(self) -> None:
        while (message := _read(self._source)) is not None:
            self._queue.put(message[1])
        os._exit(0)


@functools.cache  # once a process is enough
def _log_no_memory_limit() -> None:
    _log.warning(
        "%s holds no process to a limit of memory: files from outside are held to seconds alone",
        platform.system(),
    )


def _limit_memory(memory: int) -> bool:
    """Return whether the system now holds this process to `memory` bytes."""
    try:
        import resource
    except ImportError:  # Windows
        return False
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        # Of private writable memory, not of addresses: libraries reserve far more than they use.
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    except (OSError, ValueError):
        return False
    return sys.platform == "linux"  # macOS takes the limit and lets it be passed


def _ending(code: int) -> str:
    if code == _OUT_OF_MEMORY:
        return "out of memory"
    return f"signal {-code}" if code < 0 else f"exit code {code}"


# A message: its kind (1 byte), the length of a JSON head (8 bytes), the head, then the bytes parts
# one after the other. The head lists the parts: ["j", value], ["p", path] or ["b", length].


def _write(stream: IO[bytes], kind: bytes, parts: Sequence[Any]) -> None:
    head: list[list[Any]] = []
    blobs: list[bytes] = []
    for part in parts:
        if isinstance(part, (bytes, bytearray, memoryview)):
            head.append(["b", len(part)])
            blobs.append(bytes(part))
        elif isinstance(part, Path):
            head.append(["p", str(part)])
        else:
            head.append(["j", part])
    encoded = json.dumps(head).encode("ascii")
    stream.write(kind + len(encoded).to_bytes(8, "little") + encoded)
    for blob in blobs:
        stream.write(blob)
    stream.flush()


def _read(stream: IO[bytes]) -> tuple[bytes, list[Any]] | None:
    """Read a message; None where the stream ends, within a message too."""
    start = stream.read(9)
    if len(start) < 9:
        return None
    size = int.from_bytes(start[1:], "little")
    encoded = stream.read(size)
    if len(encoded) < size:
        return None
    parts: list[Any] = []
    for kind, value in json.loads(encoded):
        if kind == "b":
            blob = stream.read(value)
            if len(blob) < value:
                return None
            parts.append(blob)
        else:
            parts.append(Path(value) if kind == "p" else value)
    return start[:1], parts
