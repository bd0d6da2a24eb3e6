"""Reports survive their file, and comparing two of them tells a regression from noise."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hficma.benchmarks.common.compare import compare_reports
from hficma.benchmarks.common.report import Column, Figure, Report, Row, Table
from hficma.benchmarks.common.timing import Recorder
from hficma.benchmarks.search.stages import PERCENTILES, percentiles
from hficma.errors import ArtifactError

COLUMNS = (
    Column("p50", "p50 ms", better="lower"),
    Column("r10", "R@10 %", better="higher"),
    Column("work", "M mult-adds"),
)


def write(path: Path, p50: float, r10: float, noise: float = 0.0) -> Path:
    """A report of one row."""
    cells = {"p50": Figure(p50, noise=noise), "r10": Figure(r10), "work": Figure(p50)}
    table = Table(
        key="t", title="T", first="stage", columns=COLUMNS, rows=(Row(name="total", cells=cells),)
    )
    Report(
        title="a run",
        environment={"processor": "x"},
        options={"setup": "1k"},
        headline=(("5 ms", "a search"),),
        notes=("one bag",),
        tables=(table,),
    ).write(path)
    return path


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Old reports would be compared as something else."""
    path = write(tmp_path / "a.json", 5.0, 80.0, 0.1)
    report = Report.read(path)
    report.write(tmp_path / "b.json")
    assert (tmp_path / "b.json").read_text() == path.read_text()
    assert "| total |" in report.markdown()


@pytest.mark.parametrize(
    ("p50", "r10", "noise", "worst"),
    [
        (13.0, 80.0, 0.05, "p50 ms"),
        (10.0, 60.0, 0.0, "R@10 %"),
        (13.0, 80.0, 0.5, None),
        (10.5, 80.0, 0.0, None),
        (5.0, 90.0, 0.0, None),
    ],
    ids=["slower", "recall lost", "slower within noise", "within tolerance", "better"],
)
def test_a_regression_is_what_passes_tolerance_and_noise(
    tmp_path: Path, p50: float, r10: float, noise: float, worst: str | None
) -> None:
    """A gate that cries at noise is switched off; one that misses a loss is none."""
    old = write(tmp_path / "old.json", 10.0, 80.0, noise)
    comparison = compare_reports(old, write(tmp_path / "new.json", p50, r10, noise), 0.1)
    assert comparison.exit_code == (worst is not None)
    assert [change.column for change in comparison.regressions] == [worst] * bool(worst)
    assert len(comparison.changes) == 2  # work is no one's fault
    assert ("REGRESSION" in comparison.markdown()) == bool(worst)


@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=2))
def test_worst_comes_first(tmp_path_factory: pytest.TempPathFactory, ratios: list[float]) -> None:
    """What must be looked at would be past the fold."""
    folder = tmp_path_factory.mktemp("reports")
    old = write(folder / "old.json", 10.0, 50.0)
    new = write(folder / "new.json", 10.0 * ratios[0], 50.0 * ratios[1])
    changes = compare_reports(old, new).changes
    assert changes[0].worse >= changes[1].worse


def measured(path: Path, rng: np.random.Generator, slower: float = 1.0) -> Path:
    """A report of 40 tasks, timed in rounds over which a machine drifts by some per cent."""
    recorder, names = Recorder(), [f"task {number}" for number in range(40)]
    for _ in range(5):
        recorder.new_round()
        drift = rng.normal(1.0, 0.03)
        for name in names * 20:
            recorder.add(name, slower * drift * 0.01 * rng.lognormal(0.0, 0.1))
    rows = tuple(Row(name=name, cells=percentiles(recorder, name)) for name in names)
    table = Table(key="t", title="T", first="task", columns=PERCENTILES, rows=rows)
    Report(title="a run", environment={}, options={}, headline=(), notes=(), tables=(table,)).write(
        path
    )
    return path


def test_a_run_repeated_differs_by_no_more_than_its_noise(tmp_path: Path) -> None:
    """The benchmark measures itself: else every second run would report regressions."""
    rng = np.random.default_rng(0)
    changes = [
        change
        for pair in range(10)
        for change in compare_reports(
            measured(tmp_path / f"{pair}-a.json", rng), measured(tmp_path / f"{pair}-b.json", rng)
        ).changes
    ]
    beyond = [change for change in changes if abs(change.worse - 1) > change.noise]
    assert len(changes) == 10 * 40 * 3
    assert len(beyond) < 0.02 * len(changes)
    assert not any(change.regressed(0.1) for change in changes)
    # Nor may it be called noise what no machine does.
    assert np.median([change.noise for change in changes]) < 0.4


def test_what_became_slower_is_seen_through_the_noise(tmp_path: Path) -> None:
    """Noise so wide that it hides a half more of time would be no measurement."""
    rng = np.random.default_rng(1)
    old = measured(tmp_path / "old.json", rng)
    comparison = compare_reports(old, measured(tmp_path / "new.json", rng, slower=1.5))
    worse = {change.row for change in comparison.regressions if change.column == "p50 ms"}
    assert len(worse) == 40
    assert comparison.exit_code == 1


def test_recall_of_other_queries_is_not_compared(tmp_path: Path) -> None:
    """A slower machine asks fewer queries: their recall is another figure, not a worse one."""
    old, new = write(tmp_path / "old.json", 1, 50), write(tmp_path / "new.json", 1, 40)
    assert compare_reports(old, new).exit_code == 1
    report = Report.read(new)
    dataclasses.replace(report, options={"setup": "1k", "queries_a_round": 8}).write(new)
    comparison = compare_reports(old, new)
    assert [change.column for change in comparison.changes] == ["p50 ms"]
    assert "recall is not compared" in comparison.markdown()


def test_other_machines_and_missing_figures_are_said(tmp_path: Path) -> None:
    """Two machines' figures would pass for a change of the code."""
    old, new = write(tmp_path / "old.json", 1, 1), write(tmp_path / "new.json", 1, 1)
    new.write_text(new.read_text().replace('"x"', '"y"').replace('"total"', '"sum"'))
    notes = compare_reports(old, new).notes
    assert any("processor differs" in note for note in notes)
    assert any("2 figures" in note for note in notes)


def test_what_is_no_report_is_named(tmp_path: Path) -> None:
    """A traceback tells nobody what to do."""
    (tmp_path / "x.json").write_text("{}")
    for path in (tmp_path / "x.json", tmp_path / "missing.json"):
        with pytest.raises(ArtifactError, match=path.name):
            compare_reports(path, path)
