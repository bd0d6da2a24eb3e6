"""The GPU's benchmark runs whole on torch's CPU device, at sizes that take seconds.

A card is lent for minutes, on a machine that nobody prepared: there it must run at the first try.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hficma.benchmarks.common.report import Column, Report
from hficma.benchmarks.gpu import computing, measuring, searching
from hficma.benchmarks.gpu.gpu import WEIGHTS, main, measure
from hficma.benchmarks.gpu.measuring import Cases, Clock, DeviceTimer, median
from hficma.errors import InputError

STEPS = tuple(step for step in WEIGHTS if step not in ("encode", "indexing", "precisions"))
"""All but those that take half of the time here: `make gpu-try` runs all."""


def run(steps: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Report:
    """Measure steps, each case once."""
    monkeypatch.setattr(measuring, "CASE_SECONDS", 0.0)
    monkeypatch.setattr(searching, "SEARCH_SECONDS", 0.0)
    monkeypatch.setattr(measuring, "FEWEST", 1)
    monkeypatch.setattr(searching, "AGREEMENT_QUERIES", 2)
    monkeypatch.setattr(searching, "PREFILTERS", ("Flat", "IVF,SQ8"))
    monkeypatch.setattr(searching, "BATCHES", (4,))
    monkeypatch.setattr(computing, "LENGTHS", (9,))
    (folder / "work").mkdir()
    return measure(torch.device("cpu"), 3000.0, steps, folder / "work", folder / "gpu.json")


def test_steps_give_all_their_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that fails on a card would be found out when the card is gone."""
    report = run(STEPS, tmp_path, monkeypatch)
    assert Report.read(tmp_path / "gpu.json") == report
    tables = {table.key: table for table in report.tables}
    assert set(tables) == set(STEPS)
    missing = [row.name for table in report.tables for row in table.rows if "not meas" in row.name]
    assert [name for name in missing if "FAISS" not in name and "compile" not in name] == []
    assert {meaning.partition(":")[0] for _, meaning in report.headline} >= {"s"}
    for table in report.tables:
        for row in table.rows:
            for cell in row.cells.values():
                assert cell is None or cell.value >= 0, row.name
    scores = [row for row in tables["pairs"].rows if ": f" in row.name or ": e" in row.name]
    for row in scores:
        error = row.cells["error"]
        assert error is not None
        assert error.value < 1e-3, row.name
    recall = {row.name: row.cells.get("recall") for row in tables["prefilters"].rows}
    exact = recall["torch, exact scan on the device"]
    assert exact is not None
    assert exact.value == 100.0


def test_what_cannot_be_measured_is_a_row_that_says_why() -> None:
    """A library that is missing would take all other figures with it."""
    clock = Clock(1000.0, {"a": 1.0})
    clock.begin("a")
    cases = Cases(clock, "k", "Title", "case", (Column("value", "value"),), "")

    def fails() -> dict[str, float]:
        raise RuntimeError("CUDA error:\n no kernel image")

    def interrupted() -> dict[str, float]:
        raise KeyboardInterrupt

    assert cases.measure("one", fails) is None
    assert cases.measure("two", lambda: {"value": 2.0}) == {"value": 2.0}
    with pytest.raises(KeyboardInterrupt):
        cases.measure("three", interrupted)
    names = [row.name for row in cases.table().rows]
    assert names == ["one: not measured (RuntimeError: CUDA error: no kernel image)", "two"]


def test_time_is_shared_and_ends() -> None:
    """One slow step would leave nothing for those behind it; a run of a lent card must end."""
    clock = Clock(100.0, {"a": 3.0, "b": 1.0})
    clock.begin("a")
    assert 70 < clock.left() <= 75
    clock.begin("b")
    assert 95 < clock.left() <= 100
    late = Clock(0.0, {"a": 1.0})
    late.begin("a")
    cases = Cases(late, "k", "Title", "case", (), "")
    assert cases.measure("one", lambda: {"value": 1.0}) is None
    assert cases.table().rows[0].name == "one: not measured (the time was up)"
    samples = DeviceTimer(torch.device("cpu")).seconds(lambda: None, 0.0)
    assert len(samples) == measuring.FEWEST
    assert median([1.0, 2.0, 4.0], 1000).value == 2000


def test_devices_and_steps_that_are_not_there_are_named(tmp_path: Path) -> None:
    """A run that measured nothing would look like one that did."""
    with pytest.raises(InputError, match="--only tea"):
        main("cpu", 1.0, tmp_path / "x.json", ["tea"])
    with pytest.raises(InputError, match="cuda:77"):
        main("cuda:77", 1.0, tmp_path / "x.json", None)
    with pytest.raises(InputError, match="meta"):
        main("meta", 1.0, tmp_path / "x.json", None)
