"""The GPU's benchmark runs whole on torch's CPU device, at sizes that take seconds.

A card is lent for minutes, on a machine that nobody prepared: there it must run at the first try.
"""

from __future__ import annotations

import os
import time
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
import torch

from hficma.benchmarks.common.report import Column, Report, Row, Table
from hficma.benchmarks.gpu import computing, measuring, results, searching, supervision
from hficma.benchmarks.gpu.gpu import main
from hficma.benchmarks.gpu.measuring import Cases, Clock, DeviceLostError, DeviceTimer, median
from hficma.benchmarks.gpu.steps import WEIGHTS, Progress, RunOptions, run_steps
from hficma.benchmarks.gpu.supervision import Began, OnDevice, Supervisor
from hficma.errors import InputError

STEPS = tuple(step for step in WEIGHTS if step not in ("encode", "indexing", "precisions"))
"""All but those that take half of the time here: `make gpu-try` runs all."""


class Tables(Progress):
    """The tables of a run, as they were last."""

    def __init__(self) -> None:
        self.by_key: dict[str, Table] = {}
        self.begun: list[str] = []

    def begin(self, step: str) -> None:
        self.begun.append(step)

    def publish(self, table: Table) -> None:
        self.by_key[table.key] = table


def options(folder: Path, steps: tuple[str, ...], seconds: float = 3000.0) -> RunOptions:
    return RunOptions(device="cpu", seconds=seconds, steps=steps, folder=folder)


def run(steps: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Tables:
    """Measure steps, each case once."""
    monkeypatch.setattr(measuring, "CASE_SECONDS", 0.0)
    monkeypatch.setattr(searching, "SEARCH_SECONDS", 0.0)
    monkeypatch.setattr(measuring, "FEWEST", 1)
    monkeypatch.setattr(searching, "AGREEMENT_QUERIES", 2)
    monkeypatch.setattr(searching, "PREFILTERS", ("Flat", "IVF,SQ8"))
    monkeypatch.setattr(searching, "BATCHES", (4,))
    monkeypatch.setattr(computing, "LENGTHS", (9,))
    tables = Tables()
    run_steps(options(folder, steps), 3000.0, tables)
    return tables


def test_steps_give_all_their_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that fails on a card would be found out when the card is gone."""
    tables = run(STEPS, tmp_path, monkeypatch).by_key
    report = results.report(options(tmp_path, STEPS), None, tables, 1.0)
    report.write(tmp_path / "gpu.json")
    assert Report.read(tmp_path / "gpu.json") == report
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

    def ends() -> dict[str, float]:
        raise DeviceLostError("illegal address")

    assert cases.measure("one", fails) is None
    assert cases.measure("two", lambda: {"value": 2.0}) == {"value": 2.0}
    with pytest.raises(KeyboardInterrupt):
        cases.measure("three", interrupted)
    with pytest.raises(DeviceLostError):
        cases.measure("four", ends)
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


def measuring_process(
    options: RunOptions, end: float, connection: Connection, maker_ended: Event
) -> None:
    """Stands for the process that measures: its first step takes it down, its last never ends."""
    assert maker_ended.wait(30)  # the making process went down at once
    connection.send(OnDevice("a card"))
    for step in options.steps:
        connection.send(Began(step))
        row = Row(name=f"{step}, first row", cells={})
        connection.send(Table(key=step, title=step, first="", columns=(), rows=(row,)))
        if step == "ceilings":
            os._exit(11)
        if step == "pairs":
            time.sleep(600)


def making_process(options: RunOptions) -> None:
    """Stands for the process that makes indexes, and goes down."""
    os._exit(1)


def test_a_step_that_takes_its_process_down_takes_no_other_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lent card would be given back with nothing measured, or kept past its time."""
    monkeypatch.setattr(supervision, "START_METHOD", "fork")
    monkeypatch.setattr(supervision, "GRACE_SECONDS", 0.0)
    steps = ("ceilings", "encode", "pairs", "exhaustive")
    looks: list[int] = []
    supervisor = Supervisor(
        options(tmp_path, steps, seconds=2.0),
        lambda run: looks.append(len(run.tables)),
        target=measuring_process,
        maker=making_process,
    )
    began = time.monotonic()
    supervisor.run()
    assert time.monotonic() - began < 10
    rows = {key: [row.name for row in table.rows] for key, table in supervisor.tables.items()}
    assert rows == {
        "ceilings": ["ceilings, first row",
                     "ceilings: not measured (its process ended with the code 11)"],
        "encode": ["encode, first row"],
        "pairs": ["pairs, first row", "pairs: not measured (the time was up)"],
        "exhaustive": ["exhaustive: not measured (the time was up)"],
    }  # fmt: skip
    assert supervisor.device_name == "a card"
    assert looks[0] == 0


def test_encoding_leaves_the_model_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Branches share layers with their model: moved to a card, it could not be exported after."""
    subject = options(tmp_path, ()).subject()
    # A device without memory: every form runs there, and fails where its values are read.
    monkeypatch.setattr(subject, "device", torch.device("meta"))
    monkeypatch.setattr(measuring, "CASE_SECONDS", 0.0)
    clock = Clock(1000.0, {"encode": 1.0})
    clock.begin("encode")
    table = computing.encoding_table(subject, clock, DeviceTimer(torch.device("cpu")))
    assert len(table.rows) == 2 * len(subject.sizes.batches)
    assert {one.device.type for one in subject.model.parameters()} == {"cpu"}


def test_devices_and_steps_that_are_not_there_are_named(tmp_path: Path) -> None:
    """A run that measured nothing would look like one that did."""
    with pytest.raises(InputError, match="--only tea"):
        main("cpu", 1.0, tmp_path / "x.json", ["tea"])
    with pytest.raises(InputError, match="cuda:77"):
        main("cuda:77", 1.0, tmp_path / "x.json", None)
    with pytest.raises(InputError, match="meta"):
        main("meta", 1.0, tmp_path / "x.json", None)
