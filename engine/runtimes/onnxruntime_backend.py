"""ONNX Runtime: the default, on the CPU or a CUDA device."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from hficma.errors import ArtifactError, InputError, MissingDependencyError
from hficma.types import Array

from .base import Arrays, ExecutionReport, Graph, Runtime, example_inputs, prepare_inputs


class OnnxRuntime(Runtime):
    """A session of ONNX Runtime.

    Args:
        session: an `onnxruntime.InferenceSession`.
        graph: what it runs.
        device: where the session runs.
    """

    name: ClassVar[str] = "onnxruntime"
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "fp16", "int8")

    def __init__(self, session: Any, graph: Graph, device: str) -> None:
        self._session = session
        self._graph = graph
        self._device = device

    @classmethod
    def load(cls, graph: Graph, *, device: str = "cpu", threads: int | None = None) -> Self:
        """See `Runtime.load`."""
        try:
            import onnxruntime
        except ImportError as error:
            extra = "cpu" if device == "cpu" else "gpu"
            raise MissingDependencyError("onnxruntime", extra, "running a bundle") from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors: its warnings are of graphs, not of what we can do
        options.intra_op_num_threads = threads or 0  # 0: as many as there are cores
        # Idle threads that spin take the cores from re-ranking: searches took twice as long.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Without AVX512-VNNI the usual int8 kernels saturate 16-bit sums; this asks for exact ones.
        options.add_session_config_entry("session.x64quantprecision", "1")
        providers: list[Any] = ["CPUExecutionProvider"]
        if device != "cpu":
            number = int(device.partition(":")[2] or 0)
            # TF32 is its default, with 10 bits of mantissa: the reference and the certificates
            # count on float32's 23.
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": number, "use_tf32": 0}))
        try:
            session = onnxruntime.InferenceSession(
                str(graph.file), sess_options=options, providers=providers
            )
        except Exception as error:  # its own exception types are not exported
            reason = str(error).splitlines()[0]
            raise ArtifactError(f"{graph.file}: onnxruntime cannot load it ({reason})") from error
        if device != "cpu" and session.get_providers()[0] == "CPUExecutionProvider":
            raise InputError(
                f"device {device}: onnxruntime fell back to the CPU; install 'hficma[gpu]' and a "
                "CUDA driver, or take the device cpu"
            )
        runtime = cls(session, graph, device)
        runtime.run(example_inputs(graph, {}))
        return runtime

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """See `Runtime.run`."""
        names = list(self._graph.outputs)
        ready = prepare_inputs(self._graph, inputs)
        try:
            results = self._session.run(names, ready)
        except Exception as error:  # as above: ids past a table, or no memory
            reason = str(error).splitlines()[0]
            raise ArtifactError(f"{self._graph.file}: onnxruntime fails ({reason})") from error
        return dict(zip(names, results, strict=True))

    def describe(self) -> ExecutionReport:
        """See `Runtime.describe`."""
        import onnxruntime

        return ExecutionReport(
            runtime=self.name,
            version=onnxruntime.__version__,
            provider=self._session.get_providers()[0],
            device=self._device,
            precision=self._graph.precision,
        )
