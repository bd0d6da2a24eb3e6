"""The first stage on a GPU: over a shard's vectors in its memory, by torch or by FAISS.

gpu_prefilter(shard, vectors)     FAISS's own where it sees the GPU, else torch's exact scan
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from hficma.types import Floats, Mask

from ..index.candidates import ShardCandidates
from ..index.prefilter import Prefilter
from .copying import send

if TYPE_CHECKING:
    from torch import Tensor

    from ..index.shard import Shard

BLOCK = 1 << 18
"""Vectors that are compared with the queries at once: bounds the memory of their scores."""


class GpuPrefilter(Prefilter):
    """An exact scan of a shard's vectors on the GPU, whatever kind its own prefilter is.

    A GPU reads its memory so fast that no kind that skips items or narrows vectors would pay, and
    its scores are within the float32 rounding of g in any order of summation: so a shard of any
    kind certifies here as `Flat` does.

    Args:
        shard: whose vectors they are.
        vectors: (N, D_g) float32 on the GPU.
    """

    def __init__(self, shard: Shard, vectors: Tensor) -> None:
        facts = replace(
            shard.prefilter.facts, factory="Flat", bounded=True, error_norm=0.0, error_entry=0.0
        )
        super().__init__(facts, shard.vectors, None)
        self._gpu_vectors = vectors

    def search(self, queries: Floats, count: int, mask: Mask | None) -> list[ShardCandidates]:
        """Return the best items for each query; see `Prefilter.search`.

        Args:
            queries: (Q, D_g) float32, on the host.
            count: K, candidates of each query.
            mask: (N,) which items may answer; None where all may.
        """
        vectors = self._gpu_vectors
        count = min(count, len(vectors) if mask is None else int(mask.sum()))
        if count == 0:
            nothing = ShardCandidates(np.empty(0, np.int64), np.empty(0, np.float32))
            return [nothing] * len(queries)
        gpu = vectors.device
        hidden = None if mask is None else send(~mask, gpu)
        with torch.inference_mode():
            gpu_queries = send(queries, gpu)
            scores = gpu_queries.new_empty(len(queries), 0)
            positions = torch.empty(len(queries), 0, dtype=torch.int64, device=gpu)
            for start in range(0, len(vectors), BLOCK):
                block = gpu_queries @ vectors[start : start + BLOCK].mT
                if hidden is not None:
                    block.masked_fill_(hidden[start : start + BLOCK], -torch.inf)
                # The best of this block join the best so far, and the best of both stay: a table of
                # all scores, Q x N, would need gigabytes. Hidden items (-inf) are never among them,
                # since no more are taken than may answer.
                block_scores, block_positions = block.topk(min(count, block.shape[1]))
                scores = torch.cat([scores, block_scores], dim=1)
                positions = torch.cat([positions, block_positions + start], dim=1)
                scores, order = scores.topk(min(count, scores.shape[1]))
                positions = positions.gather(1, order)
        pairs = zip(positions.cpu().numpy(), scores.cpu().numpy(), strict=True)
        return [ShardCandidates(*pair) for pair in pairs]

    def scores(self, query: Floats) -> Floats:
        """Return g of all items (N,); see `Prefilter.scores`."""
        with torch.inference_mode():
            products = self._gpu_vectors @ send(query, self._gpu_vectors.device)
        scores: Floats = products.cpu().numpy()
        return scores
