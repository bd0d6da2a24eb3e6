"""The tile of each kernel by shape class: chosen here once, never tried out while a query waits.

A class is what a kernel is compiled for. `hficma.benchmarks.kernels.gpu_kernels` prints what each
takes of a GPU's registers and shared memory.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

LONGEST_ITEM = 256
"""Tokens of an item at most: 196 regions (448 pixels) and every recipe fit."""

WIDEST_HEAD = 256
"""D / H at most: the published width in 4 heads."""
SLOT_NUMBERS = 256 * 128
"""Numbers of a source item's key that lie on chip at most, and as many of its value: 128 KB in 16
bits. What has more passes in parts of its features: 196 regions at D / H = 256 (photos of 448
pixels at the published width in 4 heads), of which no multiprocessor holds the 256 KB."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How the compiler lays a tile over a multiprocessor."""

    warps: int
    """Groups of 32 threads that share a tile."""
    stages: int
    """Tiles that are on their way from memory at once."""

    def launch(self) -> dict[str, int]:
        """Return it by Triton's names."""
        return {"num_warps": self.warps, "num_stages": self.stages}


@dataclass(frozen=True, kw_only=True)
class AttentionTile(Launch):
    """A tile of `attention_kernel`."""

    head: int
    """D / H."""
    rows: int
    slot: int
    """Columns of a source item: a power of two from its tokens on."""
    items: int
    """Source items of a tile."""
    steps: int
    """Tiles of a program."""
    reader_stays: bool
    """Whether the steps move over source items, or over rows of readers."""
    parts: int = 1
    """Parts of a head's features; of several the first stays, and the others pass by."""

    def constants(self) -> dict[str, int | bool]:
        """Return the kernel's compile-time numbers."""
        return {
            "HEAD": self.head,
            "HEAD_BLOCK": max(16, power_of_two(self.head) // self.parts),
            "ROWS": self.rows,
            "SLOT": self.slot,
            "ITEMS": self.items,
            "STEPS": self.steps,
            "READER_STAYS": self.reader_stays,
            "PARTS": self.parts,
        }


@dataclass(frozen=True, kw_only=True)
class ProductTile(Launch):
    """A tile of `matching_kernel`."""

    rows: int
    columns: int
    depth: int
    """Columns of the left matrix that are multiplied at once."""

    def constants(self) -> dict[str, int]:
        """Return the kernel's compile-time numbers."""
        numbers = asdict(self)
        return {name.upper(): numbers[name] for name in numbers if name not in ("warps", "stages")}


@dataclass(frozen=True, kw_only=True)
class FusionTile(ProductTile):
    """A tile of `fusion_kernel`."""

    items: int
    """Reader items of a tile at most."""


def power_of_two(number: int) -> int:
    """Return the least power of two from a number on."""
    return 1 << (number - 1).bit_length()


def fits_on_chip(longest: int, head: int) -> bool:
    """Return whether the kernels can read items.

    Args:
        longest: tokens of an item at most.
        head: D / H.
    """
    return longest <= LONGEST_ITEM and head <= WIDEST_HEAD


def attention_tile(rows: int, sources: int, longest: int, head: int) -> AttentionTile:
    """Choose the tile of `attention_kernel`.

    Args:
        rows: of a group's readers, at most.
        sources: items of a group that are read.
        longest: tokens of a source item at most.
        head: D / H.
    """
    slot = max(16, power_of_two(longest))
    assert fits_on_chip(longest, head)
    # A single short reader, such as a query's recipe: half a tile of 64 would be empty.
    few_rows = 32 if rows <= 32 else 64
    # A softmax needs all columns of a slot, so a long one is not cut: it stays, rows pass by.
    if slot >= 128:
        # One part stays while another passes, and each takes a quarter of the room: with more, the
        # registers do not suffice.
        numbers = slot * power_of_two(head)
        parts = 1 if numbers <= SLOT_NUMBERS else 4 * numbers // SLOT_NUMBERS
        rows = few_rows if slot * head <= 128 * 128 else 32
        return AttentionTile(
            head=head, rows=rows, slot=slot, items=1, steps=4,
            reader_stays=False, parts=parts, warps=8, stages=1,
        )  # fmt: skip
    items = min(64 // slot, power_of_two(sources))
    if sources <= items:  # one tile of sources, such as a query's photo
        wide = head > 128
        return AttentionTile(
            head=head, rows=few_rows, slot=slot, items=items, steps=4, reader_stays=False,
            warps=8 if wide else 4, stages=2 if wide else 1,
        )  # fmt: skip
    # Every source passes by every tile of rows: of many, two photos' worth stay on chip at once,
    # which halves what is read of L2. At 256 features they would not fit.
    many = rows > 256 and head <= 128
    return AttentionTile(
        head=head, rows=128 if many else few_rows, slot=slot, items=items, steps=4,
        reader_stays=True, warps=8 if many else 4, stages=2,
    )  # fmt: skip


def fusion_tile(longest: int, rows: int, sources: int, width: int) -> FusionTile:
    """Choose the tile of `fusion_kernel`.

    Args:
        longest: tokens of a reader item at most.
        rows: of a group's readers, at most.
        sources: items of a group that are read.
        width: D.
    """
    assert longest <= LONGEST_ITEM
    if rows == longest and longest <= 128:  # one reader, such as the photo of a query
        # Each source's table passes once; the wider a tile, the less often its shares do.
        columns = 256 if longest <= 64 and width > 128 else 128
        return FusionTile(
            rows=max(16, power_of_two(longest)), items=1, columns=columns, depth=32,
            warps=columns // 32, stages=3,
        )  # fmt: skip
    if longest > 32:
        return FusionTile(rows=256, items=16, columns=128, depth=32, warps=8, stages=3)
    # Larger tiles read a table less often, and smaller ones keep a GPU of 132 multiprocessors busy.
    large = rows * sources >= 4000
    return FusionTile(
        rows=256 if large else 128, items=32 if large else 16, columns=128, depth=32,
        warps=8, stages=3,
    )  # fmt: skip


def matching_tile(pairs: int, width: int) -> ProductTile:
    """Choose the tile of `matching_kernel`.

    Args:
        pairs: P.
        width: D.
    """
    # At 128 features the compiler unrolls the whole loop, and the registers do not suffice.
    rows = 128 if pairs >= 2048 and width > 128 else 64
    return ProductTile(rows=rows, columns=128, depth=32, warps=8, stages=3)


def tabulation_tile(width: int) -> ProductTile:
    """Choose the tile of `tabulation_kernel`.

    Args:
        width: D.
    """
    # A head's product is short, D / H: there is little to pipeline, and much to write.
    return ProductTile(rows=128, columns=128 if width >= 128 else 64, depth=32, warps=8, stages=3)
