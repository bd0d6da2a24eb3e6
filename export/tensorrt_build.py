"""Builds TensorRT plans of a bundle's graphs into this machine's cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hficma.artifacts.workspace import Workspace
from hficma.engine.bundle.bundle import Bundle
from hficma.engine.runtimes import Graph
from hficma.engine.runtimes.options import ExecutionOptions
from hficma.engine.runtimes.tensorrt_backend import TensorRTRuntime
from hficma.engine.runtimes.tensorrt_plans import (
    gpu,
    library,
    plan_file,
    plan_key,
    why_stale,
    write_plan,
)
from hficma.engine.runtimes.tensorrt_profiles import Range, profiles_of
from hficma.errors import ArtifactError, InputError


@dataclass(frozen=True)
class Plan:
    """The plan of a graph in the cache."""

    graph: str
    """The graph's name."""
    file: Path
    """Its path."""
    built: str | None
    """Why it was built now, or None where the one in the cache served."""


def check_tensorrt(precisions: Sequence[str]) -> None:
    """Check that this machine can build plans, before the minutes that an export takes.

    Args:
        precisions: of the plans.

    Raises:
        MissingDependencyError: TensorRT is not installed.
        InputError: it needs a GPU and there is none, or it does not read one of the precisions.
    """
    module = library()
    for precision in precisions:
        if precision not in TensorRTRuntime.precisions:
            raise InputError(
                f"precision {precision}: TensorRT does not read these graphs (their activations "
                "are unsigned); take fp16"
            )
    if module.__name__ == "tensorrt" and gpu()[0] == "none":
        raise InputError(
            "TensorRT builds for the GPU of the machine, and there is none here; "
            "build on the machine that will search, or install 'hficma[trt-rtx]'"
        )


def build_plans(
    bundle_path: Path,
    *,
    precision: str = "fp32",
    cache: Path | None = None,
    on_build: Callable[[str], None] = lambda line: None,
) -> list[Plan]:
    """Build a plan for each graph that has none for this machine.

    `tensorrt` builds for the GPU that is there; `tensorrt_rtx` without one builds ahead of time.

    Args:
        bundle_path: the bundle.
        precision: of the graphs; those that lack it are built in `fp32`.
        cache: folder of plans; None takes the workspace's.
        on_build: called before each plan that is built, with one line that says why.

    Raises:
        MissingDependencyError: TensorRT is not installed.
        InputError: it needs a GPU and there is none, or the precision is not one it reads.
        ArtifactError: a graph does not parse or build.
    """
    check_tensorrt((precision,))
    bundle = Bundle.open(bundle_path, ExecutionOptions(precision=precision))
    timing = (Workspace.default().cache if cache is None else cache) / "tensorrt" / "timing.cache"
    plans = []
    for name in bundle.facts.graphs:
        graph = bundle.graph(name)
        profiles = profiles_of(name, graph.longest)
        key = plan_key(graph, profiles)
        file = plan_file(graph, cache)
        reason = why_stale(file, key)
        if reason is not None:
            on_build(f"{name} {graph.precision}: building a plan ({reason})")
            write_plan(file, build_plan(graph, profiles, timing), key)
        plans.append(Plan(name, file, reason))
    return plans


def build_plan(graph: Graph, profiles: list[dict[str, Range]], timing: Path | None = None) -> bytes:
    """Compile one graph, strongly typed: every layer has the precision that the ONNX says.

    Args:
        graph: to compile.
        profiles: for each, the least, usual and largest size of every dynamic axis.
        timing: file of measured kernels, read and extended; None uses none.

    Returns:
        the serialised plan.

    Raises:
        ArtifactError: the graph does not parse or build.
    """
    trt = library()
    errors: list[str] = []
    logger = _error_logger(trt, errors)
    builder = trt.Builder(logger)
    # TensorRT 11 knows only strongly typed networks and may drop the flag.
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph.file)):
        reason = parser.get_error(0).desc().splitlines()[0]
        raise ArtifactError(f"{graph.file}: TensorRT cannot read it ({reason})")
    config = builder.create_builder_config()
    for profile in profiles:
        config.add_optimization_profile(_optimization_profile(builder, graph, profile))
    if trt.__name__ == "tensorrt_rtx":
        timing = None  # it measures nothing while building
    if timing is not None:
        content = timing.read_bytes() if timing.is_file() else b""
        config.set_timing_cache(config.create_timing_cache(content), False)
    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        reason = errors[0].splitlines()[0] if errors else "it does not say why"
        raise ArtifactError(
            f"{graph.file}: TensorRT {trt.__version__} cannot build it ({reason}); export the "
            "model again, or search with another runtime"
        )
    if timing is not None:
        timing.parent.mkdir(parents=True, exist_ok=True)
        timing.write_bytes(bytes(config.get_timing_cache().serialize()))
    return bytes(serialized)


def _error_logger(trt: Any, errors: list[str]) -> Any:
    """Return a logger that appends TensorRT's errors to `errors` in place of printing them."""

    class ErrorLogger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                errors.append(message)

    return ErrorLogger()


def _optimization_profile(builder: Any, graph: Graph, profile: dict[str, Range]) -> Any:
    """Return TensorRT's form of a profile: three shapes of each input."""
    shapes_of = builder.create_optimization_profile()
    for name, port in graph.inputs.items():
        shapes = [
            tuple(profile[size][which] if isinstance(size, str) else size for size in port.shape)
            for which in range(3)
        ]
        shapes_of.set_shape(name, *shapes)
    return shapes_of
