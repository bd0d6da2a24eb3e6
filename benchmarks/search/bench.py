"""`hficma bench`: latency of every stage, recall beside it, and what others need for the same."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from hficma.artifacts.manifest import new_directory
from hficma.artifacts.workspace import Workspace
from hficma.engine import Bundle, Engine
from hficma.engine.index.index import Index
from hficma.engine.index.index_facts import IndexFacts, ItemKind
from hficma.engine.runtimes.options import ExecutionOptions
from hficma.errors import InputError
from hficma.metrics import figure_text, recall_interval
from hficma.model import load_model
from hficma.progress import Progress
from hficma.recipe import Recipe

from ..common.compare import Change, ReportComparison, compare_reports
from ..common.costs import encode_cost, search_costs
from ..common.hardware import Limits, limits_table, memory_table, serving
from ..common.page import write_report_page
from ..common.plots import bars_plot, choices_plot
from ..common.report import FILE, Report, Table, cell_text
from ..common.timing import NOISY, Recorder, environment, torch_threads
from ..common.workload import SEED, IndexKind, bag_of, bundle_of, index_of, queries_for
from .baselines import ENGINE, PUBLISHED, Baselines
from .exhaustive import exhaustive_table
from .options import SETUPS, BenchOptions
from .stages import TOTAL, KnownQuery, Rounds, stage_table, timed_stages
from .sweep import SWEEP_COLUMNS, Sweep, choice_name, concurrent

__all__ = ["BenchOptions", "Change", "Report", "ReportComparison", "compare_reports", "run_bench"]

PAGE = "report.html"
MOST_COMPARED = 100
"""Candidates that the other ways re-rank: the published graph takes its time."""
TYPICAL = 200
"""Candidates of the headline, as `hficma search` takes them."""


def run_bench(
    options: BenchOptions,
    workspace: Workspace,
    progress: Progress | None = None,
    *,
    out: Path | None = None,
) -> Path:
    """Measure, and write `report.json` and `report.html`.

    Args:
        options: what to measure.
        workspace: where bundles, the cache and reports are.
        progress: hears of the work.
        out: the report's directory; None takes a new name in the workspace.

    Returns:
        the report's directory; `Report.read(it).markdown()` is for the terminal.

    Raises:
        InputError: an option or the data cannot be used.
        ArtifactError: something is missing or damaged.
    """
    began = time.perf_counter()
    with ExitStack() as stack:
        runner = Runner(options, workspace, progress or Progress(), stack)
        tables = runner.tables()
    facts, bag = runner.facts, runner.bag
    chosen = {"sizes": [len(bag)], "seed": SEED, "model_id": facts.model_id, "item_set": bag.name}
    report = Report(
        title=f"{facts.model.kind} of width {facts.width} on {len(bag):,} items",
        environment=environment(device=options.device, threads=runner.threads),
        options=options.to_json() | chosen | runner.chosen,
        headline=runner.headline(tables),
        notes=tuple(note for note in runner.notes if note),
        tables=tuple(tables),
        seconds=time.perf_counter() - began,
    )
    out = out or workspace.new("report", f"bench-{options.setup}")
    with new_directory(out, kind="report", made_by="hficma bench") as (folder, recorded):
        today = datetime.now(UTC).isoformat(timespec="seconds")
        recorded.update(benchmark="bench", setup=options.setup, made=today)
        report.write(folder / FILE)
        write_report_page(folder / PAGE, report, _plots(tables), (TOTAL, ENGINE))
    return out


class Runner:
    """One run: what is open while it measures, and its tables one after the other.

    Args:
        options: of the run.
        workspace: for bundles and the cache of indexes.
        progress: hears of the work.
        stack: closes what is opened here.
    """

    def __init__(
        self, options: BenchOptions, workspace: Workspace, progress: Progress, stack: ExitStack
    ) -> None:
        self._options, self._workspace = options, workspace
        self._progress, self._stack = progress, stack
        if options.index is None:
            self._kinds = [IndexKind.parse(text) for text in options.kinds]
            self._bundle, note = bundle_of(options.bundle, workspace, progress)
            trained_on = Bundle.open(self._bundle).facts.dataset
            self.bag, notes = bag_of(options.data, trained_on, options.items)
            self.notes, items = [note, *notes], len(self.bag)
        else:
            index = IndexFacts.read(options.index)
            data, name = options.data or index.dataset, options.index.name
            if data is None:
                raise InputError(
                    f"{options.index}: does not say what it was made of; name it with --data"
                )
            self.notes = [
                f"an index as it stands: {name}, of {index.of}; queries are test items of {data}"
            ]
            self._kinds = [IndexKind(index.prefilter, index.encoding_precision)]
            self._bundle = options.bundle or index.find_bundle(options.index)
            self.bag = queries_for(data, options.items)
            items = Index.open(options.index).item_count
        self.facts = Bundle.open(self._bundle).facts
        self._execution = ExecutionOptions(
            runtime=options.runtime, device=options.device, threads=options.threads
        ).with_thread_count()
        self.threads = self._execution.thread_count
        stack.enter_context(torch_threads(self.threads))
        self._limits = Limits(options.device)
        self._model = load_model(self._bundle).to(options.device)
        self._candidates = sorted({min(count, items) for count in options.candidates})
        self._typical = min(self._candidates, key=lambda count: abs(count - TYPICAL))
        # Options that were left open.
        self.chosen: dict[str, int] = {"typical": self._typical}
        # How far medians moved between rounds, by what was measured.
        self._movement: dict[str, float] = {}

    def tables(self) -> list[Table]:
        """Measure everything; of an index as it stands, not what is known of a bag only."""
        photos, recipes = self._queries()
        index = self._options.index
        indexes = {kind: index or self._index(kind, "recipes") for kind in self._kinds}
        engines = {
            self._engine_name(precision, kind): self._open(path, precision)
            for precision in self._options.precisions
            for kind, path in indexes.items()
        }
        main = next(iter(engines.values()))
        rounds = photos if main.query_role == "image" else recipes
        choices, stages, clients = self._timed(engines, rounds)
        if index is not None:
            return [choices, stages, clients, *self._exhaustive(), *self._machine(main, rounds)]
        images = self._open(self._index(self._kinds[0], "images"), self._options.precisions[0])
        size = self.chosen["queries_a_round"]
        photos, recipes = ([part[:size] for part in rounds] for rounds in (photos, recipes))
        self._progress.stage("stages of recipe queries", sum(map(len, recipes)))
        recorder = timed_stages(
            images, recipes, self._typical, self.threads, self._progress.advance
        )
        tables = [choices, stages, self._stages(images, recipes, recorder), clients]
        others = [self._others(main, photos), *self._exhaustive()]
        return [*tables, *others, *self._machine(main, photos)]

    def headline(self, tables: Sequence[Table]) -> tuple[tuple[str, str], ...]:
        """Return the few figures that matter most."""
        by_key = {table.key: table for table in tables}
        first = self._engine_name(self._options.precisions[0], self._kinds[0])
        name = choice_name(first, self._typical)
        row = next(row for row in by_key["choices"].rows if row.name == name)
        shown = {one.key: cell_text(row.cells[one.key], one) for one in SWEEP_COLUMNS}
        count = self._options.rounds * self.chosen["queries_a_round"]
        p50, r10 = row.cells["p50"], row.cells["r10"]
        assert p50 is not None
        assert r10 is not None
        noise = f" ± {p50.noise:.0%}" if p50.noise > NOISY else ""
        recall = figure_text(r10.value, recall_interval(r10.value, count))
        lines = [
            (f"{shown['p50']} ms{noise}", f"from a photo's bytes to ten recipes, median, {name}"),
            (f"{shown['agreement']} %", "of those ten are what scoring every item gives"),
            (f"{recall} %", f"of {count} photos find their own recipe among the ten [95 %]"),
        ]
        for other in by_key["others"].rows if "others" in by_key else ():
            # A ratio from a machine that the same page calls noisy says less than it seems to.
            quiet = max(self._movement.values(), default=0.0) <= NOISY
            if quiet and other.name == PUBLISHED and (times := other.cells["times"]):
                lines.append((f"{times.value:.1f} x", "faster re-ranking than the published graph"))
        return tuple(lines)

    def _queries(self) -> tuple[Rounds, Rounds]:
        """Draw photos and recipes of the bag, in rounds."""
        bag, rounds = self.bag, self._options.rounds
        a_round = self._options.queries or (40 if self._large else 20)
        tokenizer = self._model.tokenizer
        photos: list[KnownQuery] = []
        recipes: list[KnownQuery] = []
        for position in np.random.default_rng(SEED).permutation(len(bag)).tolist():
            if len(photos) == rounds * a_round:
                break
            recipe = bag.recipe(position)
            try:
                content = bag.photo_bytes(position)
                tokenizer.query(recipe)
            except InputError:
                continue  # building the indexes tells of it
            photos.append(KnownQuery(content, recipe.id))
            recipes.append(KnownQuery(recipe, recipe.id))
        if len(photos) < rounds:
            raise InputError(f"{bag.name}: has {len(photos)} usable queries, fewer than rounds")
        turns = range(rounds)
        return [photos[i::rounds] for i in turns], [recipes[i::rounds] for i in turns]

    @property
    def _large(self) -> bool:
        """Tell whether the run may take more than five minutes."""
        return self._options.items > SETUPS["1k"]

    def _index(self, kind: IndexKind, of: ItemKind) -> Path:
        where = (self._workspace, self._progress, self._execution)
        return index_of(self._bundle, self.bag, kind, of, *where)

    def _open(self, index: Path, precision: str) -> Engine:
        execution = self._execution.changed(precision=precision).keywords()
        return self._stack.enter_context(Engine.open(index, bundle=self._bundle, **execution))

    def _engine_name(self, precision: str, kind: IndexKind) -> str:
        return kind.name if len(self._options.precisions) == 1 else f"{precision}, {kind.name}"

    def _timed(self, engines: Mapping[str, Engine], rounds: Rounds) -> tuple[Table, Table, Table]:
        """Measure choices, the first engine's stages, and several clients at once."""
        main, advance = next(iter(engines.values())), self._progress.advance
        sweep = Sweep(engines, self._candidates, self._typical, self.threads)
        seconds = self._options.sweep_seconds or (480.0 if self._large else 60.0)
        possible = sweep.affordable_round(rounds, seconds)
        rounds = [part[:possible] for part in rounds]
        self.chosen["queries_a_round"] = len(rounds[0])
        self._progress.stage("recall against latency", sum(map(len, rounds)))
        sweep.run(rounds, self._limits.measure, advance)
        self._watch(sweep.recorder, "recall against latency")
        stages = self._stages(main, rounds, sweep.stages)
        counts = self._options.concurrency
        self._progress.stage("clients at once", len(counts) * len(rounds))
        return sweep.table(), stages, concurrent(main, rounds, counts, self._typical, advance)

    def _stages(self, engine: Engine, rounds: Rounds, recorder: Recorder) -> Table:
        """Hold the stages of an engine's searches against what they cost at least."""
        self._watch(recorder, f"stages of {engine.query_role} queries")
        tokenizer = engine.bundle.tokenizer
        queries = [item.query for item in rounds[0]]
        recipes = [tokenizer.query(query) for query in queries if isinstance(query, Recipe)]
        assert isinstance(engine.index, Index)  # of one machine
        costs = search_costs(engine.index, engine.bundle, self._typical)
        costs["encode"] = encode_cost(self._model, recipes)
        name = "recipe" if recipes else "photo"
        return stage_table(name, recorder, costs, self._limits)

    def _others(self, main: Engine, photos: Rounds) -> Table:
        """Compare with other ways to the same answers."""
        baselines = Baselines(self._model, main, min(MOST_COMPARED, self._typical))
        queries = [item for part in photos for item in part]
        baselines.judge(queries)
        self.chosen["exact_queries"] = len(queries)
        compared = [part[: self._options.compared] for part in photos]
        self._progress.stage("others", sum(map(len, compared)))
        baselines.time(compared, self._progress.advance)
        return baselines.table()

    def _exhaustive(self) -> list[Table]:
        """Score every photo with every recipe, where that was chosen."""
        if not self._options.exhaustive:
            return []
        if not self._model.has_local:
            self.notes.append("--exhaustive: the model has no local part to score pairs by")
            return []
        tokenizer = self._model.tokenizer
        self._progress.stage("every photo with every recipe", 1)
        recipes = (tokenizer(self.bag.recipe(number)) for number in range(len(self.bag)))
        table = exhaustive_table(self._model, [max(1, len(one.ingredients)) for one in recipes])
        self._progress.advance()
        return [table]

    def _machine(self, main: Engine, rounds: Rounds) -> list[Table]:
        """Measure limits and memory; note where the machine was too noisy to tell."""
        served = serving(
            main.index.path, self._bundle, rounds[0][0].query, threads=self.threads,
            device=self._options.device,
        )  # fmt: skip
        self._watch(self._limits.recorder, "the machine's limits")
        noisy = {name: share for name, share in self._movement.items() if share > NOISY}
        if noisy:
            parts = ", ".join(f"{name} by {share:.0%}" for name, share in noisy.items())
            self.notes.append(
                f"noisy machine: medians moved between rounds, at worst in {parts}; "
                "differences within the stated noise tell nothing"
            )
        return [limits_table(self._limits), memory_table(served)]

    def _watch(self, recorder: Recorder, what: str) -> None:
        """Remember how far the machine moved while `what` was measured."""
        self._movement[what] = max(recorder.noise(name) for name in recorder.names())


def _plots(tables: Sequence[Table]) -> dict[str, list[str]]:
    """Draw what stands above each table."""
    plots: dict[str, list[str]] = {}
    for table in tables:
        if table.key == "choices":
            plots[table.key] = [
                choices_plot(table, "r10", "own recipe among the ten (R@10), %"),
                choices_plot(table, "agreement", "agreement with scoring everything, %"),
            ]
        elif table.key.startswith("stages"):
            bars = {row.name: p50.value for row in table.rows if (p50 := row.cells["p50"])}
            plots[table.key] = [bars_plot(bars, "median, ms", table.key, whole=(TOTAL,))]
    return plots
