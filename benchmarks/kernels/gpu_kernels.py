"""`hficma bench gpu_kernels`: what the compiler makes of each GPU kernel; needs no GPU.

Registers that do not suffice spill into memory, and a program that takes more shared memory than a
multiprocessor has does not start: both are known when a kernel is compiled. So are the matrix
instructions, and by the tiles how much is computed and read in vain.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import typer

from hficma.errors import MissingDependencyError

from ..common.arguments import JsonFile
from ..common.costs import pair_multiply_adds
from ..common.report import markdown_table, print_markdown, write_json
from .gpu_kernel_work import KernelLaunch, Shape, launches

TARGETS = (80, 90)
"""Compute capabilities: A100; H100 and H200."""
SHARED_LIMITS = {80: 163 * 1024, 90: 227 * 1024}
"""Bytes of shared memory that one program may take."""
MATRIX_RATE = 791e12 / 2
"""Multiply-adds a second of a large 16-bit product, assumed of an H100."""
MEMORY_RATE = 2.93e12
"""Bytes a second of a device copy, assumed of an H100."""
L2_RATE = 4.4e12
"""Bytes a second from L2, assumed of an H100."""

SHAPES = (
    Shape(),
    Shape(tokens=9),
    Shape(level="projections"),
    Shape(level="projections", tokens=9),
    Shape(photos=64, recipes=64),
    Shape(photos=64, recipes=64, tokens=9),
    Shape(photos=64, recipes=64, level="projections"),
    Shape(photos=1000, recipes=1),
    Shape(regions=81),
    Shape(regions=196),
    Shape(photos=64, recipes=64, regions=81),
    Shape(photos=64, recipes=64, regions=196),
)
"""The shape classes at the published width."""
WIDTHS = tuple(
    Shape(width=width, heads=heads, photos=photos, recipes=recipes)
    for width, heads in ((1024, 4), (512, 8), (512, 4), (256, 8), (256, 4), (128, 8), (128, 4))
    for photos, recipes in ((1, 1000), (64, 64))
) + tuple(
    Shape(heads=4, photos=photos, recipes=recipes, regions=196)
    for photos, recipes in ((1, 1000), (64, 64))
)
"""Other widths, and heads of which a photo of 196 regions fits no chip whole."""

TYPES = {
    "*fp16": (
        "query key value gate fuse table shares means image_means recipe_means hidden weight"
    ),
    "*fp32": "agreement gate_bias mean bias hidden_bias output parts",
    "*i64": "rows bases starts begins panels items",
    "*i32": "lengths item_lengths places firsts owners order edges",
    "fp32": "scale",
}
"""The type of every parameter of a kernel, as it is launched; those that are not here are i32."""


class Compiled(NamedTuple):
    """What a kernel takes of a GPU."""

    registers: int
    """A thread's."""
    spilled: int
    """Bytes of a thread that found no register."""
    shared: int
    """Bytes of a program."""
    instructions: tuple[str, ...]
    """Matrix instructions."""


def compile_kernel(launch: KernelLaunch, target: int) -> Compiled:
    """Compile a kernel for a GPU that need not be there.

    Args:
        launch: the kernel and its tile.
        target: compute capability, such as 90.

    Raises:
        MissingDependencyError: Triton is not installed.
    """
    try:
        import triton
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource
    except ImportError as error:
        raise MissingDependencyError("triton", "dev", "compiling the GPU's kernels") from error
    constants = {**launch.sizes, **launch.tile.constants()}
    types = {name: kind for kind, names in TYPES.items() for name in names.split()}
    names = launch.kernel.arg_names
    signature = {
        name: "constexpr" if name in constants else types.get(name, "i32") for name in names
    }
    # Arrays begin at multiples of 16 bytes, as torch allocates them.
    aligned = {
        (place,): [["tt.divisibility", 16]]
        for place, name in enumerate(names)
        if signature[name].startswith("*")
    }
    source = ASTSource(launch.kernel, signature, constants, aligned)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of defaults that will change
        binary = triton.compile(
            source, target=GPUTarget("cuda", target, 32), options=launch.tile.launch()
        )
    usage = _resource_usage(binary.asm["cubin"])
    instructions = re.findall(
        r"(wgmma|mma)(?:\.mma_async)?\.sync\.aligned\.(m\d+n\d+k\d+)", binary.asm["ptx"]
    )
    return Compiled(
        registers=usage["REG"],
        spilled=usage["STACK"] + usage["LOCAL"],
        shared=binary.metadata.shared,
        instructions=tuple(sorted({f"{name} {shape}" for name, shape in instructions})),
    )


def _resource_usage(binary: bytes) -> dict[str, int]:
    """Read a compiled kernel's resources by the tool that Triton brings."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(binary)
        text = subprocess.run(
            [tool, "--dump-resource-usage", file], capture_output=True, text=True, check=True
        ).stdout
    return {name: int(value) for name, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", text)}


def kernel_rows(shape: Shape, known: dict[str, dict[int, Compiled]]) -> Iterator[dict[str, Any]]:
    """Compile the kernels of a shape, and count what each does a pair.

    Args:
        shape: at which they are launched.
        known: what is compiled already, for each target; grows.
    """
    for launch in launches(shape):
        key = str((launch.kernel, launch.sizes, launch.tile))
        compiled = known.get(key)
        if compiled is None:
            compiled = {target: compile_kernel(launch, target) for target in TARGETS}
            known[key] = compiled
        work = launch.work
        yield {
            "shape": str(shape),
            "width": shape.width,
            "heads": shape.heads,
            "kernel": launch.name,
            "registers": [compiled[target].registers for target in TARGETS],
            "spilled": [compiled[target].spilled for target in TARGETS],
            "shared": [compiled[target].shared for target in TARGETS],
            "instructions": [list(compiled[target].instructions) for target in TARGETS],
            "multiply_adds": work.multiply_adds / shape.pairs,
            "least_multiply_adds": work.least_multiply_adds / shape.pairs,
            "bytes": work.bytes / shape.pairs,
            "least_bytes": work.least_bytes / shape.pairs,
        }


def shape_row(shape: Shape) -> dict[str, Any]:
    """Count what all kernels of a shape do a pair, and what that takes at an H100's rates.

    Args:
        shape: at which they are launched.
    """
    works = [launch.work for launch in launches(shape)]
    done = sum(work.multiply_adds for work in works) / shape.pairs
    moved = sum(work.least_bytes for work in works) / shape.pairs
    least = pair_multiply_adds(
        shape.level, width=shape.width, heads=shape.heads, tokens=shape.tokens,
        photos=shape.photos, regions=shape.regions,
    )  # fmt: skip
    asked = sum(work.bytes for work in works) / shape.pairs
    seconds = {
        "arithmetic": done / MATRIX_RATE,
        "memory": moved / MEMORY_RATE,
        "L2": asked / L2_RATE,
    }
    bound = max(seconds, key=lambda name: seconds[name])
    return {
        "shape": str(shape),
        "multiply_adds": done,
        "least_multiply_adds": least,
        "bytes": moved,
        "l2_bytes": asked,
        "nanoseconds": {name: 1e9 * value for name, value in seconds.items()},
        "bound": bound,
        "pairs_a_second": 1 / seconds[bound],
    }


def pages(record: dict[str, Any]) -> Iterator[str]:
    """Write a record as Markdown.

    Args:
        record: `shapes`, `kernels` and `widths`.
    """
    yield f"Triton {record['triton']}; a pair's figures; both of a cell are sm_80 / sm_90.\n"
    header = (
        "shape", "M mult-adds", "of the least", "KB of memory", "KB of L2", "bound",
        "M pairs/s at most",
    )  # fmt: skip
    yield from markdown_table(
        header,
        [
            (
                row["shape"],
                f"{row['multiply_adds'] / 1e6:.1f}",
                f"{row['multiply_adds'] / row['least_multiply_adds']:.2f}",
                f"{row['bytes'] / 1e3:.0f}",
                f"{row['l2_bytes'] / 1e3:.0f}",
                row["bound"],
                f"{row['pairs_a_second'] / 1e6:.1f}",
            )
            for row in record["shapes"]
        ],
    )
    for title, rows in (("D = 1024, H = 8", record["kernels"]), ("others", record["widths"])):
        yield f"\n{title}:\n"
        yield from markdown_table(
            (
                "shape", "kernel", "registers", "spilled", "shared KB", "sm_90 multiplies by",
                "M mult-adds", "of the least", "KB of L2", "of the least",
            ),
            [_kernel_cells(row) for row in rows],
        )  # fmt: skip


def _kernel_cells(row: dict[str, Any]) -> tuple[str, ...]:
    shape = row["shape"]
    if (row["width"], row["heads"]) != (1024, 8):
        shape = f"D = {row['width']}, H = {row['heads']}: {shape}"
    return (
        shape,
        row["kernel"],
        " / ".join(map(str, row["registers"])),
        " / ".join(map(str, row["spilled"])),
        " / ".join(f"{size / 1024:.0f}" for size in row["shared"]),
        ", ".join(row["instructions"][-1]),
        f"{row['multiply_adds'] / 1e6:.2f}",
        f"{row['multiply_adds'] / row['least_multiply_adds']:.2f}",
        f"{row['bytes'] / 1e3:.0f}",
        f"{row['bytes'] / row['least_bytes']:.1f}",
    )


def measure(shapes: tuple[Shape, ...], widths: tuple[Shape, ...]) -> dict[str, Any]:
    """Compile the kernels of all shapes.

    Args:
        shapes: at the published width.
        widths: others.
    """
    from importlib.metadata import version

    known: dict[str, dict[int, Compiled]] = {}
    return {
        "triton": version("triton"),
        "shapes": [shape_row(shape) for shape in shapes],
        "kernels": [row for shape in shapes for row in kernel_rows(shape, known)],
        "widths": [row for shape in widths for row in kernel_rows(shape, known)],
    }


def main(json_file: JsonFile = None) -> None:
    """Registers, shared memory and work of every GPU kernel; needs no GPU.

    Example: hficma bench gpu_kernels
    """
    # Triton reads it when it is imported: interpreted kernels cannot be compiled.
    os.environ.pop("TRITON_INTERPRET", None)
    record = measure(SHAPES, WIDTHS)
    print_markdown("\n".join(pages(record)))
    write_json(json_file, record)


if __name__ == "__main__":
    typer.run(main)
