"""int8 for the graphs `image` and `text`: static quantisation, a scale a channel, calibrated.

Weights and activations become integers with a scale, x is about scale * (q - zero point), and the
graph says where (QuantizeLinear and DequantizeLinear nodes, "Q/DQ"), so that every runtime fuses
them with its own integer kernels. Scales of weights follow from the weights. Those of activations
need calibration: photos or texts are run through the float32 graph, and the smallest and largest
value that each activation takes are its range. Ranges from too few items clip the values of others.
Items that calibrate are of training pairs, never of those that figures are of.

Convolutional graphs compute in integers from end to end. Of transformers only the layers do, the
products of activations with weights: those of attention, normalisations and what stands between
them are a small part of the work and the one that int8 serves worst.

Only encoders whose layers are the work are quantised; what is small is stored narrowly alone
(`stored_weights`), and so are layers that compute in float32. Which do is measured on items that
did not calibrate: those whose quantisation alone makes the most noise in the outputs, two more at a
time, until the noise is small enough. Where files are to be small and time does not matter, none is
quantised (`round_weights`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hficma.engine.runtimes import Arrays
from hficma.errors import MissingDependencyError
from hficma.types import Array, Floats

from .stored_weights import store_narrowly

LARGEST_NOISE = 0.1
"""Noise of an output, as a share of its spread over items, up to which no layer stays float32."""
MOST_FLOAT32_LAYERS = 8
"""The most convolutions that stay float32: beyond that int8 is no longer worth its noise."""
MOST_FLOAT32_SHARE = 1 / 3
"""Share of a transformer's layers that may compute in float32; their weights are stored in int8."""
BATCH = 8
"""Items run at once."""


@dataclass(frozen=True, kw_only=True)
class _Scheme:
    """What of a graph is quantised."""

    operators: tuple[str, ...]
    """Those that read and give integers."""
    layers: tuple[str, ...]
    """Names of the nodes with weights, which may stay float32."""
    nodes: tuple[str, ...]
    """Names of all nodes that are quantised; none names all of the operators."""
    most_float32: int
    """How many may."""
    options: Mapping[str, Any]
    """Of onnxruntime's quantiser."""
    may_give_up: bool
    """Whether a graph that stays too noisy is left to compute in float32 altogether."""


def quantize(file: Path, inputs: Arrays, *, widen: bool) -> tuple[bytes, list[str], float]:
    """Quantise a graph.

    Args:
        file: the float32 graph.
        inputs: of real items, by name, the first axis of each counting them; every fourth item
            judges, the others calibrate.
        widen: leave the noisiest layers in float32; without real items nothing tells which.

    Returns:
        the ONNX file's bytes; the names of the layers that compute in float32, which are all where
        a transformer is too noisy otherwise; the noise that remains.

    Raises:
        MissingDependencyError: onnx is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingDependencyError("onnx", "train", "precision int8") from error
    is_judge = np.arange(len(next(iter(inputs.values())))) % 4 == 3
    if not is_judge.any():
        is_judge[:] = True
    calibrates = ~is_judge if not is_judge.all() else is_judge
    calibrating, judging = (
        {name: array[some] for name, array in inputs.items()} for some in (calibrates, is_judge)
    )
    scheme = _scheme(onnx.load(file).graph)
    with tempfile.TemporaryDirectory() as folder:
        quantizer = _Quantizer(file, scheme, calibrating, judging, Path(folder))
        float32_layers: list[str] = []
        content, noise = quantizer.quantize(float32_layers)
        if widen and noise > LARGEST_NOISE:
            noisiest = quantizer.by_noise(scheme.layers)
            most = min(scheme.most_float32, len(noisiest))
            # Two at a time, each try on the whole graph: noises of single layers do not add up.
            while noise > LARGEST_NOISE and len(float32_layers) < most:
                float32_layers = noisiest[: len(float32_layers) + 2]
                content, noise = quantizer.quantize(float32_layers)
    if scheme.may_give_up and widen and noise > LARGEST_NOISE:
        return round_weights(file, judging)
    return content, float32_layers, noise


def round_weights(file: Path, inputs: Arrays) -> tuple[bytes, list[str], float]:
    """Store a graph's weights narrowly and compute in float32: as small, slower, hardly any noise.

    Args:
        file: the float32 graph.
        inputs: of real items, which judge.

    Returns:
        as `quantize`.
    """
    import onnx

    model = onnx.load(file)
    layers = list(_scheme(model.graph).layers)
    store_narrowly(model)
    content: bytes = model.SerializeToString()
    return content, layers, output_noise(content, _outputs(file.read_bytes(), inputs), inputs)


def _scheme(graph: Any) -> _Scheme:
    """Return how a graph is quantised: transformers are known by normalising each token."""
    constants = {tensor.name for tensor in graph.initializer}
    if all(node.op_type != "LayerNormalization" for node in graph.node):
        convolutions = [node.name for node in graph.node if node.op_type == "Conv"]
        return _Scheme(
            operators=("Conv", "Add", "MaxPool", "Relu", "Clip", "Pad"),
            layers=tuple(convolutions),
            nodes=(),
            most_float32=MOST_FLOAT32_LAYERS,
            options={},
            may_give_up=False,
        )
    products = [
        node.name
        for node in graph.node
        if node.op_type in ("MatMul", "Gemm") and node.input[1] in constants
    ]
    return _Scheme(
        operators=("MatMul", "Gemm"),
        layers=tuple(products),
        nodes=tuple(products),
        most_float32=max(MOST_FLOAT32_LAYERS, int(MOST_FLOAT32_SHARE * len(products))),
        options={
            # What a layer gives is summed, normalised or bent next, in float32: rounding it first
            # would only lose digits.
            "OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"],
        },
        may_give_up=True,
    )


class _Quantizer:
    """Quantises one graph in several ways from one calibration, and measures each.

    Args:
        file: the float32 graph.
        scheme: what is quantised.
        calibrating: inputs that ranges of activations are read from.
        judging: inputs that noise is measured on.
        folder: for files of its own.
    """

    def __init__(
        self, file: Path, scheme: _Scheme, calibrating: Arrays, judging: Arrays, folder: Path
    ) -> None:
        from onnxruntime.quantization import CalibrationMethod
        from onnxruntime.quantization.calibrate import create_calibrator

        self._file = file
        self._scheme = scheme
        self._judging = judging
        calibrator = create_calibrator(
            file,
            list(scheme.operators),
            augmented_model_path=str(folder / "calibration.onnx"),
            calibrate_method=CalibrationMethod.MinMax,
        )
        calibrator.collect_data(_Reader(calibrating))
        self._ranges = calibrator.compute_data()
        self._exact = _outputs(file.read_bytes(), judging)

    def quantize(self, wide: Sequence[str], only: Sequence[str] = ()) -> tuple[bytes, float]:
        """Quantise the graph, and measure the noise of its outputs.

        Args:
            wide: names of layers that stay float32.
            only: names of the layers to quantise; none names all.

        Returns:
            the ONNX file's bytes, and their noise (`output_noise`).
        """
        import onnx
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        quantizer = QDQQuantizer(
            onnx.load(self._file),
            per_channel=True,
            # 7-bit weights: CPUs without VNNI add pairs of products in 16 bits, which 8-bit ones
            # overflow, 2 x 255 x 127; 2 x 255 x 64 are 32,640, and the same on every CPU.
            reduce_range=True,
            weight_qType=QuantType.QInt8,
            # Unsigned, so that ReLU is the type's own lower end and leaves the graph.
            activation_qType=QuantType.QUInt8,
            tensors_range=self._ranges,
            # All of the operators, or none but these: a transformer's layers, not its attention.
            nodes_to_quantize=list(only or self._scheme.nodes),
            nodes_to_exclude=list(wide),
            op_types_to_quantize=list(self._scheme.operators),
            extra_options=dict(self._scheme.options),
        )
        quantizer.quantize_model()
        if not only:  # the file as it will be; alone, a layer's noise is that of no other
            store_narrowly(quantizer.model.model)
        content: bytes = quantizer.model.model.SerializeToString()
        return content, output_noise(content, self._exact, self._judging)

    def by_noise(self, layers: Sequence[str]) -> list[str]:
        """Sort layers by the noise that each makes when it alone is quantised, noisiest first."""
        noise = {layer: self.quantize((), only=[layer])[1] for layer in layers}
        return sorted(layers, key=lambda layer: -noise[layer])


def output_noise(content: bytes, exact: Sequence[Floats], inputs: Arrays) -> float:
    """Return the larger, over outputs, of rms error over rms deviation from the mean item.

    What all items share tells none apart, so that noise is held against what differs.

    Args:
        content: the graph's file.
        exact: each output of the float32 graph (items, ...).
        inputs: of the same items.
    """
    return max(
        float(
            np.linalg.norm(narrow - wide)
            / max(float(np.linalg.norm(wide - wide.mean(axis=0))), 1e-12)
        )
        for narrow, wide in zip(_outputs(content, inputs), exact, strict=True)
    )


class _Reader:
    """Calibration items as onnxruntime's calibrator reads them: batch after batch, then None."""

    def __init__(self, inputs: Arrays) -> None:
        self._batches = _batches(inputs)

    def get_next(self) -> dict[str, Array] | None:
        return next(self._batches, None)


def _batches(inputs: Arrays) -> Iterator[dict[str, Array]]:
    """Yield the inputs of the graph for each batch of items, texts no longer than its longest."""
    for start in range(0, len(next(iter(inputs.values()))), BATCH):
        batch = {name: array[start : start + BATCH] for name, array in inputs.items()}
        if "lengths" in batch:
            batch["word_ids"] = batch["word_ids"][:, : int(batch["lengths"].max())]
        yield batch


def _outputs(content: bytes, inputs: Arrays) -> list[Floats]:
    """Run a graph on items: each of its outputs, (items, ...)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Exact sums of 8-bit products also where the processor lacks instructions for them.
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    parts = [session.run(None, batch) for batch in _batches(inputs)]
    return [np.concatenate(output) for output in zip(*parts, strict=True)]
