"""int8 by Q/DQ: layers of convnets and of transformers, with sums that no processor overflows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from hficma.export import quantize as quantization
from hficma.export.quantize import quantize, round_weights
from hficma.export.trace import trace
from hficma.model.graphs import Branch
from hficma.types import ArraySpec


class Transformer(Branch):
    """Two blocks over the tokens of a text, as small as can be."""

    def __init__(self) -> None:
        super().__init__(
            {"word_ids": ArraySpec("int64", ("S", "W")), "lengths": ArraySpec("int64", ("S",))},
            {"vectors": ArraySpec("float32", ("S", 16))},
            torch.float32,
        )
        torch.manual_seed(0)
        self.words = nn.Embedding(50, 16)
        self.norms = nn.ModuleList(nn.LayerNorm(16) for _ in range(2))
        self.widen = nn.ModuleList(nn.Linear(16, 64) for _ in range(2))
        self.narrow = nn.ModuleList(nn.Linear(64, 16) for _ in range(2))

    def compute(self, arrays: dict[str, Tensor]) -> tuple[Tensor, ...]:
        tokens = self.words(arrays["word_ids"])
        present = torch.arange(tokens.shape[1]) < arrays["lengths"][:, None]
        for norm, widen, narrow in zip(self.norms, self.widen, self.narrow, strict=True):
            attention = torch.softmax(tokens @ tokens.mT + (~present[:, None] * -1e4), dim=-1)
            tokens = norm(tokens + attention @ tokens)
            tokens = tokens + narrow(torch.nn.functional.gelu(widen(tokens)))
        return ((tokens * present[..., None]).sum(1) / arrays["lengths"][:, None],)


class Convnet(Branch):
    """Two layers of filters, those of each row of the second of one size of their own."""

    def __init__(self) -> None:
        super().__init__(
            {"pixels": ArraySpec("float32", ("B", 3, 16, 16))},
            {"features": ArraySpec("float32", ("B", 64, 8, 8))},
            torch.float32,
        )
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 64, 3, stride=2, padding=1)
        self.head = nn.Conv2d(64, 64, 3, padding=1)
        self.head.weight.data *= torch.logspace(-3, 0, 64)[:, None, None, None]

    def compute(self, arrays: dict[str, Tensor]) -> tuple[Tensor, ...]:
        return (self.head(torch.relu(self.stem(arrays["pixels"]))),)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("graph") / "text.onnx"
    trace(Transformer().eval(), file)
    return file


def texts(count: int = 16) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 9, count)
    return {"word_ids": rng.integers(1, 50, (count, 8)), "lengths": lengths}


def test_a_transformer_computes_its_layers_in_int8(graph: Path) -> None:
    """Attention would be rounded too, or nothing at all."""
    content, float32_layers, noise = quantize(graph, texts(), widen=True)
    assert float32_layers == []
    assert noise < quantization.LARGEST_NOISE
    nodes = onnx.load_from_string(content).graph.node
    made = {name: node for node in nodes for name in node.output}
    products = [node for node in nodes if node.op_type in ("MatMul", "Gemm")]
    kinds = [{made[name].op_type for name in node.input[:2] if name in made} for node in products]
    assert kinds.count({"DequantizeLinear"}) == 4
    assert len(kinds) == 8, "two of attention in each block"


def test_sums_of_two_products_fit_16_bits(graph: Path) -> None:
    """CPUs without VNNI add two products in 16 bits, saturating: other answers on another CPU."""
    content, _, _ = quantize(graph, texts(), widen=True)
    weights = [
        numpy_helper.to_array(tensor).astype(int)
        for tensor in onnx.load_from_string(content).graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) == 2
    ]
    assert len(weights) == 4
    assert 2 * 255 * max(np.abs(weight).max() for weight in weights) < 2**15


def test_layers_that_hurt_compute_in_float32(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """int8 would be what it is, however noisy; or a graph is given up that a layer or two spoil."""
    monkeypatch.setattr(quantization, "LARGEST_NOISE", 0.0)
    monkeypatch.setattr(quantization, "MOST_FLOAT32_LAYERS", 2)
    content, float32_layers, least = quantize(graph, texts(), widen=True)
    assert len(float32_layers) == 4
    assert all(
        node.op_type != "DequantizeLinear" for node in onnx.load_from_string(content).graph.node
    ), "the transformer is stored in int8, and computes in float32"
    _, float32_layers, noise = quantize(graph, texts(), widen=False)
    assert not float32_layers
    monkeypatch.setattr(quantization, "LARGEST_NOISE", 0.999 * noise)
    _, float32_layers, less = quantize(graph, texts(), widen=True)
    assert len(float32_layers) == 2
    assert least < less < noise


@pytest.fixture
def convnet(tmp_path: Path) -> Path:
    trace(Convnet().eval(), tmp_path / "image.onnx")
    return tmp_path / "image.onnx"


def photos(count: int = 8) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {"pixels": generator.normal(size=(count, 3, 16, 16)).astype(np.float32)}


def test_a_convolution_in_float32_is_stored_in_half_the_bytes(
    convnet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two wide layers would be a third of a network's file."""
    # Just above what the file comes to whose layers all compute in float32.
    monkeypatch.setattr(quantization, "LARGEST_NOISE", 0.008)
    content, float32_layers, noise = quantize(convnet, photos(), widen=True)
    assert len(float32_layers) == 2
    assert 0 < noise < 0.008
    assert not _wide(content), "all of the head's 36,864 weights are halves"


def test_weights_alone_are_rounded(convnet: Path) -> None:
    """Integers that compute, though none were asked for; or a filter that lost what it tells."""
    content, float32_layers, noise = round_weights(convnet, photos())
    assert len(float32_layers) == 2
    assert 0 < noise < 1e-3 < quantize(convnet, photos(), widen=False)[2]
    assert not _wide(content)
    assert len(content) < 0.55 * convnet.stat().st_size
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (features,) = session.run(None, photos())
    with torch.no_grad():
        (exact,) = Convnet().eval().compute({"pixels": torch.from_numpy(photos()["pixels"])})
    errors = np.abs(features - exact.numpy()).max(axis=(0, 2, 3))
    largest = np.abs(exact.numpy()).max(axis=(0, 2, 3))
    assert (errors / largest).max() < 2e-3, "each filter by itself, those a thousandth in size too"


def _wide(content: bytes) -> list[str]:
    """Return the names of large weights that are float32."""
    return [
        tensor.name
        for tensor in onnx.load_from_string(content).graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and np.prod(tensor.dims) >= 2048
    ]
