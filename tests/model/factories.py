"""Small random models and inputs for the tests of this folder."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from hficma.model import HFICMA, ImageConfig, Model, ModelConfig, RecipeBatch, build_model
from hficma.model.base import Encoders
from hficma.model.encoders.image.features import ImageEncoder
from hficma.model.encoders.sentence_encoder import MeanSentences
from hficma.text.vocabulary import Tokenizer
from hficma.text.word_vectors import WordVectors
from tests.words import WORDS


def make_vectors(dim: int = 8, seed: int = 0) -> WordVectors:
    """Random vectors of twenty words."""
    rows = np.random.default_rng(seed).normal(size=(len(WORDS), dim))
    return WordVectors.from_rows(WORDS, tuple(range(len(WORDS), 0, -1)), rows)


def tiny_config(kind: str = "hf-icma", **options: object) -> ModelConfig:
    """A model small enough for a test, with everything a large one has."""
    base = ModelConfig(
        width=8,
        heads=2,
        image=ImageConfig(encoder="tiny"),
        word_dim=8,
        sentence="mean",
        sentence_dim=8,
        ingredient_width=5,
        global_dim=6,
    )
    return replace(base, kind=kind, **options)


def make_model(kind: str = "hf-icma", *, seed: int = 0, **options: object) -> Model:
    """A random model in evaluation mode."""
    config = tiny_config(kind, **options)
    return build_model(config, make_vectors(config.word_dim), seed=seed).eval()


def published_model(width: int, heads: int, seed: int) -> HFICMA:
    """A model whose sizes keep the published ratios, so that no adapter exists; float64."""
    config = tiny_config(width=width, heads=heads, global_dim=None, word_dim=width)
    vectors = make_vectors(width, seed)
    table = torch.from_numpy(vectors.table)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = HFICMA(
            config,
            Tokenizer(vectors.vocabulary, config.text),
            Encoders(
                image=ImageEncoder(
                    trunk=nn.Identity(),
                    pooled_parts=(2 * width,),
                    channels=2 * width,
                    grid=7,
                    pools_regions=True,
                ),
                sentence=MeanSentences(table, torch.ones(len(table))),
                text=None,
                word_table=table,
            ),
        )
        for name, parameter in model.named_parameters():
            # Released biases start at 0, which would hide a forgotten one.
            if name.startswith("cross_fusion") or name.endswith("bias"):
                nn.init.normal_(parameter, std=0.5)
    return model.double().eval()


def random_regions(photos: int, channels: int, seed: int, *, regions: int = 49) -> Tensor:
    """Region features as after a ReLU, float64."""
    generator = torch.Generator().manual_seed(seed)
    shape = (photos, regions, channels)
    return torch.randn(shape, generator=generator, dtype=torch.float64).relu()


def random_recipes(
    counts: list[tuple[int, int]],
    width: int,
    seed: int,
    *,
    slots: tuple[int, int] | None = None,
) -> RecipeBatch:
    """Recipes of the given numbers of ingredients and sentences, float64, padded to `slots`."""
    generator = torch.Generator().manual_seed(seed)
    most = (max(t for t, _ in counts), max(n for _, n in counts))
    ingredient_slots, sentence_slots = slots or most
    ingredients = torch.zeros(len(counts), ingredient_slots, dtype=torch.int64)
    sentences = torch.zeros(len(counts), sentence_slots, width, dtype=torch.float64)
    for row, (t, n) in enumerate(counts):
        ingredients[row, :t] = torch.randint(2, 2 + len(WORDS), (t,), generator=generator)
        sentences[row, :n] = torch.randn(n, width, generator=generator, dtype=torch.float64)
    return RecipeBatch(
        ingredients,
        torch.tensor([t for t, _ in counts]),
        sentences,
        torch.tensor([n for _, n in counts]),
        torch.tensor([n > 1 for _, n in counts]).long(),
        torch.zeros(len(counts), 0, 0),
        torch.zeros(len(counts), 0).long(),
    )
