"""One run of the benchmark: what is open while it measures, and its tables one after the other."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from hficma.benchmarks.bag_ranks import BagRanks, quality_table, rank_bags
from hficma.benchmarks.exact_ranks import Ranks
from hficma.benchmarks.machine import Limits, serving
from hficma.benchmarks.measure import NOISY, Recorder, peak_resident_mb
from hficma.benchmarks.options import BenchOptions
from hficma.benchmarks.others import Others, VectorSearch, others_table
from hficma.benchmarks.report import Column, Figure, Row, Table, cell_text
from hficma.benchmarks.stages import Stages, engine_pool, stage_table
from hficma.benchmarks.subject import SEED, Bag, IndexKind, index_of
from hficma.benchmarks.sweep import (
    SWEEP_COLUMNS,
    Asked,
    choice_name,
    concurrent,
    sweep,
    sweep_table,
)
from hficma.benchmarks.work import joined, photo_work, recipe_work, search_work
from hficma.engine import Bundle, Engine
from hficma.engine.index import Of
from hficma.engine.writing import processors
from hficma.errors import InputError
from hficma.model import Model, load_model
from hficma.training.progress import Progress
from hficma.workspace import Workspace

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
        self.threads = options.threads or processors()
        self._limits = Limits(self.threads, options.device)
        self._pool = stack.enter_context(engine_pool(self.threads))
        self._scorer = Bundle.open(
            bundle, runtime=options.runtime, device=options.device, threads=1
        )
        self._model: Model = load_model(bundle)
        self._candidates = sorted({min(count, len(bags[0])) for count in options.candidates})
        self._typical = min(self._candidates, key=lambda count: abs(count - TYPICAL))
        self.notes: list[str] = []
        self.budget = 0

    def tables(self) -> list[Table]:
        """Measure everything."""
        photos, recipes = self._queries()
        engines = {
            self._engine_name(precision, kind): self._open("recipes", kind, precision)
            for precision in self._options.precisions
            for kind in self._kinds
        }
        main = next(iter(engines.values()))
        images = self._open("images", self._kinds[0], self._options.precisions[0])
        tables = [self._choices(engines, main, photos)]
        tables += self._stages(main, images, photos, recipes)
        self._progress.stage("clients at once")
        tables.append(concurrent(main, photos, self._options.concurrency, self._typical))
        ranks = self._ranks()
        tables.append(quality_table(ranks, self._candidates))
        tables.append(self._others(main, photos, ranks["image_to_recipe"][0]))
        tables.append(self._machine(main, photos))
        return tables

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

        lines = [
            (f"{shown('p50')} ms", f"from a photo's bytes to ten recipes, median, {name}"),
            (f"{shown('agreement')} %", "of those ten are what scoring every item gives"),
            (f"{shown('r10')} %", "of photos find their own recipe among the ten"),
        ]
        others = by_key["others"]
        slower = {row.name: row.cells.get("times") for row in others.rows}
        published = slower.get("eager torch, published graph")
        if published is not None:
            lines.append((f"{published.value:.1f} x", "faster re-ranking than the published graph"))
        return tuple(lines)

    def _queries(self) -> tuple[list[list[Asked]], list[list[Asked]]]:
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
        return [[part[i::rounds] for i in range(rounds)] for part in (photos, recipes)]  # type: ignore[return-value]

    def _index(self, bag: Bag, kind: IndexKind, of: Of) -> Path:
        return index_of(
            self._bundle, bag, kind, of, self._workspace, self._progress,
            device=self._options.device, threads=self.threads, runtime=self._options.runtime,
        )  # fmt: skip

    def _open(self, of: Of, kind: IndexKind, precision: str) -> Engine:
        engine = Engine.open(
            self._index(self._bags[0], kind, of), bundle=self._bundle,
            runtime=self._options.runtime, precision=precision, device=self._options.device,
            threads=self.threads,
        )  # fmt: skip
        return self._stack.enter_context(engine)

    def _engine_name(self, precision: str, kind: IndexKind) -> str:
        return kind.name if len(self._options.precisions) == 1 else f"{precision}, {kind.name}"

    def _choices(
        self, engines: Mapping[str, Engine], main: Engine, photos: Sequence[Sequence[Asked]]
    ) -> Table:
        self._progress.stage("recall against latency", sum(map(len, photos)))
        recorder, outcomes, scored = sweep(
            engines, main, photos, self._candidates,
            on_round=self._limits.measure, on_done=self._progress.advance,
        )  # fmt: skip
        self._warn(recorder, "recall against latency")
        note = (
            "Photo queries, one at a time, from the photo's bytes to ten recipes with their "
            "records. The same answers are timed and judged. The truth is scoring on until all "
            f"ten ranks are proved, which took {scored:,} of {main.index.count:,} items at the "
            "median. best found: the best of the truth is among the ten."
        )
        return sweep_table("choices", "Recall against latency", recorder, outcomes, note)

    def _stages(
        self,
        main: Engine,
        images: Engine,
        photos: Sequence[Sequence[Asked]],
        recipes: Sequence[Sequence[Asked]],
    ) -> list[Table]:
        """Both directions, round by round in turn."""
        self._progress.stage("stages", sum(map(len, photos)))
        both = [
            (Stages(engine, self._scorer, self._pool, self.threads, self._typical), Recorder())
            for engine in (main, images)
        ]
        for (stages, _), asked in zip(both, (photos, recipes), strict=True):
            warm = Recorder()
            warm.new_round()
            stages.measure(asked[0][0].query, warm)
        for photo_round, recipe_round in zip(photos, recipes, strict=True):
            self._limits.measure()
            for _, recorder in both:
                recorder.new_round()
            for pair in zip(photo_round, recipe_round, strict=True):
                for (stages, recorder), asked_one in zip(both, pair, strict=True):
                    stages.measure(asked_one.query, recorder)
                self._progress.advance()
        ids = [
            self._scorer.tokenizer.query(asked.query)
            for part in recipes
            for asked in part[:10]
            if not isinstance(asked.query, bytes)
        ]
        work = (photo_work(self._model), recipe_work(self._model, ids))
        titles = {"stages-photo": "A photo's search", "stages-recipe": "A recipe's search"}
        tables = []
        for (key, title), (stages, recorder), branch in zip(
            titles.items(), both, work, strict=True
        ):
            self._warn(recorder, title)
            search = search_work(stages.engine.index, self._scorer, self._typical)
            title = f"{title}, stage by stage"
            tables.append(stage_table(key, title, recorder, joined(branch, search), self._limits))
        return tables

    def _ranks(self) -> dict[str, list[Ranks]]:
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
        found, self.budget = rank_bags(
            bags, seconds=self._options.seconds_for_ranks, least=max(self._candidates),
            exhaustive=self._options.exhaustive, progress=self._progress,
        )  # fmt: skip
        return found

    def _others(self, main: Engine, photos: Sequence[Sequence[Asked]], ranks: Ranks) -> Table:
        count = min(MOST_COMPARED, self._typical)
        others = Others(main, self._scorer, self._model, self._pool, self.threads, count)
        rounds = [part[: self._options.compared] for part in photos]
        self._progress.stage("others", sum(map(len, rounds)))
        rival = None
        if self._options.adamine_bundle is not None:
            rival = self._rival(self._options.adamine_bundle)
        recorder, differences = others.measure(
            [[asked.query for asked in part if isinstance(asked.query, bytes)] for part in rounds],
            rival, on_done=self._progress.advance,
        )  # fmt: skip
        return others_table(recorder, differences, ranks, count, rival)

    def _rival(self, bundle: Path) -> VectorSearch:
        """AdaMine on the same items."""
        paths = [
            index_of(
                bundle, self._bags[0], IndexKind("Flat", "fp32"), of, self._workspace,
                self._progress, device=self._options.device, threads=self.threads,
                runtime=self._options.runtime,
            )
            for of in ("recipes", "images")
        ]  # fmt: skip
        scorer = Bundle.open(bundle, runtime=self._options.runtime, threads=1)
        ranks = BagRanks(scorer, paths[0], paths[1], self._pool)
        engine = Engine.open(paths[0], bundle=bundle, threads=self.threads)
        found = ranks.ranks(1, exhaustive=False, on_done=lambda count: None)
        return VectorSearch(
            name=f"{scorer.model_config['kind']}, FAISS alone",
            engine=self._stack.enter_context(engine),
            figures=found["image_to_recipe"].by_global(),
        )

    def _machine(self, main: Engine, photos: Sequence[Sequence[Asked]]) -> Table:
        query = photos[0][0].query
        assert isinstance(query, bytes)
        with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
            file.write(query)
            file.flush()
            served = serving(
                main.index.path, self._bundle, Path(file.name), threads=self.threads,
                device=self._options.device,
            )  # fmt: skip
        noise = self._limits.noise
        values = {
            "matrix product, G multiply-adds a second": (
                self._limits.multiply_adds / 1e9, noise["gemm"],
            ),
            "memory copy, GB a second": (self._limits.bandwidth / 1e9, noise["copy"]),
            "serving process, peak resident MB": (served["peak_mb"], 0.0),
            "of it at the end its own, MB": (served["own_mb"], 0.0),
            "of it at the end mapped files, MB": (served["mapped_mb"], 0.0),
            "serving process, seconds to its first answer": (served["first_answer_seconds"], 0.5),
            "this benchmark, peak resident MB": (peak_resident_mb(), 0.0),
        }  # fmt: skip
        if max(noise.values()) > NOISY:
            self.notes.append(
                "noisy machine: its own limits moved by "
                f"{max(noise.values()):.0%} during the run; compare nothing closely"
            )
        return Table(
            key="machine",
            title="The machine, and memory",
            first="what",
            columns=(Column("value", "value", digits=1), Column("noise", "noise %", digits=0)),
            rows=tuple(
                Row(name=name, cells={"value": Figure(value, moved), "noise": Figure(100 * moved)})
                for name, (value, moved) in values.items()
            ),
            note="Measured between the rounds of this run. Mapped files (the index, libraries) "
            "count as resident while they are in use, and the system may drop them.",
        )

    def _warn(self, recorder: Recorder, what: str) -> None:
        worst = max(recorder.noise(name, 50) for name in recorder.names())
        if worst > 2 * NOISY:
            self.notes.append(
                f'noisy machine: in "{what}" some medians moved by {worst:.0%} between rounds; '
                "differences below that tell nothing"
            )
