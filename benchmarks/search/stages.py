"""Latency of every stage of a search, beside a stopwatch around the whole of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from hficma.engine import Answer, Bundle, Engine
from hficma.engine.encoder import EncodedItems, encode_photos, prepare_queries
from hficma.engine.index.item_encoding import BatchEncodings, Role
from hficma.engine.retrieval.located_items import LocatedItems
from hficma.engine.retrieval.reranking import Reranker
from hficma.engine.retrieval.timing import StageTimer
from hficma.images import decode_photo, preprocess
from hficma.recipe import Recipe
from hficma.text.batching import pad_ids

from ..common.costs import Work, limit_share
from ..common.hardware import Limits
from ..common.report import Column, Figure, Row, Table
from ..common.timing import Recorder

TOTAL = "total"
"""A stopwatch around `Engine.search`, which runs the stages by itself."""


def engine_pool(threads: int) -> ThreadPoolExecutor:
    """Threads as an engine has them: FAISS takes one in each of them."""
    import faiss

    return ThreadPoolExecutor(threads, initializer=lambda: faiss.omp_set_num_threads(1))


class Stages:
    """Runs the stages of a search one by one, through the functions that the engine calls.

    Args:
        engine: whose searches are taken apart.
        scorer: its bundle, opened with one thread.
        pool: as large as the engine's.
        threads: of both.
        candidates: re-ranked.
    """

    def __init__(
        self,
        engine: Engine,
        scorer: Bundle,
        pool: ThreadPoolExecutor,
        threads: int,
        candidates: int,
    ) -> None:
        self.engine, self._pool, self._threads = engine, pool, threads
        self._candidates = candidates
        self._reranker = Reranker(scorer, engine.index.facts.role, pool, scorer.score_weights)
        self._allowed = engine.index.filter_masks(None)

    def measure(self, query: bytes | Recipe, recorder: Recorder) -> None:
        """Time every stage for one query, and then the whole search."""
        if isinstance(query, Recipe):
            encoded = self._recipe(query, recorder)
        else:
            encoded = self._photo(query, recorder)
        with recorder.timed("project"):
            [prepared] = prepare_queries(self.engine.bundle, self.engine.query_role, encoded)
        index = self.engine.index
        with recorder.timed("prefilter"):
            visit = index.first_candidates(
                prepared.vector[None], self._candidates, self._allowed, self._pool
            )[0]
        began = time.perf_counter()
        timer = StageTimer()
        self._reranker.score(prepared, LocatedItems.of_index(index, visit.items), timer)
        whole = time.perf_counter() - began
        # Gathering is summed over threads that run side by side.
        gathering = timer.seconds("gather") / self._threads
        recorder.add("gather", gathering)
        recorder.add("cross branch", whole - gathering)
        began = time.perf_counter()
        answer = search(self.engine, query, self._candidates)
        recorder.add(TOTAL, time.perf_counter() - began)
        recorder.add("records", answer.milliseconds["records"] / 1000)

    def _photo(self, content: bytes, recorder: Recorder) -> EncodedItems:
        with recorder.timed("decode"):
            photo = decode_photo(content, name="query")
        with recorder.timed("preprocess"):
            pixels = preprocess(photo)
        with recorder.timed("image branch"):
            return encode_photos(self.engine.bundle, pixels[None])

    def _recipe(self, recipe: Recipe, recorder: Recorder) -> EncodedItems:
        bundle = self.engine.bundle
        with recorder.timed("tokenise"):
            ids = bundle.tokenizer.query(recipe)
        with recorder.timed("sentence"):
            word_ids, lengths = pad_ids(ids.sentences)
            made = bundle.run("sentence", {"word_ids": word_ids, "lengths": lengths})
        with recorder.timed("recipe branch"):
            ingredients, counts = pad_ids([ids.ingredients])
            inputs = {
                "ingredients": ingredients,
                "ingredient_counts": counts,
                "sentences": made["vectors"][None],
                "sentence_counts": np.array([len(ids.sentences)]),
            }
            outputs = bundle.run("recipe", inputs)
        encodings = (
            BatchEncodings(counts, {"tokens": outputs["tokens"]}) if bundle.has_local else None
        )
        return EncodedItems(outputs["global"], encodings)


def search(
    engine: Engine, query: bytes | Recipe, candidates: int, *, exact: bool = False
) -> Answer:
    """Ask an engine for ten items, whichever way it answers."""
    if isinstance(query, Recipe):
        return engine.search(recipe=query, candidates=candidates, exact=exact)
    return engine.search(image=query, candidates=candidates, exact=exact)


def measured_in_turn(
    encodings: Sequence[Stages],
    queries: Sequence[Sequence[Sequence[bytes | Recipe]]],
    limits: Limits,
    on_done: Callable[[], None],
) -> list[Recorder]:
    """Measure searches of several engines in turn, query by query.

    Args:
        sides: of each engine.
        queries: of each engine, in rounds of equal sizes.
        limits: of the machine, measured once a round.
        on_done: called after each query of all engines.
    """
    recorders = [Recorder() for _ in encodings]
    for stages, rounds in zip(encodings, queries, strict=True):
        warming = Recorder()
        warming.new_round()
        stages.measure(rounds[0][0], warming)
    for together in zip(*queries, strict=True):
        limits.measure()
        for recorder in recorders:
            recorder.new_round()
        for asked in zip(*together, strict=True):
            for stages, recorder, query in zip(encodings, recorders, asked, strict=True):
                stages.measure(query, recorder)
            on_done()
    return recorders


def stage_table(
    query_role: Role, recorder: Recorder, work: Mapping[str, Work], limits: Limits
) -> Table:
    """What `Stages.measure` recorded, held against the machine's limits."""
    rows = []
    for name in recorder.names():
        seconds = recorder.percentile(name, 50)
        stage = work.get(name, Work())
        share = limit_share(
            stage, seconds, multiply_adds=limits.multiply_adds, bandwidth=limits.bandwidth
        )
        rows.append(
            Row(
                name=name,
                cells={
                    **percentiles(recorder, name),
                    "rate": Figure(1 / seconds, noise=recorder.noise(name, 50)),
                    "work": _known(stage.multiply_adds, 1e-6),
                    "bytes": _known(stage.bytes, 1e-6),
                    "limit": Figure(100 * share) if share else None,
                },
            )
        )
    rows.sort(key=lambda row: row.name == TOTAL)
    columns = (
        *PERCENTILES,
        Column("rate", "a second", digits=0),
        Column("work", "M mult-adds", digits=2),
        Column("bytes", "MB read", digits=2),
        Column("limit", "% of machine", digits=0),
    )
    note = (
        "One query at a time. The total is a stopwatch around a search of its own, right after its "
        "stages were timed one by one. % of machine: the time that the "
        "stage's multiply-adds take at the matrix-product rate, or its bytes at the memory "
        "bandwidth, over the time it took."
    )
    name = {"image": "photo", "recipe": "recipe"}[query_role]
    return Table(
        key=f"stages-{name}",
        title=f"A {name}'s search, stage by stage",
        first="stage",
        columns=columns,
        rows=tuple(rows),
        note=note,
    )


PERCENTILES = (
    Column("p50", "p50 ms", better="lower", digits=2),
    Column("p90", "p90 ms", better="lower", digits=2),
    Column("p99", "p99 ms", better="lower", digits=2),
)


def percentiles(recorder: Recorder, name: str) -> dict[str, Figure | None]:
    """The cells of `PERCENTILES`."""
    return {
        f"p{share}": Figure(
            1e3 * recorder.percentile(name, share), noise=recorder.noise(name, share)
        )
        for share in (50, 90, 99)
    }


def _known(amount: float | None, scale: float) -> Figure | None:
    return None if amount is None else Figure(amount * scale)
