"""`hficma bench readme`: README's figures, written from the committed results."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hficma.errors import ArtifactError, InputError

from .readme_tables import WRITERS

RESULTS = Path(__file__).parents[1] / "results"
README = Path(__file__).parents[2] / "README.md"

_PARTS = re.compile(r"(<!-- figures: begin (\w+) -->\n).*?(<!-- figures: end -->)", re.DOTALL)
_NAME = re.compile(
    rf"(?P<benchmark>{'|'.join(WRITERS)})-(?P<hardware>.+)-(?P<date>\d{{4}}-\d{{2}}-\d{{2}})\.json"
)


@dataclass(frozen=True, kw_only=True)
class Result:
    """A committed file of figures, `BENCHMARK-HARDWARE-DATE.json`."""

    benchmark: str
    """Key of `WRITERS`."""
    hardware: str
    """As the name has it: results of one kind of machine replace each other."""
    date: str
    """YYYY-MM-DD."""
    record: dict[str, Any]
    """What the benchmark wrote."""

    @classmethod
    def read(cls, path: Path) -> Result:
        """Read a file of results.

        Raises:
            ArtifactError: it is named in another way, or is no JSON.
        """
        named = _NAME.fullmatch(path.name)
        if named is None:
            raise ArtifactError(
                f"{path.name}: results are named BENCHMARK-HARDWARE-DATE.json, with a benchmark of "
                f"{', '.join(WRITERS)}"
            )
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ArtifactError(f"{path}: is no JSON ({error})") from error
        return cls(**named.groupdict(), record=record)

    @property
    def source(self) -> str:
        """What printed it, on what, when."""
        environment = self.record["environment"]
        command = environment.get("command") or WRITERS[self.benchmark].command
        cores = environment.get("threads") or environment["usable_cores"]
        machine = f"{cores} cores of {environment['processor']}"
        if gpu := environment.get("gpu"):
            machine = f"{gpu}, {machine}"
        return f"`{command}` · {machine} · {self.date}"


def results(folder: Path = RESULTS) -> list[Result]:
    """The newest result of each benchmark and kind of machine, in README's order."""
    newest: dict[tuple[str, str], Result] = {}
    for result in sorted(map(Result.read, folder.glob("*.json")), key=lambda one: one.date):
        newest[result.benchmark, result.hardware] = result
    order = list(WRITERS)
    return sorted(newest.values(), key=lambda one: (order.index(one.benchmark), one.hardware))


def rewritten(text: str, found: Sequence[Result]) -> str:
    """A page with its marked parts made anew.

    Args:
        text: with `<!-- figures: begin PART -->` ... `<!-- figures: end -->`.
        found: what is committed.

    Raises:
        InputError: no part is marked, or one of a name that no benchmark is part of.
    """
    known = {writer.part for writer in WRITERS.values()}

    def made(match: re.Match[str]) -> str:
        part = match[2]
        if part not in known:
            raise InputError(f"figures: begin {part}: must be one of {', '.join(sorted(known))}")
        blocks = [
            [*WRITERS[one.benchmark].write(one.record), "", one.source]
            for one in found
            if WRITERS[one.benchmark].part == part
        ]
        return match[1] + "".join("\n" + "\n".join(block) + "\n" for block in blocks) + match[3]

    text, count = _PARTS.subn(made, text)
    if not count:
        raise InputError(
            "no part between `<!-- figures: begin PART -->` and `<!-- figures: end -->`"
        )
    return text


def main() -> None:
    """Write README's figures anew from the results committed in benchmarks/results.

    Example: hficma bench readme
    """
    if not README.is_file():
        raise InputError(f"{README}: no such file; run this in an editable install of a checkout")
    found = results()
    README.write_text(rewritten(README.read_text(encoding="utf-8"), found), encoding="utf-8")
    for one in found:
        print(f"{one.benchmark}: {one.source}")
