"""Pretrains a recipe head on recipes without photos: one part of a recipe finds the other.

    one recipe's fields, parted at random      title, instructions ──▶ head ──▶ a ┐
                                                       ingredients ──▶ head ──▶ b ┴ a · b large

A thousand pairs show a head of a million weights few dishes. What goes with what in recipes is
told by recipes alone, of which there are many more: that tomato and basil are one dish, whichever
field names them, must not be learnt from photos then. Only the head's layers are trained; the
vectors that it reads stay as they are, so that each recipe is encoded once.

The image head starts at random all the same, and learns where the recipes are.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hficma.artifacts.content_digests import code_digest
from hficma.errors import InputError
from hficma.model import Model
from hficma.model.encoders.heads import Centred, Head
from hficma.progress import Progress
from hficma.recipe import Recipe

from ..config.options import OptimizerOptions
from ..data.feature_means import fill_means
from ..data.field_means import recipe_fields, recipe_means, recipe_means_digest
from ..data.other_recipes import OtherRecipes, chunks
from ..data.pairs.pairs import Pairs
from ..data.recipe_batches import RecipeTexts
from ..losses.retrieval_losses import InfoNCE, Similarities
from ..optim.schedule import learning_rate

BATCH = 512
"""Recipes a step: each is to be found among so many."""
DROPOUT = 0.2
"""Of what the layers read; less than pairs need, of which each is seen far more often."""
LOSS = InfoNCE(temperature=0.07)
RATE, DECAY = 1e-3, 1e-2
"""Learning rate and weight decay of AdamW."""
WARMUP = 1 / 30
"""Share of the steps."""
READ = 256
"""Recipes encoded at once."""
SEED = 0
"""The same head for every seed of a run: it takes longer than the pairs do."""


def pretrain_recipe_head(
    model: Model,
    pairs: Pairs,
    others: OtherRecipes,
    *,
    steps: int,
    cache: Path,
    progress: Progress,
) -> None:
    """Give a new model's recipe head layers that were trained on other recipes.

    They are kept in the cache, by all that they follow from: the members of an ensemble, folds and
    other seeds find them there.

    Args:
        model: of `global_text: fields`, whose recipe head has layers.
        pairs: of the run. Other recipes are centred by the means of their recipes, as those are.
        others: what is learnt from.
        steps: of BATCH recipes.
        cache: the workspace's cache folder.
        progress: receives stages and steps.

    Raises:
        InputError: there are too few recipes of two fields.
    """
    fields = recipe_fields(model)
    assert isinstance(fields.head, Head)  # members of an ensemble are trained one by one
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        config = replace(model.config.recipe_head, dropout=DROPOUT)
        head = Head(config, _widths(fields.head), model.config.global_dim, cosine=True).to(
            model.device
        )
    training = model.training
    model.eval()
    rows = np.arange(len(pairs.recipes))
    batches = (pairs.texts.batch(model, part) for part in np.split(rows, rows[READ::READ]))
    with torch.no_grad():
        fill_means(head.parts, (recipe_means(model, batch) for batch in batches))
    path = cache / "heads" / f"{_key(model, head, others, steps)}.safetensors"
    if not path.is_file():
        table = FieldTable.of(model, others, progress)
        train_head(head, table, steps=steps, progress=progress)
        path.parent.mkdir(parents=True, exist_ok=True)
        building = path.with_suffix(f".{os.getpid()}")
        save_file({k: v.cpu() for k, v in head.layers.state_dict().items()}, building)
        building.replace(path)
    fields.head.layers.load_state_dict(load_file(path))
    model.train(training)


@dataclass(frozen=True, kw_only=True)
class FieldTable:
    """What a head reads of N recipes: the mean vectors of their fields, and which they have.

    In half precision 73,000 recipes of 2,052 numbers are 300 MB; vectors of all their sentences
    would be ten times as many.
    """

    means: Tensor
    """(N, D) float16, a recipe's means side by side, D the sum of the parts' widths."""
    present: npt.NDArray[np.bool_]
    """(N, parts) which of them it has."""
    fields: npt.NDArray[np.int64]
    """(parts,) the field that each is of."""

    @classmethod
    @torch.no_grad()
    def of(cls, model: Model, recipes: Iterable[Recipe], progress: Progress) -> FieldTable:
        """Encode recipes; those of less than two fields, which have no other side, are left out.

        Raises:
            InputError: hardly any is left.
        """
        progress.stage("recipes without photos")
        means, present = [], []
        fields = np.array(recipe_fields(model).part_fields)
        for chunk in chunks(recipes, READ):
            # Whole instructions padded to the longest would be gigabytes; these are not padded so.
            texts = RecipeTexts(chunk, model.tokenizer)
            texts.encode_sentences(model)
            texts.encode_texts(model, advance=lambda _: None)
            batch = texts.batch(model, range(len(chunk)))
            vectors, there = zip(*recipe_means(model, batch), strict=True)
            shown = torch.stack(there, dim=1).cpu().numpy() > 0
            sides = np.array([len(set(fields[row].tolist())) > 1 for row in shown])
            means.append(torch.cat(vectors, dim=1)[torch.from_numpy(sides)].half().cpu())
            present.append(shown[sides])
            progress.advance(len(chunk))
        if sum(map(len, means)) < 2:
            raise InputError("text.others: hardly any recipe has two fields with known words")
        return cls(means=torch.cat(means), present=np.concatenate(present), fields=fields)

    def __len__(self) -> int:
        """Return the number of recipes."""
        return len(self.means)


def train_head(head: Head, table: FieldTable, *, steps: int, progress: Progress) -> None:
    """Train a head's layers to bring two sides of one recipe together.

    Args:
        head: of cosines, its means filled in.
        table: what it learns from.
        steps: of BATCH recipes.
        progress: receives the stage and its steps.
    """
    progress.stage("recipe head", steps)
    generator = np.random.default_rng(SEED)
    schedule = OptimizerOptions(warmup=WARMUP * steps, decay="cosine")
    optimizer = torch.optim.AdamW(head.layers.parameters(), lr=RATE, weight_decay=DECAY)
    head.train()
    device = next(head.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(SEED)  # for dropout
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = RATE * learning_rate(schedule, step + 1, steps)
            # Each recipe once: a second copy would be a negative that cannot be told apart.
            rows = generator.choice(len(table), min(BATCH, len(table)), replace=False)
            first, second = sides(head, table, rows, generator)
            loss = LOSS(Similarities(scores=first @ second.T)).value
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            progress.advance()


def sides(
    head: Head, table: FieldTable, rows: npt.NDArray[np.int64], generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Part each recipe's fields in two, and return the global vectors (B, D_g) of both sides.

    Args:
        head: that reads them.
        table: of recipes.
        rows: (B,) which of them.
        generator: draws the sides.
    """
    device = next(head.parameters()).device
    numbers, part_fields = np.unique(table.fields, return_inverse=True)
    present = table.present[rows]  # (B, parts)
    has_field = np.stack(
        [present[:, part_fields == number].any(axis=1) for number in range(len(numbers))], axis=1
    )
    # All parts of a field, such as those of two word tables, are on one side.
    first = split_fields(has_field, generator)[:, part_fields]
    means = table.means[torch.from_numpy(rows)].to(device).float().split(_widths(head), dim=1)
    vectors = []
    for side in (present & first, present & ~first):
        there = torch.from_numpy(side.astype(np.float32)).to(device)
        vectors.append(head(means, there.unbind(dim=1)))
    return vectors[0], vectors[1]


def split_fields(
    present: npt.NDArray[np.bool_], generator: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Draw the first of two sides of each recipe's fields, of which neither is empty.

    Args:
        present: (B, fields) which a recipe has, two at least.
        generator: draws the size of the side, 1 to all but one, and then its members.

    Returns:
        (B, fields) bool.
    """
    # Absent fields rank last, beyond any size.
    order = np.argsort(np.where(present, generator.random(present.shape), 2.0), axis=1)
    ranks = np.argsort(order, axis=1)
    sizes = generator.integers(1, present.sum(axis=1))
    return np.asarray(ranks < sizes[:, None])


def _widths(head: Head) -> list[int]:
    """Return the width of each of the vectors that a head reads."""
    return [part.mean.numel() for part in head.parts if isinstance(part, Centred)]


def _key(model: Model, head: Head, others: OtherRecipes, steps: int) -> str:
    """Return a name that changes with all that a pretrained head follows from."""
    config = model.config
    digest = hashlib.sha256()
    digest.update(others.digest.encode())
    digest.update(code_digest(__name__, packages=("torch",)).encode())
    digest.update(recipe_means_digest(model).encode())
    hidden = config.recipe_head.layers, config.recipe_head.hidden
    digest.update(json.dumps([steps, hidden, config.global_dim]).encode())
    for name, value in sorted(head.parts.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
