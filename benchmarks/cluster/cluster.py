"""`hficma bench cluster`: what a cluster costs beside the same work in one process, in one run.

With `--simulate` also what a search of up to a thousand million recipes would take, drawn from the
times of one shard that this run measures, and the same for the cluster that it measures whole.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from hficma.artifacts.workspace import Workspace
from hficma.data.dataset import open_dataset
from hficma.data.sample import SampleDataset
from hficma.engine import Bundle, Engine, build_index
from hficma.engine.cluster.build import build_index_on_ray
from hficma.engine.cluster.engine import ClusterEngine
from hficma.engine.cluster.options import ClusterOptions
from hficma.engine.cluster.server_group import Question
from hficma.engine.cluster.session import connected
from hficma.engine.cluster.shard_server import ServerTask, ShardServer, listed_files
from hficma.engine.encoder import EncodedQuery, encode_queries
from hficma.engine.index.index import Index
from hficma.engine.query import photo_input
from hficma.engine.runtimes.options import ExecutionKeywords
from hficma.engine.writing.build import IndexOptions
from hficma.types import Floats64

from ..common.arguments import JsonFile
from ..common.report import markdown_table, print_markdown, write_json
from ..common.synthetic_index import random_bundle, synthetic_index
from ..common.timing import environment
from .simulation import Assumptions, MeasuredTimes, SimulatedSearch, simulate

CANDIDATES = 200
SIZES = (1_000_000, 10_000_000, 100_000_000, 1_000_000_000)
WIDTH = 256


def main(
    recipes: Annotated[int, typer.Option(min=1000, help="Recipes that are searched.")] = 100_000,
    build: Annotated[int, typer.Option(min=100, help="Recipes that are indexed.")] = 20_000,
    actors: Annotated[int, typer.Option(min=1, help="Actors; one core each.")] = 2,
    queries: Annotated[int, typer.Option(min=1, help="Searches of each kind.")] = 60,
    ray: Annotated[str, typer.Option(help="HOST:PORT, auto or local.")] = "local",
    simulation: Annotated[
        bool, typer.Option("--simulate", help="Also draw the times of larger clusters.")
    ] = False,
    machine_gb: Annotated[float, typer.Option(help="Memory of a simulated machine.")] = 64.0,
    cores: Annotated[int, typer.Option(min=1, help="Its actors.")] = 16,
    late_chance: Annotated[float, typer.Option(help="Chance of a late call.")] = 0.01,
    late_factor: Annotated[float, typer.Option(help="How many times longer it takes.")] = 10.0,
    json_file: JsonFile = None,
) -> None:
    """Search and build over a Ray cluster beside one process; simulate larger clusters.

    Example: hficma bench cluster --recipes 10000 --build 1000 --simulate
    """
    workspace = Workspace.default()
    bundle = random_bundle(workspace, WIDTH)
    index = synthetic_index(
        bundle, workspace.cache / "bench" / f"drawn-{recipes}-tokens-{bundle.name}", recipes,
        level="tokens", precision="fp16", prefilter="SQfp16",
    )  # fmt: skip
    cluster = ClusterOptions(address=ray, actors=actors)
    photos = [SampleDataset(100, seed=1).photo(number) for number in range(min(queries, 16))]
    figures: dict[str, float] = {}
    rows: dict[str, Any] = {}
    with connected(cluster):
        searches, trips = _searches(index, cluster, photos, queries)
        for name, times in searches.items():
            rows[name] = [float(np.percentile(times, part)) for part in (50, 99)]
        seconds = _builds(bundle, build, cluster)
        rows |= {f"building {build:,}, {name}": [one] for name, one in seconds.items()}
    print_markdown("\n".join(_measured_lines(rows)))
    if simulation:
        measured = _measured_times(index, bundle, photos, searches["head"], trips, queries)
        assumed = Assumptions(
            machine_gb=machine_gb, cores=cores, late_chance=late_chance, late_factor=late_factor
        )
        here = simulate(recipes, measured, assumed, actors=actors)
        sizes = [simulate(size, measured, assumed) for size in SIZES]
        print_markdown("\n".join(["", *_simulated_lines([here, *sizes])]))
        rows["simulated"] = [one._asdict() for one in (here, *sizes)]
        figures |= {
            "scan ms": float(np.median(measured.scan_ms)), "scanned items": measured.items,
            "score ms": float(np.median(measured.score_ms)),
            "head ms": float(np.median(measured.head_ms)),
            "trip ms": float(np.median(measured.trip_ms)),
            "item bytes": measured.item_bytes, "query bytes": measured.query_bytes,
        }  # fmt: skip
        print_markdown("\n".join(["", *markdown_table(
            ("measured of one shard, one core", "median"),
            [(name, f"{value:,.2f}") for name, value in figures.items()],
        )]))  # fmt: skip
    measured_on = environment(threads=actors)
    write_json(json_file, {"environment": measured_on, "rows": rows, "figures": figures})


def _searches(
    index: Path, cluster: ClusterOptions, photos: list[Any], queries: int
) -> tuple[dict[str, Floats64], Floats64]:
    """Return milliseconds of searches of each kind, in turns, and of questions to an actor."""
    actors = cluster.actors or 1
    times: dict[str, list[float]] = {"one process": [], "cluster": [], "head": []}
    batches: dict[str, list[float]] = {"one process": [], "cluster": []}
    trips = []
    with (
        Engine.open(index, threads=actors) as alone,
        ClusterEngine.open_on(index, cluster, threads=actors) as together,
    ):
        engines = {"one process": alone, "cluster": together}
        for number in range(queries + 3):
            photo = photos[number % len(photos)]
            for name, engine in engines.items():
                start = time.perf_counter()
                answer = engine.search(image=photo, candidates=CANDIDATES)
                times[name].append(1000 * (time.perf_counter() - start))
            # What the cluster's answer took besides waiting for actors.
            ms = answer.milliseconds
            times["head"].append(ms["total"] - ms["prefilter"] - ms["rerank"])
            start = time.perf_counter()
            together.group.ask({0: Question("state", ())})
            trips.append(1000 * (time.perf_counter() - start))
        for _ in range(4):
            for name, engine in engines.items():
                start = time.perf_counter()
                list(engine.search_many(photos, candidates=CANDIDATES))
                batches[name].append(1000 * (time.perf_counter() - start) / len(photos))
    # The first ones open files and load graphs.
    found = {name: np.array(one[3:]) for name, one in times.items()}
    found |= {f"{name}, batches of {len(photos)}": np.array(b[1:]) for name, b in batches.items()}
    return found, np.array(trips[3:])


def _builds(bundle: Path, count: int, cluster: ClusterOptions) -> dict[str, float]:
    """Return the seconds of indexing some recipes in one process and over a cluster."""
    actors = cluster.actors or 1
    drawn = SampleDataset(count, seed=2)
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "recipes.jsonl"
        lines = (json.dumps(drawn.recipe(number).to_json()) for number in range(count))
        data.write_text("\n".join(lines), encoding="utf-8")
        options: dict[str, Any] = {
            "keep": "tokens", "side_precision": "fp16", "shard_items": max(1, count // 8),
        }  # fmt: skip

        def alone(out: Path) -> None:
            build_index(bundle, open_dataset(str(data)), out, threads=actors, **options)

        def together(out: Path) -> None:
            build_index_on_ray(bundle, str(data), out, cluster, IndexOptions(**options), threads=1)

        # The cluster's again: its first pool of actors also starts Ray Data.
        works: list[tuple[str, Callable[[Path], None]]] = [
            ("one process", alone), ("cluster, with the start of Ray Data", together),
            ("cluster", together),
        ]  # fmt: skip
        for number, (name, work) in enumerate(works):
            start = time.perf_counter()
            work(Path(folder) / f"index-{number}")
            seconds[name] = time.perf_counter() - start
    return seconds


def _measured_times(
    path: Path, bundle: Path, photos: list[Any], head: Floats64, trips: Floats64, repeats: int
) -> MeasuredTimes:
    """Measure the largest shard of an index on one core, in this process."""
    with Index.open(path) as index, _shard_server(index, bundle) as (server, opened):
        size = sum(shard.bytes for shard in index.shards)
        queries: list[EncodedQuery] = []
        for photo in photos:
            pixels = photo_input(photo, opened.image_input, name="photo")
            queries += encode_queries(opened, "image", [pixels])
        scans, scores = [], []
        for number in range(repeats + 3):
            query = queries[number % len(queries)]
            start = time.perf_counter()
            first = server.first_candidates([0], query.vector[None], CANDIDATES, None)
            scans.append(1000 * (time.perf_counter() - start))
            items = first.candidates[0].positions[:CANDIDATES]
            start = time.perf_counter()
            server.score_queries([query], [0], [items])
            scores.append(1000 * (time.perf_counter() - start))
        tables = queries[0].encodings
        assert tables is not None
        return MeasuredTimes(
            items=index.shards[0].count,
            candidates=CANDIDATES,
            scan_ms=np.array(scans[3:]),
            score_ms=np.array(scores[3:]),
            head_ms=head,
            trip_ms=trips,
            item_bytes=size / index.count,
            query_bytes=sum(array.nbytes for array in tables.arrays.values()),
            vector_bytes=queries[0].vector.nbytes,
        )


@contextlib.contextmanager
def _shard_server(index: Index, bundle: Path) -> Iterator[tuple[ShardServer, Bundle]]:
    """Open a server of an index's first shard in this process, and the bundle."""
    task = ServerTask(
        index=index.path, facts=index.facts, files=listed_files(index, (0,)),
        shards=(0,), offsets=index.shard_offsets, bundle=bundle, gpu_memory=None,
        execution=ExecutionKeywords(threads=1),
    )  # fmt: skip
    with Bundle.open(bundle) as opened:
        yield ShardServer(task), opened


def _measured_lines(rows: dict[str, Any]) -> list[str]:
    """Return the table of what was measured."""
    cells: list[tuple[str, ...]] = []
    for name, values in rows.items():
        if len(values) == 1:
            cells.append((name, f"{values[0]:.1f} s", ""))
        elif name != "head":
            cells.append((f"a search, {name}", *(f"{value:.1f} ms" for value in values)))
    return list(markdown_table(("what", "median", "p99"), cells))


def _simulated_lines(searches: list[SimulatedSearch]) -> list[str]:
    """Return the table of what was simulated; its first row is the cluster that was measured."""
    header = ("recipes", "GB", "machines", "actors", "network KB a search", "p50 ms", "p99 ms")
    rows = [
        (
            f"{one.items:,}",
            f"{one.gigabytes:,.1f}",
            f"{one.machines:,}",
            f"{one.actors:,}",
            f"{one.network_kb:,.0f}",
            f"{one.p50_ms:.0f}",
            f"{one.p99_ms:.0f}",
        )
        for one in searches
    ]
    return list(markdown_table(header, rows))


if __name__ == "__main__":
    typer.run(main)
