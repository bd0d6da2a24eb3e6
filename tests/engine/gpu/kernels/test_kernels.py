"""The fused kernels give what plain torch gives, for any lengths, sizes and memory around them.

Where there is no GPU Triton's interpreter runs the same kernels, a program after the other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import fields, replace
from itertools import pairwise
from math import nan

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hficma.engine.gpu.kernels.attention import attend, attend_reference
from hficma.engine.gpu.kernels.fusion import fuse, fuse_reference
from hficma.engine.gpu.kernels.matching import match
from hficma.engine.gpu.kernels.packed_items import (
    GroupedRows,
    PackedItems,
    group_rows,
    item_tiles,
    pack_items,
    panel_starts,
)
from hficma.engine.gpu.kernels.pair_scores import fused_scores, kernel_weights, score_groups
from hficma.engine.gpu.kernels.plain_scores import plain_scores
from hficma.engine.gpu.kernels.tabulation import (
    ItemTables,
    item_tables,
    item_tables_reference,
)
from hficma.engine.gpu.kernels.tile_shapes import attention_tile, fusion_tile
from hficma.model.similarity import PaddedEncodings, match_score, pair_block
from tests.engine.gpu.kernels.cases import Case, cases, make_case

# The interpreter's exp of a large number is infinity with a warning; a GPU's without.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning")

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"


@pytest.fixture(autouse=True, scope="module")
def _poisoned_memory() -> Iterator[None]:
    """Fill every new array with NaN: what a kernel forgets to write, or reads past, shows."""
    if DEVICE == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch does not see this machine's GPU")
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(1).isnan()
    yield
    torch.use_deterministic_algorithms(False)


@settings(max_examples=12, deadline=None)
@given(case=cases())
def test_scores_are_those_of_the_plain_form(case: Case) -> None:
    """The kernels are a way to compute `pair_block`: no other score may come of them."""
    torch.testing.assert_close(scores(case, torch.float32), expected(case), atol=3e-6, rtol=0)


@pytest.mark.parametrize(
    ("regions", "groups"), [(40, (1, 3, 2)), (81, (1, 1, 3)), (81, (1, 2, 1)), (196, (1, 1, 2))]
)
def test_long_items_have_tiles_of_their_own(regions: int, groups: tuple[int, int, int]) -> None:
    """Photos of more pixels: slots and tiles that the small ones never use."""
    case = make_case(width=16, heads=4, lengths=([regions] * 3, [3, 20, 11]), groups=groups, seed=4)
    torch.testing.assert_close(scores(case, torch.float32), expected(case), atol=3e-6, rtol=0)


def test_a_head_that_fits_no_chip_passes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Photos of 448 pixels at 256 features a head: one part too few is another attention."""
    monkeypatch.setattr("hficma.engine.gpu.kernels.tile_shapes.SLOT_NUMBERS", 256 * 32)
    tile = attention_tile(rows=20, sources=1, longest=130, head=64)
    assert tile.parts == 8
    assert tile.constants()["HEAD_BLOCK"] == 16  # half of the parts lie behind the head
    case = make_case(width=256, heads=4, lengths=([130] * 3, [3, 20, 11]), groups=(1, 2, 2), seed=6)
    torch.testing.assert_close(scores(case, torch.float32), expected(case), atol=3e-6, rtol=0)


def test_large_tiles_hold_many_items(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of long lists of candidates, which a test of a few would never reach."""
    large = fusion_tile(longest=20, rows=20_000, sources=1, width=64)
    assert large.items == 32
    monkeypatch.setattr("hficma.engine.gpu.kernels.fusion.fusion_tile", lambda *_sizes: large)
    lengths = [20, *([1] * 17), 19, *([2] * 15)]
    case = make_case(width=16, heads=4, lengths=([9], lengths), groups=(1, 1, 34), seed=5)
    case = replace(case, recipes=torch.arange(34)[None])
    torch.testing.assert_close(scores(case, torch.float32), expected(case), atol=3e-6, rtol=0)


def test_half_precision_screens() -> None:
    """Products of 16-bit numbers are summed in 32 bits: else the error grows with the width."""
    case = make_case(width=160, heads=4, lengths=([9] * 3, [3, 20, 11]), groups=(1, 2, 3), seed=1)
    error = (scores(case, torch.float16) - expected(case)).abs().max()
    assert error < 1e-3


@settings(max_examples=6, deadline=None)
@given(case=cases(), recipes_read=st.booleans())
def test_attention_and_fusion_equal_their_references(case: Case, recipes_read: bool) -> None:
    """A fault is named by the kernel that has it, not by a score at the end of three."""
    image, recipe = (packed(items, torch.float32) for items in (case.image, case.recipe))
    photos, recipes = (
        group_rows(items, positions.to(DEVICE))
        for items, positions in ((image, case.photos), (recipe, case.recipes))
    )
    sides = (recipe, image, recipes, photos) if recipes_read else (image, recipe, photos, recipes)
    shares, agreement = attend(*sides)
    panels, agreements = attend_reference(*sides)
    begins = panel_starts(*sides[2:]).flatten() * image.heads
    for begin, panel in zip(begins.tolist(), panels, strict=True):
        part = shares[begin : begin + panel.numel()].view_as(panel)
        torch.testing.assert_close(part, panel, atol=2e-6, rtol=0)
    whole = torch.cat(agreements)
    part = agreement[:, : len(whole)].sum(0)
    torch.testing.assert_close(part, whole, atol=2e-5, rtol=1e-5)

    weights = case.weights.to(DEVICE)
    bias = (weights.recipe if recipes_read else weights.image).fuse_bias
    tables = ItemTables(sides[1].table, sides[3].starts)
    means = fuse(*sides, shares, agreement, tables, bias, source_first=True)
    reference = fuse_reference(*sides, panels, agreements, bias).flatten(0, 2)
    torch.testing.assert_close(means, reference, atol=2e-5, rtol=1e-5)


@settings(max_examples=6, deadline=None)
@given(case=cases(), precision=st.sampled_from([torch.float32, torch.float16]))
def test_tables_are_made_as_they_are_stored(case: Case, precision: torch.dtype) -> None:
    """An index of projections must answer as one of tables, whichever rows a launch chooses."""
    for items, positions, weights in (
        (case.image, case.photos, case.weights.image),
        (case.recipe, case.recipes, case.weights.recipe),
    ):
        bare = replace(packed(items, precision), table=None)
        item_weights = kernel_weights(case.weights.to(DEVICE), precision)
        grouped = group_rows(bare, positions.to(DEVICE))
        kind = item_weights.image if weights is case.weights.image else item_weights.recipe
        tables = item_tables(bare, grouped, kind)
        assert (tables.starts == grouped.begins).all()
        reference = item_tables_reference(bare, grouped.items.flatten(), kind)
        table = tables.rows[: len(reference)].float()
        torch.testing.assert_close(table, reference, atol=2e-5, rtol=2.0**-10)
    without = (
        replace(packed(items, torch.float32), table=None) for items in (case.image, case.recipe)
    )
    result = fused_scores(
        *without, case.photos.to(DEVICE), case.recipes.to(DEVICE),
        kernel_weights(case.weights.to(DEVICE), torch.float32),
    )  # fmt: skip
    torch.testing.assert_close(result.cpu(), expected(case), atol=3e-6, rtol=0)


@settings(max_examples=25, deadline=None)
@given(
    case=cases(),
    stored=st.tuples(st.booleans(), st.booleans()),
    scratch=st.sampled_from([1, 1 << 16, 1 << 30]),
)
def test_plain_torch_takes_the_kernels_place(
    case: Case, stored: tuple[bool, bool], scratch: int
) -> None:
    """Without a GPU, or where a model does not fit its chip, the same scores must come."""
    items = [
        items if whole else replace(items, table=None)
        for items, whole in zip(
            (packed(items, torch.float32) for items in (case.image, case.recipe)),
            stored,
            strict=True,
        )
    ]
    arguments = (*items, case.photos.to(DEVICE), case.recipes.to(DEVICE))
    weights = kernel_weights(case.weights.to(DEVICE), torch.float32)
    result = score_groups(*arguments, weights, scratch_bytes=scratch)
    torch.testing.assert_close(result.cpu(), expected(case), atol=3e-6, rtol=0)
    plain = plain_scores(*arguments, weights)
    torch.testing.assert_close(plain.cpu(), expected(case), atol=3e-6, rtol=0)


def test_plain_torch_rounds_as_the_kernels_do() -> None:
    """The screen's error is measured without a GPU: in what stands in for the kernels."""
    case = make_case(width=32, heads=4, lengths=([9] * 3, [3, 20, 11]), groups=(1, 3, 3), seed=3)
    arguments = (
        packed(case.image, torch.float16), packed(case.recipe, torch.float16),
        case.photos.to(DEVICE), case.recipes.to(DEVICE),
        kernel_weights(case.weights.to(DEVICE), torch.float16),
    )  # fmt: skip
    plain, fused = (form(*arguments).cpu() for form in (plain_scores, fused_scores))
    error = (fused - expected(case)).abs().max()
    assert (plain - fused).abs().max() < error


def test_the_matching_layers_need_no_unit_rows() -> None:
    """Norms are applied behind the product; a mean of zeros has none."""
    weights = make_case(width=48, heads=4, lengths=([2], [2]), groups=(1, 1, 1), seed=0).weights
    means = torch.randn(2, 70, 48) * torch.logspace(-3, 3, 70)[:, None]
    means[:, 5] = 0
    result = match(*means.to(DEVICE), kernel_weights(weights.to(DEVICE), torch.float32))
    torch.testing.assert_close(result.cpu(), match_score(*means, weights), atol=2e-6, rtol=0)


@given(
    lengths=st.lists(st.lists(st.integers(1, 20), min_size=7, max_size=7), min_size=1, max_size=3),
    rows=st.sampled_from([32, 64, 128]),
    uniform=st.booleans(),
)
def test_tiles_hold_whole_items_and_all_of_them(
    lengths: list[list[int]], rows: int, uniform: bool
) -> None:
    """An item cut in two, left out or counted twice would have a wrong mean."""
    if uniform:
        lengths = [[lengths[0][0]] * 7 for _ in lengths]
    flat = [length for group in lengths for length in group]
    grouped = GroupedRows(
        **{
            field.name: torch.empty(0)
            for field in fields(GroupedRows)
            if field.name not in ("items", "lengths", "longest", "shortest")
        },
        items=torch.zeros(len(lengths), 7),
        lengths=torch.tensor(lengths, dtype=torch.int32),
        longest=max(flat),
        shortest=min(flat),
    )
    firsts, tiles = item_tiles(grouped, rows, 16)
    assert firsts.shape == (len(lengths), tiles + 1)
    for group, edges in zip(lengths, firsts.tolist(), strict=True):
        assert edges[0] == 0
        assert edges[-1] == 7
        for first, behind in pairwise(edges):
            assert first <= behind <= first + 16
            assert sum(group[first:behind]) <= rows


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == "cpu", reason="torch sees no CUDA device")
@pytest.mark.parametrize(("heads", "regions"), [(8, 49), (4, 49), (8, 81), (4, 81), (8, 196)])
@pytest.mark.parametrize("groups", [(1, 1, 300), (4, 1, 50), (1, 17, 23), (4, 50, 1)])
def test_published_sizes_on_a_device(
    heads: int, regions: int, groups: tuple[int, int, int]
) -> None:
    """Tiles of the real width, in 16 bits, pipelined: what the interpreter has none of."""
    lengths = torch.randint(1, 21, (40,), generator=torch.Generator().manual_seed(0)).tolist()
    case = make_case(
        width=1024, heads=heads, lengths=([regions] * 20, lengths), groups=groups, seed=2
    )
    torch.testing.assert_close(scores(case, torch.float16), expected(case), atol=1e-3, rtol=0)


def scores(case: Case, dtype: torch.dtype) -> Tensor:
    """The kernels' scores of a case."""
    return fused_scores(
        packed(case.image, dtype), packed(case.recipe, dtype),
        case.photos.to(DEVICE), case.recipes.to(DEVICE),
        kernel_weights(case.weights.to(DEVICE), dtype),
    ).cpu()  # fmt: skip


def expected(case: Case) -> Tensor:
    """The plain form's scores in float32, group by group."""
    return torch.cat(
        [
            pair_block(
                case.image.select(photos).grouped((1, -1)),
                case.recipe.select(recipes).grouped((1, -1)),
                case.weights,
            )
            for photos, recipes in zip(case.photos, case.recipes, strict=True)
        ]
    )


def packed(encodings: PaddedEncodings, dtype: torch.dtype) -> PackedItems:
    """Items packed, on the device; what lies between them is poisoned."""
    lengths = encodings.lengths
    size = int(lengths.max())
    padding = torch.arange(size) >= lengths[:, None]
    poisoned = {
        name: getattr(encodings, name).masked_fill(padding.view(*padding.shape, *([1] * more)), nan)
        for more, names in ((1, ("query", "key", "value", "gate", "fuse")), (0, ("gate_bias",)))
        for name in names
    }
    table = encodings.table.masked_fill(padding[:, None, :, None], nan)
    encodings = replace(encodings, **poisoned, table=table)
    heads = table.shape[1]
    items = pack_items(encodings, dtype, heads=heads, uniform=bool((lengths == size).all()))
    arrays = {
        field.name: value.to(DEVICE)
        for field in fields(items)
        if isinstance(value := getattr(items, field.name), Tensor)
    }
    return replace(items, **arrays)
