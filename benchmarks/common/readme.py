"""`hficma bench readme`: the figures of README and docs, written from the committed results."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hficma.errors import ArtifactError, InputError

from .plots import bars_plot
from .readme_tables import COMMANDS, HEADLINES, PARTS, markdown
from .report import Column, Figure, Row, Table

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parents[1] / "results"
PAGES = ("README.md", "docs/choices.md", "docs/results/speed.md", "docs/results/quality.md")
"""Pages with parts between marks, below the root."""
CHART = "docs/images/pair-cost.svg"

_PARTS = re.compile(r"(<!-- figures: begin (\w+) -->\n).*?(<!-- figures: end -->)", re.DOTALL)
_NAME = re.compile(
    rf"(?P<benchmark>{'|'.join(COMMANDS)})-(?P<hardware>.+)-(?P<date>\d{{4}}-\d{{2}}-\d{{2}})\.json"
)


@dataclass(frozen=True, kw_only=True)
class Result:
    """A committed file of figures, `BENCHMARK-HARDWARE-DATE.json`."""

    benchmark: str
    """Key of `COMMANDS`."""
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
        name = _NAME.fullmatch(path.name)
        if name is None:
            raise ArtifactError(
                f"{path.name}: results are named BENCHMARK-HARDWARE-DATE.json, with a benchmark of "
                f"{', '.join(COMMANDS)}"
            )
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ArtifactError(f"{path}: is no JSON ({error})") from error
        return cls(**name.groupdict(), record=record)

    @property
    def machine(self) -> str:
        """What it was measured on."""
        environment = self.record["environment"]
        cores = environment.get("threads") or environment["usable_cores"]
        machine = f"{cores} cores of {environment['processor']}"
        gpu = environment.get("gpu")
        return f"{gpu}, {machine}" if gpu else machine

    @property
    def source(self) -> str:
        """What printed it, on what, when."""
        command = self.record["environment"].get("command") or COMMANDS[self.benchmark]
        return f"`{command}` · {self.machine} · {self.date}"


def results(folder: Path = RESULTS) -> list[Result]:
    """Return the newest result of each benchmark and machine, in the order of `COMMANDS`."""
    newest: dict[tuple[str, str], Result] = {}
    for result in sorted(map(Result.read, folder.glob("*.json")), key=lambda one: one.date):
        newest[result.benchmark, result.hardware] = result
    order = list(COMMANDS)
    return sorted(newest.values(), key=lambda one: (order.index(one.benchmark), one.hardware))


def rewritten(text: str, committed: Sequence[Result]) -> str:
    """Return a page with its marked parts written anew.

    Args:
        text: with `<!-- figures: begin PART -->` ... `<!-- figures: end -->`.
        committed: what the figures are of.

    Raises:
        InputError: no part is marked, or one of a name that nothing writes.
    """

    def part_of(match: re.Match[str]) -> str:
        name = match[2]
        if name == "headline":
            blocks = [_headline(committed)]
        elif name in PARTS:
            blocks = [
                [*write(one.record), "", one.source]
                for one in committed
                for benchmark, write in PARTS[name]
                if one.benchmark == benchmark
            ]
        else:
            known = ", ".join(sorted([*PARTS, "headline"]))
            raise InputError(f"figures: begin {name}: must be one of {known}")
        return match[1] + "".join("\n" + "\n".join(lines) + "\n\n" for lines in blocks) + match[3]

    text, count = _PARTS.subn(part_of, text)
    if not count:
        raise InputError(
            "no part between `<!-- figures: begin PART -->` and `<!-- figures: end -->`"
        )
    return text


def chart(committed: Sequence[Result]) -> str:
    """Return the bars of a pair's cost as an SVG file, its figures in words inside."""
    record = next(one.record for one in committed if one.benchmark == "pair-scores")
    cost = Column(
        "ms", "milliseconds for one photo and one recipe, d = 1024, two cores", "lower", 2
    )
    forms = [
        (row["form"], row["milliseconds"]) for row in next(iter(record["cases"].values()))["rows"]
    ]
    rows = tuple(Row(name=form, cells={"ms": Figure(ms)}) for form, ms in forms)
    table = Table(key="pair", title="", first="form", columns=(cost,), rows=rows)
    said = ", ".join(f"{form} {ms:.2f} ms" for form, ms in forms)
    return bars_plot(table, "ms", cost.label).replace(">", f"><desc>{said}</desc>", 1)


def _headline(committed: Sequence[Result]) -> list[str]:
    rows = [
        row
        for one in committed
        if one.benchmark in HEADLINES
        for row in HEADLINES[one.benchmark](one.record)
    ]
    machines = " and ".join(dict.fromkeys(f"{one.machine}, {one.date}" for one in committed))
    header = ("measured", "", "of the machine's limit", "by `hficma bench`")
    return [*markdown(header, rows), "", f"On {machines}. [95 %] over queries."]


def main() -> None:
    """Write the figures of README and docs anew from the results in benchmarks/results.

    Example: hficma bench readme
    """
    if not (ROOT / PAGES[0]).is_file():
        raise InputError(f"{ROOT / PAGES[0]}: no such file; run this in an editable install")
    committed = results()
    for page in PAGES:
        path = ROOT / page
        path.write_text(rewritten(path.read_text(encoding="utf-8"), committed), encoding="utf-8")
    (ROOT / CHART).write_text(chart(committed), encoding="utf-8")
    for one in committed:
        print(f"{one.benchmark}: {one.source}")
