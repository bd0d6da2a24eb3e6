"""Picks a runtime for each graph: the fastest on this machine that gives what the reference gives.

The measurement of a graph is kept in the workspace's cache under all that it depends on (the graph,
device, threads, machine and packages), so that only the first start on a machine pays for it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

from hficma.artifacts.json_fields import Fields, strict_json
from hficma.artifacts.manifest import write_atomically
from hficma.artifacts.workspace import Workspace
from hficma.errors import HficmaError

from ..native.library import kernels_id
from .base import Arrays, Graph, Runtime, example_inputs
from .options import ExecutionOptions
from .reference import global_score_difference, graph_differences
from .registry import RUNTIMES, able, installed, runtime_class

_log = logging.getLogger("hficma")

ROUNDS = 5
"""Timed runs of each candidate; the fastest counts, since everything else only slows."""
TIMED_SIZES = {"G": 1, "B": 1, "M": 16, "T": 10, "S": 16, "W": 12, "N": 8}
"""Dynamic sizes that are timed, by letter: one photo, a tile of candidates."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The runtime that `auto` takes for a graph, and why."""

    runtime: str
    """Its name."""
    milliseconds: dict[str, float]
    """Of one run, for each runtime that works and agrees; empty where only one was tried."""
    refused: dict[str, str]
    """Why each other runtime was not taken, by name."""
    precision: str | None = None
    """In which it runs the graph, where that is another than the graph's own."""


def choose(
    graph: Graph,
    reference: Callable[[], Arrays],
    execution: ExecutionOptions,
    *,
    cache: Path | None = None,
) -> Choice:
    """Return the runtime for a graph on this machine, as measured earlier or now.

    Args:
        graph: to run.
        reference: reads the bundle's reference data; called only where a graph is measured, for
            the published model's takes 300 MB.
        execution: the device and threads to measure with.
        cache: folder of measurements; None takes the workspace's.

    Raises:
        HficmaError: no runtime on this machine can run the graph.
    """
    file = _measurement_file(graph, execution, cache)
    earlier = _read_choice(file)
    if earlier is not None:
        return earlier
    choice = measure(graph, reference(), execution)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(dataclasses.asdict(choice)).encode())
    except OSError as error:
        _log.warning(
            "%s: cannot be written (%s); graph %s is measured again at each start",
            file, error.strerror, graph.name,
        )  # fmt: skip
    return choice


def first_able(graph: Graph, execution: ExecutionOptions) -> tuple[Choice, Runtime]:
    """Load a graph in the first runtime that can: without a reference none can be held to it.

    Args:
        graph: of a slim bundle, which was proved where it was made.
        execution: the device and threads.

    Returns:
        the choice, and the graph as it was loaded for it.

    Raises:
        HficmaError: no runtime on this machine can run the graph.
    """
    refused: dict[str, str] = {}
    for name in able(graph.name, execution.device):
        reason = runtime_class(name).why_not(graph)
        if reason is not None:
            refused[name] = reason
            continue
        try:
            loaded = runtime_class(name).load(
                graph, device=execution.device, threads=execution.threads
            )
        except HficmaError as error:
            refused[name] = str(error)
            continue
        return Choice(runtime=name, milliseconds={}, refused=refused), loaded
    raise _none_able(graph, refused)


def measure(graph: Graph, reference: Arrays, execution: ExecutionOptions) -> Choice:
    """Load a graph in every runtime that is installed, compare it with the reference, and time it.

    Args:
        graph: to run.
        reference: the arrays of the bundle's reference file, by `reference.array_name`.
        execution: the device and threads to measure with.

    Raises:
        HficmaError: no runtime on this machine can run the graph.
    """
    candidates: dict[str, Runtime] = {}
    refused: dict[str, str] = {}
    for name in able(graph.name, execution.device):
        reason = runtime_class(name).why_not(graph)
        level = logging.INFO  # what a runtime never could is no surprise
        if reason is None:
            loaded, reason = _load_and_compare(name, graph, reference, execution)
            if loaded is not None:
                candidates[name] = loaded
                continue
            level = logging.WARNING
        if runtime_class(name).runs_any_in_fp32 and graph.precision != "fp32":
            _log.info("graph %s: %s takes it in fp32 (%s)", graph.name, name, reason)
            wide = dataclasses.replace(graph, precision="fp32")
            loaded, reason = _load_and_compare(name, wide, reference, execution)
            if loaded is not None:
                candidates[name] = loaded
                continue
        refused[name] = reason
        _log.log(level, "graph %s: runtime %s is left out (%s)", graph.name, name, reason)
    if not candidates:
        raise _none_able(graph, refused)
    fastest = dict.fromkeys(candidates, float("inf"))
    inputs = example_inputs(graph, TIMED_SIZES)
    for _ in range(ROUNDS if len(candidates) > 1 else 0):
        # In turns, so that what else the machine does hits all candidates alike.
        for name, candidate in candidates.items():
            began = time.perf_counter()
            candidate.run(inputs)
            fastest[name] = min(fastest[name], 1000 * (time.perf_counter() - began))
    best = min(fastest, key=fastest.__getitem__)
    timed = {name: round(value, 3) for name, value in fastest.items() if np.isfinite(value)}
    precision = candidates[best].describe().precision
    return Choice(
        runtime=best,
        milliseconds=timed,
        refused=refused,
        precision=None if precision == graph.precision else precision,
    )


def _none_able(graph: Graph, refused: Mapping[str, str]) -> HficmaError:
    """Return the error that says why each runtime was not taken."""
    reasons = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
    return HficmaError(f"graph {graph.name}: no runtime here can run it ({reasons})")


def _load_and_compare(
    name: str, graph: Graph, reference: Arrays, execution: ExecutionOptions
) -> tuple[Runtime | None, str]:
    """Return a runtime with the graph loaded; or None, and why it cannot be taken."""
    try:
        loaded = runtime_class(name).load(graph, device=execution.device, threads=execution.threads)
    except HficmaError as error:
        return None, str(error)
    try:
        differences = list(graph_differences(graph, loaded, reference))
    except (HficmaError, RuntimeError, ValueError) as error:
        return None, f"fails to run ({str(error).splitlines()[0]})"
    if runtime_class(name).rounds_weights:
        # Export holds narrow graphs to the reference by their scores; nobody yet held this one.
        differences += global_score_difference(graph, loaded, reference)
    for difference in differences:
        if not difference.within_tolerance:
            return None, f"{difference.output} differs by {difference.error:.1e}"
    return loaded, ""


def _read_choice(file: Path) -> Choice | None:
    """Return an earlier choice; None where there is none, or it is not one that this program wrote.

    A runtime that was uninstalled since is no obstacle: the versions of all packages are part of
    the file's name.
    """
    try:
        fields = Fields(strict_json(file.read_bytes()), "it", _CHOICE_FIELDS)
        milliseconds, refused = fields.object("milliseconds"), fields.object("refused")
        return Choice(
            runtime=fields.text("runtime", RUNTIMES),
            milliseconds={name: milliseconds.number(name) for name in milliseconds},
            refused={name: refused.text(name) for name in refused},
            precision=fields.optional_text("precision") if "precision" in fields else None,
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        _log.warning("%s: is no measurement (%s); it is made again", file, error)
        return None


_CHOICE_FIELDS = [field.name for field in dataclasses.fields(Choice)]


def _measurement_file(graph: Graph, execution: ExecutionOptions, cache: Path | None) -> Path:
    """Return where the measurement of a graph lies, named by all that it depends on."""
    root = Workspace.default().cache if cache is None else cache
    dependencies: dict[str, object] = {
        "onnx": graph.sha256,
        "device": execution.device,
        "threads": execution.threads,
        "cores": os.cpu_count(),
        "machine": platform.node(),
        "versions": _package_versions(execution.device),
    }
    if "native" in able(graph.name, execution.device):
        dependencies["kernels"] = kernels_id()
    if execution.device != "cpu":
        # A plan that is built later makes its runtime one that can be taken.
        dependencies["able"] = [
            name
            for name in installed(execution.device)
            if runtime_class(name).why_not(graph) is None
        ]
    key = hashlib.sha256(json.dumps(dependencies, sort_keys=True).encode()).hexdigest()
    return root / "runtimes" / f"{graph.name}-{key[:24]}.json"


def _package_versions(device: str) -> dict[str, str]:
    """Return the versions of the packages that bring the runtimes of a kind of device."""
    versions = {}
    for backend in RUNTIMES.values():
        if device.partition(":")[0] not in backend.automatic:
            continue
        for package in backend.distributions:
            try:
                versions[package] = metadata.version(package)
            except metadata.PackageNotFoundError:
                continue
    return versions
