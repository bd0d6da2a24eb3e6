"""One small run of the benchmark, held against what else measures the same things."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from hficma.artifacts.manifest import read_manifest
from hficma.artifacts.workspace import Workspace
from hficma.benchmarks.common.timing import Recorder
from hficma.benchmarks.common.workload import IndexKind, bags_of, bundle_of, index_of
from hficma.benchmarks.search.bag_ranks import BagRanks, quality_table, rank_bags
from hficma.benchmarks.search.bench import BenchOptions, Report, compare_reports, run_bench
from hficma.benchmarks.search.stages import TOTAL, Stages, engine_pool
from hficma.data.sample import SampleDataset
from hficma.engine import Bundle, Engine, build_index
from hficma.engine.runtimes.options import ExecutionOptions
from hficma.errors import InputError
from hficma.metrics import DIRECTIONS
from hficma.model import load_model
from hficma.progress import Progress
from hficma.training.evaluation_figures import Evaluation, evaluation_of
from hficma.training.scoring import score_tables
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
    """With a tiny random HF-ICMA and a tiny random AdaMine."""
    home = tmp_path_factory.mktemp("home")
    tiny_bundle(home / "bundles", seed=3)
    tiny_bundle(home / "adamine", "adamine", seed=4)
    return Workspace(home)


@pytest.fixture(scope="module")
def folder(workspace: Workspace) -> Path:
    """The directory of one run's report."""
    adamine = workspace.home / "adamine" / "adamine-4"
    return run_bench(BenchOptions(**OPTIONS, adamine_bundle=adamine), workspace)


@pytest.fixture(scope="module")
def report(folder: Path) -> Report:
    """Of one run."""
    return Report.read(folder)


@pytest.fixture(scope="module")
def evaluated(workspace: Workspace) -> Evaluation:
    """The same items as `hficma eval` evaluates them: every pair, in torch."""
    bag = bags_of(None, None, size=ITEMS, count=None)[0][0]
    model = load_model(bundle_of(None, workspace, Progress())[0])
    with torch.inference_mode():
        image = model.encode_images([bag.photo(i) for i in range(len(bag))])
        recipe = model.encode_recipes([bag.recipe(i) for i in range(len(bag))])
        tables = iter([score_tables(model, image, recipe)])
    return evaluation_of(tables, run="", dataset=bag.name, split="test", setup="1k", items=ITEMS)


def indexes(workspace: Workspace) -> tuple[Path, Path, Path]:
    """The bundle, and its indexes of recipes and of photos."""
    bundle = bundle_of(None, workspace, Progress())[0]
    bag = bags_of(None, None, size=ITEMS, count=None)[0][0]
    kind = IndexKind.parse("Flat/fp32")
    recipes, images = (
        index_of(bundle, bag, kind, of, workspace, Progress(), ExecutionOptions(threads=1))
        for of in ("recipes", "images")
    )
    return bundle, recipes, images


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("figure", ["medR", "R@1", "R@5", "R@10"])
def test_figures_are_those_of_evaluation(
    report: Report, evaluated: Evaluation, direction: str, figure: str
) -> None:
    """Two commands of one project would give two recalls for one model."""
    table = report.table("quality")
    assert table is not None
    rows = {row.name: row.cells for row in table.rows}
    name = direction.replace("_", " ")
    # One rank may differ where two scores are equal but for float32.
    allowed = 1.0 if figure == "medR" else 100 / ITEMS + 1e-6
    for ranked_by, wanted in (("S", evaluated.total), ("S_global alone", evaluated.global_only)):
        found = rows[f"{name}, {ranked_by}"][figure]
        assert found is not None
        assert found.value == pytest.approx(wanted[direction][figure][0], abs=allowed)
        assert found.upto is None


def test_scoring_every_pair_gives_the_same_ranks(workspace: Workspace) -> None:
    """The bounds would leave something out; and the cost must be told before it is paid."""
    told: list[str] = []

    class Listener(Progress):
        def note(self, text: str) -> None:
            told.append(text)

    bundle, recipes, images = indexes(workspace)
    with engine_pool(1) as pool:
        bag = BagRanks(Bundle.open(bundle, ExecutionOptions(threads=1)), recipes, images, pool)
        every = rank_bags([bag], seconds=0, exhaustive=True, progress=Listener())
        bounded, some = bag.ranks(ITEMS), bag.ranks(ITEMS, queries=10)
    assert told == [text for text in told if "every pair: 900 pairs" in text] != []
    assert every.drawn is None
    for direction in DIRECTIONS:
        ours, theirs = bounded[direction], every.found[direction][0]
        assert ours.unresolved == theirs.unresolved == 0
        assert theirs.pairs == ITEMS * ITEMS
        low = [item.low for item in ours.found]
        assert sorted(low) == sorted(item.low for item in theirs.found)
        assert len(some[direction].found) == 10
        for count in (5, 20):
            assert ours.reranked(count) == theirs.reranked(count)


def test_where_time_is_short_ranks_lie_between_bounds_and_some_are_exact(
    workspace: Workspace,
) -> None:
    """A large setup must end, and still say how good the model is."""
    bundle, recipes, images = indexes(workspace)
    with engine_pool(1) as pool:
        bag = BagRanks(Bundle.open(bundle, ExecutionOptions(threads=1)), recipes, images, pool)
        every = rank_bags([bag], seconds=1e9, exhaustive=False, progress=Progress())
        short = rank_bags([bag], seconds=1e-9, exhaustive=False, progress=Progress())
    assert every.drawn is None
    assert short.budget == 1
    assert short.drawn is not None
    rows = {row.name: row.cells for row in quality_table(short, (10,)).rows}
    assert not any("candidates" in name for name in rows)
    for direction in DIRECTIONS:
        name = direction.replace("_", " ")
        exact = every.found[direction][0].bounds()[0]
        assert short.found[direction][0].unresolved > 0
        for figure, value in [("medR", exact.median_rank), ("R@10", exact.recall[10])]:
            bounds, drawn = (
                rows[f"{name}, S"][figure],
                rows[f"{name}, S of {ITEMS} queries"][figure],
            )
            assert bounds is not None
            assert drawn is not None
            assert bounds.value <= value <= (bounds.value if bounds.upto is None else bounds.upto)
            assert drawn.value == pytest.approx(value)  # all are drawn: there are few


def test_all_candidates_are_certified_and_agree_with_the_truth(report: Report) -> None:
    """Agreement would be measured against something else than scoring everything."""
    table = report.table("choices")
    assert table is not None
    rows = {row.name: row.cells for row in table.rows}
    everything = rows[f"Flat/fp32, {ITEMS} candidates"]
    for key in ("agreement", "best", "certified"):
        figure = everything[key]
        assert figure is not None
        assert figure.value == 100
    assert len(rows) == 4


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
        "adamine, FAISS alone",
    }
    for name in ("eager torch, fast form", "eager torch, published graph"):
        difference = rows[name]["difference"]
        assert difference is not None
        assert difference.value < 1e-5


def test_stages_lie_within_a_stopwatch(workspace: Workspace) -> None:
    """What is reported as a search's time would be something else."""
    bundle, *paths = indexes(workspace)
    bag = bags_of(None, None, size=ITEMS, count=None)[0][0]
    queries = (bag.photo_bytes(0), bag.recipe(0))
    scorer = Bundle.open(bundle, ExecutionOptions(threads=1))
    for path, query in zip(paths, queries, strict=True):
        with Engine.open(path, bundle=bundle, threads=1) as engine, engine_pool(1) as pool:
            stages, recorder = Stages(engine, scorer, pool, 1, 20), Recorder()
            recorder.new_round()
            stages.measure(query, recorder)
            recorder = Recorder()
            recorder.new_round()
            began = time.perf_counter()
            stages.measure(query, recorder)
            outside = time.perf_counter() - began
            if isinstance(query, bytes):
                answer = engine.search(image=query, candidates=20)
            else:
                answer = engine.search(recipe=query, candidates=20)
        parts = {name: recorder.seconds(name)[0] for name in recorder.names()}
        alone = sum(value for name, value in parts.items() if name not in (TOTAL, "records"))
        assert alone + parts[TOTAL] <= outside
        assert parts["records"] < parts[TOTAL]
        # Wide enough for a machine that does other things too.
        assert 1 / 50 < answer.milliseconds["total"] / (1e3 * parts[TOTAL]) < 50


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
    assert [row.name for row in table.rows] == [
        f"Flat/fp32, {count} candidates" for count in (10, ITEMS)
    ]
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


def test_bags_are_disjoint_unseen_and_as_many_as_there_are(tmp_path: Path) -> None:
    """Items that were trained on, or counted twice, flatter a model."""
    bags, notes = bags_of("sample:200:9", "sample:200", size=60, count=None)
    ids = [[bag.recipe(i).id for i in range(len(bag))] for bag in bags]
    assert [len(part) for part in ids] == [60, 60, 60]
    assert len({name for part in ids for name in part}) == 180
    assert notes == []
    fresh, notes = bags_of(None, "sample:200:5", size=40, count=None)
    assert fresh[0].recipe(0) == SampleDataset(100, seed=6).recipe(0)
    assert "not trained on: one bag" in notes[0]
    few, notes = bags_of("sample:120:9", None, size=500, count=None)
    assert len(few) == 1
    assert len(few[0]) == 120
    assert "fewer" in notes[0]


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
