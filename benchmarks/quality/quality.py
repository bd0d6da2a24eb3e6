"""`hficma bench quality`: how well each loss and system learns a dataset of real pairs.

Every method is trained on the training pairs and scored on the test pairs once, as one bag, in
both directions, by S and by S_global alone, with 95 % bootstrap intervals over queries and the
paired difference to the plain dual encoder. `--cross-validate` instead compares options by
folds of the training and validation pairs, which is how to choose without seeing the test pairs.

With `--json FILE` the report is written after each training run; called again, whole or `--only` in
parts, runs that are in the file already are not repeated. With `--keep-runs FOLDER` each run stays
in the folder, to be exported, timed by `hficma bench encoders`, or searched with.

    hficma bench quality --data recipes.jsonl --trunk mobilenet_v2_imagenet.safetensors \
        --vectors recipes-text.jsonl.gz --json report.json
    hficma bench quality ... --cross-validate best loss.on_global.temperature=0.05
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from hficma.data.dataset import Dataset, open_dataset, positions
from hficma.data.partitions import Partitioned
from hficma.errors import InputError
from hficma.metrics import Figures, bags, figures, ranks, summary
from hficma.model import load_model
from hficma.progress import Progress
from hficma.training.config.option_files import flatten, load_options
from hficma.training.config.option_values import to_tree
from hficma.training.config.options import Options
from hficma.training.encoding import encode_positions
from hficma.training.scoring import ScoreTables, score_tables
from hficma.training.training import train_on
from hficma.types import Positions

from ..common.arguments import JsonFile
from ..common.report import write_json
from ..common.timing import environment
from ..pages.parts import publish
from .cca import cca_scores
from .table import (
    BASELINE,
    METHODS,
    PARTS,
    VECTORS,
    Method,
    Record,
    run_record,
    views,
    with_figures,
)

FOLDS = 5
FOLD_BAG = 147
"""Pairs a bag in cross-validation, so that its figures compare with a test of that size."""


def main(
    data: Annotated[str, typer.Option(help="Pairs with partitions.")],
    trunk: Annotated[str, typer.Option(help="Weights of the frozen mobilenet_v2.")],
    vectors: Annotated[str, typer.Option(help="Vectors (words 300, sentences 256), or recipes.")],
    cache: Annotated[Path, typer.Option(help="Feature cache.")] = Path("workspace/cache"),
    seeds: Annotated[int | None, typer.Option(min=1, help="At most so many a method.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only these, beside the baseline.")] = None,
    encoder: Annotated[
        list[str] | None, typer.Option(help="NAME=PATH of an encoder that rows need; repeatable.")
    ] = None,
    cross_validate: Annotated[
        str | None, typer.Option(help="Judge this preset by folds; name=value may follow.")
    ] = None,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[NAME=VALUE]...")] = None,
    keep_runs: Annotated[
        Path | None, typer.Option(help="Keep each run in this folder, as METHOD-seed-N.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Quality of every loss and system on real pairs.

    Example: hficma bench quality --data recipes.jsonl --trunk mobilenet.safetensors --vectors words
    """
    places = dict(argument.partition("=")[::2] for argument in encoder or ())
    bench = Quality(open_dataset(data), trunk, vectors, cache, places, keep_runs)
    if cross_validate is None:
        bench.test(seeds, only, json_file)
    else:
        write_json(json_file, bench.cross_validate(cross_validate, overrides or ()))


class Quality:
    """The benchmark over one dataset.

    Args:
        dataset: pairs with the partitions train, val and test.
        trunk: weights of the frozen image encoder.
        vectors: word vectors 300 wide with a sentence encoder 256 wide, or recipes to train
            both on.
        cache: where features lie between runs.
        places: paths of encoders, by the names that methods have for them.
        runs: folder that the methods' runs are kept in; None keeps none.
    """

    def __init__(
        self,
        dataset: Dataset,
        trunk: str,
        vectors: str,
        cache: Path,
        places: Mapping[str, str] | None = None,
        runs: Path | None = None,
    ) -> None:
        self._dataset, self._cache, self._places = dataset, cache, places or {}
        self._runs = runs
        self._common = (f"trunk.weights={trunk}", f"text.vectors={vectors}", *VECTORS)
        self._sources = {"trunk": Path(trunk).name, "vectors": Path(vectors).name}

    def cross_validate(self, preset: str, overrides: Sequence[str]) -> Record:
        """Return figures over folds of the training and validation pairs; the last epoch counts."""
        # A fold stands in the place of the validation pairs: without validation it is trained on.
        overrides = [*overrides, "trainer.keep=last", "trainer.validate_every=1000000"]
        overrides.append(f"trainer.validation_pairs={FOLD_BAG}")
        by_bag: dict[tuple[str, str], list[Figures]] = defaultdict(list)
        for dataset, fold in folds(self._dataset, FOLDS):
            tables = self._trained(dataset, preset, overrides, 1234, fold)
            for part, direction, scores in views(tables):
                for bag in bags(len(fold), FOLD_BAG):
                    by_bag[part, direction].append(figures(ranks(scores[np.ix_(bag, bag)])))
        report: dict[str, dict[str, Any]] = {part: {} for part in PARTS}
        for (part, direction), bag_figures in by_bag.items():
            means = report[part][direction] = summary(bag_figures)
            cells = " ".join(f"{name} {mean:.1f}" for name, (mean, _) in means.items())
            print(f"{part:8} {direction:15} {cells}")
        return {"preset": preset, "overrides": list(overrides), "folds": FOLDS, "figures": report}

    def test(
        self, seeds: int | None, only: Sequence[str] | None, json_file: Path | None = None
    ) -> Record:
        """Return the table over the test pairs.

        Args:
            seeds: at most so many a method; None takes each method's own number.
            only: names of methods beside the baseline; None takes all.
            json_file: where the report is written after each run; what it holds is not repeated.

        Raises:
            InputError: an unknown name in `only`, or a file that holds another dataset's report.
        """
        names = [method.name for method in METHODS]
        if unknown := sorted(set(only or ()) - set(names)):
            raise InputError(f"--only {unknown[0]}: there is no such method; {', '.join(names)}")
        rows = positions(self._dataset, ("test",), with_photo=True)
        learnt_from = positions(self._dataset, ("train", "val"), with_photo=True)
        report: Record = {
            "title": "Quality on real pairs",
            "dataset": Path(self._dataset.name).name,
            "test_pairs": len(rows),
            "training_pairs": len(learnt_from),
            "baseline": BASELINE,
            **self._sources,
            "environment": environment(),
        }
        records = _records(_read(json_file, report))
        for method, record in zip(METHODS, records, strict=True):
            if only and method.name not in (*only, BASELINE):
                continue
            if lacking := sorted(method.needs - self._places.keys()):
                print(f"{method.name}: left out, for it needs --encoder {lacking[0]}=PATH")
                continue
            for seed in range(1, min(method.seeds, seeds or method.seeds) + 1):
                if any(run["seed"] == seed for run in record["runs"]):
                    continue
                started = time.perf_counter()
                tables = self._tables(method, seed, rows)
                seconds = time.perf_counter() - started
                record["runs"].append(run_record(seed, tables, seconds))
                print(f"{method.name}, seed {seed}: {seconds:.0f} s", flush=True)
                write_json(json_file, _with_methods(report, records))
        report = _with_methods(report, records)
        publish("quality", report, json_file)
        return report

    def _tables(self, method: Method, seed: int, rows: Positions) -> ScoreTables:
        if method.preset is None:
            scores = cca_scores(self._dataset, rows, self._common, self._cache)
            return ScoreTables(scores, scores, None)
        overrides = method.options(self._places)
        run = None if self._runs is None else self._runs / f"{_file_name(method.name)}-seed-{seed}"
        return self._trained(self._dataset, method.preset, overrides, seed, rows, run)

    def _trained(
        self,
        dataset: Dataset,
        preset: str,
        overrides: Sequence[str],
        seed: int,
        rows: Positions,
        run: Path | None = None,
    ) -> ScoreTables:
        """Train a preset and score the pairs at the given positions.

        The run is kept where a place is named for it.
        """
        options = load_options(preset, [*self._common, *overrides])
        # An ensemble's members have seeds one after the other, and no two of it one member.
        first = (seed - 1) * options.model.members + 1
        options = replace(options, trainer=replace(options.trainer, seed=first))
        with tempfile.TemporaryDirectory() as folder:
            run = train_on(
                options,
                dataset,
                run or Path(folder) / "run",
                cache=self._cache,
                progress=Progress(),
            )
            model = load_model(run)
        encoded = encode_positions(model, dataset, rows, Progress())
        return score_tables(model, encoded.image, encoded.recipe)


def folds(dataset: Dataset, count: int, seed: int = 0) -> Iterator[tuple[Dataset, Positions]]:
    """Yield the dataset with each fold in turn as its validation pairs, and the fold's positions.

    The test pairs are in none of them.
    """
    everyone = positions(dataset, ("train", "val"), with_photo=True)
    ids = {position: dataset.recipe(position).id for position in everyone.tolist()}
    order = np.random.default_rng(seed).permutation(everyone)
    for fold in np.array_split(order, count):
        partitions = dict.fromkeys(ids.values(), "train")
        partitions |= {ids[position]: "val" for position in fold.tolist()}
        yield Partitioned(dataset, partitions), np.sort(fold)


def _file_name(method: str) -> str:
    """Return a method's name as a folder may be called: `EfficientNet-Lite2-words`."""
    return "-".join(re.findall(r"[\w-]+", method))


def _records(known: Sequence[Record]) -> list[Record]:
    """Return one for each method, with the known runs that had the same options."""
    runs_by_name = {one["name"]: (one.get("options"), one["runs"]) for one in known}
    records: list[Record] = []
    for method in METHODS:
        options: dict[str, Any] = {}
        if method.preset is not None:
            # Every option but the seed and where files are, as JSON would give it back.
            tree = to_tree(load_options(method.preset, [*VECTORS, *method.options({})]))
            options = json.loads(json.dumps(flatten(tree)))
        before, runs = runs_by_name.get(method.name, (None, []))
        record: Record = {
            "name": method.name,
            "note": method.note,
            "overrides": list(method.overrides),
        }
        record |= {"options": options, "runs": runs if _alike(before, options) else []}
        records.append(record)
    return records


def _alike(known: object, options: dict[str, Any]) -> bool:
    """Tell whether runs with the known options are what these give.

    An option that there was not yet at their time must have its default, which is to leave
    everything as it was.
    """
    if not isinstance(known, dict) or any(options.get(name, ...) != known[name] for name in known):
        return False
    defaults = flatten(to_tree(Options()))
    return all(options[name] == defaults.get(name, ...) for name in options.keys() - known.keys())


def _with_methods(report: Record, records: Sequence[Record]) -> Record:
    """Return the report with the figures of every method that has runs."""
    baseline = next(one["runs"] for one in records if one["name"] == BASELINE)
    return {**report, "methods": [with_figures(one, baseline) for one in records if one["runs"]]}


def _read(json_file: Path | None, report: Record) -> list[Record]:
    """Return the methods of an earlier report of the same dataset.

    Raises:
        InputError: the file holds something else.
    """
    if json_file is None or not json_file.exists():
        return []
    try:
        before = json.loads(json_file.read_text(encoding="utf-8"))
        methods = list(before["methods"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{json_file}: is no report of this benchmark; give a new name") from error
    for name in ("dataset", "test_pairs", "trunk", "vectors"):
        if before.get(name) != report[name]:
            raise InputError(
                f"{json_file}: was made with {name} {before.get(name)}, not {report[name]}; "
                "give a new name"
            )
    return methods


if __name__ == "__main__":
    typer.run(main)
