"""`hficma bench --compare OLD NEW`: what became better or worse, and whether noise explains it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from hficma.metrics import RECALLS

from .report import Report, markdown_table

TOLERANCE = 0.1
BETWEEN_RUNS = 1.5
"""Two runs apart differ by more than the rounds of each: of 277 figures of two runs in a row on a
quiet machine, seven exceeded what their rounds said, by up to 1.4 times where they were ours."""
JUDGED = {
    "r1", "r10", "agreement", "best", "certified", "medR", *(f"R@{k}" for k in RECALLS)
}  # fmt: skip
"""Columns that follow from the queries; where those are the same, they have no noise."""
SAMPLING = ("item_set", "bags", "queries_a_round", "budget", "exact_queries")
"""Options that say which queries a run had, and, in older reports, how far they were ranked."""
MACHINE = ("processor", "usable_cores", "packages", "gpu")
"""Facts of the environment that change a figure."""
MOST_SHOWN = 40
"""Rows of a comparison, worst first."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One figure in two reports, in its column's unit."""

    row: str
    """With its table's title."""
    column: str
    """The column's label."""
    old: float
    new: float
    worse: float
    """New over old, turned so that above 1 is worse."""
    noise: float
    """How far the ratio may be from 1 by noise alone."""

    def regressed(self, tolerance: float) -> bool:
        """Tell whether it is worse by more than the tolerance, and by more than noise explains."""
        return self.worse - 1 > max(tolerance, self.noise)


@dataclass(frozen=True, kw_only=True)
class ReportComparison:
    """Two reports, figure by figure."""

    changes: tuple[Change, ...]
    """Worst first, by how far they exceed their noise."""
    tolerance: float
    """How much worse is allowed, 0.1 for a tenth."""
    notes: tuple[str, ...]
    """Why figures may differ for other reasons; figures that only one report has."""

    @property
    def regressions(self) -> tuple[Change, ...]:
        """Return the changes that are worse than tolerance and noise."""
        return tuple(change for change in self.changes if change.regressed(self.tolerance))

    @property
    def exit_code(self) -> int:
        """Return 1 where something regressed, else 0."""
        return int(bool(self.regressions))

    def markdown(self) -> str:
        """Return the worst changes as a table, and a verdict."""
        rows = []
        for one in self.changes[:MOST_SHOWN]:
            verdict = "within noise" if abs(one.worse - 1) <= one.noise else ""
            verdict = "REGRESSION" if one.regressed(self.tolerance) else verdict
            figures = (f"{one.old:.3g}", f"{one.new:.3g}", f"{one.worse - 1:+.1%}")
            rows.append((f"{one.row}, {one.column}", *figures, f"{one.noise:.1%}", verdict))
        header = ("figure", "old", "new", "worse by", "noise", "")
        lines = [*(f"* {note}" for note in self.notes), "", *markdown_table(header, rows), ""]
        if (more := len(self.changes) - MOST_SHOWN) > 0:
            lines += [f"{more} more, all better than these.", ""]
        count = len(self.regressions)
        lines += [f"{count} of {len(self.changes)} figures regressed past {self.tolerance:.0%}."]
        return "\n".join(lines) + "\n"


def compare_reports(old: Path, new: Path, tolerance: float = TOLERANCE) -> ReportComparison:
    """Compare two reports of the benchmark.

    Args:
        old: a `report.json`, or a report's directory.
        new: the other one.
        tolerance: how much worse is allowed, 0.1 for a tenth.

    Raises:
        ArtifactError: one of them is no report.
    """
    before, after = Report.read(old), Report.read(new)
    notes = [
        f"{kind}{name} differs: {facts.get(name)} and {others.get(name)}"
        for kind, facts, others, names in (
            ("", before.environment, after.environment, MACHINE),
            ("option ", before.options, after.options, before.options),
        )
        for name in names
        if facts.get(name) != others.get(name)
    ]
    sampled = any(before.options.get(name) != after.options.get(name) for name in SAMPLING)
    if sampled:
        notes.append(
            "recall is not compared: it is of other queries, or ranked within other bounds"
        )
    figures = {
        (table.key, row.name, key): figure
        for table in after.tables
        for row in table.rows
        for key, figure in row.cells.items()
    }
    changes, missing = [], 0
    for table in before.tables:
        # Of the ways beside the engine, only that they are there is ours to answer for.
        rows = table.rows[:1] if table.key == "others" else table.rows
        for column in table.columns:
            if column.better is None or (sampled and column.key in JUDGED):
                continue
            for row in rows:
                was = row.cells.get(column.key)
                now = figures.get((table.key, row.name, column.key))
                if was is None or now is None:
                    missing += was is not None
                    continue
                pair = (now.value, was.value)
                changes.append(
                    Change(
                        row=f"{table.title}: {row.name}",
                        column=column.label,
                        old=was.value,
                        new=now.value,
                        worse=_ratio(*(pair if column.better == "lower" else pair[::-1])),
                        noise=BETWEEN_RUNS * math.hypot(was.noise, now.noise),
                    )
                )
    if missing:
        notes.append(f"{missing} figures of the old report are not in the new one")
    changes.sort(key=lambda change: change.noise - change.worse)
    return ReportComparison(changes=tuple(changes), tolerance=tolerance, notes=tuple(notes))


def _ratio(top: float, bottom: float) -> float:
    if top == bottom:
        return 1.0
    return top / bottom if bottom else math.inf
