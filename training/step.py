"""The forward pass of a training step: from a batch of pairs to its loss."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from hficma.model import Model, RecipeBatch
from hficma.model.encoders.image.features import ImageFeatures
from hficma.types import Classes

from .config.options import Options
from .data.pairs.pairs import PairBatch, Pairs
from .losses.criterion import BatchLoss, Criterion

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class TrainingStep(nn.Module):
    """Everything between a batch and its loss that has gradients, as one module.

    One module with one forward pass is what `distributed.replicated` takes: it must know every
    parameter of the step, and when the step begins.

    Args:
        options: of the run.
        model: that is trained.
        criterion: that it is trained by.
        pairs: what it learns from.
        classes: dish class of each row of `pairs`, (P,) int64, 0 = none.
    """

    def __init__(
        self, options: Options, model: Model, criterion: Criterion, pairs: Pairs, classes: Classes
    ) -> None:
        super().__init__()
        self.model, self.criterion = model, criterion
        self._options, self._pairs, self._classes = options, pairs, classes

    def forward(
        self,
        batch: PairBatch,
        pair_generator: torch.Generator,
    ) -> BatchLoss:
        """Return the loss of one batch.

        Args:
            batch: of B pairs.
            pair_generator: for losses that draw pairs.
        """
        model = self.model
        with autocast(self._options, model.device):
            features = self._pairs.features(model, batch)
            loss: BatchLoss = self.criterion(
                model,
                model.image_tokens(self._without_channels(features)),
                model.recipe_tokens(self._recipes(batch)),
                classes=torch.from_numpy(self._classes[batch.rows]).to(model.device),
                generator=pair_generator,
            )
        return loss

    def _recipes(self, batch: PairBatch) -> RecipeBatch:
        """Return recipes, or neighbours in their place, with parts left out at random."""
        text = self._options.text
        recipes = self._pairs.recipe_batch(self.model, batch)
        return recipes._replace(
            sentences=F.dropout(recipes.sentences, text.dropout),
            texts=F.dropout(recipes.texts, text.dropout),
        )

    def _without_channels(self, features: ImageFeatures) -> ImageFeatures:
        """Return features with some channels dropped, a photo's in all its regions alike."""
        rate, (pooled, regions) = self._options.photos.dropout, features
        if regions is None:
            return ImageFeatures(F.dropout(pooled, rate), None)
        # The scale of a photo's channels, (B, 1, C): 0 where dropped.
        scale = F.dropout(regions.new_ones(len(regions), 1, regions.shape[2]), rate)
        # A mean of regions has their channels; another vector's mean something else.
        pools = self.model.pools_regions
        whole = pooled * scale[:, 0] if pools else F.dropout(pooled, rate)
        return ImageFeatures(whole, regions * scale)


def autocast(options: Options, device: torch.device) -> torch.autocast:
    """Return a context in which a forward pass runs in a run's precision."""
    dtype = _AUTOCAST.get(options.trainer.precision)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)
