"""`hficma bench scale`: what a million recipes take of one machine: disk, memory, time.

The index is synthetic (`synthetic_index`), made for the run in minutes and removed after it: time
and bytes depend on widths, lengths and counts alone. Photos are searched from what the image branch
would give, so times are those from an encoded query on.

A search reads few bytes of many: the whole prefilter, and some hundred items that lie anywhere. So
it matters where the pages are, and each place has a row of its own:

    from disk      the index was dropped from the page cache; a photo's candidates are read first
    in memory      the files are in the page cache, and the process touches them the first time
    asked again    the process has read and compared the very items before
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from hficma.artifacts.unfinished import remove_tree
from hficma.artifacts.workspace import Workspace
from hficma.data.sample import SampleDataset
from hficma.engine.encoder import EncodedQuery
from hficma.engine.index.index import Index
from hficma.engine.index.index_facts import IndexFacts
from hficma.engine.index.item_encoding import ENCODING_PRECISIONS, bytes_per_token
from hficma.engine.results import Answer
from hficma.engine.runtimes.options import processors
from hficma.errors import InputError

from ..common.arguments import JsonFile, Threads
from ..common.hardware import serving
from ..common.synthetic_index import REAL_LENGTHS, random_bundle, synthetic_index
from ..common.timing import Recorder, environment
from ..common.workload import SMALLEST_SAMPLE
from ..pages.parts import publish
from .encoded_searches import RANKS, EncodedSearches

RECORDS = 500
"""Different recipes of the synthetic sample whose records the index repeats."""
RECORD_BYTES = 2_000
"""Of a recipe's record with the words of its ingredients, about; for the check of the disk."""
STAGES = ("prefilter", "rerank", "records")
PARTS = {
    "tokens": ("tokens", "tokens.scale"),
    "global vectors": ("global",),
    "prefilter": ("prefilter.faiss",),
    "records": ("records.sqlite",),
}
"""What takes the disk, and in which files of each shard; the rest is counted together."""


def main(
    recipes: Annotated[int, typer.Option(min=1, help="Recipes of the index.")] = 1_000_000,
    width: Annotated[int, typer.Option(min=8, help="D.")] = 1024,
    global_dim: Annotated[int, typer.Option(min=8, help="Of the global vectors.")] = 256,
    precision: Annotated[str, typer.Option(help="Of the stored tokens.")] = "int4",
    prefilter: Annotated[str, typer.Option(help="First stage.")] = "SQ8",
    candidates: Annotated[int, typer.Option(min=1, help="Recipes re-ranked.")] = 200,
    queries: Annotated[int, typer.Option(min=2, help="Photos in each row.")] = 50,
    threads: Threads = 0,
    folder: Annotated[
        Path | None,
        typer.Option(help="Where the index is made.", show_default="the workspace's cache"),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the index for another run.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Bytes, opening, memory and searches of a large synthetic index, from encoded photos.

    Example: hficma bench scale --recipes 1000000
    """
    known = {name: name for name in ENCODING_PRECISIONS}
    if precision not in known:
        raise InputError(f"precision {precision}: there is none; take {', '.join(known)}")
    stored = known[precision]
    workspace = Workspace.default()
    threads = threads or processors()
    folder = folder or workspace.cache / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    bundle = random_bundle(workspace, width, global_dim)
    name = f"scale-{recipes}-{precision}-{prefilter.replace(',', '-')}-{bundle.name}"
    path = folder / name
    if not path.exists():
        token = bytes_per_token("tokens", stored, width, 1)
        item = float(np.mean(REAL_LENGTHS)) * token + 8 * global_dim + RECORD_BYTES
        _check_disk(folder, recipes * item)
    sample = SampleDataset(max(RECORDS, SMALLEST_SAMPLE), seed=1)
    try:
        synthetic_index(
            bundle, path, recipes, level="tokens", precision=stored, prefilter=prefilter,
            records=[sample.recipe(place) for place in range(RECORDS)],
        )  # fmt: skip
        record = measure(path, bundle, candidates=candidates, queries=queries, threads=threads)
    finally:
        if not keep:
            remove_tree(path.with_name(f".{name}.building"))
            remove_tree(path)
    record |= {"width": width, "global_dim": global_dim, "prefilter": prefilter}
    publish("scale", record, json_file, [row["spread"] for row in record["searches"]])


def measure(
    index: Path, bundle: Path, *, candidates: int, queries: int, threads: int
) -> dict[str, Any]:
    """Return the figures of an index as `storage_tables.scale` tells of them.

    Args:
        index: of `synthetic_index`.
        bundle: whose model it is of.
        candidates: K, items re-ranked.
        queries: photos of each row.
        threads: of the engine.
    """
    facts = IndexFacts.read(index)
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "photo.png"
        SampleDataset(SMALLEST_SAMPLE, seed=1).photo(0).save(photo)
        opening = _openings(index, bundle, photo, threads)
    return {
        "environment": environment(threads=threads),
        "recipes": facts.next_number,
        "precision": facts.encoding_precision,
        "candidates": candidates,
        "queries": queries,
        "bytes": _bytes_by_part(index),
        "opening": opening,
        **_searches(index, bundle, candidates, queries, threads),
    }


def _check_disk(folder: Path, size: float) -> None:
    """Refuse an index for which the disk has no room.

    Raises:
        InputError: it has not.
    """
    free = shutil.disk_usage(folder).free
    if size > free:
        raise InputError(
            f"{folder}: the index takes about {size / 1e9:.0f} GB, and {free / 1e9:.0f} GB of its "
            "disk are free; name a folder on another disk, or fewer recipes"
        )


def _bytes_by_part(index: Path) -> dict[str, int]:
    """Return the bytes of an index by what they hold, and of everything else as `rest`."""
    parts = dict.fromkeys((*PARTS, "rest"), 0)
    part_of = {file: part for part, files in PARTS.items() for file in files}
    for file in index.rglob("*"):
        if file.is_file():
            parts[part_of.get(file.name, "rest")] += file.stat().st_size
    return parts


def _openings(index: Path, bundle: Path, photo: Path, threads: int) -> list[dict[str, Any]]:
    """Measure processes that only serve: one that finds nothing in the page cache, then another."""
    rows = []
    if _drop_pages(index, bundle):
        served = serving(index, bundle, photo, threads=threads, device="cpu")
        rows.append({"pages": "from disk", **served})
    served = serving(index, bundle, photo, threads=threads, device="cpu")
    return [*rows, {"pages": "in memory", **served}]


def _searches(
    path: Path, bundle: Path, candidates: int, queries: int, threads: int
) -> dict[str, Any]:
    """Search with photos that are encoded beforehand, wherever the index's pages are.

    Returns:
        `searches`: a row for each place of the pages; `recall`: how many of an exact scan's
        candidates the prefilter gives, in percent; `certified`: of the first ten ranks, in percent.
    """
    rows: list[dict[str, Any]] = []
    is_on_disk = _drop_pages(path)
    with EncodedSearches(path, bundle, candidates=candidates, threads=threads) as searches:
        photos = searches.warmed_up(2 * queries)
        some, others = photos[:queries], photos[queries:]
        if is_on_disk:
            rows.append(_row("from disk", some, searches)[0])
        _read_pages(path)
        row, answers = _row("in memory", others, searches)
        rows += [row, _row("asked again", others, searches)[0]]
        vectors = np.stack([query.vector for query in others])
        recall = _prefilter_recall(searches.index, vectors, candidates, searches.pool)
    return {
        "searches": rows,
        "recall": 100 * recall,
        "certified": 100 * float(np.mean([answer.certified for answer in answers])) / RANKS,
    }


def _row(
    pages: str, queries: Sequence[EncodedQuery], searches: EncodedSearches
) -> tuple[dict[str, Any], list[Answer]]:
    """Search once for each query; return medians of the whole and of each stage, and answers."""
    recorder = Recorder()
    recorder.new_round()
    answers = []
    for query in queries:
        began = time.process_time()
        answers.append(searches.search(query))
        # Of all threads: beside other work a search waits longer, and computes hardly longer.
        recorder.add("processor", time.process_time() - began)
        for stage in (*STAGES, "total"):
            recorder.add(stage, answers[-1].milliseconds[stage] / 1000)
    row: dict[str, Any] = {"pages": pages}
    for stage in (*STAGES, "total", "processor"):
        row[f"{stage}_ms"] = 1000 * recorder.median(stage)
    row["p99_ms"] = 1000 * recorder.percentile("total", 99)
    row["spread"] = recorder.spread("total")
    return row, answers


def _prefilter_recall(index: Index, vectors: np.ndarray, count: int, pool: Executor) -> float:
    """Return the share of an exact scan's first `count` items that the prefilter gives too."""
    masks = index.filter_masks(None)
    batches = index.first_candidates(vectors, count, masks, pool)
    shares = []
    for vector, batch in zip(vectors, batches, strict=True):
        none = np.zeros(0, np.int64)
        exact = next(index.remaining_candidates(vector, none, count, masks))
        shares.append(len(np.intersect1d(exact.items, batch.items)) / len(exact.items))
    return float(np.mean(shares))


def _drop_pages(*folders: Path) -> bool:
    """Drop what no process maps of the folders' files from the page cache, where it can be told.

    Returns:
        whether the system takes such advice.
    """
    if not hasattr(os, "posix_fadvise"):
        return False
    for file in _files(*folders):
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # pages that were not written yet stay
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
    return True


def _read_pages(folder: Path) -> None:
    """Read a folder's files, so that they are in the page cache where there is room."""
    for file in _files(folder):
        with file.open("rb") as content:
            for _ in iter(partial(content.read, 1 << 24), b""):
                pass


def _files(*folders: Path) -> list[Path]:
    """Return all files of some folders."""
    return [file for folder in folders for file in folder.rglob("*") if file.is_file()]


if __name__ == "__main__":
    typer.run(main)
