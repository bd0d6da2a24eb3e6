"""int8 for the image branch: static Q/DQ, a scale a channel, calibrated on photos.

Only the image encoder is quantised: there int8 pays, and there its noise is averaged over regions.
Which layers stay wide is measured on photos that did not calibrate.
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
"""Noise of an output over its spread across photos at which no layer need be kept wide."""
MOST_WIDE = 8
"""Layers kept wide at most: beyond that int8 is no longer worth its noise."""
BATCH = 8

_QUANTISED = ["Conv", "Add", "MaxPool", "Relu", "Clip"]


def quantize_image(
    directory: Path, graph: dict[str, Any], photos: Pixels, *, widen: bool
) -> dict[str, Any]:
    """Write `onnx/image.int8.onnx` beside the fp32 graph.

    Args:
        directory: of the bundle being written.
        graph: record of the `image` graph; gets the new file.
        photos: (P, 224, 224, 3) real photos; every fourth judges, the others calibrate.
        widen: keep the noisiest layers in float32; without real photos nothing tells which.

    Returns:
        facts for the manifest: layers kept wide and the noise that remains.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingDependencyError("onnx", "train", "precision int8") from error
    judging = np.arange(len(photos)) % 4 == 3
    calibrating = photos[~judging] if judging.any() else photos
    judging_photos = photos[judging] if judging.any() else photos
    wide_file = directory / graph["precisions"]["fp32"]
    model = onnx.load(wide_file)
    layers = [node.name for node in model.graph.node if node.op_type == "Conv"]
    with tempfile.TemporaryDirectory() as folder:
        quantizer = _Quantizer(wide_file, calibrating, judging_photos, Path(folder))
        kept: list[str] = []
        content, noise = quantizer.quantize(kept)
        if widen and noise > LARGEST_NOISE:
            noisiest = quantizer.by_noise(layers)
            while noise > LARGEST_NOISE and len(kept) < min(MOST_WIDE, len(noisiest)):
                kept = noisiest[: len(kept) + 2]
                content, noise = quantizer.quantize(kept)
    file = "onnx/image.int8.onnx"
    (directory / file).write_bytes(content)
    graph["precisions"]["int8"] = file
    return {"int8_kept_wide": kept, "int8_noise": round(noise, 4)}


class _Quantizer:
    """Quantises one graph in several ways from one calibration, and measures each."""

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
        self._wanted = _outputs(file.read_bytes(), judging)

    def quantize(self, wide: Sequence[str], only: Sequence[str] = ()) -> tuple[bytes, float]:
        """The graph with all layers but `wide` quantised (or `only` some), and its noise."""
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
        """Layers by the noise that each makes when it alone is quantised, noisiest first."""
        noise = {layer: self.quantize((), only=[layer])[1] for layer in layers}
        return sorted(layers, key=lambda layer: -noise[layer])

    def _noise(self, content: bytes) -> float:
        """The larger, over outputs, of rms error over rms deviation from the mean photo."""
        given = _outputs(content, self._judging)
        return max(
            float(
                np.linalg.norm(narrow - wide)
                / max(float(np.linalg.norm(wide - wide.mean(axis=0))), 1e-12)
            )
            for narrow, wide in zip(given, self._wanted, strict=True)
        )


class _Photos:
    """Calibration photos as onnxruntime reads them."""

    def __init__(self, photos: Pixels) -> None:
        self._batches = _batches(photos)

    def get_next(self) -> dict[str, Pixels] | None:
        return next(self._batches, None)


def _batches(photos: Pixels) -> Iterator[dict[str, Pixels]]:
    for start in range(0, len(photos), BATCH):
        yield {"photos": photos[start : start + BATCH]}


def _outputs(content: bytes, photos: Pixels) -> list[Floats]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    parts = [session.run(None, batch) for batch in _batches(photos)]
    return [np.concatenate(output) for output in zip(*parts, strict=True)]
