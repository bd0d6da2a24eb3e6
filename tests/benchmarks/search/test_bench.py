"""One small run of the benchmark, held against what else measures the same things."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from hficma.artifacts.manifest import read_manifest
from hficma.artifacts.workspace import Workspace
from hficma.benchmarks.common.timing import Recorder
from hficma.benchmarks.common.workload import IndexKind, bag_of, bundle_of
from hficma.benchmarks.search.bench import BenchOptions, Report, compare_reports, run_bench
from hficma.benchmarks.search.stages import TOTAL, record_stages
from hficma.data.sample import SampleDataset
from hficma.engine import Answer, build_index
from hficma.errors import InputError
from hficma.progress import Progress
from tests.engine.factories import tiny_bundle

ITEMS = 30
OPTIONS = {
    "setup": str(ITEMS),
    "kinds": ("Flat/fp32", "SQ8/int8"),
    "candidates": (10, ITEMS),
    "concurrency": (1, 2),
    "threads": 1,
    "rounds": 2,
    "queries": 2,
    "compared": 1,
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """With a tiny random HF-ICMA."""
    home = tmp_path_factory.mktemp("home")
    tiny_bundle(home / "bundles", seed=3)
    return Workspace(home)


@pytest.fixture(scope="module")
def folder(workspace: Workspace) -> Path:
    """The directory of one run's report."""
    return run_bench(BenchOptions(**OPTIONS), workspace)


@pytest.fixture(scope="module")
def report(folder: Path) -> Report:
    """Of one run."""
    return Report.read(folder)


def test_all_candidates_are_certified_and_agree_with_the_truth(report: Report) -> None:
    """Agreement would be measured against something else than scoring everything."""
    table = report.table("choices")
    assert table is not None
    rows = {row.name: row.cells for row in table.rows}
    for name in (f"Flat/fp32, {ITEMS} candidates", "Flat/fp32, exact"):
        for key in ("agreement", "best", "certified"):
            figure = rows[name][key]
            assert figure is not None
            assert figure.value == 100
    assert len(rows) == 5


def test_others_score_the_same_pairs(report: Report) -> None:
    """A faster graph that computes something else would be no comparison."""
    table = report.table("others")
    assert table is not None
    rows = {row.name: row.cells for row in table.rows}
    assert set(rows) == {
        "this engine",
        "eager torch, fast form",
        "eager torch, published graph",
        "dual encoder, FAISS alone",
    }
    for name in ("eager torch, fast form", "eager torch, published graph"):
        difference = rows[name]["difference"]
        assert difference is not None
        assert difference.value < 1e-5


def test_every_stage_is_told(report: Report) -> None:
    """A stage that is left out would be time that nobody accounts for."""
    for key in ("stages-photo", "stages-recipe"):
        table = report.table(key)
        assert table is not None
        names = ["decode", "encode", "prefilter", "cross branch", "records", TOTAL]
        # Kernels read encodings where they lie, so that there is nothing to gather.
        assert [row.name for row in table.rows if row.name != "gather"] == names


def test_stages_add_up_to_the_search() -> None:
    """Gathering is summed over threads: as it stands it may exceed what it is a part of."""
    recorder = Recorder()
    recorder.new_round()
    times = {"decode": 1.0, "encode": 2.0, "prefilter": 3.0, "gather": 8.0, "rerank": 5.0}
    answer = Answer(
        hits=(), certified=0, scored=0, searched=0,
        milliseconds={**times, "records": 4.0, "total": 15.0},
    )  # fmt: skip
    record_stages(recorder, answer, threads=4)
    assert recorder.median("gather") == pytest.approx(0.002)
    parts = [recorder.median(name) for name in recorder.names() if name != TOTAL]
    assert sum(parts) == pytest.approx(recorder.median(TOTAL))


@pytest.mark.parametrize("of", ["recipes", "images"])
def test_a_standing_index_is_measured_as_it_is(workspace: Workspace, of: str) -> None:
    """A user's own index would be benchmarked by proxy."""
    bundle = bundle_of(None, workspace, Progress())[0]
    index = workspace.home / f"own-{of}"
    build_index(bundle, SampleDataset(100), index, of=of)
    options = BenchOptions(**(OPTIONS | {"index": index, "setup": "20"}))
    report = Report.read(run_bench(options, workspace, out=workspace.home / f"report-{of}"))
    table = report.table("choices")
    assert table is not None
    choices = [f"{count} candidates" for count in (10, ITEMS)]
    assert [row.name for row in table.rows] == [f"Flat/fp32, {c}" for c in (*choices, "exact")]
    assert f"of {of}; queries are test items of sample:100" in report.notes[0]
    stages = "stages-photo" if of == "recipes" else "stages-recipe"
    assert [t.key for t in report.tables] == ["choices", stages, "concurrency", "machine", "memory"]


def test_the_page_needs_nothing_from_outside(folder: Path, report: Report) -> None:
    """It would not open offline, or tell others who reads it."""
    page = (folder / "report.html").read_text(encoding="utf-8")
    # Names of XML namespaces are never fetched.
    fetched = re.sub(r'xmlns(:xlink)?="[^"]*"', "", page)
    assert "http:" not in fetched
    assert "https:" not in fetched
    assert not re.search(r"<(script|link|img|iframe|object)\b|@import|url\((?!#)", fetched)
    references = re.findall(r'href="([^"]*)"', fetched)
    assert all(reference.startswith("#") for reference in references)
    ids = re.findall(r'<clipPath id="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    for table in report.tables:
        assert f'<section id="{table.key}">' in page
        assert table.title in report.markdown()


def test_a_report_is_a_directory_like_the_others_and_names_no_path(
    folder: Path, workspace: Workspace
) -> None:
    """Reports are published: paths of a machine have no place in them."""
    assert read_manifest(folder, kind="report").facts["setup"] == str(ITEMS)
    for file in folder.iterdir():
        if file.name != "manifest.json":
            assert str(workspace.home) not in file.read_text(encoding="utf-8")
    assert compare_reports(folder, folder).exit_code == 0


def test_items_are_unseen_and_as_many_as_there_are() -> None:
    """Items that were trained on, or counted twice, flatter a model."""
    bag, notes = bag_of("sample:200:9", "sample:200", 60)
    assert len({bag.recipe(i).id for i in range(len(bag))}) == 60
    assert notes == []
    fresh, notes = bag_of(None, "sample:200:5", 40)
    assert fresh.recipe(0) == SampleDataset(100, seed=6).recipe(0)
    assert "not trained on" in notes[0]
    few, notes = bag_of("sample:120:9", None, 500)
    assert len(few) == 120
    assert "all there are" in notes[0]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"setup": "2k"}, "--setup 2k"),
        ({"setup": "3"}, "--setup 3"),
        ({"candidates": ()}, "--candidates"),
        ({"concurrency": (0,)}, "--concurrency"),
        ({"rounds": 1}, "--rounds 1"),
    ],
)
def test_what_cannot_be_measured_is_refused(options: dict[str, object], named: str) -> None:
    """A run of half an hour would end in a traceback."""
    with pytest.raises(InputError, match=named):
        BenchOptions(**options)
    with pytest.raises(InputError, match="index kind"):
        IndexKind.parse("Flat/fp64")


def test_noise_is_the_range_between_rounds() -> None:
    """Repetitions within a round look alike while the machine drifts."""
    recorder = Recorder()
    for level in (1.0, 2.0, 1.5):
        recorder.new_round()
        for wobble in (0.9, 1.0, 1.1):
            recorder.add("task", level * wobble)
    assert recorder.noise("task", 50) == pytest.approx((2.0 - 1.0) / np.median([1.5]))
