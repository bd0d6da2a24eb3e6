"""The face that HF-ICMA and AdaMine share, from photos and recipes to scores."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..images import preprocess
from ..recipe import Recipe
from ..text.batching import DistinctSentences, pad_ids
from ..text.vocabulary import RecipeIds, Tokenizer
from ..types import Ids
from .config import ModelConfig
from .encoders.image_encoder import Normalize
from .encoders.sentence_encoder import SentenceEncoder
from .numerics import at_least_float32, unit_rows
from .similarity import PaddedEncodings

if TYPE_CHECKING:
    from PIL.Image import Image

ENCODE_BATCH = 32


class Tokens(NamedTuple):
    """Photos or recipes as the branches give them: level `tokens` of the design."""

    global_: Tensor
    """(N, D_g): an inner product of two of these is S_global."""
    tokens: Tensor | None
    """(N, n, d), padded rows zero; None for a model without a local part."""
    lengths: Tensor
    """(N,) int64: tokens that are not padding."""

    def select(self, items: Tensor | slice) -> Tokens:
        """The given items."""
        tokens = None if self.tokens is None else self.tokens[items]
        return Tokens(self.global_[items], tokens, self.lengths[items])


class Scores(NamedTuple):
    """Scores of B photos and M recipes, each (B, M)."""

    total: Tensor
    """S = w_g S_global + w_l S_local."""
    global_: Tensor
    """S_global."""
    local: Tensor | None
    """S_local in (0, 1); None for a model without a local part."""


class RecipeBatch(NamedTuple):
    """Recipes as the recipe branch reads them."""

    ingredients: Tensor
    """(M, T) int64, padded with 0."""
    ingredient_counts: Tensor
    """(M,) int64."""
    sentences: Tensor
    """(M, N, D_s) sentence vectors, padded rows zero."""
    sentence_counts: Tensor
    """(M,) int64."""


class Model(nn.Module):
    """A photo branch, a recipe branch and how alike their outputs are.

    Args:
        config: sizes and choices.
        tokenizer: reads recipes.
        trunk: (B, 3, 224, 224) to (B, C, 7, 7).
        sentence_encoder: word ids to sentence vectors.
    """

    has_local: bool
    kept_wide: tuple[str, ...] = ()
    """Layers that stay float32 in narrow branches: what tells items apart is small beside what
    they share, so that rounding it to 11 bits would show."""

    def __init__(
        self,
        config: ModelConfig,
        tokenizer: Tokenizer,
        trunk: nn.Module,
        sentence_encoder: SentenceEncoder,
    ) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.normalize = Normalize()
        self.trunk = trunk
        self.sentence_encoder = sentence_encoder

    def regions(self, photos: Tensor) -> Tensor:
        """Run the trunk: uint8 photos (B, 224, 224, 3) to regions (B, R, C)."""
        features: Tensor = self.trunk(self.normalize(photos))
        return features.flatten(2).mT

    def sentence_vectors(self, word_ids: Tensor, lengths: Tensor) -> Tensor:
        """Word ids (S, W), padded with 0, and their counts (S,) to vectors (S, D_s)."""
        vectors: Tensor = self.sentence_encoder(word_ids, lengths)
        return vectors

    @abstractmethod
    def image_tokens(self, regions: Tensor) -> Tokens:
        """Regions (B, R, C) to the global vector and, with a local part, tokens (B, R, d)."""

    @abstractmethod
    def recipe_tokens(
        self,
        ingredients: Tensor,
        ingredient_counts: Tensor,
        sentences: Tensor,
        sentence_counts: Tensor,
    ) -> Tokens:
        """The fields of a `RecipeBatch` to the global vector and tokens (M, T, d)."""

    @abstractmethod
    def project_image(self, image: Tokens) -> PaddedEncodings:
        """Everything of a photo that pair scores need, once per photo."""

    @abstractmethod
    def project_recipe(self, recipe: Tokens) -> PaddedEncodings:
        """Everything of a recipe that pair scores need, once per recipe."""

    @abstractmethod
    def pair_scores(
        self, image: PaddedEncodings, recipe: PaddedEncodings, *, tile: int | None = None
    ) -> Tensor:
        """S_local (B, M) of every pair; see `hficma.model.similarity.pair_scores`."""

    def local_scores(self, image: Tokens, recipe: Tokens, *, tile: int | None = None) -> Tensor:
        """S_local (B, M) from tokens: projected and scored in one go."""
        return self.pair_scores(self.project_image(image), self.project_recipe(recipe), tile=tile)

    def grouped_local_scores(
        self, image: Tokens, recipe: Tokens, groups: Sequence[Tensor], *, tile: int | None = None
    ) -> list[Tensor]:
        """S_local within groups of pairs, each as by `local_scores`.

        Args:
            image: B photos.
            recipe: their B recipes.
            groups: positions; each pair is in one group.
            tile: pairs computed at once, see `group_scores`.

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
        """S = w_g S_global + w_l S_local, all (B, M); None for a model without a local part."""
        return self.config.score_weights.total(global_, local)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def model_id(self) -> str:
        """SHA-256 over weights, options and vocabulary: what an index belongs to."""
        digest = hashlib.sha256()
        vocabulary = self.tokenizer.vocabulary
        digest.update(json.dumps(self.config.to_json(), sort_keys=True).encode())
        digest.update(json.dumps([vocabulary.words, vocabulary.counts]).encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    @torch.no_grad()
    def encode_images(self, photos: Sequence[Image]) -> Tokens:
        """Photos (upright RGB, any size) to tokens, by centre crop."""
        batches = []
        for start in range(0, len(photos), ENCODE_BATCH):
            pixels = np.stack([preprocess(photo) for photo in photos[start : start + ENCODE_BATCH]])
            batches.append(
                self.image_tokens(self.regions(torch.from_numpy(pixels).to(self.device)))
            )
        return _joined(batches)

    @torch.no_grad()
    def encode_recipes(self, recipes: Sequence[Recipe]) -> Tokens:
        """Recipes to tokens."""
        batches = []
        for start in range(0, len(recipes), ENCODE_BATCH):
            ids = [self.tokenizer(recipe) for recipe in recipes[start : start + ENCODE_BATCH]]
            batches.append(self.recipe_tokens(*self.recipe_batch(ids)))
        return _joined(batches)

    def recipe_batch(self, recipes: Sequence[RecipeIds]) -> RecipeBatch:
        """Pad the ids of recipes and encode their sentences, each distinct one once."""
        distinct = DistinctSentences()
        rows, sentence_counts = self._padded([distinct.rows(one.sentences) for one in recipes])
        ingredients, ingredient_counts = self._padded([one.ingredients for one in recipes])
        vectors = self.sentence_vectors(*self._padded(distinct.word_ids))
        # Row 0 is the padding's: zeros.
        table = torch.cat([vectors.new_zeros(1, vectors.shape[1]), vectors])
        return RecipeBatch(ingredients, ingredient_counts, table[rows], sentence_counts)

    def _padded(self, sequences: Sequence[Ids]) -> tuple[Tensor, Tensor]:
        """Return `pad_ids` of sequences as tensors where the weights are."""
        ids, lengths = pad_ids(sequences)
        return torch.from_numpy(ids).to(self.device), torch.from_numpy(lengths).to(self.device)


class GlobalProjection(nn.Module):
    """Brings a global vector to the index's width, and to unit length for `cosine`."""

    def __init__(self, config: ModelConfig, input_width: int) -> None:
        super().__init__()
        self.cosine = config.global_similarity == "cosine"
        self.linear = (
            nn.Linear(input_width, config.global_dim) if config.global_dim is not None else None
        )

    def forward(self, vectors: Tensor) -> Tensor:
        """(N, D_in) -> (N, D_g)."""
        if self.linear is not None:
            vectors = self.linear(vectors)
        return unit_rows(at_least_float32(vectors)) if self.cosine else vectors


def _joined(batches: Sequence[Tokens]) -> Tokens:
    lengths = torch.cat([batch.lengths for batch in batches])
    global_ = torch.cat([batch.global_ for batch in batches])
    longest = int(lengths.max())
    parts = [
        F.pad(batch.tokens[:, :longest], (0, 0, 0, max(0, longest - batch.tokens.shape[1])))
        for batch in batches
        if batch.tokens is not None
    ]
    return Tokens(global_, torch.cat(parts) if parts else None, lengths)
