"""`build_index_on_ray`: a dataset to an index over a cluster, by Ray Data.

    dataset in blocks ──▶ a pool of actors, each with a bundle ──▶ shards in a shared folder
                                                                        │
    this process: the lock, the plan ─────────── all are there ─────────┴──▶ one manifest

A block becomes a shard, whose name and items' numbers follow from its place in the data alone. So
it does not matter who writes it or how often: what a machine that died left unfinished is written
by another, under a name of its own until it is whole, and a shard that stands is not written again.
Only this process, which holds the lock of the index's place, writes a manifest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Unpack

import numpy as np

from hficma.artifacts.manifest import check_free
from hficma.data.dataset import Dataset
from hficma.data.stream import STDIN
from hficma.errors import ArtifactError, InputError

from ..bundle.bundle import Bundle
from ..index.index_facts import SHARDS
from ..index.shard import Shard
from ..index.shard_facts import ShardFacts
from ..runtimes.options import ExecutionKeywords, ExecutionOptions
from ..writing.build import RESUME_HINT, IndexOptions, complete_build, unfinished_build
from ..writing.chunks import ItemSource
from ..writing.encoding_pipeline import BadItemCallback, ProgressCallback
from ..writing.ingest import warn_of_photos_outside, with_shards
from ..writing.photo_settings import with_photo_root
from ..writing.transaction import shard_name
from .duplicates import SharedIds, hash_ids, shared_hashes
from .options import ClusterOptions
from .server_group import actor_count, actor_execution, actor_machines
from .session import connected
from .shard_builder import (
    Blocks,
    BuildTask,
    IdReader,
    Row,
    ShardBuilder,
    open_blocks_data,
    raise_error,
    readable_ids,
)

ACTOR_STARTS = 20
"""Actors in a row that may die while they start. Ray Data takes the first such death for a fault of
the actor's class; ours reads nothing before its first row, so that it is a machine's."""
ITEMS_READ_HERE = 500_000
"""Items up to which this process reads all ids itself: a pool of actors takes as long to start."""


def build_index_on_ray(
    bundle: Path,
    data: str,
    out: Path,
    cluster: ClusterOptions,
    options: IndexOptions = IndexOptions(),
    *,
    partitions: Sequence[str] = (),
    restart: bool = False,
    strict: bool = False,
    on_bad: BadItemCallback = lambda message: None,
    progress: ProgressCallback = lambda done, total: None,
    **execution: Unpack[ExecutionKeywords],
) -> Path:
    """Encode a dataset into a new index over a cluster: the one that `build_index` makes.

    The data, the bundle and the folder of `out` lie at the same path on every machine. What is
    finished stands in a hidden folder beside `out`: the same call, or `build_index`, goes on from
    there after whatever ended this one.

    Args:
        bundle: encodes the items.
        data: what to index, as `open_dataset` takes it; every actor opens it. A dataset that was
            imported is mapped; a JSONL file is read whole by each.
        out: the index's folder; must not exist.
        cluster: where Ray runs, and how many actors encode.
        options: of the index; the items of a shard are also what an actor takes at a time.
        partitions: only items of these; empty for all.
        restart: throw away what an unfinished build of other inputs left.
        strict: raise on an item that cannot be read.
        on_bad: called with one line about each item that is left out, a shard after the other.
        progress: called with items done so far and items in all.
        **execution: `runtime`, `precision`, `threads` as in `ExecutionOptions`, of each actor.

    Returns:
        `out`.

    Raises:
        InputError: an option that cannot be; nothing usable in the data; a bad item if `strict`.
        ArtifactError: `out` exists or cannot be written, another process builds it, or the cluster
            lost so many machines that Ray gave up.
        MissingDependencyError: Ray is not installed.
    """
    check_free(out)
    if data == STDIN:
        raise InputError(
            "a stream is read once, by one process; write it to a file for a cluster to read"
        )
    out = out.absolute()
    open_bundle = Bundle.open(bundle, ExecutionOptions(**execution).changed(device="cpu"))
    dataset = open_blocks_data(data, partitions, strict=strict, on_bad=on_bad)
    source = ItemSource(dataset, max(1, options.shard_items))
    blocks = Blocks(
        data=str(Path(data).absolute()) if Path(data).exists() else data,
        partitions=tuple(partitions), items=len(dataset), block_items=options.shard_items,
    )  # fmt: skip
    with unfinished_build(open_bundle, source, out, options, restart=restart) as (build, facts):
        facts, photos = with_photo_root(facts, build.folder, dataset)
        with connected(cluster) as ray:
            count = actor_count(len(actor_machines(ray, cluster)), cluster)
            task = BuildTask(
                blocks=blocks, out=out, facts=facts, photos=photos, bundle=bundle.absolute(),
                execution=actor_execution(ray, cluster, count, execution), strict=strict,
            )  # fmt: skip
            pool = _Pool(out, actors=count, gpus=cluster.gpus)
            outside = _write_all(pool, task, build.folder, dataset, on_bad, progress)
        warn_of_photos_outside(photos, outside)
        names = [shard_name(number) for number in range(len(_chunks(blocks)))]
        facts = with_shards(facts, build.folder, names, blocks.items)
        complete_build(build, facts)
    return out


def _chunks(blocks: Blocks) -> range:
    """Return the numbers of the blocks."""
    return range(-(-blocks.items // blocks.block_items))


def _write_all(
    pool: _Pool,
    task: BuildTask,
    folder: Path,
    dataset: Dataset,
    on_bad: BadItemCallback,
    progress: ProgressCallback,
) -> int:
    """Write every shard; return how many items have a photo outside of its folder."""
    blocks = task.blocks
    shared = _shared_ids(pool, blocks, dataset)
    todo: Mapping[int, bool] = dict.fromkeys(_chunks(blocks), False)
    outside = dict.fromkeys(todo, 0)
    uncertain: dict[int, list[str]] = {}
    done = 0
    while todo:
        rows = [
            {"chunk": chunk, "before": sorted(shared.before[chunk]), "again": again}
            for chunk, again in todo.items()
        ]
        for row in pool.map(ShardBuilder, task, rows):
            raise_error(row)
            number = int(row["chunk"])
            outside[number] = int(row["outside"])
            notes = [str(note) for note in row["notes"]]
            if row["again"] or shared.before[number]:
                # What was left out here may have to be taken in yet.
                uncertain[number] = notes
            else:
                for note in notes:
                    on_bad(note)
            done = min(done + len(blocks.chunk(dataset, number).positions), blocks.items)
            progress(done, blocks.items)
        todo = dict.fromkeys(sorted(shared.wrong_chunks(_holder(folder))), True)
    for number in sorted(uncertain):
        for note in uncertain[number]:
            on_bad(note)
    return sum(outside.values())


def _shared_ids(pool: _Pool, blocks: Blocks, dataset: Dataset) -> SharedIds:
    """Return the ids that stand in several blocks."""
    chunks = _chunks(blocks)
    if len(chunks) < 2:
        return SharedIds([() for _ in chunks])
    by_chunk = [np.empty(0, np.uint64) for _ in chunks]
    if blocks.items <= ITEMS_READ_HERE:
        by_chunk = [hash_ids(readable_ids(blocks.chunk(dataset, number))) for number in chunks]
    else:
        for row in pool.map(IdReader, blocks, [{"chunk": chunk} for chunk in chunks]):
            raise_error(row)
            by_chunk[int(row["chunk"])] = np.asarray(row["hashes"], dtype=np.uint64)
    shared = shared_hashes(by_chunk)
    ids: list[set[str]] = []
    for number, hashes in zip(chunks, by_chunk, strict=True):
        here: set[str] = set()
        if np.isin(hashes, shared).any():
            candidates = list(readable_ids(blocks.chunk(dataset, number)))
            is_shared = np.isin(hash_ids(candidates), shared)
            here = {id_ for id_, one in zip(candidates, is_shared, strict=True) if one}
        ids.append(here)
    return SharedIds(ids)


def _holder(folder: Path) -> Callable[[int, str], bool]:
    """Return what tells whether the shard of a block holds an id."""

    def holds(chunk: int, id_: str) -> bool:
        shard = folder / SHARDS / shard_name(chunk)
        if not ShardFacts.read(shard).count:
            return False
        with Shard(shard) as one:
            return bool(one.records.with_ids([id_]))

    return holds


class _Pool:
    """A pool of actors that Ray Data, connected, gives rows to.

    Args:
        out: the index's folder, for errors.
        actors: how many.
        gpus: of each.
    """

    def __init__(self, out: Path, *, actors: int, gpus: float) -> None:
        self._out, self._actors, self._gpus = out, actors, gpus

    def map(self, kind: type, argument: object, rows: Sequence[Row]) -> Iterator[Row]:
        """Yield each row as an object of a class returns it, in any order.

        Args:
            kind: of the actors; called with a row.
            argument: what an actor is made with.
            rows: a block of Ray Data each, so that a free actor takes the next.

        Raises:
            ArtifactError: Ray gives up, after machines were lost.
        """
        import ray.data

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.max_consecutive_actor_init_deaths = ACTOR_STARTS
        # Told by the rows, or raised; on a terminal these lines stand amid our own.
        for name in ("ray.data", "ray"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        size = min(self._actors, len(rows))
        dataset = ray.data.from_items(list(rows), override_num_blocks=len(rows))
        results = dataset.map(
            kind,
            fn_constructor_args=(argument,),
            compute=ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=1),
            # One processor of the scheduler's, however many threads: where a machine dies, its
            # actor starts again wherever there is room. GPUs are counted alone: a machine may have
            # more shares of them than processors.
            num_cpus=0 if self._gpus else 1,
            num_gpus=self._gpus or None,
        )
        try:
            yield from results.iter_rows()
        except ray.exceptions.RayError as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1][:200]
            raise ArtifactError(
                f"{self._out}: Ray gave the build up ({reason}); {RESUME_HINT}"
            ) from error
