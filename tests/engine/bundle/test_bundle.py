"""A bundle's graphs give what the torch model gives, at every size, and only as written."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from hficma.artifacts.manifest import read_manifest, sha256, write_manifest
from hficma.engine.bundle.bundle import Bundle
from hficma.engine.runtimes.options import ExecutionOptions
from hficma.errors import ArtifactError

if TYPE_CHECKING:
    from hficma.model.graphs import Branch

SIZES = (
    {"G": 1, "B": 1, "M": 1, "T": 1, "S": 1, "W": 1, "N": 1},
    {"G": 1, "B": 4, "M": 5, "T": 20, "S": 3, "W": 9, "N": 4},
    {"G": 3, "B": 1, "M": 7, "T": 6, "S": 8, "W": 2, "N": 20},
)
COUNTED = {"lengths": "TW", "ingredient_counts": "T", "recipe_lengths": "T", "sentence_counts": "N"}


def random_inputs(branch: Branch, sizes: dict[str, int], seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}
    letters = {size for port in branch.inputs.values() for size in port.shape}
    for name, port in branch.inputs.items():
        shape = [sizes[size] if isinstance(size, str) else size for size in port.shape]
        if port.dtype == "uint8":
            arrays[name] = rng.integers(0, 256, shape, dtype=np.uint8)
        elif port.dtype == "float32":
            arrays[name] = rng.normal(size=shape).astype(np.float32)
        else:
            limit = [sizes[size] for size in COUNTED.get(name, "") if size in letters]
            arrays[name] = rng.integers(1, limit[0] + 1 if limit else 20, shape)
    return arrays


@pytest.mark.parametrize("kind", ["hf_icma", "adamine"])
@pytest.mark.parametrize("sizes", SIZES, ids=["smallest", "blocks", "candidates"])
def test_graphs_equal_torch(
    kind: str, sizes: dict[str, int], request: pytest.FixtureRequest
) -> None:
    """A size that was fixed while tracing, or a layer that exports differently."""
    torch = pytest.importorskip("torch", reason="the truth is the torch model's")
    from hficma.model import load_model
    from hficma.model.graphs import branches

    path: Path = request.getfixturevalue(f"{kind}_bundle")
    bundle = Bundle.open(path, ExecutionOptions(runtime="onnxruntime", threads=1))
    for name, branch in branches(load_model(path)):
        inputs = random_inputs(branch, sizes, seed=1)
        given = bundle.run(name, inputs)
        with torch.no_grad():
            wanted = branch(*(torch.from_numpy(array) for array in inputs.values()))
        for output, expected in zip(branch.outputs, wanted, strict=True):
            assert given[output].dtype == np.float32
            np.testing.assert_allclose(
                given[output], expected.numpy(), atol=1e-5, err_msg=f"{name}.{output}"
            )


@pytest.fixture
def copied(adamine_bundle: Path, tmp_path: Path) -> Path:
    """A bundle of one's own to damage."""
    return Path(shutil.copytree(adamine_bundle, tmp_path / "bundle"))


def refused(path: Path, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        Bundle.open(path, ExecutionOptions(runtime="onnxruntime")).runtime("image")


def test_a_flipped_byte_is_refused(copied: Path) -> None:
    """A damaged weight would quietly change every answer."""
    file = copied / "onnx" / "image.fp32.onnx"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    refused(copied, "not as it was written")


def test_a_missing_file_is_refused(copied: Path) -> None:
    (copied / "onnx" / "image.fp32.onnx").unlink()
    refused(copied, "image.fp32.onnx: is missing")


def test_a_link_out_of_the_bundle_is_refused(copied: Path, tmp_path: Path) -> None:
    """Reading through a link would let a bundle name any file of the machine."""
    file = copied / "onnx" / "image.fp32.onnx"
    file.rename(tmp_path / "elsewhere.onnx")
    file.symlink_to(tmp_path / "elsewhere.onnx")
    refused(copied, "is a link, and none is followed")


def test_a_path_out_of_the_bundle_is_refused(copied: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.onnx").write_bytes(b"x")
    manifest = read_manifest(copied, kind="bundle")
    manifest.files["../elsewhere.onnx"] = sha256(tmp_path / "elsewhere.onnx")
    manifest.facts["graphs"]["image"]["precisions"]["fp32"] = "../elsewhere.onnx"
    write_manifest(copied, manifest)  # as whoever made it would
    refused(copied, "names another file")


def test_weights_in_another_file_are_refused(copied: Path, tmp_path: Path) -> None:
    """A runtime would read whatever file the ONNX names, with the user's rights."""
    import onnx

    file = copied / "onnx" / "image.fp32.onnx"
    model = onnx.load(file)
    onnx.save(model, file, save_as_external_data=True, location="weights.bin", size_threshold=0)
    manifest = read_manifest(copied, kind="bundle")
    manifest.files["onnx/image.fp32.onnx"] = sha256(file)
    write_manifest(copied, manifest)  # as whoever made it would
    refused(copied, "reads weights from another file")


def test_another_format_is_refused(copied: Path) -> None:
    """An older bundle would be read by rules that were not its own."""
    write_manifest(copied, replace(read_manifest(copied, kind="bundle"), format_version=0))
    refused(copied, "has format 0, this version reads 1")


def test_a_precision_that_was_not_exported_is_refused(copied: Path) -> None:
    with pytest.raises(ArtifactError, match="has no fp16 graphs"):
        Bundle.open(copied, ExecutionOptions(precision="fp16"))


def test_adamine_has_no_cross_attention(copied: Path) -> None:
    with pytest.raises(ArtifactError, match="adamine model has no graph cross_tables"):
        Bundle.open(copied, ExecutionOptions(runtime="onnxruntime")).run("cross_tables", {})


def test_serving_needs_no_torch(hf_icma_bundle: Path) -> None:
    """A server would need 200 MB of torch, and seconds to import it."""
    program = (
        "import sys; from hficma.engine import Bundle, ExecutionOptions; "
        "options = ExecutionOptions(runtime='onnxruntime', threads=1); "
        f"b = Bundle.open({str(hf_icma_bundle)!r}, options); "
        "b.runtime('image'); b.tokenizer; print('torch' in sys.modules, 'onnx' in sys.modules)"
    )
    given = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert given.stdout.split() == ["False", "False"], given.stderr
