"""What all models have in common: the steps from photos and recipes to scores."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..images import ImageInput, preprocess
from ..recipe import Recipe
from ..text.batching import DistinctSentences, batches_by_length, pad_ids
from ..text.vocabulary import RecipeIds, Tokenizer
from ..types import Ids
from .config import ModelConfig
from .encoders.batches import RecipeBatch, Tokens, concatenate_tokens, texts_as_sentences
from .encoders.image.features import (
    ImageEncoder,
    ImageFeatures,
    image_features,
    pool_regions,
)
from .encoders.image.normalize import Normalize
from .encoders.sentence_encoder import SentenceEncoder
from .encoders.text_encoder import TextEncoder
from .numerics import at_least_float32
from .similarity import PaddedEncodings

if TYPE_CHECKING:
    from PIL.Image import Image

ENCODE_BATCH = 32
"""Photos or recipes encoded at once."""
SENTENCE_BATCH = 512
"""Sentences or texts encoded at once; long ones fewer, see `batches_by_length`."""


class Scores(NamedTuple):
    """Scores of B photos and M recipes, each (B, M)."""

    total: Tensor
    """S = w_g S_global + w_l S_local."""
    global_: Tensor
    """S_global."""
    local: Tensor | None
    """S_local in (0, 1); None for a model without a local part."""


class Encoders(NamedTuple):
    """What a model is built on, each part as it comes: pretrained, or with random weights."""

    image: ImageEncoder
    """Photos to their features, C_p of the whole and C of a region."""
    sentence: SentenceEncoder | None
    """Word ids to sentence vectors, where the model reads words."""
    text: TextEncoder | None
    """Token ids to vectors of texts, where the model has a pretrained one."""
    word_table: Tensor
    """(V + 2, D_w) vectors of the words; the model trains its own copy further."""


class Model(nn.Module):
    """An image encoder, a recipe encoder, and how alike their outputs are.

    Encoding is in steps, so that each can be run, stored and exported by itself:

        image_features     photos (B, s, s, 3)            ─▶ ImageFeatures of B photos
        image_tokens       ImageFeatures                  ─▶ Tokens of B photos
        sentence_vectors   word ids (S, W)                ─▶ vectors (S, D_s)
        text_vectors       token ids (S, W)               ─▶ vectors (S, D_t)
        recipe_batch       RecipeIds of M recipes         ─▶ RecipeBatch, sentences encoded
        recipe_tokens      RecipeBatch                    ─▶ Tokens of M recipes
        project_image      Tokens                         ─▶ PaddedEncodings, and project_recipe
        pair_scores        both encodings                 ─▶ S_local (B, M)
        score              both Tokens                    ─▶ Scores, each (B, M)

    Args:
        config: sizes and choices.
        tokenizer: reads recipes.
        encoders: what it is built on.

    Attributes:
        ingredient_words: the vectors of ingredients, where each is read by itself.
        has_local: whether S has a local part.
        grid: regions a side: a photo's R = grid² regions lie row by row.
        pools_regions: see `ImageEncoder`.
        float32_layers: names of layers that stay float32 where a graph computes in less: what
            tells items apart is small there beside what they share, so that rounding it to 11
            bits would show.
    """

    has_local: bool
    float32_layers: tuple[str, ...] = ()

    def __init__(self, config: ModelConfig, tokenizer: Tokenizer, encoders: Encoders) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.normalize = Normalize(config.image_input)
        # The attribute's name is in every weights file, as `trunk.*`, and in `model_id`.
        self.trunk = encoders.image.trunk
        self.grid = encoders.image.grid
        self.pools_regions = encoders.image.pools_regions
        self.sentence_encoder = encoders.sentence
        self.text_encoder = encoders.text
        self.ingredient_words = (
            nn.Embedding.from_pretrained(encoders.word_table.clone(), freeze=False, padding_idx=0)
            if config.reads_ingredients
            else None
        )

    def image_features(self, photos: Tensor) -> ImageFeatures:
        """Run the image encoder.

        Args:
            photos: (B, s, s, 3) uint8, as `hficma.images.preprocess` gives them for `image_input`.
        """
        features = image_features(self.trunk, self.normalize(photos))
        if self.config.image.grid is None:
            return features
        assert features.regions is not None
        return features._replace(regions=pool_regions(features.regions, self.grid))

    def sentence_vectors(self, word_ids: Tensor, lengths: Tensor) -> Tensor:
        """Encode sentences.

        Args:
            word_ids: (S, W) int64, padded with 0.
            lengths: (S,) int64, words of each.

        Returns:
            (S, D_s).
        """
        assert self.sentence_encoder is not None
        vectors: Tensor = self.sentence_encoder(word_ids, lengths)
        return vectors

    def text_vectors(self, word_ids: Tensor, lengths: Tensor) -> Tensor:
        """Encode texts by the pretrained text encoder.

        Args:
            word_ids: (S, W) int64 token ids, padded with 0.
            lengths: (S,) int64.

        Returns:
            (S, D_t), of unit length.
        """
        assert self.text_encoder is not None
        vectors: Tensor = self.text_encoder(word_ids, lengths)
        return vectors

    def ingredient_vectors(self, word_ids: Tensor) -> Tensor:
        """Return the vectors (M, T, D_w) of ingredients.

        Args:
            word_ids: (M, T) int64, padded with 0.
        """
        assert self.ingredient_words is not None
        vectors: Tensor = self.ingredient_words(word_ids)
        return vectors

    @property
    def sentence_width(self) -> int:
        """Return D_s, or D_t where the texts are the sentences."""
        encoder = self.sentence_encoder or self.text_encoder
        assert encoder is not None
        return encoder.width

    @property
    @abstractmethod
    def global_dim(self) -> int:
        """Return D_g, the width of a global vector."""

    @abstractmethod
    def image_tokens(self, features: ImageFeatures) -> Tokens:
        """Compute a photo's global vector and, with a local part, its tokens.

        Args:
            features: of B photos; without a local part their regions are not read.
        """

    @abstractmethod
    def recipe_tokens(self, recipe: RecipeBatch) -> Tokens:
        """Compute a recipe's global vector and, with a local part, its tokens."""

    def project_image(self, image: Tokens) -> PaddedEncodings:
        """Compute everything of a photo that pair scores need, once per photo.

        Raises:
            TypeError: the model has no local part; likewise the two methods below.
        """
        raise self._no_local_part()

    def project_recipe(self, recipe: Tokens) -> PaddedEncodings:
        """Compute everything of a recipe that pair scores need, once per recipe."""
        raise self._no_local_part()

    def pair_scores(
        self, image: PaddedEncodings, recipe: PaddedEncodings, *, tile: int | None = None
    ) -> Tensor:
        """Compute S_local (B, M) of every pair; see `hficma.model.tiling.pair_scores`."""
        raise self._no_local_part()

    def _no_local_part(self) -> TypeError:
        """Return the error of who asks a model without S_local for it."""
        assert not self.has_local
        return TypeError(f"{type(self).__name__} has no local part")

    def local_scores(self, image: Tokens, recipe: Tokens, *, tile: int | None = None) -> Tensor:
        """Compute S_local (B, M) from tokens: project both, then score every pair."""
        return self.pair_scores(self.project_image(image), self.project_recipe(recipe), tile=tile)

    def grouped_local_scores(
        self, image: Tokens, recipe: Tokens, groups: Sequence[Tensor], *, tile: int | None = None
    ) -> list[Tensor]:
        """Compute S_local within groups of pairs, each as by `local_scores`.

        Args:
            image: B photos.
            recipe: their B recipes.
            groups: positions; each pair is in one group.
            tile: pairs computed at once, see `hficma.model.tiling.group_scores`.

        Returns:
            for each group (size, size).
        """
        return [
            self.local_scores(image.select(rows), recipe.select(rows), tile=tile) for rows in groups
        ]

    def score(self, image: Tokens, recipe: Tokens, *, tile: int | None = None) -> Scores:
        """Score every photo with every recipe.

        Args:
            image: B photos.
            recipe: M recipes.
            tile: pairs computed at once, see `pair_scores`.
        """
        # Sums of hundreds lose S_local's digits below float32, whatever the precision around.
        with torch.autocast(image.global_.device.type, enabled=False):
            global_ = at_least_float32(image.global_) @ at_least_float32(recipe.global_).mT
        local = self.local_scores(image, recipe, tile=tile) if self.has_local else None
        return Scores(self.total(global_, local), global_, local)

    def total(self, global_: Tensor, local: Tensor | None) -> Tensor:
        """Return S = w_g S_global + w_l S_local, all (B, M); see `hficma.scores`."""
        return self.config.score_weights.total(global_, local)

    @property
    def device(self) -> torch.device:
        """Return the device that the weights are on."""
        return next(self.parameters()).device

    @property
    def image_input(self) -> ImageInput:
        """Return the pixels that the image encoder reads."""
        return self.config.image_input

    @property
    def region_count(self) -> int:
        """Return R, the regions of a photo."""
        return self.grid**2

    @property
    def model_id(self) -> str:
        """Return a SHA-256 over weights, options and vocabulary: what an index belongs to."""
        # A format: every index names the model that its vectors come from, so that neither the
        # order nor the form of what is hashed may change.
        digest = hashlib.sha256()
        vocabulary = self.tokenizer.vocabulary
        digest.update(json.dumps(self.config.to_json(), sort_keys=True).encode())
        digest.update(json.dumps([vocabulary.words, vocabulary.counts]).encode())
        if self.tokenizer.text_tokenizer is not None:
            digest.update(self.tokenizer.text_tokenizer.digest.encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    @torch.no_grad()
    def encode_images(self, photos: Sequence[Image]) -> Tokens:
        """Encode photos.

        Args:
            photos: B images, upright RGB, of any size; the centre is cropped.
        """
        batches = []
        for start in range(0, len(photos), ENCODE_BATCH):
            part = photos[start : start + ENCODE_BATCH]
            pixels = np.stack([preprocess(photo, self.image_input) for photo in part])
            features = self.image_features(torch.from_numpy(pixels).to(self.device))
            batches.append(self.image_tokens(features))
        return concatenate_tokens(batches)

    @torch.no_grad()
    def encode_recipes(self, recipes: Sequence[Recipe]) -> Tokens:
        """Encode M recipes, as they are written."""
        batches = []
        for start in range(0, len(recipes), ENCODE_BATCH):
            ids = [self.tokenizer(recipe) for recipe in recipes[start : start + ENCODE_BATCH]]
            batches.append(self.recipe_tokens(self.recipe_batch(ids)))
        return concatenate_tokens(batches)

    def recipe_batch(self, recipes: Sequence[RecipeIds]) -> RecipeBatch:
        """Pad the ids of M recipes and encode their sentences, each distinct one once."""
        ingredients, ingredient_counts = self._padded([one.ingredients for one in recipes])
        titles = np.array([one.titles for one in recipes], dtype=np.int64)
        title_counts = torch.from_numpy(titles).to(self.device)
        texts = ingredients.new_zeros(len(recipes), 0, 0)
        text_fields = ingredients.new_zeros(len(recipes), 0)
        if self.text_encoder is not None:
            texts, _ = self._encoded([one.texts for one in recipes], self.text_vectors)
            text_fields, _ = self._padded([np.array(one.text_fields) for one in recipes])
        if self.sentence_encoder is None:
            return texts_as_sentences(ingredients, ingredient_counts, texts, text_fields)
        sentences, sentence_counts = self._encoded(
            [one.sentences for one in recipes], self.sentence_vectors
        )
        return RecipeBatch(
            ingredients, ingredient_counts, sentences, sentence_counts, title_counts, texts,
            text_fields,
        )  # fmt: skip

    def _encoded(
        self, items: Sequence[Sequence[Ids]], encode: Callable[[Tensor, Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Encode the sentences of M items, each distinct one once: (M, S, D_s), and counts (M,)."""
        distinct = DistinctSentences()
        rows, counts = self._padded([distinct.rows(one) for one in items])
        # All padded to the longest would be gigabytes where one recipe's field is a long story.
        batches = list(batches_by_length(distinct.word_ids, SENTENCE_BATCH))
        vectors = torch.cat(
            [encode(*self._padded([distinct.word_ids[row] for row in batch])) for batch in batches]
        )
        # From the order of lengths back to that of the table, whose row 0 is the padding's: zeros.
        order = torch.from_numpy(np.argsort(np.concatenate(batches))).to(self.device)
        table = torch.cat([vectors.new_zeros(1, vectors.shape[1]), vectors[order]])
        return table[rows], counts

    def _padded(self, sequences: Sequence[Ids]) -> tuple[Tensor, Tensor]:
        """Return `pad_ids` of sequences as tensors where the weights are."""
        ids, lengths = pad_ids(sequences)
        return torch.from_numpy(ids).to(self.device), torch.from_numpy(lengths).to(self.device)
