"""Encodes photos and recipes to tokens, batch by batch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch

from hficma.data.dataset import Dataset
from hficma.errors import InputError
from hficma.images import ImageInput
from hficma.images.crops import mean_over_crops
from hficma.model import Model, RecipeBatch, Tokens
from hficma.model.encoders.batches import concatenate_tokens
from hficma.model.encoders.image.features import ImageFeatures
from hficma.progress import Progress
from hficma.recipe import Recipe
from hficma.types import Mask, Pixels, Positions

from .data.photo_cache import ENCODE_BATCH, PhotoArrays
from .data.photo_reading import read_photos
from .data.ragged import MAPPED_FROM, scratch_array
from .data.recipe_batches import RecipeTexts


@torch.inference_mode()
def encode(
    model: Model, photos: Iterable[ImageFeatures], recipes: Iterable[RecipeBatch]
) -> tuple[Tokens, Tokens]:
    """Encode photos and recipes, batch by batch, to tokens in float32.

    Args:
        model: in evaluation mode.
        photos: features of each batch of photos.
        recipes: batches.
    """
    image = concatenate_tokens([model.image_tokens(batch) for batch in photos])
    recipe = concatenate_tokens([model.recipe_tokens(batch) for batch in recipes])
    return image.float(), recipe.float()


def over_crops(model: Model, image: Tokens, crops: int) -> Tokens:
    """Return photos of which each has so many crops, one after the other, the centre first.

    Args:
        model: whose global vectors these are.
        image: B · crops of them.
        crops: of a photo.
    """
    if crops == 1:
        return image
    vectors = image.global_.cpu().numpy()
    means = mean_over_crops(
        vectors.reshape(-1, crops, vectors.shape[1]),
        unit=model.config.unit_vectors,
        members=model.config.members,
    )
    centres = image.select(slice(None, None, crops))
    return centres._replace(global_=torch.from_numpy(means).to(image.global_))


@dataclass(frozen=True)
class EncodedPairs:
    """Pairs of a dataset as tokens."""

    image: Tokens
    """Photos that could be read."""
    recipe: Tokens
    """Their recipes."""
    usable: Mask
    """Which of the requested positions they are (P,)."""
    complaints: tuple[str, ...]
    """Why the others are not there, one line each."""


@torch.inference_mode()
def encode_positions(
    model: Model, dataset: Dataset, rows: Positions, progress: Progress, *, crops: int | None = None
) -> EncodedPairs:
    """Encode photos and recipes at some positions of a dataset.

    Args:
        model: in evaluation mode.
        dataset: holds the pairs.
        rows: positions (P,).
        progress: receives a step for each photo.
        crops: crops of a photo whose global vectors are averaged; None takes the model's.

    Raises:
        InputError: no photo can be read.
    """
    crops = model.config.image.crops if crops is None else crops
    progress.stage("photos", len(rows))
    complaints: list[str | None] = []
    image = collected(
        (
            over_crops(
                model,
                model.image_tokens(model.image_features(torch.from_numpy(pixels).to(model.device))),
                crops,
            )
            for pixels in _photo_batches(
                dataset, rows, model.image_input, complaints, progress, crops
            )
        ),
        len(rows),
        model.region_count,
    )
    lines = tuple(text for text in complaints if text is not None)
    if image is None:
        raise InputError(f"{dataset.name}: no photo can be read; the first: {lines[0]}")
    usable = np.array([complaint is None for complaint in complaints], dtype=np.bool_)
    recipe = encode_recipes(model, (dataset.recipe(int(row)) for row in rows[usable]))
    return EncodedPairs(image, recipe, usable, lines)


@torch.inference_mode()
def encode_cached(
    model: Model, photos: PhotoArrays, dataset: Dataset, rows: Positions, places: Positions
) -> EncodedPairs:
    """Encode pairs whose photos' features a training has cached, as `encode_positions` does.

    Args:
        model: in evaluation mode, with the image encoder that the features are of.
        photos: of the pairs at `rows`.
        dataset: holds the pairs.
        rows: positions (P,) of the cached pairs.
        places: which of them are encoded (Q,).
    """
    crops = model.config.image.crops
    usable = photos.usable[places]
    places = places[usable]
    image = []
    for start in range(0, len(places), ENCODE_BATCH):
        batch = places[start : start + ENCODE_BATCH]
        # Each photo's crops one after the other, as `over_crops` takes them.
        features = photos.features(np.repeat(batch, crops), np.tile(np.arange(crops), len(batch)))
        image.append(over_crops(model, model.image_tokens(features.to(model.device)), crops))
    recipe = encode_recipes(model, (dataset.recipe(int(row)) for row in rows[places]))
    return EncodedPairs(concatenate_tokens(image).float(), recipe, usable, photos.complaints)


@torch.inference_mode()
def encode_recipes(model: Model, recipes: Iterable[Recipe]) -> Tokens:
    """Encode recipes, batch by batch, to tokens in float32.

    Args:
        model: in evaluation mode.
        recipes: M of them.
    """
    texts = RecipeTexts(recipes, model.tokenizer)
    batches = (
        model.recipe_tokens(texts.batch(model, range(start, min(start + ENCODE_BATCH, len(texts)))))
        for start in range(0, len(texts), ENCODE_BATCH)
    )
    tokens = collected(batches, len(texts), texts.most_ingredients)
    assert tokens is not None  # no caller has no recipe
    return tokens


def collected(batches: Iterable[Tokens], items: int, longest: int) -> Tokens | None:
    """Return batches of tokens as one, in float32; those that are large in a file without a name.

    Of 51,000 photos the tokens of width 256 are 2.6 GB.

    Args:
        batches: of one kind of item, each padded to its longest or more; none gives None.
        items: that there are at most.
        longest: tokens of an item at most.
    """
    iterator = iter(batches)
    if (first := next(iterator, None)) is None:
        return None
    shape = (items, longest, 0 if first.tokens is None else first.tokens.shape[2])
    if 4 * math.prod(shape) <= MAPPED_FROM:
        return concatenate_tokens([first, *iterator]).float()
    values = torch.from_numpy(scratch_array(shape))
    globals_, lengths = [], []
    count = 0
    for batch in chain([first], iterator):
        tokens = batch.padded(longest).tokens
        assert tokens is not None
        assert int(batch.lengths.max()) <= longest  # or tokens would be cut off
        values[count : count + len(tokens)] = tokens
        count += len(tokens)
        globals_.append(batch.global_.float())
        lengths.append(batch.lengths)
    return Tokens(torch.cat(globals_), values[:count], torch.cat(lengths))


def _photo_batches(
    dataset: Dataset,
    rows: Positions,
    image_input: ImageInput,
    complaints: list[str | None],
    progress: Progress,
    crops: int,
) -> Iterator[Pixels]:
    """Yield crops (B, s, s, 3) of photos, those of one together; fill in `complaints`."""
    batch: list[Pixels] = []
    for pixels, complaint in read_photos(dataset, rows, image_input, crops):
        complaints.append(complaint)
        progress.advance()
        if pixels is not None:
            batch.append(pixels)
        if len(batch) * crops >= ENCODE_BATCH:
            yield np.concatenate(batch)
            batch.clear()
    if batch:
        yield np.concatenate(batch)
