"""One run of the benchmark: what is open while it measures, and its tables one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from hficma.artifacts.workspace import Workspace
from hficma.engine import Bundle, Engine
from hficma.engine.index.index import Index
from hficma.engine.index.index_facts import ItemKind
from hficma.engine.runtimes.options import ExecutionOptions
from hficma.errors import InputError
from hficma.metrics import figure_text, recall_interval
from hficma.model import Model, load_model
from hficma.progress import Progress
from hficma.recipe import Recipe

from ..common.costs import Work, photo_work, recipe_work, search_work
from ..common.hardware import Limits, limits_table, memory_table, serving
from ..common.report import Table, cell_text
from ..common.timing import NOISY, Recorder, torch_threads
from ..common.workload import SEED, Bag, IndexKind, index_of
from .bag_ranks import BagRanks, BagsRanked, quality_table, rank_bags
from .baselines import PUBLISHED, Others, VectorSearch, others_table
from .options import BenchOptions
from .stages import Stages, engine_pool, measured_in_turn, stage_table
from .sweep import (
    SWEEP_COLUMNS,
    Asked,
    Rounds,
    affordable_round,
    choice_name,
    concurrent,
    sweep,
    sweep_table,
)

MOST_COMPARED = 100
"""Candidates that the others re-rank: the published graph takes its time."""
TYPICAL = 200
"""Candidates of the headline, as `hficma search` takes them."""


class Session:
    """Everything open, and what was learned on the way.

    Args:
        options: of the run.
        bundle: measured.
        kinds: of indexes; the first is taken apart.
        bags: of items; the first is searched.
        workspace: for the cache of indexes.
        progress: told of the work.
        stack: closes what is opened here.
    """

    def __init__(
        self,
        options: BenchOptions,
        bundle: Path,
        kinds: Sequence[IndexKind],
        bags: Sequence[Bag],
        workspace: Workspace,
        progress: Progress,
        stack: ExitStack,
    ) -> None:
        self._options, self._bundle, self._kinds, self._bags = options, bundle, kinds, bags
        self._workspace, self._progress, self._stack = workspace, progress, stack
        self._execution = ExecutionOptions(
            runtime=options.runtime, device=options.device, threads=options.threads
        ).with_thread_count()
        self.threads = self._execution.thread_count
        stack.enter_context(torch_threads(self.threads))
        self._limits = Limits(options.device)
        self._pool = stack.enter_context(engine_pool(self.threads))
        self._scorer = Bundle.open(bundle, self._execution.changed(threads=1))
        self._model: Model = load_model(bundle).to(options.device)
        items = len(bags[0]) if options.index is None else Index.open(options.index).item_count
        self._candidates = sorted({min(count, items) for count in options.candidates})
        self._typical = min(self._candidates, key=lambda count: abs(count - TYPICAL))
        self.notes: list[str] = []
        self.chosen: dict[str, int] = {"typical": self._typical}
        self._moved: dict[str, float] = {}

    def tables(self) -> list[Table]:
        """Measure everything, on indexes of the bags."""
        photos, recipes = self._queries()
        engines = {
            self._engine_name(precision, kind): self._open(
                self._index(self._bags[0], kind, "recipes"), precision
            )
            for precision in self._options.precisions
            for kind in self._kinds
        }
        main = next(iter(engines.values()))
        path = self._index(self._bags[0], self._kinds[0], "images")
        images = self._open(path, self._options.precisions[0])
        tables = self._timed(engines, [(main, photos), (images, recipes)])
        ranks = self._ranks()
        tables.append(quality_table(ranks, self._candidates))
        tables.append(self._others(main, photos, ranks))
        return [*tables, *self._machine(main, photos)]

    def index_tables(self, index: Path) -> list[Table]:
        """Measure one index as it stands; what is known of a bag only is left out."""
        photos, recipes = self._queries()
        engines = {
            self._engine_name(precision, self._kinds[0]): self._open(index, precision)
            for precision in self._options.precisions
        }
        main = next(iter(engines.values()))
        asked = photos if main.query_role == "image" else recipes
        return [*self._timed(engines, [(main, asked)]), *self._machine(main, asked)]

    def headline(self, tables: Sequence[Table]) -> tuple[tuple[str, str], ...]:
        """The few figures that matter most."""
        by_key = {table.key: table for table in tables}
        name = choice_name(
            self._engine_name(self._options.precisions[0], self._kinds[0]), self._typical
        )
        row = next(row for row in by_key["choices"].rows if row.name == name)
        labels = {column.key: column for column in SWEEP_COLUMNS}

        def shown(key: str) -> str:
            return cell_text(row.cells[key], labels[key])

        asked = self._options.rounds * self.chosen["queries_a_round"]
        p50, found = row.cells["p50"], row.cells["r10"]
        assert p50 is not None
        assert found is not None
        moved = f" ± {p50.noise:.0%}" if p50.noise > NOISY else ""
        recall = figure_text(found.value, recall_interval(found.value, asked))
        lines = [
            (f"{shown('p50')} ms{moved}", f"from a photo's bytes to ten recipes, median, {name}"),
            (f"{shown('agreement')} %", "of those ten are what scoring every item gives"),
            (f"{recall} %", f"of {asked} photos find their own recipe among the ten [95 %]"),
        ]
        rows = by_key["others"].rows if "others" in by_key else ()
        for other in rows:
            # A ratio from a machine that the same page calls noisy says less than it seems to.
            quiet = max(self._moved.values(), default=0.0) <= NOISY
            if quiet and other.name == PUBLISHED and (times := other.cells["times"]):
                lines.append((f"{times.value:.1f} x", "faster re-ranking than the published graph"))
        return tuple(lines)

    def _queries(self) -> tuple[Rounds, Rounds]:
        """Photos and recipes of the first bag, in rounds."""
        bag, rounds = self._bags[0], self._options.rounds
        wanted = min(rounds * self._options.a_round, len(bag))
        photos: list[Asked] = []
        recipes: list[Asked] = []
        for place in np.random.default_rng(SEED).permutation(len(bag)):
            if len(photos) == wanted:
                break
            recipe = bag.recipe(int(place))
            try:
                content = bag.photo_bytes(int(place))
                self._scorer.tokenizer.query(recipe)
            except InputError:
                continue  # building the indexes tells of it
            photos.append(Asked(query=content, true_id=recipe.id))
            recipes.append(Asked(query=recipe, true_id=recipe.id))
        if len(photos) < rounds:
            raise InputError(f"{bag.name}: has {len(photos)} usable queries, fewer than rounds")
        return _dealt(photos, rounds), _dealt(recipes, rounds)

    def _index(self, bag: Bag, kind: IndexKind, of: ItemKind) -> Path:
        return index_of(
            self._bundle, bag, kind, of, self._workspace, self._progress, self._execution
        )

    def _open(self, index: Path, precision: str) -> Engine:
        execution = self._execution.changed(precision=precision)
        engine = Engine.open(index, bundle=self._bundle, **execution.keywords())
        return self._stack.enter_context(engine)

    def _engine_name(self, precision: str, kind: IndexKind) -> str:
        return kind.name if len(self._options.precisions) == 1 else f"{precision}, {kind.name}"

    def _timed(
        self, engines: Mapping[str, Engine], encodings: Sequence[tuple[Engine, Rounds]]
    ) -> list[Table]:
        """Choices and clients of the first side's queries, stages of every side's."""
        main, asked = encodings[0]
        possible = affordable_round(
            engines, main, asked, self._candidates, self._options.seconds_for_sweep
        )
        encodings = [(engine, [part[:possible] for part in rounds]) for engine, rounds in encodings]
        asked = encodings[0][1]
        self.chosen["queries_a_round"] = len(asked[0])
        self._progress.stage("recall against latency", sum(map(len, asked)))
        recorder, outcomes, scored = sweep(
            engines, main, asked, self._candidates,
            on_round=self._limits.measure, on_done=self._progress.advance,
        )  # fmt: skip
        self._watch(recorder, "recall against latency")
        tables = [sweep_table(recorder, outcomes, scored, main)]
        self._progress.stage("stages", sum(map(len, asked)))
        stages = [
            Stages(engine, self._scorer, self._pool, self.threads, self._typical)
            for engine, _ in encodings
        ]
        queries = [[[one.query for one in part] for part in rounds] for _, rounds in encodings]
        recorders = measured_in_turn(stages, queries, self._limits, self._progress.advance)
        for (engine, rounds), recorder in zip(encodings, recorders, strict=True):
            self._watch(recorder, f"stages of {engine.query_role} queries")
            work = self._work(engine, rounds)
            tables.append(stage_table(engine.query_role, recorder, work, self._limits))
        clients = self._options.concurrency
        self._progress.stage("clients at once", len(clients) * len(asked))
        tables.append(concurrent(main, asked, clients, self._typical, self._progress.advance))
        return tables

    def _work(self, engine: Engine, rounds: Rounds) -> dict[str, Work]:
        """What the stages of an engine's searches have to do."""
        search = search_work(engine.index, self._scorer, self._typical)
        if engine.query_role == "image":
            return photo_work(self._model) | search
        ids = [
            self._scorer.tokenizer.query(one.query)
            for one in rounds[0]
            if isinstance(one.query, Recipe)
        ]
        return recipe_work(self._model, ids) | search

    def _ranks(self) -> BagsRanked:
        kind = self._kinds[0]
        bags = [
            BagRanks(
                self._scorer,
                self._index(bag, kind, "recipes"),
                self._index(bag, kind, "images"),
                self._pool,
            )
            for bag in self._bags
        ]
        ranked = rank_bags(
            bags, seconds=self._options.seconds_for_ranks, exhaustive=self._options.exhaustive,
            progress=self._progress,
        )  # fmt: skip
        self.chosen |= {"budget": ranked.budget, "exact_queries": ranked.exact_queries}
        return ranked

    def _others(self, main: Engine, photos: Rounds, ranked: BagsRanked) -> Table:
        count = min(MOST_COMPARED, self._typical)
        others = Others(main, self._scorer, self._model, self._pool, count)
        rounds = [part[: self._options.compared] for part in photos]
        self._progress.stage("others", sum(map(len, rounds)))
        rival = None
        if self._options.adamine_bundle is not None:
            rival = self._rival(self._options.adamine_bundle)
        recorder, differences = others.measure(
            [[asked.query for asked in part if isinstance(asked.query, bytes)] for part in rounds],
            rival, on_done=self._progress.advance,
        )  # fmt: skip
        ranks = ranked.covering("image_to_recipe", count)
        return others_table(recorder, differences, ranks, count, rival)

    def _rival(self, bundle: Path) -> VectorSearch:
        """AdaMine on the same items."""
        paths = [
            index_of(
                bundle, self._bags[0], IndexKind("Flat", "fp32"), of, self._workspace,
                self._progress, self._execution,
            )
            for of in ("recipes", "images")
        ]  # fmt: skip
        scorer = Bundle.open(bundle, self._execution.changed(device="cpu", threads=1))
        ranks = BagRanks(scorer, paths[0], paths[1], self._pool)
        engine = Engine.open(paths[0], bundle=bundle, threads=self.threads)
        found = ranks.ranks(1)
        return VectorSearch(
            name=f"{scorer.facts.model.kind}, FAISS alone",
            engine=self._stack.enter_context(engine),
            figures=found["image_to_recipe"].by_global(),
        )

    def _machine(self, main: Engine, asked: Rounds) -> list[Table]:
        """Limits and memory; and a note where the machine was too noisy to tell."""
        served = serving(
            main.index.path, self._bundle, asked[0][0].query, threads=self.threads,
            device=self._options.device,
        )  # fmt: skip
        self._moved["the machine's limits"] = max(self._limits.noise.values())
        moved = {name: share for name, share in self._moved.items() if share > NOISY}
        if moved:
            parts = ", ".join(f"{name} by {share:.0%}" for name, share in moved.items())
            self.notes.append(
                f"noisy machine: medians moved between rounds, at worst in {parts}; "
                "differences within the stated noise tell nothing"
            )
        return [limits_table(self._limits), memory_table(served)]

    def _watch(self, recorder: Recorder, what: str) -> None:
        """Remember how far the machine moved while `what` was measured."""
        self._moved[what] = max(recorder.noise(name, 50) for name in recorder.names())


def _dealt(asked: list[Asked], rounds: int) -> Rounds:
    """Queries in as many rounds."""
    return [asked[number::rounds] for number in range(rounds)]
