"""Starts one process a device for a training, and ends them together.

    this process ──starts──▶ process 0 (cuda:0)   notes and figures, the run's path ─┐
         ▲                   process 1 (cuda:1)   errors                             │
         └───────────────────────────────────────────────────────────────────────────┘

A process that ends badly leaves the others waiting for its gradients. So this one watches: when one
ends, by an error or a kill, the others are ended too, and one error says why.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import torch

from hficma.errors import HficmaError, InputError
from hficma.progress import Progress

from .distributed import ProcessLostError, local_rank, processes

if TYPE_CHECKING:
    from multiprocessing.context import SpawnContext

logger = logging.getLogger("hficma")

Devices = int | Literal["all"]
"""How many devices a training takes; `all`: every GPU of the machine."""

_START: Literal["spawn", "fork"] = "spawn"
"""How a process begins: anew, since a copy of one that uses a GPU cannot use it."""
_GRACE = 5.0
"""Seconds that the others have to end by themselves when one has: often for the same reason."""


def count_devices(devices: Devices, device: str) -> int:
    """Return how many processes a training takes.

    Args:
        devices: as a user gave them.
        device: the run's `trainer.device`.

    Raises:
        InputError: there are fewer GPUs, or the device is one of them.
    """
    gpus = torch.cuda.device_count() if device != "cpu" else 0
    if devices == "all":
        if not gpus:
            raise InputError("devices=all: there is no GPU here; give a number, or leave it out")
        return gpus
    if devices < 1:
        raise InputError(f"devices={devices}: must be 1 or more, or all")
    if devices > 1 and ":" in device:
        raise InputError(f"trainer.device={device}: is one of {devices} devices; give cuda")
    if (gpus or device == "cuda") and devices > gpus:
        raise InputError(f"devices={devices}: there are {gpus} GPUs here")
    return devices


class ProcessKilledError(HficmaError):
    """A process of a training was ended from outside."""


class _Report(NamedTuple):
    """What a process says to the one that started it."""

    kind: Literal["progress", "log", "error", "crash"]
    content: Any
    """Method and arguments; level and text; class and message; the traceback."""
    time: float
    """Of the machine's monotonic clock."""


class _Member(NamedTuple):
    """A process that was started."""

    process: BaseProcess
    reports: Connection


def run_on_devices(
    function: Any, arguments: Mapping[str, Any], *, devices: int, progress: Progress
) -> None:
    """Run a function in as many processes, joined as `distributed.start` joins them.

    Args:
        function: of a module; takes the arguments and `progress`.
        arguments: that can be pickled.
        devices: how many processes.
        progress: hears what process 0 reports.

    Raises:
        HficmaError: of the first process that raised one.
        ProcessKilledError: one was ended from outside.
        RuntimeError: one ended by another error, whose traceback this quotes.
    """
    context = cast("SpawnContext", multiprocessing.get_context(_START))
    port = _free_port()
    members = []
    try:
        for rank in range(devices):
            receiving, sending = context.Pipe(duplex=False)
            process = context.Process(
                target=_run, args=(function, dict(arguments), sending),
                name=f"process {rank} of {devices}",
            )  # fmt: skip
            with _environment(rank, devices, port):
                process.start()
            sending.close()  # else the end of the process would not end the pipe
            members.append(_Member(process, receiving))
        _watch(members, progress)
    finally:
        for member in members:
            member.process.terminate()
        for member in members:
            member.process.join()
            member.reports.close()


def _watch(members: list[_Member], progress: Progress) -> None:
    """Take reports until all processes have ended, and raise why one failed."""
    failures: dict[int, _Report] = {}
    deadline = float("inf")
    silent: set[int] = set()
    running = True
    while running and time.monotonic() < deadline:
        # Asked for before the pipes are emptied: then nothing is left in those of ended processes.
        codes = [member.process.exitcode for member in members]
        running = None in codes
        for rank, report in _received(members, silent):
            match report.kind:
                case "progress":
                    method, arguments = report.content
                    getattr(progress, method)(*arguments)
                case "log":
                    logger.log(*report.content)
                case _:
                    failures[rank] = report
        if (failures or any(codes)) and deadline == float("inf"):
            deadline = time.monotonic() + _GRACE
    if deadline < float("inf"):
        raise _cause(members, failures)


def _received(members: list[_Member], silent: set[int]) -> Iterator[tuple[int, _Report]]:
    """Yield what has come from each process; wait a moment where nothing has.

    Args:
        members: all of them.
        silent: those that will send no more; added to.
    """
    pipes = {m.reports: rank for rank, m in enumerate(members) if rank not in silent}
    # Also for the end of a process, whose pipe its own workers may hold open.
    ends = [member.process.sentinel for member in members if member.process.exitcode is None]
    wait([*pipes, *ends], timeout=1)
    for pipe, rank in pipes.items():
        try:
            while pipe.poll():
                yield rank, pipe.recv()
        except (EOFError, OSError):
            silent.add(rank)


def _cause(members: list[_Member], failures: Mapping[int, _Report]) -> Exception:
    """Return why a training ended: what failed first, and not what failed for want of it.

    In this order, whichever of them there is:

    1. an error for the user: all processes raise it, or the others wait for the one that did
    2. a signal from outside: the others then lose their peer, and say so
    3. any other error, the earliest
    4. an abort, as NCCL answers the loss of a peer; that loss itself
    """
    causes: list[tuple[int, float, Exception]] = []
    for rank, member in enumerate(members):
        code = member.process.exitcode or 0
        if code < 0:
            text = f"{member.process.name} was ended by {signal.Signals(-code).name}"
            error = ProcessKilledError(f"{text}, and the training with it: resume it to go on")
            causes.append((3 if -code == signal.SIGABRT else 1, rank, error))
    for rank, report in failures.items():
        if report.kind == "crash":
            text = f"{members[rank].process.name} failed:\n{report.content}"
            causes.append((2, report.time, RuntimeError(text)))
        else:
            kind, message = report.content
            # Not by a call: an error's class may take other arguments than its text.
            causes.append((3 if kind is ProcessLostError else 0, rank, kind.__new__(kind, message)))
    if not causes:
        return ProcessKilledError("a process of the training ended early: resume it to go on")
    return min(causes, key=lambda cause: cause[:2])[2]


@contextlib.contextmanager
def _environment(rank: int, devices: int, port: int) -> Iterator[None]:
    """Set what tells a process that is started in the block its place, as `torchrun` does."""
    variables = {
        "WORLD_SIZE": str(devices),
        "LOCAL_WORLD_SIZE": str(devices),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        # Read as torch is imported. DDP warns of parameters that it looked for in vain.
        "TORCH_CPP_LOG_LEVEL": os.environ.get("TORCH_CPP_LOG_LEVEL", "ERROR"),
    }
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _run(function: Any, arguments: dict[str, Any], pipe: Connection) -> None:
    """Run the function in a process that was just started, and report how it ends."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    rank = local_rank()
    torch.set_num_threads(max(1, torch.get_num_threads() // processes()))
    reports = _Reporter(pipe)
    logger.addHandler(reports if rank == 0 else logging.NullHandler())
    # Pillow warns of damaged photos, which have a line of ours; torch's warnings are enough once.
    warnings.filterwarnings("ignore", module="PIL" if rank == 0 else "")
    try:
        function(**arguments, progress=_SentProgress(reports) if rank == 0 else Progress())
    except HficmaError as error:
        reports.send("error", (type(error), str(error)))
        # At once: a library may wait for peers that wait for this process.
        os._exit(error.exit_code)
    except KeyboardInterrupt:
        os._exit(0)  # a terminal interrupts all processes; the one that started them says so
    except Exception:  # nothing is hidden: `run_on_devices` raises what this says
        reports.send("crash", traceback.format_exc())
        os._exit(1)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    for child in multiprocessing.active_children():
        child.terminate()
    # At once, for threads of torch's that still run as an interpreter ends have aborted processes
    # whose work was done ("terminate called without an active exception").
    os._exit(0)


def _end_with_parent() -> None:
    """End this process when the one that started it has ended, however it did."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _free_port() -> int:
    """Return a port of this machine that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class _Reporter(logging.Handler):
    """Sends reports, and what the package logs as such."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__()
        self._pipe = pipe

    def send(self, kind: Any, content: Any) -> None:
        """Send one report."""
        self._pipe.send(_Report(kind, content, time.monotonic()))

    def emit(self, record: logging.LogRecord) -> None:
        """Send what was logged."""
        self.send("log", (record.levelno, record.getMessage()))


class _SentProgress(Progress):
    """Sends what it hears to the process that draws it."""

    def __init__(self, reports: _Reporter) -> None:
        self._reports = reports

    def stage(self, name: str, total: int | None = None) -> None:
        """See `Progress`."""
        self._send("stage", name, total)

    def advance(self, count: int = 1) -> None:
        """See `Progress`."""
        self._send("advance", count)

    def note(self, text: str) -> None:
        """See `Progress`."""
        self._send("note", text)

    def bad(self, message: str) -> None:
        """See `Progress`."""
        self._send("bad", message)

    def epoch(self, record: dict[str, Any]) -> None:
        """See `Progress`."""
        self._send("epoch", record)

    def _send(self, method: str, *arguments: Any) -> None:
        self._reports.send("progress", (method, arguments))
