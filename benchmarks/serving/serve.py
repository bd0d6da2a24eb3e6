"""`hficma bench serve`: what the service costs beside the engine, and what it does past its limit.

In one run: the engine alone, one query at a time and in batches; then the service with 1 to 64
clients, at fixed rates, and asked for ten times what it can answer.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from hficma.artifacts.workspace import Workspace
from hficma.data.dataset import open_dataset
from hficma.engine import Engine
from hficma.engine.runtimes.options import ExecutionOptions, processors
from hficma.progress import Progress

from ..common.arguments import JsonFile, Threads
from ..common.report import markdown_table, print_markdown, write_json
from ..common.timing import environment
from ..common.workload import IndexKind, bundle_of, index_of, query_positions
from .load import Load, ServedIndex

CLIENTS = (1, 2, 4, 8, 16, 32, 64)
RATES = (0.5, 0.9)
"""Of the throughput at capacity, of the open loop."""
OVERLOAD, OVERLOAD_CLIENTS = 10, 256
"""Times the throughput at capacity, and the connections that ask so often."""


def main(
    bundle: Annotated[Path | None, typer.Option(help="A bundle.", show_default="newest")] = None,
    data: Annotated[str, typer.Option(help="Recipes that are searched.")] = "sample:10000:1",
    photos: Annotated[int, typer.Option(min=1, help="Photos that are asked with.")] = 64,
    seconds: Annotated[float, typer.Option(min=1, help="Of each row.")] = 10.0,
    overload: Annotated[float, typer.Option(min=1, help="Seconds of the overload.")] = 60.0,
    threads: Threads = 0,
    json_file: JsonFile = None,
) -> None:
    """Throughput, latency and batches of the service, beside the engine alone; needs wrk.

    Example: hficma bench serve --seconds 5 --overload 10
    """
    workspace, progress = Workspace.default(), Progress()
    threads = threads or processors()
    dataset = open_dataset(data)
    bundle = bundle or bundle_of(None, workspace, progress)[0]
    kind, execution = IndexKind("Flat", "fp32"), ExecutionOptions(threads=threads)
    index = index_of(bundle, dataset, kind, "recipes", workspace, progress, execution)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number}.png" for number in range(photos)]
        for file, position in zip(files, query_positions(dataset, photos), strict=False):
            dataset.photo(position).save(file)
        files = [file for file in files if file.exists()]
        loads = _engine_alone(index, files, threads=threads, seconds=seconds)
        with ServedIndex(index, threads=threads, folder=Path(folder), photos=files) as service:
            service.under(4, 2)  # warm
            for clients in CLIENTS:
                loads[f"{clients} clients"] = service.under(clients, seconds)
            # At capacity: the most clients of which none is refused, for as many fill the queue.
            most = [loads[f"{n} clients"] for n in CLIENTS if not loads[f"{n} clients"].refused][-1]
            for share in RATES:
                rate = share * most.throughput
                loads[f"{rate:.0f} a second"] = service.under(64, seconds, rate)
            before, rate = service.peak_mb, OVERLOAD * most.throughput
            over = service.under(OVERLOAD_CLIENTS, overload, rate)
            loads[f"{rate:.0f} a second"] = over
            figures = {
                "ready after, s": service.start_seconds,
                "16 clients over search_many": loads["16 clients"].throughput
                / loads["search_many"].throughput,
                "p50 of one client less Engine.search's, ms": loads["1 clients"].p50
                - loads["Engine.search"].p50,
                "p99 of the overload over that at capacity": over.p99 / most.p99,
                "peak memory before the overload, MB": before,
                "peak memory after it, MB": service.peak_mb,
            }
    print_markdown("\n".join(_lines(loads, figures)))
    rows = {name: load._asdict() for name, load in loads.items()}
    measured = environment(threads=threads)
    write_json(json_file, {"environment": measured, "rows": rows, "figures": figures})


def _engine_alone(
    index: Path, files: list[Path], *, threads: int, seconds: float
) -> dict[str, Load]:
    """Measure the engine in this process, one query at a time and with `search_many`."""
    contents = [file.read_bytes() for file in files]
    with Engine.open(index, threads=threads) as engine:
        list(engine.search_many(contents))  # warm
        times: list[float] = []
        while sum(times) < 1000 * seconds:
            start = time.perf_counter()
            engine.search(image=contents[len(times) % len(contents)])
            times.append(1000 * (time.perf_counter() - start))
        count, start = 0, time.perf_counter()
        while time.perf_counter() < start + seconds:
            count += len(list(engine.search_many(contents)))
        rate = count / (time.perf_counter() - start)
    p50, p99 = (float(np.percentile(times, part)) for part in (50, 99))
    return {
        "Engine.search": Load(1000 * len(times) / sum(times), p50, p99, 1.0),
        "search_many": Load(rate, 1000 / rate, 1000 / rate, min(32.0, len(contents))),
    }


def _lines(loads: dict[str, Load], figures: dict[str, float]) -> list[str]:
    """Return the table of loads, and that of the figures taken from it."""
    header = ("load", "answers/s", "p50 ms", "p99 ms", "batch", "429", "errors")
    rows: list[tuple[Any, ...]] = [
        (name, *(f"{value:.1f}" for value in load[:4]), *map(str, load[4:]))
        for name, load in loads.items()
    ]
    totals = [(name, f"{value:.2f}") for name, value in figures.items()]
    return [*markdown_table(header, rows), "", *markdown_table(("figure", "value"), totals)]


if __name__ == "__main__":
    typer.run(main)
