"""The benchmark's figures are those of the commands it speaks for: `eval` and `search`."""

from __future__ import annotations

import json
import time

import pytest

from hficma.artifacts.workspace import Workspace
from hficma.benchmarks.pages.speed_tables import search
from hficma.benchmarks.search.bench import BenchOptions, Report, run_bench
from hficma.data.sample import SampleDataset
from hficma.engine import Engine, build_index
from hficma.export import export_run
from hficma.training import evaluate, train
from tests.training.conftest import SMALL

ITEMS = 40


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """With a trained run, its bundle, and test pairs that it never saw."""
    workspace = Workspace(tmp_path_factory.mktemp("home"))
    run = workspace.home / "runs" / "run"
    train("hf-icma-small", SMALL, data="sample:100", run=run, workspace=workspace)
    export_run(run, workspace.home / "bundles" / "bundle", runtimes=("onnxruntime",))
    sample = SampleDataset(100, seed=9)
    with (workspace.home / "pairs.jsonl").open("w", encoding="utf-8") as file:
        for index in range(ITEMS):
            record = sample.recipe(index).to_json() | {"image": f"{index}.png", "partition": "test"}
            sample.photo(index).save(workspace.home / f"{index}.png")
            file.write(json.dumps(record) + "\n")
    return workspace


@pytest.fixture(scope="module")
def report(workspace: Workspace) -> Report:
    options = BenchOptions(
        setup=str(ITEMS), data=str(workspace.home / "pairs.jsonl"), kinds=("Flat/fp32",),
        candidates=(10, ITEMS), concurrency=(1,), threads=1, rounds=2,
        queries=ITEMS // 2, compared=1,
        sweep_seconds=1e6,
    )  # fmt: skip
    return Report.read(run_bench(options, workspace))


def test_recall_is_exactly_that_of_eval(workspace: Workspace, report: Report) -> None:
    """Two commands of one project would give two recalls for one model."""
    run, pairs = workspace.newest("run"), str(workspace.home / "pairs.jsonl")
    evaluation = evaluate(run, pairs, setup="all", prefilter=10)
    assert evaluation.items == ITEMS
    assert evaluation.prefiltered is not None
    choices, others = report.table("choices"), report.table("others")
    assert choices is not None
    assert others is not None
    rows = {row.name: row.cells for table in (choices, others) for row in table.rows}
    for name, figures in (
        ("Flat/fp32, exact", evaluation.total),
        ("this engine", evaluation.total),
        ("dual encoder, FAISS alone", evaluation.global_only),
    ):
        for depth in (1, 10):
            cell = rows[name].get(f"R@{depth}") or rows[name].get(f"r{depth}")
            assert cell is not None
            expected, _ = figures["image_to_recipe"][f"R@{depth}"]
            assert cell.value == pytest.approx(expected, abs=1e-9), (name, depth)


@pytest.mark.parametrize("of", ["recipes", "images"])
def test_an_answer_accounts_for_all_of_its_time(workspace: Workspace, of: str) -> None:
    """A search would take longer than the sum of what is said of it."""
    index = workspace.home / f"own-{of}"
    build_index(workspace.newest("bundle"), SampleDataset(100), index, of=of)  # type: ignore[arg-type]
    with Engine.open(index, threads=1) as engine:
        began = time.perf_counter()
        if of == "recipes":
            answer = engine.search(image=workspace.home / "0.png")
        else:
            answer = engine.search(recipe=SampleDataset(100).recipe(0))
        outside = 1000 * (time.perf_counter() - began)
    stages = dict(answer.milliseconds)
    total = stages.pop("total")
    assert stages.pop("gather") <= stages["rerank"]  # it is a part of it
    assert sum(stages.values()) == pytest.approx(total, rel=0.01)
    assert total <= outside


def test_the_report_times_searches_as_a_user_would(workspace: Workspace, report: Report) -> None:
    """Figures of something else than a search; wide, for a machine that does other things."""
    table = report.table("choices")
    assert table is not None
    told = table.rows[0].cells["p50"]
    assert told is not None
    index = workspace.home / "stopwatch"
    build_index(workspace.newest("bundle"), SampleDataset(100), index)
    photo = (workspace.home / "0.png").read_bytes()
    with Engine.open(index, threads=1) as engine:
        engine.search(image=photo, candidates=10)
        seconds = []
        for _ in range(5):
            began = time.perf_counter()
            engine.search(image=photo, candidates=10)
            seconds.append(time.perf_counter() - began)
    assert 1 / 50 < told.value / (1000 * sorted(seconds)[2]) < 50


def test_readme_tells_what_the_report_found(workspace: Workspace, report: Report) -> None:
    """A table of README would be of another run, or of none."""
    lines = search(json.loads((workspace.newest("report") / "report.json").read_text()))
    table = report.table("choices")
    assert table is not None
    for row in table.rows:
        cell = row.cells["p50"]
        assert cell is not None
        assert any(line.startswith(f"| {row.name} | {cell.value:.2f} ") for line in lines)
    assert any(line.startswith("| eager torch, published graph |") for line in lines)
