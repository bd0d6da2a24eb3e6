"""HF-ICMA: a global inner product and a cross-attention score, weighed together (SIGIR 2021).

    photo ──▶ image encoder ──▶ F (R, 2 D) ──┬▶ mean over R ──▶ global vector (2 D)
                                             └▶ joint embedding ──▶ tokens E^v (R, D)

    ingredients ──▶ embedding, GRU both ways ──▶ R^g (T, D) ─┐
    sentences ────▶ sentence encoder ──────────▶ R^s (S, D) ─┴▶ recipe fusion
        ──┬▶ E^s (S, 2 D) ──▶ mean over S ──▶ global vector (2 D)
          └▶ Ẽ^g (T, 2 D) ──▶ joint embedding ──▶ tokens E^g (T, D)

By `global_text: fields` the global vectors are those of a dual encoder instead (`dual.py`), in
which ingredients have a part of their own.

The symbols are those of the paper's figure of the framework. S_global is the inner product of the
two global vectors, S_local comes from the two sets of tokens (`similarity.py`), and
S = 0.2 S_global + 0.8 S_local.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..text.vocabulary import Tokenizer
from .base import Encoders, Model
from .config import ModelConfig
from .dual import RecipeFields
from .encoders.batches import RecipeBatch, Tokens
from .encoders.heads import GlobalProjection, Head
from .encoders.image.features import ImageFeatures
from .encoders.recurrent import Bidirectional
from .fusion import CrossFusion, JointEmbedding, RecipeFusion
from .numerics import mean_weights, padding_bias
from .similarity import (
    FoldedWeights,
    PaddedEncodings,
    project,
)
from .tiling import group_scores, pair_scores


class HFICMA(Model):
    """The network as published; other sizes by `config`.

    Where the image encoder's channels C are not 2 D, `region_adapter` brings regions to 2 D before
    the joint embedding; where sentence vectors are not D wide, `sentence_adapter` brings them to D.
    At the published sizes neither exists.

    Args:
        config: sizes and choices.
        tokenizer: reads recipes.
        encoders: what it is built on.
    """

    has_local = True
    # A recipe's global vector is a mean of what passes these, un-normalised as published: what
    # rounding takes there is the same in many recipes, and no other layer makes it good.
    float32_layers: tuple[str, ...] = ("sentence_adapter", "recipe_fusion", "recipe_global")

    def __init__(self, config: ModelConfig, tokenizer: Tokenizer, encoders: Encoders) -> None:
        super().__init__(config, tokenizer, encoders)
        width = config.width
        self.ingredient_gru = Bidirectional(nn.GRU, config.word_dim, width)
        self.sentence_adapter = (
            nn.Linear(self.sentence_width, width) if self.sentence_width != width else nn.Identity()
        )
        channels = encoders.image.channels
        self.region_adapter = (
            nn.Linear(channels, 2 * width) if channels != 2 * width else nn.Identity()
        )
        self.recipe_fusion = RecipeFusion(width)
        self.joint_embedding = JointEmbedding(width)
        self.image_global: Head | GlobalProjection
        self.recipe_global: RecipeFields | GlobalProjection
        pooled = encoders.image.pooled_width
        if config.global_text == "fields":
            cosine = config.global_similarity == "cosine"
            self.image_global = Head(config.image_head, [pooled], config.global_dim, cosine=cosine)
            self.recipe_global = RecipeFields(config, encoders)
        else:
            self.image_global = GlobalProjection(config, pooled)
            self.recipe_global = GlobalProjection(config, 2 * width)
        self.cross_fusion = CrossFusion(width, config.heads)

    @property
    def global_dim(self) -> int:
        """See `Model.global_dim`."""
        if isinstance(self.image_global, Head):
            return self.image_global.width
        return self.config.global_dim or 2 * self.config.width

    def image_tokens(self, features: ImageFeatures) -> Tokens:
        """See `Model.image_tokens`."""
        regions = features.regions
        assert regions is not None
        lengths = regions.new_full((regions.shape[0],), regions.shape[1]).long()  # R, for each
        tokens = self.joint_embedding(self.region_adapter(regions))
        if isinstance(self.image_global, Head):
            return Tokens(self.image_global([features.pooled], [None]), tokens, lengths)
        return Tokens(self.image_global(features.pooled), tokens, lengths)

    def recipe_tokens(self, recipe: RecipeBatch) -> Tokens:
        """See `Model.recipe_tokens`."""
        counts, sentences = recipe.ingredient_counts, recipe.sentences
        words = self.ingredient_vectors(recipe.ingredients)
        ahead, back = self.ingredient_gru(words, counts)
        # Averaged over both directions, as in the release (and in VSE++).
        ingredient_states = (ahead + back) / 2
        wide = self.recipe_fusion.sentence_key.weight.dtype  # see `float32_layers`
        fused_ingredients, fused_sentences = self.recipe_fusion(
            ingredient_states.to(wide),
            counts,
            self.sentence_adapter(sentences.to(wide)),
            recipe.sentence_counts,
        )
        tokens = self.joint_embedding(
            fused_ingredients.to(self.joint_embedding.linear.weight.dtype)
        )
        is_padding = padding_bias(counts, words.shape[1], tokens.dtype) < 0
        if isinstance(self.recipe_global, RecipeFields):
            vectors = self.recipe_global(words, recipe)
        else:
            # The released code divides by its 20 slots; here by the sentences that there are.
            weights = mean_weights(
                recipe.sentence_counts, sentences.shape[1], fused_sentences.dtype
            )
            vectors = self.recipe_global((weights[:, None] @ fused_sentences)[:, 0])
        return Tokens(vectors, tokens.masked_fill(is_padding[..., None], 0), counts)

    def fold(self) -> FoldedWeights:
        """Multiply out the weights of the cross scorer: once per training step or export."""
        return self.cross_fusion.fold()

    @torch.no_grad()
    def fold_in_float64(self) -> FoldedWeights:
        """Multiply the cross scorer out in float64, so that whoever narrows it rounds once."""
        return copy.deepcopy(self.cross_fusion).double().fold()

    def project_image(self, image: Tokens) -> PaddedEncodings:
        """See `Model.project_image`."""
        assert image.tokens is not None
        return project(image.tokens, image.lengths, self.fold().image)

    def project_recipe(self, recipe: Tokens) -> PaddedEncodings:
        """See `Model.project_recipe`."""
        assert recipe.tokens is not None
        return project(recipe.tokens, recipe.lengths, self.fold().recipe)

    def local_scores(self, image: Tokens, recipe: Tokens, *, tile: int | None = None) -> Tensor:
        """See `Model.local_scores`; the weights are folded once for all three steps."""
        assert image.tokens is not None
        assert recipe.tokens is not None
        weights = self.fold()
        return pair_scores(
            project(image.tokens, image.lengths, weights.image),
            project(recipe.tokens, recipe.lengths, weights.recipe),
            weights,
            tile=tile,
        )

    def grouped_local_scores(
        self, image: Tokens, recipe: Tokens, groups: Sequence[Tensor], *, tile: int | None = None
    ) -> list[Tensor]:
        """See `Model.grouped_local_scores`; groups are projected once and share products."""
        assert image.tokens is not None
        assert recipe.tokens is not None
        weights, order = self.fold(), torch.cat(list(groups))
        return group_scores(
            project(image.tokens[order], image.lengths[order], weights.image),
            project(recipe.tokens[order], recipe.lengths[order], weights.recipe),
            weights,
            [len(rows) for rows in groups],
            tile=tile,
        )

    def pair_scores(
        self, image: PaddedEncodings, recipe: PaddedEncodings, *, tile: int | None = None
    ) -> Tensor:
        """See `Model.pair_scores`."""
        return pair_scores(image, recipe, self.fold(), tile=tile)
