"""HF-ICMA: hybrid of global and cross-attention similarity (SIGIR 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..text.vocabulary import Tokenizer
from .base import GlobalProjection, Model, Tokens
from .config import ModelConfig
from .encoders.recurrent import Bidirectional
from .encoders.sentence_encoder import SentenceEncoder
from .fusion import CrossFusion, JointEmbedding, RecipeFusion
from .similarity import (
    FoldedWeights,
    PaddedEncodings,
    group_scores,
    padding_bias,
    pair_scores,
    project,
    token_share,
)


class HFICMA(Model):
    """The network as published; other sizes by `config`.

    Where the trunk's channels are not 2 d, `region_adapter` brings regions to 2 d before the
    joint embedding; where sentence vectors are not d wide, `sentence_adapter` brings them to d.
    At the published sizes neither exists.
    """

    has_local = True
    # A recipe's global vector is a mean of what passes these, un-normalised as published: what
    # rounding takes there is the same in many recipes, and no other layer makes it good.
    kept_wide = ("sentence_adapter", "recipe_fusion", "recipe_global")

    def __init__(
        self,
        config: ModelConfig,
        tokenizer: Tokenizer,
        trunk: nn.Module,
        channels: int,
        sentence_encoder: SentenceEncoder,
        word_table: Tensor,
    ) -> None:
        super().__init__(config, tokenizer, trunk, sentence_encoder)
        width = config.width
        self.ingredient_words = nn.Embedding.from_pretrained(
            word_table.clone(), freeze=False, padding_idx=0
        )
        self.ingredient_gru = Bidirectional(nn.GRU, word_table.shape[1], width)
        self.sentence_adapter = (
            nn.Linear(sentence_encoder.width, width)
            if sentence_encoder.width != width
            else nn.Identity()
        )
        self.region_adapter = (
            nn.Linear(channels, 2 * width) if channels != 2 * width else nn.Identity()
        )
        self.recipe_fusion = RecipeFusion(width)
        self.joint_embedding = JointEmbedding(width)
        self.image_global = GlobalProjection(config, channels)
        self.recipe_global = GlobalProjection(config, 2 * width)
        self.cross_fusion = CrossFusion(width, config.heads)

    def image_tokens(self, regions: Tensor) -> Tokens:
        """See the base."""
        lengths = regions.new_full((regions.shape[0],), regions.shape[1]).long()
        tokens = self.joint_embedding(self.region_adapter(regions))
        return Tokens(self.image_global(regions.mean(dim=1)), tokens, lengths)

    def recipe_tokens(
        self,
        ingredients: Tensor,
        ingredient_counts: Tensor,
        sentences: Tensor,
        sentence_counts: Tensor,
    ) -> Tokens:
        """See the base."""
        ahead, back = self.ingredient_gru(self.ingredient_words(ingredients), ingredient_counts)
        wide = self.recipe_fusion.sentence_key.weight.dtype  # see `kept_wide`
        fused_ingredients, fused_sentences = self.recipe_fusion(
            ((ahead + back) / 2).to(wide),
            ingredient_counts,
            self.sentence_adapter(sentences.to(wide)),
            sentence_counts,
        )
        share = token_share(sentence_counts, sentences.shape[1], fused_sentences.dtype)
        mean_sentence = (share[:, None] @ fused_sentences)[:, 0]
        tokens = self.joint_embedding(
            fused_ingredients.to(self.joint_embedding.linear.weight.dtype)
        )
        padded = padding_bias(ingredient_counts, ingredients.shape[1], tokens.dtype) < 0
        return Tokens(
            self.recipe_global(mean_sentence),
            tokens.masked_fill(padded[..., None], 0),
            ingredient_counts,
        )

    def fold(self) -> FoldedWeights:
        """The weights of the spine, multiplied out; once per training step or export."""
        return self.cross_fusion.fold()

    def project_image(self, image: Tokens) -> PaddedEncodings:
        """See the base."""
        assert image.tokens is not None
        return project(image.tokens, image.lengths, self.fold().image)

    def project_recipe(self, recipe: Tokens) -> PaddedEncodings:
        """See the base."""
        assert recipe.tokens is not None
        return project(recipe.tokens, recipe.lengths, self.fold().recipe)

    def local_scores(self, image: Tokens, recipe: Tokens, *, tile: int | None = None) -> Tensor:
        """See the base; the weights are folded once for all three steps."""
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
        """See the base; folded and projected once, and several groups to a product."""
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
        """See the base."""
        return pair_scores(image, recipe, self.fold(), tile=tile)
