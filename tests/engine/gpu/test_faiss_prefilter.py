"""FAISS's own prefilter on a GPU answers as the host's of the same kind.

Here its CPU indexes stand behind the one seam (`FaissGpu`): the same methods on the same data. What
only a card runs is marked `gpu`.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hficma.engine.gpu import faiss_prefilter
from hficma.engine.gpu.copying import copy_to_device
from hficma.engine.gpu.faiss_prefilter import FaissGpu, FaissPrefilter, faiss_gpu, gpu_prefilter
from hficma.engine.gpu.prefilter import GpuPrefilter
from hficma.engine.index.prefilter import Prefilter, build_prefilter

faiss = pytest.importorskip("faiss", reason="FAISS is not installed")

ITEMS, WIDTH = 1500, 16


class FaissOnHost(FaissGpu):
    """FAISS's CPU indexes in the place of those of a card."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.calls: list[str] = []

    def moved(self, index: Any) -> Any:
        self.calls.append("moved")
        return index

    def nearest(self, queries: Any, vectors: Any, count: int) -> Any:
        self.calls.append("nearest")
        pair = faiss.knn(queries.numpy(), vectors.numpy(), count, metric=faiss.METRIC_INNER_PRODUCT)
        return tuple(map(torch.from_numpy, pair))


class Bare:
    """All that a prefilter reads of a shard."""

    def __init__(self, folder: Path, kind: str) -> None:
        rng = np.random.default_rng(1)
        centres = rng.normal(size=(20, WIDTH))
        noise = 0.3 * rng.normal(size=(ITEMS, WIDTH))
        self.vectors = (centres[rng.integers(0, 20, ITEMS)] + noise).astype(np.float32)
        self.folder = folder
        facts = build_prefilter(self.vectors, kind, folder)
        self.prefilter = Prefilter(facts, self.vectors, None)
        file = folder / "prefilter.faiss"
        if file.exists():
            self.prefilter._file = object()
            self.prefilter._faiss_index = faiss.deserialize_index(
                np.frombuffer(file.read_bytes(), np.uint8)
            )


@pytest.mark.parametrize("kind", ["Flat", "SQ8", "HNSW", "IVF,SQ8", "IVF,Flat", "PCA8,IVF,Flat"])
def test_each_kind_is_searched_as_on_the_host(kind: str, tmp_path: Path) -> None:
    """Lists that were moved must be probed as before; every other kind is scanned exactly."""
    shard, library = Bare(tmp_path, kind), FaissOnHost()
    there = FaissPrefilter(shard, copy_to_device(shard.vectors, torch.device("cpu")), library)
    lists = "IVF" in kind
    assert set(library.calls) == {"moved" if lists else "nearest"}
    assert there.facts.bounded is not lists, "lists that are not probed hold what nothing bounds"
    queries = shard.vectors[::500] + np.float32(0.01)
    exact = Prefilter(shard.prefilter.facts, shard.vectors, None)
    expected = (shard.prefilter if lists else exact).search(queries, 40, None)
    for answer, other in zip(there.search(queries, 40, None), expected, strict=True):
        np.testing.assert_allclose(answer.scores, other.scores, rtol=1e-5)
        np.testing.assert_array_equal(np.sort(answer.positions), np.sort(other.positions))


@pytest.mark.parametrize("kind", ["Flat", "IVF,SQ8"])
def test_filters_and_many_candidates_are_scanned(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAISS's GPU indexes take no selector, and select 2,048 at most."""
    shard, library = Bare(tmp_path, kind), FaissOnHost()
    there = FaissPrefilter(shard, torch.from_numpy(shard.vectors), library)
    calls = len(library.calls)
    monkeypatch.setattr("hficma.engine.gpu.faiss_prefilter.MOST_NEAREST", 100)
    mask = np.zeros(ITEMS, bool)
    mask[[3, 99, 1400]] = True
    query = shard.vectors[:1]
    [answer] = there.search(query, 50, mask)
    assert sorted(answer.positions) == [3, 99, 1400]
    [answer] = there.search(query, ITEMS + 7, None)
    assert sorted(answer.positions) == list(range(ITEMS))
    assert len(library.calls) == calls
    assert there.search(query, 3, np.zeros(ITEMS, bool))[0].positions.size == 0


def test_lists_that_hold_too_few_are_made_up_for(tmp_path: Path) -> None:
    """An answer would have a position of -1, or fewer items than there are."""
    shard = Bare(tmp_path, "IVF,Flat")
    there = FaissPrefilter(shard, torch.from_numpy(shard.vectors), FaissOnHost())
    faiss.extract_index_ivf(there._lists).nprobe = 1
    [answer] = there.search(shard.vectors[:1], 1000, None)
    assert len(answer.positions) == 1000
    assert answer.positions.min() >= 0


@pytest.mark.parametrize("fault", ["zeros", "nan", "positions", "refuses"])
def test_a_build_that_fails_on_this_card_is_not_used(
    fault: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong scores would be certified; a build without code for a card has given zeros."""

    class Faulty(FaissOnHost):
        def nearest(self, queries: Any, vectors: Any, count: int) -> Any:
            scores, positions = super().nearest(queries, vectors, count)
            if fault == "refuses":
                raise RuntimeError("Error in bfKnn at :1\nno kernel image is available")
            if fault == "positions":
                return scores, positions + 5000
            return scores * (0.0 if fault == "zeros" else torch.nan), positions

    monkeypatch.setattr("hficma.engine.gpu.faiss_prefilter.faiss_gpu", lambda _: Faulty())
    shard = Bare(tmp_path, "Flat")
    chosen = gpu_prefilter(shard, torch.from_numpy(shard.vectors))
    assert type(chosen) is GpuPrefilter
    assert "FAISS cannot search it" in caplog.text


def test_without_a_card_torch_scans_and_it_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A line for each of a thousand shards would hide all others; none would hide the reason."""
    caplog.set_level(logging.INFO, "hficma")
    faiss_prefilter._say_torch_scans.cache_clear()
    assert faiss_gpu(torch.device("cpu")) is None
    shard = Bare(tmp_path, "IVF,SQ8")
    for _ in range(3):
        assert type(gpu_prefilter(shard, torch.from_numpy(shard.vectors))) is GpuPrefilter
    assert caplog.text.count("torch scans the vectors") == 1


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available() or not faiss.get_num_gpus(), reason="FAISS sees no CUDA device"
)
@pytest.mark.parametrize("kind", ["Flat", "HNSW", "IVF,SQ8", "IVF,Flat"])
def test_a_card_finds_what_the_host_finds(kind: str, tmp_path: Path) -> None:
    """Everything behind the seam: moved lists, and brute force on torch's memory and stream."""
    shard = Bare(tmp_path, kind)
    there = gpu_prefilter(shard, torch.from_numpy(shard.vectors).cuda())
    assert isinstance(there, FaissPrefilter)
    queries = shard.vectors[::500] + np.float32(0.01)
    exact = Prefilter(shard.prefilter.facts, shard.vectors, None)
    expected = (shard.prefilter if "IVF" in kind else exact).search(queries, 40, None)
    for answer, other in zip(there.search(queries, 40, None), expected, strict=True):
        np.testing.assert_allclose(answer.scores, other.scores, rtol=1e-4)
        assert len({*answer.positions} & {*other.positions}) >= 39
