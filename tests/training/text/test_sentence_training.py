"""Sentence vectors: what the encoder learns, and that encoding once is encoding each."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hficma.errors import InputError
from hficma.model.encoders.sentence_encoder import GRUSentences, MeanSentences
from hficma.recipe import Recipe
from hficma.text.vocabulary import TextConfig, Tokenizer
from hficma.text.word_vectors import WordVectors
from hficma.training.text.sentence_training import (
    SentenceCorpus,
    SentenceTraining,
    encode_sentences,
    neighbour_loss,
    train_sentence_encoder,
)

DISHES = ("soup", "cake", "salad", "bread", "pie", "stew", "rice", "curry")
STEPS = ("chop", "mix", "cook", "serve")


@pytest.fixture(scope="module")
def vectors() -> WordVectors:
    words = (*DISHES, *STEPS, "the", "now")
    rows = np.random.default_rng(0).normal(size=(len(words), 12)).astype("f4")
    return WordVectors.from_rows(words, tuple(range(len(words), 0, -1)), rows)


@pytest.fixture(scope="module")
def recipes() -> list[Recipe]:
    """Neighbours share the dish, which stands at another place in each sentence."""
    return [
        Recipe(
            id=str(n),
            title=f"{dish} now",
            ingredients=("salt",),
            instructions=(f"chop the {dish}.", f"mix {dish} the.", f"the {dish} serve now."),
        )
        for n, dish in enumerate(DISHES * 8)
    ]


def test_training_teaches_neighbours(vectors: WordVectors, recipes: list[Recipe]) -> None:
    """After training, sentences of one dish are nearer than sentences of one verb."""
    losses: list[float] = []
    options = SentenceTraining(dim=24, epochs=6, batch=32, learning_rate=1e-2)
    encoder = train_sentence_encoder(
        recipes, vectors, options, on_step=lambda done, total, loss: losses.append(loss)
    )
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    tokenizer = Tokenizer(vectors.vocabulary, TextConfig())
    texts = ["chop the soup", "the soup serve now", "chop the curry"]
    encoded = encode_sentences(encoder, [tokenizer.sentence_ids(text) for text in texts])
    encoded /= np.linalg.norm(encoded, axis=1, keepdims=True)
    assert encoded.shape == (3, 24)
    assert encoded[0] @ encoded[1] > encoded[0] @ encoded[2]


def test_equal_sentences_are_encoded_once(vectors: WordVectors, recipes: list[Recipe]) -> None:
    """`encode_sentences` must give each its vector, in order, whatever their lengths."""

    class Counting(MeanSentences):
        encoded = 0

        def forward(self, word_ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            self.encoded += len(word_ids)
            return super().forward(word_ids, lengths)

    table = torch.from_numpy(vectors.table)
    encoder = Counting(table, torch.ones(len(table)))
    tokenizer = Tokenizer(vectors.vocabulary, TextConfig())
    texts = ["the soup", "chop the cake now", "the soup", "serve", "serve", "the soup"]
    ids = [tokenizer.sentence_ids(text) for text in texts]
    together = encode_sentences(encoder, ids)
    assert encoder.encoded == 3
    alone = np.concatenate([encode_sentences(encoder, [one]) for one in ids])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert encode_sentences(encoder, []).shape == (0, 12)


def test_padding_changes_nothing(vectors: WordVectors) -> None:
    """A sentence's vector must not depend on the longer ones encoded beside it."""
    torch.manual_seed(0)
    encoder = GRUSentences(torch.from_numpy(vectors.table), 8)
    short, long = np.array([3, 4]), np.array([5, 6, 7, 8, 9])
    alone = encode_sentences(encoder, [short])
    beside = encode_sentences(encoder, [long, short])[1:]
    np.testing.assert_allclose(alone, beside, atol=1e-6)


def test_twins_are_no_negatives(vectors: WordVectors) -> None:
    """ "Serve." follows everything: it must not be pushed from itself."""
    encoder = GRUSentences(torch.from_numpy(vectors.table), 8)
    sentences = [np.array([2]), np.array([3]), np.array([4])]
    pairs = np.array([[0, 2], [1, 2]], dtype=np.int32)  # both are followed by the third
    ahead_and_back = neighbour_loss(encoder, sentences, pairs, 0.05)
    # Forth, each has its twin hidden and so no negative at all: the loss is that of going back.
    assert torch.isfinite(ahead_and_back)
    one = neighbour_loss(encoder, sentences, pairs[:1], 0.05)
    assert one.item() == pytest.approx(0.0, abs=1e-6)


def test_pairs_are_neighbours(vectors: WordVectors, recipes: list[Recipe]) -> None:
    """A pair across two recipes would teach the opposite of what is meant."""
    corpus = SentenceCorpus(recipes, Tokenizer(vectors.vocabulary, TextConfig()))
    together = {(int(a), int(b)) for rows in corpus.recipes for a in rows for b in rows}
    pairs = corpus.pairs(3, np.random.default_rng(0))
    assert pairs.shape == (len(recipes) * 3, 2)
    assert {(int(a), int(b)) for a, b in pairs} <= together
    assert len(corpus.sentences) == len({s.tobytes() for s in corpus.sentences})


def test_too_little_text(vectors: WordVectors, recipes: list[Recipe]) -> None:
    """One recipe has no negatives."""
    with pytest.raises(InputError, match="too little text"):
        train_sentence_encoder(recipes[:1], vectors, SentenceTraining(dim=4))
