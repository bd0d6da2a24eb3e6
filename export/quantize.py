"""int8 for the graph `image`: static quantisation, a scale a channel, calibrated on photos.

Weights and activations become integers with a scale, x is about scale * (q - zero point), and the
graph says where (QuantizeLinear and DequantizeLinear nodes, "Q/DQ"), so that every runtime fuses
them with its own integer kernels. Scales of weights follow from the weights. Those of activations
need calibration: photos are run through the float32 graph, and the smallest and largest value that
each activation takes are its range. With ranges from too few photos others are clipped; photos are
training pairs, never those that figures are of.

Only the image encoder is quantised: there int8 pays, and there its noise is averaged over regions.
Which layers stay float32 is measured on photos that did not calibrate: those whose quantisation
alone makes the most noise in the outputs, two more at a time, until the noise is small enough.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hficma.errors import MissingDependencyError
from hficma.types import Floats, Pixels

LARGEST_NOISE = 0.1
"""Noise of an output, as a share of its spread over photos, up to which no layer stays float32."""
MOST_FLOAT32_LAYERS = 8
"""The most layers that stay float32: beyond that int8 is no longer worth its noise."""
BATCH = 8
"""Photos run at once."""

_QUANTISED = ["Conv", "Add", "MaxPool", "Relu", "Clip"]


def quantize_image(
    directory: Path, graph: dict[str, Any], photos: Pixels, *, widen: bool
) -> dict[str, Any]:
    """Write `onnx/image.int8.onnx` beside the fp32 graph.

    Args:
        directory: of the bundle being written.
        graph: record of the `image` graph; gets the new file.
        photos: (B, s, s, 3) real photos; every fourth judges, the others calibrate.
        widen: leave the noisiest layers in float32; without real photos nothing tells which.

    Returns:
        facts for the manifest: the layers in float32 and the noise that remains.

    Raises:
        MissingDependencyError: onnx is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingDependencyError("onnx", "train", "precision int8") from error
    is_judge = np.arange(len(photos)) % 4 == 3
    calibrating = photos[~is_judge] if is_judge.any() else photos
    judging = photos[is_judge] if is_judge.any() else photos
    wide_file = directory / graph["precisions"]["fp32"]
    model = onnx.load(wide_file)
    layers = [node.name for node in model.graph.node if node.op_type == "Conv"]
    with tempfile.TemporaryDirectory() as folder:
        quantizer = _Quantizer(wide_file, calibrating, judging, Path(folder))
        float32_layers: list[str] = []
        content, noise = quantizer.quantize(float32_layers)
        if widen and noise > LARGEST_NOISE:
            noisiest = quantizer.by_noise(layers)
            most = min(MOST_FLOAT32_LAYERS, len(noisiest))
            # Two at a time, each try on the whole graph: noises of single layers do not add up.
            while noise > LARGEST_NOISE and len(float32_layers) < most:
                float32_layers = noisiest[: len(float32_layers) + 2]
                content, noise = quantizer.quantize(float32_layers)
    file = "onnx/image.int8.onnx"
    (directory / file).write_bytes(content)
    graph["precisions"]["int8"] = file
    return {"int8_kept_wide": float32_layers, "int8_noise": round(noise, 4)}


class _Quantizer:
    """Quantises one graph in several ways from one calibration, and measures each.

    Args:
        file: the float32 graph.
        calibrating: photos that ranges of activations are read from.
        judging: photos that noise is measured on.
        folder: for files of its own.
    """

    def __init__(self, file: Path, calibrating: Pixels, judging: Pixels, folder: Path) -> None:
        from onnxruntime.quantization import CalibrationMethod
        from onnxruntime.quantization.calibrate import create_calibrator

        self._file = file
        self._judging = judging
        calibrator = create_calibrator(
            file,
            _QUANTISED,
            augmented_model_path=str(folder / "calibration.onnx"),
            calibrate_method=CalibrationMethod.MinMax,
        )
        calibrator.collect_data(_Photos(calibrating))
        self._ranges = calibrator.compute_data()
        self._exact = _outputs(file.read_bytes(), judging)

    def quantize(self, wide: Sequence[str], only: Sequence[str] = ()) -> tuple[bytes, float]:
        """Quantise the graph, and measure the noise of its outputs.

        Args:
            wide: names of layers that stay float32.
            only: names of the layers to quantise; none names all.

        Returns:
            the ONNX file's bytes, and the noise as `_noise` has it.
        """
        import onnx
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        quantizer = QDQQuantizer(
            onnx.load(self._file),
            per_channel=True,
            # 7-bit weights: CPUs without VNNI add products in 16 bits, which 8-bit ones overflow.
            reduce_range=True,
            weight_qType=QuantType.QInt8,
            # Unsigned, so that ReLU is the type's own lower end and leaves the graph.
            activation_qType=QuantType.QUInt8,
            tensors_range=self._ranges,
            nodes_to_quantize=list(only),
            nodes_to_exclude=list(wide),
            op_types_to_quantize=_QUANTISED,
            extra_options={},
        )
        quantizer.quantize_model()
        content: bytes = quantizer.model.model.SerializeToString()
        return content, self._noise(content)

    def by_noise(self, layers: Sequence[str]) -> list[str]:
        """Sort layers by the noise that each makes when it alone is quantised, noisiest first."""
        noise = {layer: self.quantize((), only=[layer])[1] for layer in layers}
        return sorted(layers, key=lambda layer: -noise[layer])

    def _noise(self, content: bytes) -> float:
        """Return the larger, over outputs, of rms error over rms deviation from the mean photo.

        What all photos share tells none apart, so that noise is held against what differs.
        """
        outputs = _outputs(content, self._judging)
        return max(
            float(
                np.linalg.norm(narrow - wide)
                / max(float(np.linalg.norm(wide - wide.mean(axis=0))), 1e-12)
            )
            for narrow, wide in zip(outputs, self._exact, strict=True)
        )


class _Photos:
    """Calibration photos as onnxruntime's calibrator reads them: batch after batch, then None."""

    def __init__(self, photos: Pixels) -> None:
        self._batches = _batches(photos)

    def get_next(self) -> dict[str, Pixels] | None:
        return next(self._batches, None)


def _batches(photos: Pixels) -> Iterator[dict[str, Pixels]]:
    """Yield the inputs of the graph for each batch of photos."""
    for start in range(0, len(photos), BATCH):
        yield {"photos": photos[start : start + BATCH]}


def _outputs(content: bytes, photos: Pixels) -> list[Floats]:
    """Run a graph on photos: each of its outputs, (B, ...)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Exact sums of 8-bit products also where the processor lacks instructions for them.
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    parts = [session.run(None, batch) for batch in _batches(photos)]
    return [np.concatenate(output) for output in zip(*parts, strict=True)]
