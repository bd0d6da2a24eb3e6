"""A run's log: its figures as lines of `log.jsonl`, and the same as TensorBoard events."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hficma.artifacts.manifest import write_atomically
from hficma.errors import ArtifactError

from .run import EVENTS, LOG

Record = dict[str, Any]
"""One line: `kind` (`step` or `epoch`), `epoch`, `step`, and figures by name, perhaps nested."""

logger = logging.getLogger("hficma")


class Log:
    """Appends lines to a run's log.

    Args:
        run: the run directory.
        step: steps that count; lines past them (of a run that was killed) are removed.
    """

    def __init__(self, run: Path, *, step: int) -> None:
        path = run / LOG
        # A run killed as it began has none yet.
        records = read_log(run) if path.exists() else []
        records = [record for record in records if record["step"] <= step]
        # By a rename: a kill while the file is written anew would take all of it.
        write_atomically(path, "".join(_line(record) for record in records).encode())
        self._file = path.open("a", encoding="utf-8")
        self._events = _events(run, first_step=max((r["step"] for r in records), default=-1) + 1)

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
    """Return the records of a run; a last line cut off by a kill is left out.

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
    """Yield the numbers of a record but `epoch` and `step`, nested names joined by `/`."""
    for name, value in record.items():
        if isinstance(value, dict):
            yield from scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and name not in ("epoch", "step"):
            yield prefix + name, float(value)


def _line(record: Record) -> str:
    return json.dumps(record) + "\n"


def _events(run: Path, *, first_step: int) -> Any:
    """Return TensorBoard's writer, which hides steps of a killed run from `first_step` on.

    None where TensorBoard is not installed: `log.jsonl` holds the same figures.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        logger.info("%s: no TensorBoard events (%s)", run, error)
        return None
    return SummaryWriter(str(run / EVENTS), purge_step=first_step or None)
