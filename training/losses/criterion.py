"""The whole loss of a batch: each given loss on the part of the score that it acts on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from hficma.errors import InputError
from hficma.model import Model, Tokens

from .. import distributed
from ..config.options import LossOptions
from .retrieval_losses import Loss, Similarities, classification


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
        InputError: a loss on S_local for a model that has none, or a strategy that compares
            items of one kind where only pairs are scored.
    """

    def __init__(self, options: LossOptions, model: Model, classes: int) -> None:
        super().__init__()
        if options.on_local is not None and not model.has_local:
            raise InputError(f"loss.on_local: {model.config.kind} has no local part")
        for name in ("on_score", "on_local"):
            one_kind = {"iri", "rir", "siii", "srrr"} & set(
                getattr(getattr(options, name), "strategies", ())
            )
            if one_kind:
                raise InputError(
                    f"loss.{name}.strategies: {', '.join(sorted(one_kind))} compare items of one "
                    "kind; give them to loss.on_global"
                )
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
        classes: Tensor,
        generator: torch.Generator | None = None,
    ) -> BatchLoss:
        """The loss of B pairs.

        Args:
            model: whose score it is.
            image: B photos.
            recipe: their B recipes.
            classes: dish class of each pair (B,), 0 = none.
            generator: for losses that draw pairs.
        """
        sum_ = _Sum(image.global_.new_zeros(()))
        self._add_global(sum_, image, recipe, classes, generator)
        if self.options.on_score is not None or self.options.on_local is not None:
            self._add_pairwise(sum_, model, image, recipe, classes, generator)
        if self.head is not None:
            self._add_classification(sum_, image, recipe, classes)
        if sum_.idle:
            sum_.parts["bad_pairs"] = sum(sum_.idle) / len(sum_.idle)
        return BatchLoss(sum_.value, sum_.parts)

    def _add_global(
        self,
        sum_: _Sum,
        image: Tokens,
        recipe: Tokens,
        classes: Tensor,
        generator: torch.Generator | None,
    ) -> None:
        loss = self.options.on_global
        if loss is None:
            return
        images, recipes = distributed.gather(image.global_), distributed.gather(recipe.global_)

        def table(own: Tensor, others: Tensor) -> Tensor:
            return distributed.gather_rows(own.float() @ others.float().T)

        similarities = Similarities(
            scores=table(image.global_, recipes),
            images=table(image.global_, images),
            recipes=table(recipe.global_, recipes),
            classes=distributed.gather(classes),
            generator=generator,
        )
        sum_.add("on_global", loss, similarities)

    def _add_pairwise(
        self,
        sum_: _Sum,
        model: Model,
        image: Tokens,
        recipe: Tokens,
        classes: Tensor,
        generator: torch.Generator | None,
    ) -> None:
        """Losses on S and S_local: over the whole batch, or the mean over groups of it."""
        options = self.options
        tables = self._group_tables if options.group else self._batch_table
        found = tables(model, image, recipe, classes)
        share = 1 / len(found) / (distributed.world_size() if options.group else 1)
        for score, local, own_classes in found:
            for name, loss, table in (
                ("on_score", options.on_score, score),
                ("on_local", options.on_local, local),
            ):
                if loss is not None and table is not None:
                    similarities = Similarities(
                        scores=table, classes=own_classes, generator=generator
                    )
                    sum_.add(name, loss, similarities, share=share)

    def _batch_table(
        self, model: Model, image: Tokens, recipe: Tokens, classes: Tensor
    ) -> list[_Table]:
        """Every photo with every recipe, over all processes."""
        recipes = distributed.gather_tokens(recipe)
        local = None
        if model.has_local:
            local = model.local_scores(image, recipes, tile=self._tile)
        score = model.total(image.global_.float() @ recipes.global_.float().T, local)
        if local is not None:
            local = distributed.gather_rows(local)
        return [(distributed.gather_rows(score), local, distributed.gather(classes))]

    def _group_tables(
        self, model: Model, image: Tokens, recipe: Tokens, classes: Tensor
    ) -> list[_Table]:
        """Every photo of a group with every recipe of it, within this process."""
        groups = neighbour_groups(image.global_, recipe.global_, self.options.group)
        locals_: Sequence[Tensor | None] = [None] * len(groups)
        if model.has_local:
            locals_ = model.grouped_local_scores(image, recipe, groups, tile=self._tile)
        photos, recipes = image.global_.float(), recipe.global_.float()
        return [
            (model.total(photos[rows] @ recipes[rows].T, local), local, classes[rows])
            for rows, local in zip(groups, locals_, strict=True)
        ]

    @property
    def _tile(self) -> int | None:
        return self.options.block**2 if self.options.block else None

    def _add_classification(
        self, sum_: _Sum, image: Tokens, recipe: Tokens, classes: Tensor
    ) -> None:
        assert self.head is not None
        weight = self.options.classification
        sum_.value = (1 - 2 * weight) * sum_.value
        everyone = distributed.gather(classes)
        for name, own in (("image", image.global_), ("recipe", recipe.global_)):
            logits = self.head(nn.functional.normalize(own.float(), dim=-1))
            part = classification(distributed.gather_rows(logits), everyone)
            sum_.value = sum_.value + weight * part
            sum_.parts[f"{name}_classes"] = float(part.detach())


_Table = tuple[Tensor, Tensor | None, Tensor]
"""S (n, m), S_local or None, and the dish classes of its pairs."""


@dataclass
class _Sum:
    """The loss while it is added up."""

    value: Tensor
    parts: dict[str, float] = field(default_factory=dict)
    idle: list[float] = field(default_factory=list)

    def add(self, name: str, loss: Loss, batch: Similarities, *, share: float = 1.0) -> None:
        found = loss(batch)
        self.value = self.value + share * loss.weight * found.value
        self.parts[name] = self.parts.get(name, 0.0) + share * float(found.value.detach())
        if found.bad_pairs is not None:
            self.idle.append(found.bad_pairs)


@torch.no_grad()
def neighbour_groups(images: Tensor, recipes: Tensor, size: int) -> list[Tensor]:
    """Partition of a batch into groups of pairs that S_global confuses most.

    A group holds its first free pair and those free ones whose S_global with it, both ways, is
    highest: negatives like those that a prefilter leaves for S to tell apart. Groups drawn at
    random are told apart by S_global alone, and S_local learns nothing from them.

    Args:
        images: global vectors (B, D) of the photos.
        recipes: of their recipes (B, D).
        size: of a group; groups differ by at most one pair, and have at least two.

    Returns:
        positions in the batch, by group.
    """
    scores = (images.float() @ recipes.float().T).cpu()
    closeness = scores + scores.T
    count = len(closeness)
    number = max(1, min(-(-count // size), count // 2))
    free = torch.ones(count, dtype=torch.bool)
    groups = []
    for group in range(number):
        take = (group + 1) * count // number - group * count // number
        first = int(free.nonzero()[0])
        near = closeness[first].masked_fill(~free, -torch.inf)
        near[first] = torch.inf
        chosen = near.topk(take).indices
        free[chosen] = False
        groups.append(chosen.sort().values.to(images.device))
    return groups
