"""The whole loss of a batch: each given loss on the part of the score that it acts on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hficma.model import Model, Tokens
from hficma.training import distributed
from hficma.training.config import LossOptions
from hficma.training.losses import Loss, Similarities, classification


@dataclass(frozen=True)
class BatchLoss:
    """The loss of one batch and what it is made of."""

    value: Tensor
    """Scalar, differentiable."""
    parts: dict[str, float]
    """`on_score`, `on_global`, ..., `bad_pairs`: for the log."""


class Criterion(nn.Module):
    """Scores a batch and adds up its losses.

    Args:
        options: which losses.
        model: for the width of its global vectors, where a dish-class head is asked for.
        classes: number of dish classes, "none" (0) included.

    Raises:
        ValueError: a loss on S_local for a model that has none.
    """

    def __init__(self, options: LossOptions, model: Model, classes: int) -> None:
        super().__init__()
        if options.on_local is not None and not model.has_local:
            raise ValueError(f"loss.on_local: {model.config.kind} has no local part")
        self.options = options
        self.head = (
            nn.Linear(model.config.global_dim or model.config.width, classes)
            if options.classification
            else None
        )

    def forward(
        self,
        model: Model,
        image: Tokens,
        recipe: Tokens,
        *,
        classes: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> BatchLoss:
        """The loss of B pairs.

        Args:
            model: whose score it is.
            image: B photos.
            recipe: their B recipes, and behind them any number without a photo.
            classes: dish class of each pair (B,), 0 = none.
            generator: for losses that draw pairs.
        """
        options = self.options
        count = len(image.global_)
        pairs = _first(recipe, count)
        extra = recipe.global_[count:]
        pairs = distributed.gather_tokens(pairs)
        recipes_global = torch.cat([pairs.global_, distributed.gather(extra)])
        images_global = distributed.gather(image.global_)
        if classes is not None:
            classes = distributed.gather(classes)

        rows = image.global_.float() @ recipes_global.float().T
        global_ = distributed.gather_rows(rows)
        local = score = None
        if model.has_local and (options.on_score or options.on_local):
            tile = options.block**2 if options.block else None
            local = distributed.gather_rows(
                model.pair_scores(
                    model.project_image(image), model.project_recipe(pairs), tile=tile
                )
            )
        if options.on_score is not None:
            config = model.config
            score = config.global_weight * global_[:, : len(global_)]
            if local is not None:
                score = score + config.local_weight * local

        unimodal = options.on_global is not None
        images = distributed.gather_rows(image.global_ @ images_global.T) if unimodal else None
        own_recipes = recipe.global_[:count] @ pairs.global_.T if unimodal else None
        recipes = distributed.gather_rows(own_recipes) if own_recipes is not None else None

        value = global_.new_zeros(())
        parts: dict[str, float] = {}
        idle: list[float] = []

        def add(name: str, loss: Loss | None, scores: Tensor | None, *, one_kind: bool) -> None:
            nonlocal value
            if loss is None or scores is None:
                return
            found = loss(
                Similarities(
                    scores=scores,
                    images=images if one_kind else None,
                    recipes=recipes if one_kind else None,
                    classes=classes,
                    generator=generator,
                )
            )
            value = value + loss.weight * found.value
            parts[name] = float(found.value.detach())
            if found.bad_pairs is not None:
                idle.append(found.bad_pairs)

        add("on_score", options.on_score, score, one_kind=False)
        add("on_global", options.on_global, global_, one_kind=True)
        add("on_local", options.on_local, local, one_kind=False)
        if self.head is not None and classes is not None:
            weight = options.classification
            value = (1 - 2 * weight) * value
            for name, own in (("image", image.global_), ("recipe", recipe.global_[:count])):
                logits = self.head(nn.functional.normalize(own.float(), dim=-1))
                part = classification(distributed.gather_rows(logits), classes)
                value = value + weight * part
                parts[f"{name}_classes"] = float(part.detach())
        if idle:
            parts["bad_pairs"] = sum(idle) / len(idle)
        return BatchLoss(value, parts)


def _first(recipe: Tokens, count: int) -> Tokens:
    tokens = None if recipe.tokens is None else recipe.tokens[:count]
    return Tokens(recipe.global_[:count], tokens, recipe.lengths[:count])
