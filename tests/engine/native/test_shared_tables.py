"""What photos of a batch share is computed once, and their answers are those of each by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hficma.engine import Answer, Engine, build_index
from hficma.engine.index.item_encoding import Level
from hficma.engine.native.library import has_kernels
from hficma.engine.native.pair_kernel import PairKernel
from hficma.engine.retrieval import candidate_cache, kernel_reranking
from tests.engine.datasets import NoiseDataset

pytestmark = pytest.mark.skipif(not has_kernels(), reason="this processor has no kernels")

ITEMS = NoiseDataset(90)


@pytest.mark.parametrize("level", ["tokens", "projections"])
@pytest.mark.parametrize("pays", [0.0, np.inf])
def test_sharing_changes_no_bit(
    level: Level, pays: float, hf_icma_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ties and certificates hang on the last bit, in float32 and where bfloat16 screens."""
    monkeypatch.setattr(kernel_reranking, "PAYS", pays)
    index = build_index(hf_icma_bundle, ITEMS, tmp_path / "index", shard_items=40, keep=level)
    photos = [ITEMS.photo(number) for number in range(6)]
    tiles: list[int] = []
    tabulate = PairKernel.tabulate

    def counted(kernel: PairKernel, *arguments: object) -> None:
        tiles.append(1)
        tabulate(kernel, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(PairKernel, "tabulate", counted)
    answers = []
    with Engine.open(index, runtime="native", threads=2) as engine:
        for _ in range(4):  # until it is settled whether bfloat16 screens
            engine.search(image=photos[0], candidates=70)
        for memory in (0, 1 << 20, 1 << 30):  # nothing shared, some, everything
            monkeypatch.setattr(candidate_cache, "CACHE_BYTES", memory)
            before = len(tiles)
            answers.append(list(engine.search_many(photos, k=8, candidates=70)))
            assert (len(tiles) > before) == (memory > 0)
    for one, other, third in zip(*answers, strict=True):
        assert isinstance(one, Answer)
        for again in (other, third):
            assert isinstance(again, Answer)
            assert [(hit.id, hit.score) for hit in again.hits] == [
                (hit.id, hit.score) for hit in one.hits
            ]
            assert again.certified == one.certified
