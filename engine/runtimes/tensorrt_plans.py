"""Finds the TensorRT plans of this machine, and says when one must be built again.

A plan is what TensorRT compiles a graph to, for one GPU and one version. It lies in the workspace's
cache, with a record of all that it was built from beside it.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from hficma.artifacts.json_fields import Fields, strict_json
from hficma.artifacts.manifest import sha256, write_atomically
from hficma.artifacts.workspace import Workspace
from hficma.errors import MissingDependencyError

from .base import Graph
from .tensorrt_profiles import Range


@dataclass(frozen=True, kw_only=True)
class PlanKey:
    """Everything a plan depends on: another value of any field makes it stale."""

    onnx: str
    """SHA-256 of the ONNX file."""
    library: str
    """`tensorrt` or `tensorrt_rtx`."""
    version: str
    """The library's version."""
    gpu: str
    """Name of the GPU, or `none` for a plan built ahead of time."""
    compute_capability: str
    """Such as `9.0`, or `any`."""
    precision: str
    """The graph's precision."""
    profiles: list[dict[str, Range]]
    """Sizes by letter."""

    def to_json(self) -> dict[str, Any]:
        """Return the key as JSON values."""
        record: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return record


def library() -> ModuleType:
    """Return the module of TensorRT, or of TensorRT for RTX where that is what is installed.

    Raises:
        MissingDependencyError: neither is.
    """
    try:
        import tensorrt

        return tensorrt  # type: ignore[no-any-return]
    except ImportError:
        pass
    try:
        import tensorrt_rtx

        return tensorrt_rtx  # type: ignore[no-any-return]
    except ImportError as error:
        raise MissingDependencyError("tensorrt", "trt", "a TensorRT plan") from error


def plan_file(graph: Graph, cache: Path | None = None) -> Path:
    """Return where the plan of a graph lies on this machine.

    Args:
        graph: in its precision.
        cache: None takes the workspace's.
    """
    root = Workspace.default().cache if cache is None else cache
    return root / "tensorrt" / graph.model_id[:16] / f"{graph.name}.{graph.precision}.plan"


def why_stale(file: Path, key: PlanKey) -> str | None:
    """Return in words why a plan must be built; None where the one that lies there serves.

    Args:
        file: of the plan.
        key: what it would be built from now.
    """
    try:
        record = Fields(strict_json(file.with_suffix(".json").read_bytes()), "it")
        built = dict(record.object("key").items())
        content = record.text("sha256")
    except (OSError, ValueError):
        return "there is none yet"
    for name, value in key.to_json().items():
        if built.get(name) != value:
            return f"{name} was {built.get(name)}, is {value}"
    if not file.is_file() or sha256(file) != content:
        return "its file was changed"
    return None


def write_plan(file: Path, content: bytes, key: PlanKey) -> None:
    """Write a plan, and beside it what it was built from.

    Args:
        file: of the plan.
        content: the serialised plan.
        key: what it was built from.
    """
    import hashlib

    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, content)
    record = {"key": key.to_json(), "sha256": hashlib.sha256(content).hexdigest()}
    write_atomically(file.with_suffix(".json"), json.dumps(record, indent=1).encode())


def plan_key(graph: Graph, profiles: list[dict[str, Range]]) -> PlanKey:
    """Return what the plan of a graph depends on, on this machine.

    Args:
        graph: in its precision.
        profiles: the sizes that it takes.
    """
    trt = library()
    name, capability = gpu()
    return PlanKey(
        onnx=graph.sha256,
        library=trt.__name__,
        version=str(trt.__version__),
        gpu=name,
        compute_capability=capability,
        precision=graph.precision,
        profiles=profiles,
    )


def gpu() -> tuple[str, str]:
    """Return name and compute capability of the first GPU, or `none` and `any` without one.

    As its driver reports them.
    """
    import subprocess

    question = ["nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader"]
    try:
        answer = subprocess.run(question, capture_output=True, text=True, timeout=20, check=True)
        name, _, capability = answer.stdout.splitlines()[0].rpartition(",")
        return name.strip(), capability.strip()
    except (OSError, subprocess.SubprocessError, IndexError):
        return "none", "any"
