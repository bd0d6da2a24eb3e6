"""The whole loss of a batch: each loss of the options on the part of the score that it acts on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hficma.errors import InputError
from hficma.model import Model, Tokens

from ..config.options import LossOptions
from ..parallel import distributed
from .retrieval_losses import Loss, Similarities, classification
from .triplets import ONE_KIND


class BatchLoss(NamedTuple):
    """The loss of one batch and what it is made of.

    All are tensors on the model's device: a number read from a GPU makes the processor wait for
    it, so that they are read together, once the step is under way.
    """

    value: Tensor
    """Scalar, differentiable."""
    parts: dict[str, Tensor]
    """`loss`, `on_score`, `on_global`, ..., `bad_pairs`: scalars, for the log."""


class Criterion(nn.Module):
    """Scores a batch and adds up its losses.

    With several processes each holds a part of the batch. Losses over the whole batch are then
    computed by all of them alike, from tables whose rows are gathered (see
    `hficma.training.parallel.distributed`); losses within groups stay in their process.

    Args:
        options: which losses.
        model: for the width of its global vectors, where a dish-class head is trained.
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
            strategies = getattr(getattr(options, name), "strategies", ())
            one_kind = sorted(set(ONE_KIND) & set(strategies))
            if one_kind:
                raise InputError(
                    f"loss.{name}.strategies: {', '.join(one_kind)} compare items of one "
                    "kind; give them to loss.on_global"
                )
        self.options = options
        self.head = nn.Linear(model.global_dim, classes) if options.classification else None

    def forward(
        self,
        model: Model,
        image: Tokens,
        recipe: Tokens,
        *,
        classes: Tensor,
        generator: torch.Generator | None = None,
    ) -> BatchLoss:
        """Return the loss of B pairs.

        Args:
            model: whose score it is.
            image: B photos.
            recipe: their B recipes.
            classes: dish class of each pair (B,) int64, 0 = none.
            generator: on the CPU; for losses that draw pairs.
        """
        total = _Sum(image.global_.new_zeros(()))
        self._add_global(total, image, recipe, classes, generator)
        if self.options.on_score is not None or self.options.on_local is not None:
            self._add_pairwise(total, model, image, recipe, classes, generator)
        if self.head is not None:
            self._add_classification(total, image, recipe, classes)
        if total.bad_pairs:
            total.parts["bad_pairs"] = torch.stack(total.bad_pairs).mean()
        return BatchLoss(total.value, {"loss": total.logged, **total.parts})

    def _add_global(
        self,
        total: _Sum,
        image: Tokens,
        recipe: Tokens,
        classes: Tensor,
        generator: torch.Generator | None,
    ) -> None:
        """Add the loss on S_global, over the whole batch."""
        loss = self.options.on_global
        if loss is None:
            return
        images, recipes = distributed.gather(image.global_), distributed.gather(recipe.global_)

        def table(rows: Tensor, columns: Tensor) -> Tensor:
            """Return the inner products of all processes' rows with the columns, (B, B)."""
            # Rows of this process against everyone's columns; then everyone's rows.
            return distributed.gather_rows(rows.float() @ columns.float().T)

        similarities = Similarities(
            scores=table(image.global_, recipes),
            images=table(image.global_, images),
            recipes=table(recipe.global_, recipes),
            classes=distributed.gather(classes),
            generator=generator,
        )
        total.add("on_global", loss, similarities)

    def _add_pairwise(
        self,
        total: _Sum,
        model: Model,
        image: Tokens,
        recipe: Tokens,
        classes: Tensor,
        generator: torch.Generator | None,
    ) -> None:
        """Add losses on S and S_local: over the whole batch, or the mean over groups of it."""
        options = self.options
        score_tables = self._group_tables if options.group else self._batch_table
        tables = score_tables(model, image, recipe, classes)
        # Gradients are summed over processes. A loss over the whole batch is the same everywhere
        # and has its gradient split by rows; groups differ, so their sum is made a mean here.
        share = 1 / len(tables)
        processes = distributed.world_size() if options.group else 1
        for score, local, table_classes in tables:
            for name, loss, table in (
                ("on_score", options.on_score, score),
                ("on_local", options.on_local, local),
            ):
                if loss is not None and table is not None:
                    similarities = Similarities(
                        scores=table, classes=table_classes, generator=generator
                    )
                    total.add(name, loss, similarities, share=share, processes=processes)

    def _batch_table(
        self, model: Model, image: Tokens, recipe: Tokens, classes: Tensor
    ) -> list[_Table]:
        """Return one table: every photo with every recipe, over all processes."""
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
        """Return a table a group: its photos with its recipes, within this process."""
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
        """Return how many pairs are scored at once; None for all."""
        return self.options.block**2 if self.options.block else None

    def _add_classification(
        self, total: _Sum, image: Tokens, recipe: Tokens, classes: Tensor
    ) -> None:
        """Blend in the dish-class head: (1 - 2w) retrieval + w photo's + w recipe's cross-entropy.

        Source: the semantic regularization of Salvador et al., CVPR 2017.
        """
        assert self.head is not None
        weight = self.options.classification
        total.value = (1 - 2 * weight) * total.value
        total.logged = (1 - 2 * weight) * total.logged
        batch_classes = distributed.gather(classes)
        for name, vectors in (("image", image.global_), ("recipe", recipe.global_)):
            logits = self.head(nn.functional.normalize(vectors.float(), dim=-1))
            part = classification(distributed.gather_rows(logits), batch_classes)
            total.value = total.value + weight * part
            total.logged = total.logged + weight * part.detach()
            total.parts[f"{name}_classes"] = part.detach()


_Table = tuple[Tensor, Tensor | None, Tensor]
"""S (B, B), S_local (B, B) or None, and the dish classes (B,) of its pairs."""


@dataclass
class _Sum:
    """The loss while it is added up."""

    value: Tensor
    """Of this process, whose gradient is one of those that are added up over processes."""
    logged: Tensor = field(init=False)
    """What the log calls the loss: of groups, the mean over those of this process."""
    parts: dict[str, Tensor] = field(default_factory=dict)
    bad_pairs: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.logged = self.value.detach()

    def add(
        self, name: str, loss: Loss, batch: Similarities, *, share: float = 1.0, processes: int = 1
    ) -> None:
        """Add a loss with its own weight, times a share, and note it under a name.

        Args:
            name: of the option.
            loss: to be computed.
            batch: what it looks at.
            share: of this table among those of this process.
            processes: that have tables of their own, whose mean the loss is.
        """
        part = loss(batch)
        self.value = self.value + share / processes * loss.weight * part.value
        value = share * part.value.detach()
        self.logged = self.logged + loss.weight * value
        self.parts[name] = self.parts[name] + value if name in self.parts else value
        if part.bad_pairs is not None:
            self.bad_pairs.append(part.bad_pairs)


@torch.no_grad()
def neighbour_groups(images: Tensor, recipes: Tensor, size: int) -> list[Tensor]:
    """Partition a batch into groups of pairs that S_global confuses most.

    A group holds its first free pair and those free ones whose S_global with it, both ways, is
    highest: negatives like those that a prefilter leaves for S to tell apart. Groups drawn at
    random are told apart by S_global alone, and S_local learns nothing from them.

    Args:
        images: global vectors (B, D_g) of the photos.
        recipes: of their recipes (B, D_g).
        size: of a group; groups differ by at most one pair, and have at least two.

    Returns:
        positions in the batch, ascending, by group.
    """
    scores = (images.float() @ recipes.float().T).cpu()  # (B, B)
    closeness = scores + scores.T
    count = len(closeness)
    # ceil(B / size) groups, but never one of a single pair, which has no negative.
    number = max(1, min(-(-count // size), count // 2))
    free = torch.ones(count, dtype=torch.bool)
    groups = []
    for group in range(number):
        # Bounds at equal shares of B spread a rest over the groups instead of leaving it to one.
        members = (group + 1) * count // number - group * count // number
        first = int(free.nonzero()[0])
        near = closeness[first].masked_fill(~free, -torch.inf)
        near[first] = torch.inf  # it leads its own group, whatever its own score
        rows = near.topk(members).indices
        free[rows] = False
        groups.append(rows.sort().values.to(images.device))
    return groups
