"""ONNX Runtime: the default, on the CPU or a CUDA device."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from hficma.errors import ArtifactError, InputError, MissingDependencyError
from hficma.types import Array

from .base import (
    Arrays,
    ExecutionReport,
    Graph,
    Runtime,
    example_inputs,
    output_shapes,
    prepare_inputs,
)

if TYPE_CHECKING:
    from torch import Tensor


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
            with contextlib.suppress(ImportError):
                import torch  # noqa: F401  brings CUDA's libraries, and has loaded them
            number = _device_number(device)
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

    def run_tensors(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Runtime.run_tensors`: the session reads and writes the tensors' own memory."""
        import torch

        device = torch.device(self._device)
        binding = self._session.io_binding()
        ready = {name: inputs[name].contiguous() for name in self._graph.inputs}
        shapes = {name: tuple(tensor.shape) for name, tensor in ready.items()}
        results = {
            name: torch.empty(shape, dtype=torch.float32, device=device)
            for name, shape in output_shapes(self._graph, shapes).items()
        }
        number = _device_number(self._device)
        for name, tensor in ready.items():
            dtype, address = self._graph.inputs[name].dtype, tensor.data_ptr()
            binding.bind_input(name, device.type, number, dtype, shapes[name], address)
        for name, tensor in results.items():
            shape, address = tuple(tensor.shape), tensor.data_ptr()
            binding.bind_output(name, device.type, number, "float32", shape, address)
        if device.type != "cpu":
            # The session runs on a stream of its own, which knows nothing of torch's.
            torch.cuda.current_stream(device).synchronize()
        try:
            self._session.run_with_iobinding(binding)
            binding.synchronize_outputs()
        except Exception as error:  # as above
            reason = str(error).splitlines()[0]
            raise ArtifactError(f"{self._graph.file}: onnxruntime fails ({reason})") from error
        return results

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


def _device_number(device: str) -> int:
    """Return N of `cuda:N`, 0 where none is named."""
    return int(device.partition(":")[2] or 0)
