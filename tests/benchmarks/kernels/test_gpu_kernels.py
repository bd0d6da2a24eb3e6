"""The GPU's kernels are compiled where no GPU is, and fit the GPUs that they are for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from hficma.benchmarks.common.costs import pair_multiply_adds
from hficma.benchmarks.kernels.gpu_kernel_work import Shape, launches
from hficma.benchmarks.kernels.gpu_kernels import SHAPES, SHARED_LIMITS, TARGETS, pages

PAGE = Path(__file__).parents[3] / "docs" / "results" / "gpu-kernels.md"

COMPILE = """
import json
from hficma.benchmarks.kernels.gpu_kernels import SHAPES, measure
print(json.dumps(measure(SHAPES, ())))
"""


@cache
def compiled() -> dict[str, Any]:
    """What the command says of the published width, from a process that does not interpret."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    output = subprocess.run(
        [sys.executable, "-c", COMPILE], capture_output=True, text=True, check=True, env=environment
    ).stdout
    result: dict[str, Any] = json.loads(output)
    return result


def test_nothing_spills_and_everything_fits() -> None:
    """A register that spills is a read of memory in the innermost loop; too much does not start."""
    rows = compiled()["kernels"]
    assert len(rows) == sum(len(launches(shape)) for shape in SHAPES)
    for row in rows:
        assert row["spilled"] == [0, 0], row
        for target, shared in zip(TARGETS, row["shared"], strict=True):
            assert shared <= SHARED_LIMITS[target], row
        assert all(row["instructions"]), row


def test_fusion_uses_the_matrix_units_of_its_gpu() -> None:
    """Nearly all of the arithmetic: with the older instruction an H100 runs at half its rate."""
    for row in compiled()["kernels"]:
        # A single recipe of 20 rows fills no 64: that shape is bound by memory.
        if row["kernel"].startswith("fuse") and not row["shape"].startswith("1,000 x 1,"):
            assert any(name.startswith("wgmma") for name in row["instructions"][1]), row


def test_little_is_computed_in_vain() -> None:
    """Padding is arithmetic that no score needs; where it is more than half, the page says why."""
    for row in compiled()["shapes"]:
        assert row["multiply_adds"] < 2 * row["least_multiply_adds"]
    for row in compiled()["kernels"]:
        if not row["kernel"].startswith("attend"):
            assert row["multiply_adds"] < 2 * row["least_multiply_adds"], row


def test_the_page_shows_what_the_compiler_gives() -> None:
    """A table of an older kernel would be a claim that nothing bears out."""
    record = compiled()
    text = PAGE.read_text(encoding="utf-8")
    if f"Triton {record['triton']};" not in text:
        pytest.skip(f"the page is by another Triton than {record['triton']}")
    shapes, kernels = "\n".join(pages({**record, "widths": []})).split("\n\nD = ")[:2]
    assert shapes in text
    assert kernels.split("\n\nothers")[0] in text


def test_the_least_work_is_that_of_the_formulas() -> None:
    """The limit must be the algebra's own, or a share of it means nothing."""
    for shape in (
        Shape(),
        Shape(photos=64, recipes=64, tokens=9, width=512),
        Shape(level="projections"),
    ):
        least = sum(launch.work.least_multiply_adds for launch in launches(shape)) / shape.pairs
        expected = pair_multiply_adds(
            shape.level, width=shape.width, heads=shape.heads, tokens=shape.tokens,
            photos=shape.photos,
        )  # fmt: skip
        assert least + shape.width == expected  # the second layer: one sum behind the product
        for launch in launches(shape):
            assert launch.work.multiply_adds >= launch.work.least_multiply_adds
            assert launch.work.bytes >= launch.work.least_bytes
