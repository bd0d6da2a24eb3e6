"""The screen can be recorded as a CUDA graph: what it launches depends on shapes alone.

On torch's device `meta` arrays have shapes and no memory, so every read of a value on the host
fails there as it would while a GPU records.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hficma.engine.gpu import packed_index
from hficma.engine.gpu.kernels import attention, fusion, matching, pair_scores, tabulation
from hficma.engine.gpu.local_scores import PACKED, LocalScorer, screen_part
from hficma.engine.gpu.packed_index import PackedIndex
from hficma.engine.index.item_encoding import SCALE, Level, Role
from hficma.model.similarity import FoldedItemWeights, FoldedWeights, project, tabulate

WIDTH, HEADS, ITEMS, LENGTH = 64, 4, 5000, 9
META = torch.device("meta")
READS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "repeat_interleave.Tensor")


class NothingOnTheHost(TorchDispatchMode):
    """Fails where an operation reads a value on the host, or makes its result's size of one."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        devices = {one.device.type for one in args if isinstance(one, Tensor)}
        devices |= {torch.device((kwargs or {}).get("device") or META).type}
        assert devices == {"meta"}, func.name()
        assert not any(read in func.name() for read in READS), func.name()
        return func(*args, **(kwargs or {}))


class Launches:
    """Stands for a kernel: holds its grid and its arrays to what a GPU takes."""

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        assert all(0 < size <= 65_535 for size in grid[1:])

        def launch(*arguments: object, **_options: object) -> None:
            for one in arguments:
                assert not isinstance(one, Tensor) or (one.is_contiguous() and one.device == META)

        return launch


def weights() -> FoldedItemWeights:
    return FoldedItemWeights(
        projection=torch.empty(5 * WIDTH, WIDTH),
        projection_bias=torch.empty(5 * WIDTH),
        gate_bias=torch.empty(WIDTH),
        table=torch.empty(HEADS, WIDTH // HEADS, WIDTH),
        fuse_bias=torch.empty(WIDTH),
    )


def scorer(level: Level, dtype: torch.dtype, role: Role) -> LocalScorer:
    """A scorer of an index that has shapes alone."""
    index = object.__new__(PackedIndex)
    index.device, index.level, index.heads = META, level, HEADS
    index._longest, index._shortest, index._staging = (14, 5, None)
    rows = ITEMS * LENGTH
    names = ("tokens",) if level == "tokens" else packed_index.WIDE
    index._arrays = {name: torch.empty(rows, WIDTH, dtype=dtype) for name in names}
    if level != "tokens":
        index._arrays |= {"gate_bias": torch.empty(rows), "mean": torch.empty(ITEMS, WIDTH)}
    if level == "tables":
        index._arrays["table"] = torch.empty(HEADS * rows, WIDTH, dtype=dtype)
    index._starts = torch.empty(ITEMS, dtype=torch.int64)
    index._lengths = torch.empty(ITEMS, dtype=torch.int64)
    result = object.__new__(LocalScorer)
    result._index, result._role = index, role
    result._exact = FoldedWeights(
        image=weights(),
        recipe=weights(),
        match_hidden=torch.empty(WIDTH, 2 * WIDTH),
        match_hidden_bias=torch.empty(WIDTH),
        match_output=torch.empty(1, WIDTH),
        match_output_bias=torch.empty(1),
    )
    narrow = pair_scores.kernel_weights(result._exact, torch.float16)
    result._screened = partial(screen_part, index, role, narrow)
    return result


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("role", ["recipe", "image"])
@pytest.mark.parametrize(
    ("level", "dtype"),
    [
        ("tokens", torch.float16),
        ("tokens", torch.int8),
        ("projections", torch.float16),
        ("tables", torch.float32),
    ],
)
def test_nothing_of_the_screen_is_read_on_the_host(
    level: Level, dtype: torch.dtype, role: Role, kernels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU refuses to record such a function, and each search would launch it piece by piece."""
    monkeypatch.setattr(pair_scores, "_uses_kernels", lambda *_: kernels)
    monkeypatch.setattr(torch.cuda, "device", lambda _device: contextlib.nullcontext())
    for module, name in (
        (attention, "attention_kernel"),
        (fusion, "fusion_kernel"),
        (matching, "matching_kernel"),
        (tabulation, "tabulation_kernel"),
    ):
        monkeypatch.setattr(module, name, Launches())
    with META:
        screen = scorer(level, dtype, role)
        index = screen._index
        if dtype == torch.int8:
            index._arrays["tokens" + SCALE] = torch.empty(ITEMS * LENGTH)
        tokens = 49 if role == "recipe" else 20
        of_queries = screen._exact.image if role == "recipe" else screen._exact.recipe
        for queries, candidates in ((1, 200), (32, 64), (3, 1024)):
            lengths = torch.empty(queries, dtype=torch.int64)
            numbers = torch.empty(queries, 1, dtype=torch.int64)
            places = torch.empty(queries, candidates, dtype=torch.int64)
            rows = packed_index._row_class(queries * candidates * LENGTH)
            with NothingOnTheHost():
                encodings = project(torch.empty(queries, tokens, WIDTH), lengths, of_queries)
                packed = screen.local_queries(tabulate(encodings, of_queries)).packed
                arrays = [getattr(packed, name) for name in PACKED]
                sizes = rows, packed.longest, packed.shortest
                [scores] = screen._screened(*arrays, numbers, places, *sizes)
            assert scores.shape == (queries, candidates)


def test_few_numbers_of_rows_are_told_apart() -> None:
    """Each would be recorded anew; and one class too small would leave tokens out."""
    classes = {packed_index._row_class(rows) for rows in range(1, 20_000)}
    assert len(classes) < 40
    for rows in range(1, 20_000, 7):
        assert rows <= packed_index._row_class(rows) <= max(rows + 64, 1.34 * rows)
