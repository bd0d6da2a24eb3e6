"""On a GPU any of its runtimes is enough, and each runs on torch's tensors as on arrays.

Which packages are there is simulated by the registry's own facts; what a CUDA build alone shows is
marked `gpu`.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hficma.engine.bundle.bundle import Bundle
from hficma.engine.runtimes import registry, runtime_class
from hficma.engine.runtimes import selection as auto
from hficma.engine.runtimes.base import example_inputs
from hficma.engine.runtimes.options import ExecutionOptions
from hficma.engine.runtimes.reference import REFERENCE, read_reference
from hficma.engine.runtimes.registry import RUNTIMES, installed
from hficma.errors import HficmaError

torch = pytest.importorskip("torch", reason="runtimes of a GPU share its memory with torch")

CPU = ExecutionOptions(threads=1)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> object:
    """Say which runtimes are installed; the CPU's torch stands for one that sees a card."""

    def install(*names: str, onnxruntime_for_cuda: bool = True) -> None:
        for name, backend in RUNTIMES.items():
            changes: dict[str, object] = {"imports": ("json",) if name in names else ("absent",)}
            if name in names and name in ("onnxruntime", "torch"):
                changes["imports"] = (name,)
            if name == "onnxruntime":
                lists = "CPUExecutionProvider" if onnxruntime_for_cuda else "of no build"
                changes["cuda_provider"] = lists
            monkeypatch.setitem(RUNTIMES, name, replace(backend, **changes))

    return install


def test_a_gpu_takes_whichever_runtime_is_there(here: object) -> None:
    """A card that torch sees would be refused for want of another package."""
    for names, expected in (
        (("torch",), ["torch"]),
        (("onnxruntime",), ["onnxruntime"]),
        (("onnxruntime", "torch"), ["onnxruntime", "torch"]),
        (("tensorrt", "openvino", "torch"), ["tensorrt", "torch"]),
        ((), ["onnxruntime"]),
    ):
        here(*names)
        assert installed("cuda:1") == expected
    here("onnxruntime", "torch", onnxruntime_for_cuda=False)
    assert installed("cuda") == ["torch"], "a build for the CPU alone would fall back to it"
    assert installed("cpu") == ["onnxruntime"], "on a CPU torch is the reference alone"


def test_every_set_of_runtimes_answers_what_the_reference_says(
    hf_icma_bundle: Path, here: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With any one of them a search on a GPU must work, and say what runs each graph."""
    reference = read_reference(hf_icma_bundle / REFERENCE)
    graph = Bundle.open(hf_icma_bundle).graph("image")
    for name, backend in RUNTIMES.items():
        if "cuda" in backend.automatic:
            monkeypatch.setitem(RUNTIMES, name, replace(backend, automatic=("cpu", "cuda")))
    for names in (("torch",), ("onnxruntime",), ("onnxruntime", "torch"), ("tensorrt", "torch")):
        here(*names)
        choice = auto.measure(graph, reference, CPU)
        assert choice.runtime in names
        assert choice.precision is None
        if "tensorrt" in names:
            assert "no TensorRT plan" in choice.refused["tensorrt"]


def test_torch_takes_in_fp32_what_it_cannot_run_narrow(
    hf_icma_bundle: Path, here: object, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    """An int8 bundle on a GPU with torch alone would not open; the way it runs is remembered."""
    monkeypatch.setitem(RUNTIMES, "torch", replace(RUNTIMES["torch"], automatic=("cpu", "cuda")))
    here("torch")
    caplog.set_level(logging.INFO, "hficma")
    reference = read_reference(hf_icma_bundle / REFERENCE)
    graph = replace(Bundle.open(hf_icma_bundle).graph("image"), precision="int8")
    for _ in range(2):
        choice = auto.choose(graph, lambda: reference, CPU, cache=tmp_path)
        assert (choice.runtime, choice.precision) == ("torch", "fp32")
    assert "graph image: torch takes it in fp32 (cannot run int8)" in caplog.text


def test_what_torch_rounds_is_held_to_scores(hf_icma_bundle: Path, here: object) -> None:
    """Weights rounded one by one lose what tells photos apart, and nobody compared them before."""
    reference = read_reference(hf_icma_bundle / REFERENCE)
    graph = replace(Bundle.open(hf_icma_bundle).graph("image"), precision="fp16")
    loaded = runtime_class("torch").load(graph)
    outputs = loaded.run({"photos": reference["photos"]})
    assert loaded.describe().precision == "fp16"
    assert outputs["global"].dtype == np.float32
    assert 0 < np.abs(outputs["global"] - reference["image_global"]).max() < 0.05
    wrong = dict(reference, image_global=reference["image_global"][::-1].copy())
    same, reason = auto._load_and_compare("torch", graph, wrong, CPU)
    assert same is None
    assert "global differs by" in reason


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "torch"])
@pytest.mark.parametrize("graph_name", ["image", "recipe", "project_recipe", "cross_tables"])
def test_tensors_are_run_as_arrays_are(name: str, graph_name: str, hf_icma_bundle: Path) -> None:
    """Queries that never leave a GPU would be scored otherwise than those that do."""
    pytest.importorskip(name, reason=f"{name} is not installed")
    bundle = Bundle.open(hf_icma_bundle, CPU.changed(runtime=name))
    runtime, graph = bundle.runtime(graph_name), bundle.graph(graph_name)
    inputs = example_inputs(graph, {"B": 3, "M": 2, "T": 4, "N": 5, "G": 1})
    expected = runtime.run(inputs)
    tensors = runtime.run_tensors({n: torch.from_numpy(a) for n, a in inputs.items()})
    assert list(tensors) == list(expected)
    for output, tensor in tensors.items():
        assert tensor.dtype == torch.float32
        np.testing.assert_allclose(tensor.numpy(), expected[output], rtol=1e-6, atol=1e-7)


def test_a_function_off_a_gpu_is_called_as_it_is() -> None:
    """A recording replays the arrays of its first call unless arguments are copied into it."""
    from hficma.engine.runtimes.captured import CapturedCalls

    calls = CapturedCalls(lambda a, b: (a + b, a * b), "cpu")
    for number in range(3):
        a, b = torch.full((2,), float(number)), torch.ones(2)
        total, product = calls(a, b)
        assert torch.equal(total, a + b)
        assert torch.equal(product, a * b)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_recordings_give_what_the_function_gives() -> None:
    """A replayed recording must read this call's arguments, and leave the last call's results."""
    from hficma.engine.runtimes.captured import CapturedCalls

    layer = torch.nn.Linear(64, 64).cuda().requires_grad_(False)
    calls = CapturedCalls(lambda x: (layer(x).relu(),), "cuda")
    inputs = [torch.randn(rows, 64, device="cuda") for rows in (1, 32, 1, 32, 5)]
    results = [calls(x)[0] for x in inputs]
    for x, result in zip(inputs, results, strict=True):
        torch.testing.assert_close(result, layer(x).relu())
    reads = CapturedCalls(lambda x: (x * float(x.sum()),), "cuda")  # reads a value on the host
    torch.testing.assert_close(reads(inputs[0])[0], inputs[0] * inputs[0].sum())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
@pytest.mark.parametrize("name", ["torch", "onnxruntime"])
@pytest.mark.parametrize("graph_name", ["image", "recipe"])
def test_a_card_gives_what_the_processors_give(
    name: str, graph_name: str, hf_icma_bundle: Path
) -> None:
    """Each runtime on its own, by arrays and by tensors, on a stream of its own or torch's."""
    if name not in installed("cuda"):
        pytest.skip(f"{name} is not installed, or no build for CUDA")
    reference = read_reference(hf_icma_bundle / REFERENCE)
    graph = Bundle.open(hf_icma_bundle).graph(graph_name)
    execution = ExecutionOptions(device="cuda", runtime=name)
    try:
        loaded, reason = auto._load_and_compare(name, graph, reference, execution)
    except HficmaError as error:
        pytest.fail(str(error))
    assert loaded is not None, reason
    inputs = example_inputs(graph, {"B": 3, "M": 2, "T": 4, "N": 5})
    expected = loaded.run(inputs)
    tensors = {n: torch.from_numpy(a).cuda() for n, a in inputs.items()}
    for output, tensor in loaded.run_tensors(tensors).items():
        np.testing.assert_allclose(tensor.cpu().numpy(), expected[output], rtol=1e-5, atol=1e-6)


def test_facts_of_a_build_are_read_from_it() -> None:
    """onnxruntime's build for the CPU must not be taken for the other."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    import onnxruntime

    listed = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    assert registry._is_cuda_build(RUNTIMES["onnxruntime"]) == listed
