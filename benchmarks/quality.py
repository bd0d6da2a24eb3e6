"""How well each loss and system learns a dataset of real pairs: the quality table.

Every method is trained on the training pairs and scored on the test pairs once, as one bag, in
both directions, by S and by S_global alone, with 95 % bootstrap intervals over queries and the
paired difference to the plain dual encoder. `--cross-validate` instead compares options by
folds of the training and validation pairs, which is how to choose without seeing the test pairs.

    python -m hficma.benchmarks.quality --data recipes.jsonl \
        --trunk mobilenet_v2_imagenet.safetensors --vectors recipes-text.jsonl.gz --json report.json
    python -m hficma.benchmarks.quality ... --cross-validate best loss.on_global.temperature=0.05
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from hficma.benchmarks.bootstrap import estimates
from hficma.benchmarks.cca import cca_scores
from hficma.benchmarks.folds import folds
from hficma.benchmarks.measure import environment
from hficma.data.dataset import Dataset, open_dataset, positions
from hficma.metrics import DIRECTIONS, bags, figures, prefilter_recall, ranks, summary
from hficma.model import load_model
from hficma.progress import Progress
from hficma.training.evaluation import PREFILTER_DEPTHS, encode_positions
from hficma.training.launch import train_on
from hficma.training.options import load_options
from hficma.training.scoring import ScoreTables, score_tables

BASELINE = "dual-encoder"
FOLDS = 5
FOLD_BAG = 147
"""Pairs a bag in cross-validation, so that its figures compare with a test of that size."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """One row of the table."""

    name: str
    preset: str
    overrides: tuple[str, ...] = ()
    """On top of the preset: the sizes at which every system is compared."""
    seeds: int = 3
    note: str = ""
    """What must be known of it."""


_ADAMINE = (
    "model.backbone=mobilenet_v2", "model.word_dim=200", "model.sentence=mean", "model.width=256",
    "model.sentence_dim=256", "model.ingredient_width=128", "model.text.title=instruction",
    "trunk.schedule=frozen", "optimizer.lr=1e-3", "trainer.epochs=40",
)  # fmt: skip
_PUBLISHED = (
    "model.backbone=mobilenet_v2", "model.word_dim=200", "model.sentence=mean",
    "model.global_dim=512", "trunk.schedule=frozen", "trainer.epochs=3",
    "trainer.validate_every=1",
)  # fmt: skip
_SMALL = (
    "model.backbone=mobilenet_v2", "model.word_dim=200", "trunk.schedule=frozen",
    "trainer.epochs=20", "loss.group=16",
)  # fmt: skip

METHODS = (
    Method(name=BASELINE, preset=BASELINE, note="InfoNCE on S_global, nothing tuned"),
    *(
        Method(name=name, preset=name, overrides=_ADAMINE, note="width 256")
        for name in (
            "adamine",
            "adamine-avg",
            "vse",
            "vse-plus-plus",
            "semi-hard",
            "lifted",
            "pwc",
            "pwc-plus-plus",
        )
    ),
    Method(name="hf-icma-small", preset="hf-icma-small", overrides=_SMALL),
    Method(
        name="hf-icma",
        preset="hf-icma",
        overrides=_PUBLISHED,
        seeds=1,
        note="width 1024, one seed, 3 epochs, both global vectors projected to 512",
    ),
    Method(name="best", preset="best"),
    Method(
        name="best without S_local",
        preset="best",
        overrides=("loss.on_score=null", "model.local_weight=0"),
        note="the same, trained and scored by S_global alone",
    ),
)


def main(
    data: Annotated[str, typer.Option(help="Pairs with partitions.")],
    trunk: Annotated[str, typer.Option(help="Weights of the frozen mobilenet_v2.")],
    vectors: Annotated[str, typer.Option(help="Word vectors (200 wide), or recipes.")],
    cache: Annotated[Path, typer.Option(help="Feature cache.")] = Path("workspace/cache"),
    seeds: Annotated[int | None, typer.Option(help="At most so many a method.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only these, beside the baseline.")] = None,
    cross_validate: Annotated[
        str | None, typer.Option(help="Judge this preset by folds; name=value may follow.")
    ] = None,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[NAME=VALUE]...")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the report.")] = None,
) -> None:
    """Quality of every loss and system on real pairs.

    Example: python -m hficma.benchmarks.quality --data recipes.jsonl --trunk mobilenet.safetensors
    --vectors words
    """
    bench = Quality(open_dataset(data), trunk, vectors, cache)
    if cross_validate is not None:
        report = bench.cross_validate(cross_validate, overrides or ())
    else:
        report = bench.test(seeds, only)
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


class Quality:
    """The benchmark over one dataset.

    Args:
        dataset: pairs with the partitions train, val and test.
        trunk: weights of the frozen trunk.
        vectors: word vectors, 200 wide, or recipes to train them on.
        cache: where features are kept.
    """

    def __init__(self, dataset: Dataset, trunk: str, vectors: str, cache: Path) -> None:
        self._dataset, self._cache = dataset, cache
        self._common = (f"trunk.weights={trunk}", f"text.vectors={vectors}")

    def cross_validate(self, preset: str, overrides: Sequence[str]) -> dict[str, Any]:
        """Figures over folds of the training and validation pairs; the last epoch counts."""
        overrides = [*overrides, "trainer.keep=last", "trainer.validate_every=1000000"]
        found: dict[str, dict[str, list[Any]]] = {
            part: {direction: [] for direction in DIRECTIONS} for part in ("S", "S_global")
        }
        for dataset, fold in folds(self._dataset, FOLDS):
            tables = self._trained(dataset, preset, overrides, 1234, fold)
            for part, direction, scores in _views(tables):
                for bag in bags(len(fold), FOLD_BAG):
                    found[part][direction].append(figures(ranks(scores[np.ix_(bag, bag)])))
        report = {
            part: {direction: summary(one) for direction, one in by_direction.items()}
            for part, by_direction in found.items()
        }
        for part, by_direction in report.items():
            for direction, one in by_direction.items():
                cells = "  ".join(f"{name} {mean:.1f}" for name, (mean, _) in one.items())
                print(f"{part:9} {direction:16} {cells}")
        return {"preset": preset, "overrides": list(overrides), "folds": FOLDS, "figures": report}

    def test(self, seeds: int | None, only: Sequence[str] | None) -> dict[str, Any]:
        """The table over the test pairs."""
        rows = positions(self._dataset, ("test",), with_photo=True)
        report: dict[str, Any] = {
            "title": "Quality on real pairs",
            "dataset": Path(self._dataset.name).name,
            "test_pairs": len(rows),
            "baseline": BASELINE,
            "environment": environment(),
            "methods": [],
        }
        baseline: dict[str, npt.NDArray[np.int64]] = {}
        for method in METHODS:
            if only and method.name not in (*only, BASELINE):
                continue
            started = time.perf_counter()
            tables = [
                self._trained(self._dataset, method.preset, method.overrides, seed, rows)
                for seed in range(1, min(method.seeds, seeds or method.seeds) + 1)
            ]
            record = _record(method.name, tables, baseline)
            record |= {"note": method.note, "overrides": list(method.overrides)}
            record["seconds"] = round(time.perf_counter() - started, 1)
            report["methods"].append(record)
            _print(record)
        if not only or "cca" in only:
            scores = cca_scores(self._dataset, rows, self._common, self._cache)
            record = _record("cca", [ScoreTables(scores, scores, None)], baseline)
            record["note"] = "on pooled regions and mean word vectors"
            report["methods"].append(record)
            _print(record)
        return report

    def _trained(
        self,
        dataset: Dataset,
        preset: str,
        overrides: Sequence[str],
        seed: int,
        rows: npt.NDArray[np.int64],
    ) -> ScoreTables:
        """Train a preset and score the pairs at the given positions."""
        options = load_options(preset, [*self._common, *overrides, f"trainer.seed={seed}"])
        with tempfile.TemporaryDirectory() as folder:
            run = train_on(
                options, dataset, Path(folder) / "run", cache=self._cache, progress=Progress()
            )
            model = load_model(run)
        found = encode_positions(model, dataset, rows, Progress())
        return score_tables(model, found.image, found.recipe)


def _views(tables: ScoreTables) -> list[tuple[str, str, npt.NDArray[np.float32]]]:
    return [
        (part, direction, scores if direction == "image_to_recipe" else scores.T)
        for part, scores in (("S", tables.total), ("S_global", tables.global_))
        for direction in DIRECTIONS
    ]


def _record(
    name: str, tables: Sequence[ScoreTables], baseline: dict[str, npt.NDArray[np.int64]]
) -> dict[str, Any]:
    """Figures of one method over its seeds; the first call makes the baseline."""
    record: dict[str, Any] = {"name": name, "seeds": len(tables), "S": {}, "S_global": {}}
    found: dict[tuple[str, str], list[npt.NDArray[np.int64]]] = {}
    recall: dict[str, dict[int, list[float]]] = {}
    for table in tables:
        for part, direction, scores in _views(table):
            found.setdefault((part, direction), []).append(ranks(scores))
            if part == "S":
                cheap = table.global_ if direction == "image_to_recipe" else table.global_.T
                depths = recall.setdefault(direction, {depth: [] for depth in PREFILTER_DEPTHS})
                for depth, values in depths.items():
                    values.append(prefilter_recall(scores, cheap, depth))
    for (part, direction), per_seed in found.items():
        stacked = np.stack(per_seed)
        if name == BASELINE and part == "S_global":
            baseline[direction] = stacked
    for (part, direction), per_seed in found.items():
        record[part][direction] = estimates(np.stack(per_seed), baseline.get(direction))
    record["prefilter_recall"] = {
        direction: {str(depth): float(np.mean(values)) for depth, values in depths.items()}
        for direction, depths in recall.items()
    }
    return record


def _print(record: dict[str, Any]) -> None:
    for part in ("S", "S_global"):
        for direction in DIRECTIONS:
            cells = "  ".join(
                f"{name} {one['value']:.1f} [{one['low']:.1f}, {one['high']:.1f}]"
                for name, one in record[part][direction].items()
            )
            print(f"{record['name']:22} {part:9} {direction:16} {cells}", flush=True)


if __name__ == "__main__":
    typer.run(main)
