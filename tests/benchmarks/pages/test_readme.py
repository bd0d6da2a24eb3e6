"""README's figures are those of the committed results, in every benchmark's own format."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hficma.benchmarks.common.report import Column, Figure, Row, Table
from hficma.benchmarks.common.synthetic_index import synthetic_index
from hficma.benchmarks.common.timing import command, environment
from hficma.benchmarks.gpu.results import report as gpu_report
from hficma.benchmarks.gpu.steps import RunOptions
from hficma.benchmarks.kernels import branches, pair_scores, training_step
from hficma.benchmarks.pages.parts import PARTS, RESULT_PARTS, headline
from hficma.benchmarks.pages.readme import CHART, PAGES, ROOT, Result, chart, results, rewritten
from hficma.benchmarks.quality import sample_hardness, storage, text_quality
from hficma.benchmarks.quality.table import run_record, with_figures
from hficma.benchmarks.search import scale
from hficma.benchmarks.search.batches import batch_row
from hficma.benchmarks.search.growth import growth_table
from hficma.benchmarks.search.reranking import rerank_table
from hficma.benchmarks.training.evaluation import evaluation_record
from hficma.data.dataset import open_dataset
from hficma.engine import build_index
from hficma.errors import ArtifactError, InputError
from hficma.training.scoring import ScoreTables
from tests.engine.datasets import NoiseDataset
from tests.engine.factories import tiny_bundle

PAGE = "Fast.\n<!-- figures: begin {} -->\nold\n<!-- figures: end -->\nThe rest.\n"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("bundles"))


def written(folder: Path, benchmark: str, record: dict[str, Any] | Path) -> str:
    """A page's part, from one result of a benchmark."""
    content = record.read_text() if isinstance(record, Path) else json.dumps(record)
    (folder / f"{benchmark}-test-2026-01-02.json").write_text(content)
    part = next(name for name in RESULT_PARTS if benchmark in PARTS[name])
    page = rewritten(PAGE.format(part), results(folder))
    assert page.startswith("Fast.\n")
    assert page.endswith("\nThe rest.\n")
    assert "old" not in page
    assert "2026-01-02" in page
    assert environment()["processor"] in page
    for table in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1
    return page


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_what_the_committed_results_say(page: str) -> None:
    """A figure that nobody can print again, or one of last year."""
    text = (ROOT / page).read_text(encoding="utf-8")
    assert rewritten(text, results()) == text, "run `hficma bench readme`"


def test_the_chart_is_what_the_committed_results_say() -> None:
    """The picture at the top would tell of another machine than the table below it."""
    shown = re.search(r"<desc>(.*?)</desc>", (ROOT / CHART).read_text(encoding="utf-8"))
    new = re.search(r"<desc>(.*?)</desc>", chart(results()))
    assert shown is not None
    assert new is not None
    assert shown[1] == new[1], "run `hficma bench readme`"


def test_encoders_stand_beside_the_recall_of_their_methods() -> None:
    """Two tables of one page would give a method two figures: it was trained again since."""
    records = {one.benchmark: one.record for one in results()}
    recalls = {
        one["name"]: one["S"]["image_to_recipe"]["R@10"]["value"]
        for one in records["photos"]["methods"]
    }
    rows = records["encoders"]["rows"]
    assert {row["name"] for row in rows} & set(recalls)
    for row in rows:
        assert row["recall"] == recalls.get(row["name"])


def test_readme_has_one_table_of_at_most_eight_figures() -> None:
    """A newcomer reads one table, not ten."""
    rows = list(headline({one.benchmark: one.record for one in results()}))
    assert 5 <= len(rows) <= 8
    assert {len(row) for row in rows} == {4}


def test_pair_scores(tmp_path: Path) -> None:
    pair_scores.main(width=16, heads=2, repeats=1, threads=1, json_file=tmp_path / "out")
    page = written(tmp_path, "pair-scores", tmp_path / "out")
    for form in ("published", "tokens", "projections", "tables"):
        assert f"| {form} |" in page
    assert "real lengths, d = 16" in page
    assert "`hficma bench pair_scores`" in page


def test_training_step(tmp_path: Path) -> None:
    """In the benchmark each step runs in a process of its own, which takes half a minute."""
    runs = {
        f"{form} 2 x 2": training_step.step(form, 2, 16, 2, None)
        for form in ("published", "hficma")
    }
    figures = {name: one | {"step_mb": 2.0, "runs": [one]} for name, one in runs.items()}
    record = {"environment": environment(), "width": 16, "figures": figures}
    page = written(tmp_path, "training-step", record)
    assert re.search(r"\| hficma 2 x 2 \| [\d.]+ \| 2 \|", page)


def test_training_of_a_large_dataset(tmp_path: Path) -> None:
    """Its photos are few and its recipes all different; an epoch reads each pair once."""
    options = ["--data", "sample:100", "--size", "300", "--workers", "1", "--json", "out"]
    small = ["model.width=16", "model.heads=2", "model.word_dim=16", "trainer.batch_size=32"]
    # In a process of its own: memory is the process's, and so are the workers that it starts.
    subprocess.run(
        [sys.executable, "-m", "hficma.benchmarks.training.training", *small, *options],
        check=True, cwd=tmp_path, env={**os.environ, "HFICMA_HOME": "home"},
    )  # fmt: skip
    page = written(tmp_path, "training-size", tmp_path / "out")
    assert "**300 pairs** (100 photos, repeated" in page
    assert re.search(r"photos read and cropped \| [\d,]+ \| [\d,]+ \| [\d,]+ \| \d", page)


def test_ranking_of_many_test_pairs(tmp_path: Path) -> None:
    """Its stages are those of `hficma eval`, with random numbers for what encoders give."""
    small = ["model.width=16", "model.heads=2", "model.word_dim=16"]
    data, cache = open_dataset("sample:100"), tmp_path / "cache"
    record = evaluation_record(300, "hf-icma-small", small, data, cache, "cpu")
    page = written(tmp_path, "training-evaluation", {"environment": environment(), **record})
    assert "**300 test pairs** in one bag" in page
    assert "| ranks, S_local left out |" in page


def test_branches(tmp_path: Path, bundle: Path) -> None:
    branches.main(bundle=bundle, repeats=1, threads=1, json_file=tmp_path / "out")
    page = written(tmp_path, "branches", tmp_path / "out")
    assert "| image, 1 photo | torch fp32 |" in page
    assert re.search(r"They take \d+ MB in fp32", page)


def test_engine(tmp_path: Path, bundle: Path) -> None:
    data = NoiseDataset(12)
    index = build_index(bundle, data, tmp_path / "index")
    photo = tmp_path / "photo.png"
    data.photo(0).save(photo)
    tables = {
        "rerank": rerank_table(bundle, tmp_path, photo, threads=1, repeats=1),
        "batch": [batch_row(index, [data.photo(i) for i in range(2)], threads=1)],
        "growth": growth_table(bundle, tmp_path, photo, [40], threads=1, queries=1),
    }
    record = {name: {"title": name, "rows": rows} for name, rows in tables.items()}
    page = written(tmp_path, "engine", {"environment": environment(), "tables": record})
    assert "| 40 recipes |" in page
    assert "in batches" in page


def test_storage(tmp_path: Path, bundle: Path) -> None:
    """Size, loss and time of a precision stand in one row, or nobody can weigh them."""
    row: dict[str, Any] = {"bytes": {"256": 1296, "1024": 5184}, "moved": 3.61, "agree": 99.9}
    rows = [
        {"precision": precision, **row, "r10": r10}
        | storage.rerank_time(bundle, tmp_path, precision, threads=1, recipes=40, photos=2)
        for precision, r10 in (("fp32", 55.1), ("int4", 54.8))
    ]
    assert all(float(row["rerank_ms"]) > 0 for row in rows)
    form = {"form": "rank D / 4, int8", **row, "r10": 55.2}
    record = {"rows": rows, "forms": [form], "photos": 9, "recipes": 40, "data": "pairs"}
    record["timed_width"] = 1024
    page = written(tmp_path, "storage", record | {"environment": environment(threads=1)})
    assert re.search(r"\| int4 \| 1,296 \| 5,184 \| 3\.61 \| 99\.9 \| 54\.8 \| 0\.3 \| \d", page)


def test_scale(tmp_path: Path, bundle: Path) -> None:
    """What an index of a million takes is told of the very index that was measured."""
    index = synthetic_index(
        bundle, tmp_path / "index", 300, level="tokens", precision="int4", prefilter="SQ8"
    )
    record = scale.measure(index, bundle, candidates=20, queries=2, threads=1)
    assert sum(record["bytes"].values()) == sum(
        file.stat().st_size for file in index.rglob("*") if file.is_file()
    )
    assert record["recall"] > 80
    record |= {"width": 8, "global_dim": 8, "prefilter": "SQ8"}
    page = written(tmp_path, "scale", record)
    assert "**300 recipes**" in page
    assert "| in memory |" in page
    assert "| asked again |" in page


def test_quality(tmp_path: Path) -> None:
    drawn = np.random.default_rng(0).random((2, 60, 60), dtype=np.float32)
    runs = [run_record(seed, ScoreTables(one, one, None), 1.0) for seed, one in enumerate(drawn)]
    right = np.eye(60, dtype=np.float32)
    best = run_record(0, ScoreTables(right, right, None), 1.0)
    methods = [
        with_figures({"name": "plain", "note": "", "runs": runs}, runs),
        with_figures({"name": "best", "note": "a note", "runs": [best]}, runs[:1]),
    ]
    record = {"title": "Quality", "test_pairs": 60, "baseline": "plain"}
    record |= {"environment": environment(), "methods": methods}
    page = written(tmp_path, "quality", record)
    assert re.search(r"\| plain \| .* \| \+0\.0 \[\+0, \+0\] \| .* \| 2 \|", page)
    assert re.search(r"\| best \| 1\.0 \| 100\.0 \| 100\.0 \[94, 100\] \| \+\d", page)
    assert "* best: a note." in page
    assert "Chance is medR 30 and R@10 16.7" in page


def test_text_quality(tmp_path: Path) -> None:
    """Shares that any machine prints alike would be those of other rules than the present ones."""
    record = text_quality.measure(None, None)
    page = written(tmp_path, "text-quality", record)
    assert "% of 200 lines" in page
    [committed] = [one.record for one in results() if one.benchmark == "text-quality"]
    assert committed["ingredients"] == record["ingredients"]


def test_sample_hardness(tmp_path: Path) -> None:
    record = sample_hardness.measure("sample:200", None, train=40, bag=10)
    page = written(tmp_path, "sample-hardness", record)
    assert "| chance | 5.5 | 10.0 |" in page
    assert "| colour histogram and CCA |" in page


def test_the_newest_result_of_each_machine_counts(tmp_path: Path) -> None:
    """Old figures would stand beside new ones; one machine's would hide another's."""
    for name in ("small-2026-01-02", "small-2026-03-01", "large-2026-02-01"):
        (tmp_path / f"bench-10k-{name}.json").write_text("{}")
    found = results(tmp_path)
    assert [(one.benchmark, one.hardware, one.date) for one in found] == [
        ("bench-10k", "large", "2026-02-01"),
        ("bench-10k", "small", "2026-03-01"),
    ]


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    """A result under another name, or a page without marks, would be passed over in silence."""
    (tmp_path / "figures.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"figures\.json.*BENCHMARK-HARDWARE-DATE"):
        Result.read(tmp_path / "figures.json")
    with pytest.raises(InputError, match="begin PART"):
        rewritten("No marks.", [])
    with pytest.raises(InputError, match="begin taste"):
        rewritten(PAGE.format("taste"), [])
    assert "old" not in rewritten(PAGE.format("speed"), [])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["/x/bin/hficma", "bench", "--setup", "10k"], "hficma bench --setup 10k"),
        (
            ["/x/bin/hficma", "bench", "quality", "--data", "/my/own/recipes.jsonl", "--json", "a"],
            "hficma bench quality --data recipes.jsonl",
        ),
        (
            [str(Path(text_quality.__file__).parent / "quality.py"), "text.vectors=/my/own/words"],
            "hficma bench quality text.vectors=words",
        ),
        (["/usr/bin/pytest", "-q"], None),
    ],
)
def test_the_command_is_one_that_anyone_can_type(words: list[str], said: str | None) -> None:
    """README and reports are published: paths of a machine have no place in them."""
    assert command(words) == said


def test_a_card_s_figures_are_a_page(tmp_path: Path) -> None:
    """Figures of a lent card would stay in a file that nobody opens."""
    column = Column("ms", "ms", better="lower", digits=2)
    rows = (
        Row(name="fused", cells={"ms": Figure(0.25)}),
        Row(name="torch.compile: not measured (the time was up)", cells={}),
    )
    tables = {
        "pairs": Table(
            key="pairs", title="Pair scores", first="form", columns=(column,), rows=rows,
            note="Alone.",
        )
    }  # fmt: skip
    options = RunOptions(device="cuda", seconds=220.0, steps=(), folder=tmp_path)
    report = gpu_report(options, "a card", tables, 200.0)
    report.write(tmp_path / "report")
    page = written(tmp_path, "gpu", tmp_path / "report")
    assert "| fused " in page
    assert "0.25" in page
    assert "not measured (the time was up)" in page
    assert "a card, " in page
