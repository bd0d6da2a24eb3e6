"""What a service counts and measures, in the format of Prometheus.

With several workers each process writes its numbers to files in one folder, and whichever is asked
adds all of them up: `server.serve` names that folder before this module is imported.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    multiprocess,
)

WORKER_FILES = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable by which prometheus-client knows the folder of the workers' files."""

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 12, 16, 24, 32, 64)

# Else each has a second time series that says when it began.
disable_created_metrics()  # type: ignore[no-untyped-call]

REQUESTS = Counter("hficma_requests", "Requests answered.", ["path", "status"])
REQUEST_SECONDS = Histogram(
    "hficma_request_seconds",
    "Seconds from a request's head to its answer, by whether it was accepted.",
    ["path", "accepted"],
    buckets=_SECONDS,
)
ERRORS = Counter("hficma_errors", "Requests that could not be answered.", ["kind"])
STAGE_SECONDS = Histogram(
    "hficma_stage_seconds", "A query's share of a stage's seconds.", ["stage"], buckets=_SECONDS
)
QUEUE_LENGTH = Gauge(
    "hficma_queue_length", "Requests that wait.", ["lane"], multiprocess_mode="livesum"
)
QUEUE_SECONDS = Histogram(
    "hficma_queue_seconds", "Seconds that a request waited.", ["lane"], buckets=_SECONDS
)
BATCH_SIZE = Histogram(
    "hficma_batch_size", "Queries that were answered together.", ["lane"], buckets=_SIZES
)
DROPPED = Counter(
    "hficma_dropped", "Requests dropped before they cost anything.", ["lane", "reason"]
)
INDEX_VERSION = Gauge(
    "hficma_index_version", "Changes of an index that went live.", ["index"],
    multiprocess_mode="livemax",
)  # fmt: skip
INDEX_ITEMS = Gauge(
    "hficma_index_items", "Items of an index.", ["index"], multiprocess_mode="livemax"
)
INDEX_BYTES = Gauge(
    "hficma_index_bytes", "Bytes of an index's files.", ["index"], multiprocess_mode="livemax"
)
CLUSTER_ACTORS = Gauge(
    "hficma_cluster_actors", "Actors of a cluster that hold an index: all, and those ready.",
    ["index", "state"], multiprocess_mode="livemax",
)  # fmt: skip
CLUSTER_SHARE = Gauge(
    "hficma_cluster_share", "Share of an index that a search over a cluster sees.", ["index"],
    multiprocess_mode="livemin",
)  # fmt: skip
MEMORY_BYTES = Gauge(
    "hficma_memory_bytes",
    "Memory of the processes, pages of indexes included.",
    multiprocess_mode="livesum",
)
BODY_BYTES = Gauge(
    "hficma_body_bytes", "Bytes of bodies that are held.", multiprocess_mode="livesum"
)


def observe_stages(milliseconds: Mapping[str, float]) -> None:
    """Count the stages of an answer.

    Args:
        milliseconds: of each stage, as in `Answer.milliseconds`.
    """
    for stage, time in milliseconds.items():
        STAGE_SECONDS.labels(stage).observe(time / 1000)


def exposition() -> bytes:
    """Return all numbers, of all workers, as the text that Prometheus reads."""
    if WORKER_FILES not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def memory_bytes() -> int:
    """Return the resident memory of this process, in bytes; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
