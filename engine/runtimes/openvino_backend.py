"""OpenVINO: reads the same ONNX; on recent CPUs it computes in bf16 and int8 faster."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Self

from hficma.errors import ArtifactError, InputError, MissingDependencyError
from hficma.types import Array

from .base import (
    Arrays,
    ExecutionReport,
    Graph,
    Runtime,
    example_inputs,
    graph_letters,
    prepare_inputs,
)

_log = logging.getLogger("hficma")

_NAMES = {"f32": "fp32", "bf16": "bf16"}
"""What OpenVINO calls precisions, and what we do."""


class OpenVinoRuntime(Runtime):
    """A compiled OpenVINO model.

    Args:
        compiled: an `openvino.CompiledModel`.
        graph: what it runs.
    """

    name: ClassVar[str] = "openvino"
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "fp16", "bf16", "int8")

    def __init__(self, compiled: Any, graph: Graph) -> None:
        self._compiled = compiled
        self._graph = graph
        # A request runs one inference at a time, so each thread has its own.
        self._requests = threading.local()

    @classmethod
    def load(cls, graph: Graph, *, device: str = "cpu", threads: int | None = None) -> Self:
        """See `Runtime.load`."""
        try:
            import openvino
        except ImportError as error:
            raise MissingDependencyError("openvino", "openvino", "the runtime openvino") from error
        if device != "cpu":
            raise InputError(f"device {device}: the runtime openvino runs on the CPU here")
        # Left alone, it takes bf16 where the CPU has it, whatever the graph says.
        options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "bf16" if graph.precision == "bf16" else "f32",
        }
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        try:
            compiled = _compile(openvino.Core(), str(graph.file), options)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise ArtifactError(f"{graph.file}: openvino cannot load it ({reason})") from error
        runtime = cls(compiled, graph)
        if graph.precision == "bf16" and runtime._computes_in() != "bf16":
            _log.warning(
                "graph %s: openvino computes it in fp32, for this CPU has no bf16", graph.name
            )
        # Of size 2 along every axis: after a first run over texts of one token, OpenVINO 2026 gives
        # wrong vectors of longer ones (SigLIP's, whose attention has no mask), as if the axis were
        # one to broadcast.
        runtime.run(example_inputs(graph, dict.fromkeys(graph_letters(graph), 2)))
        return runtime

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """See `Runtime.run`."""
        if not hasattr(self._requests, "request"):
            self._requests.request = self._compiled.create_infer_request()
        ready = prepare_inputs(self._graph, inputs)
        try:
            results = self._requests.request.infer(ready, share_inputs=True)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise ArtifactError(f"{self._graph.file}: openvino fails ({reason})") from error
        # Copied, for the request writes its next results into the same memory.
        return {name: results[name].copy() for name in self._graph.outputs}

    def describe(self) -> ExecutionReport:
        """See `Runtime.describe`."""
        import openvino

        # int8 and fp16 are in the graph's own weights; the hint is what the rest computes in.
        stored = self._graph.precision in ("int8", "fp16")
        return ExecutionReport(
            runtime=self.name,
            version=openvino.__version__.partition("-")[0],
            provider="CPU",
            device="cpu",
            precision=self._graph.precision if stored else self._computes_in(),
        )

    def _computes_in(self) -> str:
        """Return the precision that OpenVINO itself says it computes in."""
        hint = self._compiled.get_property("INFERENCE_PRECISION_HINT")
        return _NAMES[hint.get_type_name()]


def _compile(core: Any, file: str, options: dict[str, Any]) -> Any:
    """Compile a model in a thread that ends with it.

    OpenVINO 2026 gives the thread that compiles a stack for signals, and puts the one before back
    when the model is freed. Of two models freed in the order in which they came, the second puts
    back the first one's, which is gone: the next signal ends the process. A thread of its own takes
    that state with it.

    Raises:
        RuntimeError: OpenVINO cannot load the file.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(core.compile_model, file, "CPU", options).result()
