"""TensorRT: runs plans that were built for this GPU beforehand, and never builds one itself."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from hficma.errors import ArtifactError, InputError, MissingDependencyError
from hficma.types import Array

from .base import Arrays, ExecutionReport, Graph, Runtime, example_inputs, prepare_inputs
from .tensorrt_plans import library, plan_file, plan_key, why_stale
from .tensorrt_profiles import Range, profiles_of, run_in_profiles

if TYPE_CHECKING:
    from torch import Tensor


class TensorRTRuntime(Runtime):
    """A plan with an execution context for each of its profiles.

    Args:
        engine: a deserialised `ICudaEngine`.
        graph: what it runs.
        device: `cuda:N`.
        profiles: sizes the plan takes.
    """

    name: ClassVar[str] = "tensorrt"
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "fp16", "bf16")

    def __init__(
        self, engine: Any, graph: Graph, device: str, profiles: list[dict[str, Range]]
    ) -> None:
        import torch

        self._engine = engine
        self._graph = graph
        self._device = device
        self._profiles = profiles
        # A context runs one inference at a time, and all share one stream.
        self._lock = threading.Lock()
        self._stream = torch.cuda.Stream(device)
        self._contexts = []
        for number in range(len(profiles)):
            context = engine.create_execution_context()
            context.set_optimization_profile_async(number, self._stream.cuda_stream)
            self._contexts.append(context)

    @classmethod
    def why_not(cls, graph: Graph) -> str | None:
        """See `Runtime.why_not`: most users build no plans."""
        reason = super().why_not(graph)
        if reason is None and not plan_file(graph).is_file():
            reason = "no TensorRT plan was built of it"
        return reason

    @classmethod
    def load(cls, graph: Graph, *, device: str = "cuda", threads: int | None = None) -> Self:
        """See `Runtime.load`."""
        trt = library()
        try:
            import torch
        except ImportError as error:
            raise MissingDependencyError("torch", "gpu", "the runtime tensorrt") from error
        if not device.startswith("cuda") or not torch.cuda.is_available():
            raise InputError(f"device {device}: the runtime tensorrt needs a CUDA device")
        profiles = profiles_of(graph.name, graph.longest)
        file = plan_file(graph)
        reason = why_stale(file, plan_key(graph, profiles))
        if reason is not None:
            raise ArtifactError(
                f"{file}: no plan to load ({reason}); build TensorRT plans on this machine"
            )
        logger = trt.Logger(trt.Logger.ERROR)
        with torch.cuda.device(device):  # TensorRT works on the thread's current one
            engine = trt.Runtime(logger).deserialize_cuda_engine(file.read_bytes())
            if engine is None:
                raise ArtifactError(f"{file}: TensorRT cannot load it; build its plans again")
            runtime = cls(engine, graph, device, profiles)
        for profile in profiles:
            runtime.run(
                example_inputs(graph, {letter: usual for letter, (_, usual, _) in profile.items()})
            )
        return runtime

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """See `Runtime.run`."""
        import torch

        results = self.run_tensors(
            {
                name: torch.from_numpy(array).to(self._device)
                for name, array in prepare_inputs(self._graph, inputs).items()
            }
        )
        return {name: tensor.cpu().numpy() for name, tensor in results.items()}

    def run_tensors(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Runtime.run_tensors`."""
        import torch

        with self._lock:
            # What wrote the inputs, on the caller's stream, comes first, and its stream waits for
            # the results.
            current = torch.cuda.current_stream(self._device)
            self._stream.wait_stream(current)
            results: dict[str, Tensor] = run_in_profiles(
                self._execute,
                {name: inputs[name] for name in self._graph.inputs},
                self._graph.inputs,
                self._graph.outputs,
                self._profiles,
                torch.cat,
            )
            current.wait_stream(self._stream)
        return results

    def describe(self) -> ExecutionReport:
        """See `Runtime.describe`."""
        trt = library()
        return ExecutionReport(
            runtime=self.name,
            version=str(trt.__version__),
            provider=trt.__name__,
            device=self._device,
            precision=self._graph.precision,
        )

    def _execute(self, number: int, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Run inputs that fit the profile of a number."""
        import torch

        context = self._contexts[number]
        with torch.cuda.stream(self._stream):
            # Held until the stream has run: TensorRT only knows their addresses.
            tensors = {name: tensor.contiguous() for name, tensor in inputs.items()}
            for name, tensor in tensors.items():
                context.set_input_shape(name, tuple(tensor.shape))
                context.set_tensor_address(name, tensor.data_ptr())
            results = {}
            for name in self._graph.outputs:
                shape = tuple(context.get_tensor_shape(name))
                results[name] = torch.empty(shape, dtype=torch.float32, device=self._device)
                context.set_tensor_address(name, results[name].data_ptr())
            if not context.execute_async_v3(self._stream.cuda_stream):
                raise RuntimeError(f"TensorRT could not run graph {self._graph.name}")
            self._stream.synchronize()
        return results
