"""Reports survive their file, and comparing two of them tells a regression from noise."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hficma.benchmarks.compare import compare_reports
from hficma.benchmarks.report import Column, Figure, Report, Row, Table
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
