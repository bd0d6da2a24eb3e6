"""The course of a run: `log.jsonl`, and the same figures as TensorBoard events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hficma.artifacts.manifest import write_atomically
from hficma.errors import ArtifactError

from .run import EVENTS, LOG

Record = dict[str, Any]


class Log:
    """Appends lines to a run's log.

    Args:
        run: the run directory.
        epoch: epochs that count; lines past them (of a run that was killed) are removed.
    """

    def __init__(self, run: Path, *, epoch: int) -> None:
        path = run / LOG
        # A run killed as it began has none yet.
        found = read_log(run) if path.exists() else []
        kept = [record for record in found if record["epoch"] <= epoch]
        # By a rename: a kill while the file is written anew would take all of it.
        write_atomically(path, "".join(_line(record) for record in kept).encode())
        self._file = path.open("a", encoding="utf-8")
        self._events = _events(run, first_step=max((r["step"] for r in kept), default=-1) + 1)

    def add(self, record: Record) -> None:
        """Append one record; `kind` is `step` or `epoch`, `epoch` and `step` say when."""
        self._file.write(_line(record))
        self._file.flush()
        if self._events is not None:
            for name, value in scalars(record):
                self._events.add_scalar(f"{record['kind']}/{name}", value, record["step"])

    def close(self) -> None:
        """Write out what is buffered."""
        self._file.close()
        if self._events is not None:
            self._events.close()


def read_log(run: Path) -> list[Record]:
    """The records of a run; a last line cut off by a kill is left out.

    Raises:
        ArtifactError: there is no log.
    """
    try:
        lines = (run / LOG).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ArtifactError(f"{run / LOG}: cannot be read ({error.strerror})") from error
    records = []
    for line in lines:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def scalars(record: Record, prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a record, nested names joined by `/`; not `epoch` and `step`."""
    for name, value in record.items():
        if isinstance(value, dict):
            yield from scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and name not in ("epoch", "step"):
            yield prefix + name, float(value)


def _line(record: Record) -> str:
    return json.dumps(record) + "\n"


def _events(run: Path, *, first_step: int) -> Any:
    """TensorBoard's writer; steps of a killed run past `first_step` are hidden. None without it."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(run / EVENTS), purge_step=first_step or None)
