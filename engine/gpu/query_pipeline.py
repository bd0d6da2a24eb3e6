"""Queries from pixels and word ids to tables, without leaving the GPU.

    photos ──▶ pinned memory ──copy──▶ image branch ──▶ tokens ──▶ projections ──▶ tables
                                            └────▶ vectors, and whether all is finite ──▶ host

One batch is one run of each step, and one transfer comes back: the vectors, which the host's exact
S_global needs. The image branch runs in whatever runtime was chosen, on torch's memory; what
follows is the model's own algebra in torch, recorded as a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from hficma.images.crops import mean_over_crops
from hficma.model.similarity import PaddedEncodings, project, tabulate
from hficma.text.vocabulary import RecipeIds
from hficma.types import Floats, Pixels

from ..encoder import EncodedQuery, ModelInput, encode_recipes, joined, not_finite, photo_batch
from ..index.item_encoding import LEVELS, Role
from ..runtimes.captured import CapturedCalls
from .copying import send
from .gpu_queries import GpuQueries
from .weights import folded_weights

if TYPE_CHECKING:
    from torch import Tensor

    from hficma.model.similarity import FoldedItemWeights

    from ..bundle.bundle import Bundle


class QueryPipeline:
    """Encodes batches of queries on a GPU; called as `encode_queries` is.

    Recordings and weights are released with it.

    Args:
        bundle: whose branches run, opened for the same device.
        device: the GPU.
    """

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        self._bundle = bundle
        self._device = device
        self._tables: dict[str, CapturedCalls] = {}
        if bundle.has_local:
            weights = folded_weights(bundle, device)
            for role, of_role in (("image", weights.image), ("recipe", weights.recipe)):
                self._tables[role] = CapturedCalls(
                    partial(_tables, of_role), device, name="raising queries to tables"
                )

    def __call__(self, role: Role, inputs: Sequence[ModelInput]) -> Sequence[EncodedQuery]:
        """Encode queries, all of one role, and bring them to `tables`.

        Args:
            role: of the queries.
            inputs: of each of them; at least one.

        Raises:
            ArtifactError: the model gives one of them a value that is not finite.
        """
        with torch.inference_mode():
            if role == "image":
                vectors, tokens = self._photos(
                    [one for one in inputs if isinstance(one, np.ndarray)]
                )
                regions = 0 if tokens is None else tokens.shape[1]
                lengths = np.full(len(inputs), regions, dtype=np.int64)
            else:
                recipes = [one for one in inputs if isinstance(one, RecipeIds)]
                vectors, tokens = self._recipes(recipes)
                lengths = np.array([len(one.ingredients) for one in recipes], dtype=np.int64)
            encodings = None
            flags = [torch.isfinite(vectors).all()]
            if tokens is not None:
                on_device = send(lengths, self._device)
                arrays = self._tables[role](tokens, on_device)
                encodings = PaddedEncodings(
                    **dict(zip(LEVELS["tables"], arrays, strict=True)), lengths=on_device
                )
                flags += [torch.isfinite(array).all() for array in arrays]
            # One wait for the GPU, whatever comes back.
            packed = torch.cat([vectors.flatten(), torch.stack(flags).to(vectors.dtype)])
            host: Floats = packed.cpu().numpy()
        if not host[-len(flags) :].all():
            raise not_finite()
        vectors_on_host = host[: -len(flags)].reshape(vectors.shape)
        return GpuQueries(self._averaged(vectors_on_host, len(inputs)), encodings, lengths, inputs)

    def _photos(self, pixels: Sequence[Pixels]) -> tuple[Tensor, Tensor | None]:
        """Return the vectors (Q V, D_g) of photos of V crops each, and the centres' tokens."""
        photos = self._copied(pixels)
        views = 1 if pixels[0].ndim == 3 else len(pixels[0])
        image = self._bundle.runtime("image")
        runs = [
            image.run_tensors({"photos": part})
            for part in photos.flatten(0, -4).split(photo_batch(self._bundle))
        ]
        vectors = torch.cat([run["global"] for run in runs])
        if not self._tables:
            return vectors, None
        # Not those of a corner, which would be of other places.
        return vectors, torch.cat([run["tokens"] for run in runs])[::views].contiguous()

    def _recipes(self, recipes: Sequence[RecipeIds]) -> tuple[Tensor, Tensor | None]:
        """Return vectors (Q, D_g) and tokens; sentences and ids are put together on the host."""
        items = encode_recipes(self._bundle, recipes)
        vectors = send(items.vectors, self._device)
        if items.encodings is None:
            return vectors, None
        tokens = send(items.encodings.arrays["tokens"], self._device)
        # To the most that any may have: with the longest of a batch instead, a pair's score would
        # depend on what else is in its batch.
        missing = self._bundle.facts.model.text.max_ingredients - tokens.shape[1]
        return vectors, functional.pad(tokens, (0, 0, 0, missing))

    def _averaged(self, vectors: Floats, count: int) -> Floats:
        """Return the mean (Q, D_g) over each photo's crops."""
        if len(vectors) == count:
            return vectors
        model = self._bundle.facts.model
        crops = vectors.reshape(count, len(vectors) // count, -1)
        return mean_over_crops(crops, unit=model.unit_vectors, members=model.members)

    def _copied(self, pixels: Sequence[Pixels]) -> Tensor:
        """Copy photos to the GPU; from pinned memory, as they are decoded into, without waiting.

        That memory is the caller's until the batch's vectors are back, and so the copy's end.
        """
        photos = torch.from_numpy(joined(pixels))
        if self._device.type == "cuda" and not photos.is_pinned():
            photos = photos.pin_memory()
        return photos.to(self._device, non_blocking=True)


def _tables(weights: FoldedItemWeights, tokens: Tensor, lengths: Tensor) -> list[Tensor]:
    """Bring items to `tables`: the arrays of that level, in its order.

    Args:
        weights: of the items' kind.
        tokens: (N, L, D).
        lengths: (N,).
    """
    encodings = tabulate(project(tokens, lengths, weights), weights)
    return [getattr(encodings, name) for name in LEVELS["tables"]]
