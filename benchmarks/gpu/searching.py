"""What a search takes on a device, by stage, batch, prefilter and precision; and indexing."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch

from hficma.engine import Answer, Engine, build_index
from hficma.engine.gpu.copying import copy_to_device
from hficma.engine.gpu.faiss_prefilter import FaissPrefilter, faiss_gpu
from hficma.engine.gpu.prefilter import GpuPrefilter
from hficma.engine.index.candidates import ShardCandidates
from hficma.engine.index.index import Index
from hficma.engine.index.index_facts import ItemKind
from hficma.engine.index.item_encoding import EncodingPrecision, Level
from hficma.types import Floats

from ..common.report import Column, Table
from ..common.timing import Recorder
from ..search.stages import PERCENTILES, percentiles, record_stages
from .measuring import Cases, Cells, Clock, DeviceTimer, median
from .subject import PREFILTERS, STORED, PhotoDataset, Subject

BATCHES = (32, 128)
"""Photos of `search_many` that are worked on together."""
SEARCH_SECONDS = 3.0
"""Seconds that searches of one kind go on at most."""
QUERIES = 32
"""Of a batch whose prefilter is timed, and whose candidates are compared."""
AGREEMENT_QUERIES = 16
"""Photos whose answers are compared with those of exhaustive scoring."""
STREAMED_SHARE = 4
"""An index larger than its memory: one in so many of its encodings fit."""
FIRST_ITEMS = 128
"""Items that are indexed to see how many more there is time for."""
SEARCH_COLUMNS = (*PERCENTILES, Column("rate", "photos a second", better="higher", digits=0))


def search_tables(subject: Subject, clock: Clock) -> Table:
    """Measure searches of one photo by stage, and of batches.

    Args:
        subject: its index is searched.
        clock: of the run.
    """
    cases = Cases(
        clock, "search", f"Searches of {subject.recipes:,} recipes, JPEG bytes in, records out",
        "what", SEARCH_COLUMNS,
        "One photo at a time: the stages as the engine times them, the middle of many photos. "
        "Batches: `search_many`, 200 candidates or as many as there are.",
    )  # fmt: skip
    opened: list[Engine] = []

    def opening() -> Cells:
        began = time.perf_counter()
        opened.append(subject.open_engine(subject.index))
        return {"p50": 1e3 * (time.perf_counter() - began)}

    if cases.measure("opening the index", opening) is None:
        return cases.table()
    with opened[0] as engine:
        for candidates in subject.sizes.candidates:
            recorder = Recorder()
            recorder.new_round()

            def photos(candidates: int = candidates, recorder: Recorder = recorder) -> Cells:
                _search_for(subject, engine, candidates, recorder, clock.left() / 6)
                total = recorder.median("total")
                return {**percentiles(recorder, "total"), "rate": 1 / total}

            if cases.measure(f"one photo, {candidates} candidates", photos) is None:
                continue
            for stage in recorder.names():
                if stage != "total":
                    cases.measure(
                        f"one photo, {candidates} candidates: {stage}",
                        partial(percentiles, recorder, stage),
                    )
        for batch in BATCHES:
            cases.measure(
                f"batches of {batch}, {subject.sizes.candidates[0]} candidates",
                partial(_search_many, subject, engine, batch, clock.left() / 2),
            )
    return cases.table()


def streamed_table(subject: Subject, clock: Clock) -> Table:
    """Measure searches of an index that does not fit the memory it may take.

    Args:
        subject: its index is searched.
        clock: of the run.
    """
    cases = Cases(
        clock, "streamed", "An index larger than the memory that it may take", "what",
        SEARCH_COLUMNS,
        f"Its vectors and one in {STREAMED_SHARE} of its encodings fit; the rest comes from the "
        "host as it is scored.",
    )  # fmt: skip

    def share(part: float) -> Callable[[], Cells]:
        def case() -> Cells:
            index = Index.open(subject.index)
            vectors = sum(shard.vectors.nbytes for shard in index.shards)
            stored = [shard.encodings for shard in index.shards if shard.encodings is not None]
            encodings = sum(array.nbytes for one in stored for array in one.arrays.values())
            index.close()
            recorder = Recorder()
            recorder.new_round()
            memory = int(vectors + part * encodings)
            with subject.open_engine(subject.index, memory) as engine:
                candidates = subject.sizes.candidates[0]
                _search_for(subject, engine, candidates, recorder, clock.left() / 6)
                many = _search_many(subject, engine, BATCHES[0], clock.left() / 4)
            return {**percentiles(recorder, "total"), "rate": many["rate"]}

        return case

    cases.measure("all encodings on the device", share(2.0))
    cases.measure(f"one in {STREAMED_SHARE} of them", share(1 / STREAMED_SHARE))
    cases.measure("none of them", share(0.0))
    return cases.table()


def prefilter_table(subject: Subject, clock: Clock) -> Table:
    """Measure every prefilter: on the host, by torch and by FAISS on the device.

    Args:
        subject: indexes of its model are searched.
        clock: of the run.
    """
    count = subject.sizes.prefilter_recipes
    cases = Cases(
        clock, "prefilters", f"The first stage over {count:,} vectors", "prefilter",
        (
            Column("one", "ms, 1 query", better="lower", digits=3),
            Column("many", f"ms, {QUERIES} queries", better="lower", digits=3),
            Column("recall", "recall %", better="higher"),
        ),
        "Candidates as `hficma search` takes them. Recall: of those, the share that an exact scan "
        "on the host gives. On the device torch scans the exact vectors of an index of any kind.",
    )  # fmt: skip
    kept = min(200, count // 2)
    truth: list[set[int]] = []
    library = faiss_gpu(subject.device)
    with ThreadPoolExecutor(4) as pool:

        def host(kind: str) -> Cells:
            index = Index.open(subject.prefilter_index(kind))
            queries = _queries(index)
            masks = index.filter_masks(None)

            def search(asked: Floats) -> list[set[int]]:
                batches = index.first_candidates(asked, kept, masks, pool)
                return [set(batch.items.tolist()) for batch in batches]

            if not truth:
                truth.extend(search(queries))
            return _prefilter_cells(search, queries, truth, clock)

        # The exact one first, which all others are held to.
        cases.measure(f"{PREFILTERS[0]}, on the host", partial(host, PREFILTERS[0]))
        for name, kind, chosen in (
            ("torch, exact scan on the device", "Flat", "torch"),
            ("FAISS on the device, brute force", "Flat", "faiss"),
            ("FAISS on the device, IVF,SQ8", "IVF,SQ8", "faiss"),
        ):
            if chosen == "faiss" and library is None:
                cases.skip(name, "FAISS sees no such device here")
                continue

            def on_device(kind: str = kind, chosen: str = chosen) -> Cells:
                index = Index.open(subject.prefilter_index(kind))
                [shard] = index.shards
                vectors = copy_to_device(shard.vectors, subject.device)
                prefilter: GpuPrefilter
                if chosen == "faiss" and library is not None:
                    prefilter = FaissPrefilter(shard, vectors, library)
                else:
                    prefilter = GpuPrefilter(shard, vectors)

                def search(asked: Floats) -> list[set[int]]:
                    return [_set(one) for one in prefilter.search(asked, kept, None)]

                return _prefilter_cells(search, _queries(index), truth, clock)

            cases.measure(name, on_device)
        for kind in PREFILTERS[1:]:
            cases.measure(f"{kind}, on the host", partial(host, kind))
    return cases.table()


def precision_table(subject: Subject, clock: Clock) -> Table:
    """Measure what each level and precision of stored encodings answers, and how fast.

    Args:
        subject: indexes of its model are searched.
        clock: of the run.
    """
    count = subject.sizes.precision_recipes
    cases = Cases(
        clock, "precisions", f"What {count:,} recipes are stored in", "encodings",
        (
            Column("agreement", "top-10 agreement %", better="higher"),
            Column("first", "same first %", better="higher"),
            Column("p50", "p50 ms", better="lower", digits=2),
            Column("certified", "certified %", better="higher"),
        ),
        "Agreement: of ten answers, those that scoring every item of float32 tokens gives. The "
        "weights are random, so scores lie closer together than trained ones.",
    )  # fmt: skip
    truth: list[list[str]] = []
    photos = list(islice(cycle(subject.photos), AGREEMENT_QUERIES))

    def answers(level: Level, precision: EncodingPrecision, *, exact: bool) -> list[Answer]:
        index = subject.index_of(count, level=level, precision=precision)
        with subject.open_engine(index) as engine:
            engine.search(image=photos[0])
            candidates = count if exact else subject.sizes.candidates[0]
            return [engine.search(image=one, candidates=candidates, exact=exact) for one in photos]

    for level, precision in STORED:

        def case(level: Level = level, precision: EncodingPrecision = precision) -> Cells:
            if not truth:
                exact = answers("tokens", "fp32", exact=True)
                truth.extend([[hit.id for hit in one.hits] for one in exact])
            given = answers(level, precision, exact=False)
            ids = [[hit.id for hit in one.hits] for one in given]
            times = [one.milliseconds["total"] / 1e3 for one in given]
            pairs = list(zip(ids, truth, strict=True))
            return {
                "agreement": 100 * float(np.mean([len({*a} & {*b}) / len(b) for a, b in pairs])),
                "first": 100 * float(np.mean([a[0] == b[0] for a, b in pairs])),
                "p50": median(times, 1e3),
                "certified": 100 * float(np.mean([a.certified / len(a.hits) for a in given])),
            }

        cases.measure(f"{level}, {precision}", case)
    return cases.table()


def indexing_table(subject: Subject, clock: Clock) -> Table:
    """Measure `hficma index` of photos and of recipes.

    Args:
        subject: its bundle encodes them.
        clock: of the run.
    """
    cases = Cases(
        clock, "indexing", "Items indexed a second", "items",
        (
            Column("rate", "a second", better="higher", digits=0),
            Column("items", "items", digits=0),
        ),
        "JPEG files of 640 x 480 in, tokens in fp16 on the disk; recipes of nine ingredients and "
        "three instructions. Opening the bundle is taken off.",
    )  # fmt: skip
    for of in ("images", "recipes"):

        def case(of: ItemKind = of) -> Cells:
            few, most = (FIRST_ITEMS, 50) if subject.device.type == "cuda" else (8, 4)
            first = _index(subject, of, few)
            again = _index(subject, of, few)
            # What a run costs besides its items is in both, and so taken off.
            rate = few / max(again, 1e-3)
            count = int(min(most * few, max(4 * few, rate * clock.left() / 3)))
            seconds = _index(subject, of, count) - min(first, again)
            return {"rate": (count - few) / max(seconds, 1e-3), "items": float(count)}

        cases.measure(of if of == "recipes" else "photos", case)
    return cases.table()


def _index(subject: Subject, of: ItemKind, count: int) -> float:
    """Return the seconds in which so many items are indexed."""
    dataset = PhotoDataset(subject.photos, count)
    out = Path(subject.folder / f"indexed-{of}-{count}-{time.monotonic_ns()}")
    began = time.perf_counter()
    build_index(
        subject.bundle, dataset, out, of=of, keep="tokens", side_precision="fp16",
        device=str(subject.device), runtime="auto" if subject.device.type == "cuda" else "torch",
    )  # fmt: skip
    return time.perf_counter() - began


def _search_for(
    subject: Subject, engine: Engine, candidates: int, recorder: Recorder, seconds: float
) -> None:
    """Search for one photo after the other until the time is up, and record the stages."""
    photos = cycle(subject.photos)
    for photo in islice(photos, 4):  # warms up, and records CUDA graphs
        engine.search(image=photo, candidates=candidates)
    end = time.monotonic() + min(max(seconds, 0.2), SEARCH_SECONDS)
    for number, photo in enumerate(photos):
        record_stages(recorder, engine.search(image=photo, candidates=candidates), 1)
        if number >= 4 and time.monotonic() > end:
            return


def _search_many(subject: Subject, engine: Engine, batch: int, seconds: float) -> Cells:
    """Search for photos in batches until the time is up: the rate, from start to end."""
    candidates = subject.sizes.candidates[0]
    warm = list(islice(cycle(subject.photos), 3 * batch if subject.device.type == "cuda" else 2))
    for _ in engine.search_many(warm, candidates=candidates, batch=batch):
        pass
    end = time.monotonic() + min(max(seconds, 0.3), SEARCH_SECONDS)
    began, count = time.perf_counter(), 0

    def photos() -> object:
        for number, photo in enumerate(cycle(subject.photos)):
            if number >= 2 * batch and time.monotonic() > end:
                return
            yield photo

    if subject.device.type == "cuda":
        asked = photos()
    else:
        asked = iter(subject.photos)
    for _ in engine.search_many(asked, candidates=candidates, batch=batch):  # type: ignore[arg-type]
        count += 1
    return {"rate": count / (time.perf_counter() - began)}


def _prefilter_cells(
    search: Callable[[Floats], list[set[int]]],
    queries: Floats,
    truth: list[set[int]],
    clock: Clock,
) -> Cells:
    """Time a prefilter on one query and on all, and compare what it finds."""
    timer = DeviceTimer(torch.device("cpu"))  # its answers come to the host: that is the end
    found = search(queries)
    limit = min(0.5, clock.left() / 16)
    return {
        "one": median(timer.seconds(lambda: search(queries[:1]), limit), 1e3),
        "many": median(timer.seconds(lambda: search(queries), limit), 1e3),
        "recall": 100
        * float(np.mean([len(a & b) / len(b) for a, b in zip(found, truth, strict=True)])),
    }


def _queries(index: Index) -> Floats:
    """Return queries near some of an index's vectors."""
    rng = np.random.default_rng(5)
    vectors = np.asarray(index.shards[0].vectors[:QUERIES])
    noise = rng.standard_normal(vectors.shape, dtype=np.float32)
    near: Floats = vectors + noise / np.float32(np.sqrt(vectors.shape[1]))
    return near


def _set(candidates: ShardCandidates) -> set[int]:
    return set(candidates.positions.tolist())
