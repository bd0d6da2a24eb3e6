"""Picks a runtime for each graph: the fastest here that gives what the reference gives."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hficma.artifacts.json_fields import Fields, strict_json
from hficma.artifacts.manifest import write_atomically
from hficma.artifacts.workspace import Workspace
from hficma.errors import HficmaError

from .base import Graph, Runtime, example
from .options import ExecutionOptions
from .registry import RUNTIMES, runtime

if TYPE_CHECKING:
    from .base import Arrays

_log = logging.getLogger("hficma")

ROUNDS = 5
"""Timed runs of each candidate; the fastest counts, since everything else only slows."""
USUAL = {"G": 1, "B": 1, "M": 16, "T": 10, "S": 16, "W": 12, "N": 8}
"""Sizes that are timed: one photo, a tile of candidates."""
PACKAGES = {"onnxruntime": ("onnxruntime", "onnxruntime-gpu"), "openvino": ("openvino",)}
"""Runtimes that `auto` chooses from on a CPU, and the packages that bring them. TensorRT is for
whoever built plans and asks for it; torch is the reference, not a way to serve."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What `auto` took for a graph, and why."""

    runtime: str
    """Its name."""
    milliseconds: dict[str, float]
    """Of each runtime that works and agrees."""
    refused: dict[str, str]
    """Why each other one was not taken."""


def choose(
    graph: Graph,
    reference: Arrays,
    execution: ExecutionOptions,
    *,
    cache: Path | None = None,
) -> Choice:
    """Return the runtime for a graph on this machine, as measured earlier or now.

    Args:
        graph: to run.
        reference: of the bundle.
        execution: the device and threads to measure with.
        cache: folder of measurements; None takes the workspace's.
    """
    file = _file(graph, execution, cache)
    if (kept := _kept(file)) is not None:
        return kept
    choice = measure(graph, reference, execution)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(dataclasses.asdict(choice)).encode())
    except OSError:
        pass  # a measurement that cannot be kept is made again next time
    return choice


def _kept(file: Path) -> Choice | None:
    """An earlier choice, or None where there is none or it is not one that this program wrote."""
    try:
        fields = Fields(strict_json(file.read_bytes()), "it", [f.name for f in _CHOICE])
        timed, refused = fields.object("milliseconds"), fields.object("refused")
        return Choice(
            runtime=fields.text("runtime", RUNTIMES),
            milliseconds={name: timed.number(name) for name in timed},
            refused={name: refused.text(name) for name in refused},
        )
    except (OSError, ValueError):
        return None  # measured again


_CHOICE = dataclasses.fields(Choice)


def measure(graph: Graph, reference: Arrays, execution: ExecutionOptions) -> Choice:
    """Load a graph in every runtime that is here, hold it to the reference, and time it."""
    candidates: dict[str, Runtime] = {}
    refused: dict[str, str] = {}
    for name in installed(execution.device):
        if graph.precision not in runtime(name).precisions:
            refused[name] = f"cannot run {graph.precision}"
            continue
        try:
            loaded = runtime(name).load(graph, device=execution.device, threads=execution.threads)
        except HficmaError as error:
            reason: str | None = str(error)
        else:
            reason = _disagreement(graph, loaded, reference)
        if reason is None:
            candidates[name] = loaded
        else:
            refused[name] = reason
            _log.warning("graph %s: runtime %s is left out (%s)", graph.name, name, reason)
    if not candidates:
        reasons = "; ".join(f"{name}: {why}" for name, why in refused.items())
        raise HficmaError(f"graph {graph.name}: no runtime here can run it ({reasons})")
    fastest = dict.fromkeys(candidates, float("inf"))
    inputs = example(graph, USUAL)
    for _ in range(ROUNDS if len(candidates) > 1 else 0):
        for name, loaded in candidates.items():  # in turns: load on the machine hits all alike
            began = time.perf_counter()
            loaded.run(inputs)
            fastest[name] = min(fastest[name], 1000 * (time.perf_counter() - began))
    best = min(fastest, key=fastest.__getitem__)
    timed = {name: round(value, 3) for name, value in fastest.items() if np.isfinite(value)}
    return Choice(runtime=best, milliseconds=timed, refused=refused)


def installed(device: str) -> list[str]:
    """Runtimes that `auto` may take on a device, by what can be imported."""
    usable = ["onnxruntime"] if device != "cpu" else list(PACKAGES)
    found = [name for name in usable if find_spec(name) is not None]
    assert set(found) <= set(RUNTIMES)
    return found or ["onnxruntime"]  # whose absence is reported with what to install


def _disagreement(graph: Graph, loaded: Runtime, reference: Arrays) -> str | None:
    from .reference import graph_differences

    try:
        found = list(graph_differences(graph, loaded, reference))
    except (HficmaError, RuntimeError, ValueError) as error:
        return f"fails to run ({str(error).splitlines()[0]})"
    for one in found:
        if not one.held:
            return f"{one.output} differs by {one.error:.1e}"
    return None


def _file(graph: Graph, execution: ExecutionOptions, cache: Path | None) -> Path:
    root = Workspace.default().cache if cache is None else cache
    facts = {
        "onnx": graph.sha256,
        "device": execution.device,
        "threads": execution.threads,
        "cores": os.cpu_count(),
        "machine": platform.node(),
        "versions": _versions(PACKAGES),
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return root / "runtimes" / f"{graph.name}-{key[:24]}.json"


def _versions(packages: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    found = {}
    for names in packages.values():
        for name in names:
            try:
                found[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
    return found
