"""`hficma bench readme`: the figures of README and docs, written from the committed results."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hficma.errors import ArtifactError, InputError

from ..common.plots import bars_plot
from .parts import PARTS, RESULT_PARTS, headline
from .speed_tables import pair_costs
from .tables import markdown

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parents[1] / "results"
PAGES = (
    "README.md",
    "docs/choices.md",
    "docs/explanation/certificate.md",
    "docs/results/speed.md",
    "docs/results/training.md",
    "docs/results/storage.md",
    "docs/results/quality.md",
    "docs/results/gpu-kernels.md",
)
"""Pages with parts between marks, below the root."""
CHART = "docs/images/pair-cost.svg"
BENCHMARKS = tuple(name for key in RESULT_PARTS for name in PARTS[key])
"""What the name of a result begins with, in the order of the pages."""

_PARTS = re.compile(r"(<!-- figures: begin (\w+) -->\n).*?(<!-- figures: end -->)", re.DOTALL)
_NAME = re.compile(rf"({'|'.join(BENCHMARKS)})-(.+)-(\d{{4}}-\d{{2}}-\d{{2}})\.json")


class Result(NamedTuple):
    """A committed file of figures, `BENCHMARK-HARDWARE-DATE.json`."""

    benchmark: str
    hardware: str
    """As the name has it: results of one kind of machine replace each other."""
    date: str
    record: dict[str, Any]
    """What the benchmark wrote."""

    @classmethod
    def read(cls, path: Path) -> Result:
        """Read a file of results.

        Raises:
            ArtifactError: it is named in another way.
        """
        name = _NAME.fullmatch(path.name)
        if name is None:
            raise ArtifactError(
                f"{path.name}: results are named BENCHMARK-HARDWARE-DATE.json, with a benchmark of "
                f"{', '.join(BENCHMARKS)}"
            )
        return cls(name[1], name[2], name[3], json.loads(path.read_text(encoding="utf-8")))

    @property
    def source(self) -> str:
        """What printed it, on what, when."""
        environment = self.record["environment"]
        cores = environment.get("threads") or environment["usable_cores"]
        gpu = f"{environment['gpu']}, " if environment.get("gpu") else ""
        machine = f"{gpu}{cores} cores of {environment['processor']}"
        command = environment["command"] or f"hficma bench {self.benchmark.replace('-', '_')}"
        return f"`{command}` · {machine} · {self.date}"


def results(folder: Path = RESULTS) -> list[Result]:
    """Return the newest result of each benchmark and kind of machine, in the pages' order."""
    by_date = sorted(map(Result.read, folder.glob("*.json")), key=lambda one: one.date)
    newest = {(one.benchmark, one.hardware): one for one in by_date}
    return sorted(newest.values(), key=lambda one: (BENCHMARKS.index(one.benchmark), one.hardware))


def rewritten(text: str, committed: Sequence[Result]) -> str:
    """Return a page with its marked parts written anew.

    Args:
        text: with `<!-- figures: begin PART -->` ... `<!-- figures: end -->`.
        committed: what the figures are of.

    Raises:
        InputError: no part is marked, or one of a name that nothing writes.
    """

    def part(match: re.Match[str]) -> str:
        if match[2] == "headline":
            header = ("measured", "", "beside the machine", "`hficma bench`")
            rows = headline({one.benchmark: one.record for one in committed})
            blocks = [markdown(header, rows)]
        elif match[2] in PARTS:
            writers = PARTS[match[2]]
            blocks = [
                [*writers[one.benchmark](one.record), "", one.source]
                for one in committed
                if one.benchmark in writers
            ]
        else:
            raise InputError(f"figures: begin {match[2]}: must be headline, {', '.join(PARTS)}")
        return match[1] + "".join("\n" + "\n".join(lines) + "\n\n" for lines in blocks) + match[3]

    text, count = _PARTS.subn(part, text)
    if not count:
        raise InputError("no part between `figures: begin PART` and `figures: end`")
    return text


def chart(committed: Sequence[Result]) -> str:
    """Return the bars of a pair's cost as an SVG file, with its figures in words inside."""
    # The last one, as README's table beside it.
    record = {one.benchmark: one.record for one in committed}["pair-scores"]
    bars = {form: one["milliseconds"] for form, one in pair_costs(record).items()}
    words = ", ".join(f"{name} {cost:.2f} ms" for name, cost in bars.items())
    label = "milliseconds for one photo and one recipe, d = 1024, two cores"
    return bars_plot(bars, label, "pair-ms").replace(">", f"><desc>{words}</desc>", 1)


def main() -> None:
    """Write the figures of README and docs anew from the results in benchmarks/results.

    Example: hficma bench readme
    """
    if not (ROOT / PAGES[0]).is_file():
        raise InputError(f"{ROOT / PAGES[0]}: no such file; run this in an editable install")
    committed = results()
    for path in (ROOT / page for page in PAGES):
        path.write_text(rewritten(path.read_text(encoding="utf-8"), committed), encoding="utf-8")
    (ROOT / CHART).write_text(chart(committed), encoding="utf-8")
    for one in committed:
        print(f"{one.benchmark}: {one.source}")
