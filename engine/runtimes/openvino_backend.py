"""OpenVINO: reads the same ONNX; on recent CPUs it computes in bf16 and int8 faster."""

from __future__ import annotations

import threading
from typing import Any, ClassVar, Self

from hficma.errors import ArtifactError, InputError, MissingDependencyError
from hficma.types import Array

from .base import Arrays, Execution, Graph, Runtime, example, prepared

_NAMES = {"f32": "fp32", "bf16": "bf16"}


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
        self._requests = threading.local()

    @classmethod
    def load(cls, graph: Graph, *, device: str = "cpu", threads: int | None = None) -> Self:
        """See the base."""
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
            compiled = openvino.Core().compile_model(str(graph.file), "CPU", options)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise ArtifactError(f"{graph.file}: openvino cannot load it ({reason})") from error
        runtime = cls(compiled, graph)
        runtime.run(example(graph, {}))
        return runtime

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """See the base."""
        if not hasattr(self._requests, "own"):
            self._requests.own = self._compiled.create_infer_request()
        ready = prepared(self._graph, inputs)
        try:
            results = self._requests.own.infer(ready, share_inputs=True)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise ArtifactError(f"{self._graph.file}: openvino fails ({reason})") from error
        return {name: results[name].copy() for name in self._graph.outputs}

    def describe(self) -> Execution:
        """See the base."""
        import openvino

        computes = self._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        # int8 and fp16 are in the graph's own weights; the hint is what the rest computes in.
        stored = self._graph.precision in ("int8", "fp16")
        return Execution(
            runtime=self.name,
            version=openvino.__version__.partition("-")[0],
            provider="CPU",
            device="cpu",
            precision=self._graph.precision if stored else _NAMES[computes],
        )
