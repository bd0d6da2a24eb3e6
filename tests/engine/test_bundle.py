"""A bundle's graphs give what the torch model gives, at every size, and only as written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hficma.engine.bundle import Bundle
from hficma.model import load_model
from hficma.model.branches import Branch, branches

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
    path: Path = request.getfixturevalue(f"{kind}_bundle")
    bundle = Bundle.open(path, runtime="onnxruntime", threads=1)
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
