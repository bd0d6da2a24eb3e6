"""What a bundle's graphs should give: a few items with the torch model's answers in float32.

Export writes them from torch; any runtime can be compared with them without it.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import numpy as np

from hficma.errors import ArtifactError
from hficma.types import Array, ArraySpec

from .base import Arrays, Graph, Runtime

REFERENCE = "reference.npz"

TOLERANCES = {"fp32": 1e-4, "fp16": 5e-3, "bf16": 5e-2}
"""Largest difference of a score: S_local as it is, everything else relative to its spread.
int8 has none: it is judged by what it does to ranks."""

REFERENCE_BYTES = 2_000_000_000
"""Unpacked; eight items of the published model take 300 MB, most of it in tables."""
_REFERENCE_DTYPES = ("|u1", "<i8", "<f4")

BRANCH_TOLERANCE = 1e-3
"""Of a branch's own outputs in fp32: other kernels sum a deep image encoder in another order, and
the largest of many thousand differences is ten times that of a score; a wrong graph is off by 1."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How far one output of a graph is from the reference."""

    graph: str
    """Of the bundle; `scores` for the whole way from photos and ids to S."""
    output: str
    """Its name."""
    precision: str
    """What the graph computed in."""
    runtime: str
    """What ran it."""
    max: float
    """Largest absolute difference."""
    mean: float
    """Mean absolute difference."""
    cosine: float
    """Of both outputs as one long vector each."""
    spread: float
    """Standard deviation of the reference: what `max` is relative to, except for S_local."""

    @property
    def error(self) -> float:
        """Return the figure that tolerances bound: S_local as it is, all else over its spread."""
        return self.max if self.output == "local" else self.max / max(self.spread, 1e-6)

    @property
    def within_tolerance(self) -> bool:
        """Return whether it is within the tolerance of its precision.

        Narrow precisions are judged by scores only: what a token loses is not what a user sees.
        """
        if not np.isfinite(self.max):
            return False
        if self.precision == "int8" or (self.precision != "fp32" and self.graph != "scores"):
            return True
        return self.error <= self.tolerance

    @property
    def tolerance(self) -> float:
        """Return the most that `error` may be; infinite for int8."""
        if self.precision == "fp32" and self.graph != "scores":
            return BRANCH_TOLERANCE
        return TOLERANCES.get(self.precision, np.inf)


def array_name(graph: str, port: str) -> str:
    """Return the name in the reference file of an input or output of a graph.

    The same array goes out of one graph and into others: each stands in the file once.

    Args:
        graph: its name.
        port: the name of its input or output.
    """
    if graph in ("image", "recipe") and port in ("global", "tokens"):
        return f"{graph}_{port}"
    if graph == "sentence":
        return {"lengths": "sentence_lengths", "vectors": "sentence_vectors"}.get(port, port)
    if graph == "text":
        return f"text_{port}"
    if graph.startswith(("project_", "tabulate_")):
        return f"{graph.rpartition('_')[2]}_{port}"
    return port


def read_reference(path: Path) -> dict[str, Array]:
    """Read the arrays of a bundle's reference file, by `array_name`.

    Raises:
        ArtifactError: no such file, or arrays that are not numbers, are larger than they may be
            or than the file holds.
    """
    arrays: dict[str, Array] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            # By the directory first: what unpacks to terabytes is not unpacked.
            if sum(member.file_size for member in archive.infolist()) > REFERENCE_BYTES:
                raise ValueError(f"it unpacks to more than {REFERENCE_BYTES:,} bytes")
            for member in archive.infolist():
                with archive.open(member) as file:
                    name = member.filename.removesuffix(".npy")
                    arrays[name] = _read_array(file, member.file_size)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error,
            NotImplementedError, RuntimeError) as error:  # fmt: skip
        raise ArtifactError(f"{path}: is no reference file ({error})") from error
    return arrays


def _read_array(file: IO[bytes], size: int) -> Array:
    """Read one array of a `.npy` file of `size` bytes, which must be what its header says."""
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError("an array has another format")
    shape, by_column, dtype = np.lib.format.read_array_header_1_0(file)
    start = file.tell()
    # Objects would be unpickled; a shape is allocated whether or not there are bytes to fill it.
    if dtype.str not in _REFERENCE_DTYPES:
        raise ValueError(f"an array of {dtype}")
    if start + math.prod(shape) * dtype.itemsize != size:
        raise ValueError("an array has another size than its file")
    order: Literal["F", "C"] = "F" if by_column else "C"
    values = np.frombuffer(file.read(size - start), dtype=dtype).reshape(shape, order=order)
    if dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("an array is not finite")
    return values


def arrays_of(graph: str, ports: Mapping[str, ArraySpec], reference: Arrays) -> dict[str, Array]:
    """Return a graph's inputs or outputs out of the reference.

    Args:
        graph: its name.
        ports: its inputs or outputs, by name.
        reference: arrays by `array_name`. The file has no groups, so the arrays of cross graphs
            get an axis in front: one group of all its photos and recipes.

    Raises:
        ArtifactError: the reference lacks one of them.
    """
    names = {port: array_name(graph, port) for port in ports}
    if missing := [name for name in names.values() if name not in reference]:
        raise ArtifactError(f"{REFERENCE}: lacks {missing[0]}; export the bundle again")
    chosen = {port: reference[name] for port, name in names.items()}
    if graph.startswith("cross"):
        chosen = {port: array[None] for port, array in chosen.items()}
    return chosen


def graph_differences(graph: Graph, loaded: Runtime, reference: Arrays) -> Iterator[Difference]:
    """Run one graph on the reference's inputs and yield how far each output is from its own.

    Args:
        graph: to run.
        loaded: the same graph, in some runtime.
        reference: arrays by `array_name`.
    """
    outputs = loaded.run(arrays_of(graph.name, graph.inputs, reference))
    for output, expected in arrays_of(graph.name, graph.outputs, reference).items():
        # The graph's precision, not the runtime's: bf16 weights stay so where sums are wider.
        yield difference(
            outputs[output], expected, graph.name, output, graph.precision, loaded.name
        )


def global_score_difference(
    graph: Graph, loaded: Runtime, reference: Arrays
) -> Iterator[Difference]:
    """Yield how far S_global moves with what a narrow graph gives, of graphs that give it.

    The global vectors of two photos are mostly alike, and a small error of all of them moves
    scores: so they are judged by the scores with the reference's items of the other role.

    Args:
        graph: to run, in a narrow precision.
        loaded: the same graph, in some runtime.
        reference: arrays by `array_name`.
    """
    others = {"image": "recipe_global", "recipe": "image_global"}
    if graph.name not in others or graph.precision == "fp32":
        return
    outputs = loaded.run(arrays_of(graph.name, graph.inputs, reference))
    other = reference[others[graph.name]].T
    yield difference(
        outputs["global"] @ other, reference[f"{graph.name}_global"] @ other,
        "scores", "global", graph.precision, loaded.name,
    )  # fmt: skip


def difference(
    actual: Array, expected: Array, graph: str, output: str, precision: str, runtime: str
) -> Difference:
    """Return how far an array is from the reference's.

    Args:
        actual: what a runtime gave, in any shape.
        expected: the reference's, in the same shape.
        graph: the graph's name, or `scores`.
        output: the array's name.
        precision: what the graph computed in.
        runtime: what ran it.
    """
    # In float64, where the difference of two float32 numbers is exact.
    gap = np.abs(actual.astype(np.float64) - expected)
    norms = float(np.linalg.norm(actual)) * float(np.linalg.norm(expected))
    return Difference(
        graph=graph,
        output=output,
        precision=precision,
        runtime=runtime,
        max=float(gap.max()),
        mean=float(gap.mean()),
        cosine=float(np.vdot(actual, expected)) / max(norms, 1e-12),
        spread=float(expected.std()),
    )
