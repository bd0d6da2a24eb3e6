"""Trains a sentence encoder to tell a sentence's neighbours from other sentences.

Skip-thoughts (Kiros et al. 2015) write a sentence's neighbours word by word; here, as in
quick-thoughts (Logeswaran and Lee 2018), they are only to be told from other sentences, which
needs no decoder. The title counts as the sentence before the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from hficma.errors import InputError
from hficma.model.encoders.sentence_encoder import GRUSentences, SentenceEncoder
from hficma.recipe import Recipe
from hficma.text.batching import DistinctSentences, pad_ids
from hficma.text.vocabulary import TextConfig, Tokenizer
from hficma.text.word_vectors import WordVectors
from hficma.types import Floats, Ids

from ..optim.skipped_steps import SkippedSteps

OnStep = Callable[[int, int, float], None]
"""Called with (steps done, steps in all, loss)."""

_CHUNK = 128
"""Sentences encoded at once, of like length: little is spent on padding."""


@dataclass(frozen=True, kw_only=True)
class SentenceTraining:
    """Options of a sentence encoder's training."""

    dim: int = 1024
    """Width of a sentence vector: 1024 for `hf-icma`, 256 for `hf-icma-small`."""
    epochs: int = 3
    """Passes over the recipes."""
    batch: int = 256
    """Pairs that are each other's negatives."""
    pairs: int = 3
    """Pairs drawn from each recipe in a pass; one of them begins with the title."""
    learning_rate: float = 1e-3
    """Of Adam, falling to zero along a half cosine."""
    temperature: float = 0.05
    """What cosines are divided by."""
    seed: int = 0
    """Of weights, pairs and batches."""


class SentenceCorpus:
    """Recipes as rows of distinct sentences: equal ones are stored, and encoded, once.

    Args:
        recipes: read once; those of fewer than two sentences are left out.
        tokenizer: says what is read of them; the title counts as a sentence.
    """

    def __init__(self, recipes: Iterable[Recipe], tokenizer: Tokenizer) -> None:
        self.recipes: list[npt.NDArray[np.int32]] = []
        """Rows of `sentences` for each recipe, in order."""
        distinct = DistinctSentences()
        for recipe in recipes:
            rows = distinct.rows(tokenizer(recipe).sentences) - 1
            if len(rows) > 1:
                self.recipes.append(rows.astype(np.int32))
        self.sentences = distinct.word_ids

    def pairs(self, count: int, generator: np.random.Generator) -> npt.NDArray[np.int32]:
        """Draw `count` pairs of neighbours from each recipe, shuffled, (len(recipes) * count, 2).

        The first of a recipe's pairs is its title and any of its sentences, so that a title
        comes to stand near the whole recipe.
        """
        lengths = np.array([len(rows) for rows in self.recipes])
        # Rows of all recipes one after the other; recipe r begins at starts[r].
        flat = np.concatenate(self.recipes)
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        parts = []
        for number in range(count):
            left = starts + generator.integers(0, lengths - 1)
            first = starts if number == 0 else left
            parts.append(np.stack([flat[first], flat[left + 1]], axis=1))
        pairs = np.concatenate(parts)
        generator.shuffle(pairs)
        return pairs


def train_sentence_encoder(
    recipes: Iterable[Recipe],
    vectors: WordVectors,
    options: SentenceTraining,
    *,
    on_step: OnStep | None = None,
) -> GRUSentences:
    """Train a GRU over word vectors, which are trained with it.

    Args:
        recipes: read once.
        vectors: the words it will know, and where their vectors start from.
        options: sizes and schedule.
        on_step: called after each step.

    Raises:
        InputError: too few recipes have two known sentences.
        TrainingError: too many steps in a row had a gradient that is no finite number.
    """
    tokenizer = Tokenizer(vectors.vocabulary, TextConfig())
    corpus = SentenceCorpus(recipes, tokenizer)
    if len(corpus.recipes) < 2:
        raise InputError("too little text: no two recipes have two sentences of known words each")
    generator = np.random.default_rng(options.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        encoder = GRUSentences(torch.from_numpy(vectors.table), options.dim)
    batch = min(options.batch, len(corpus.recipes))
    steps = options.epochs * (len(corpus.recipes) * options.pairs // batch)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=options.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    skipped = SkippedSteps(scaled=False)
    for done, pairs in enumerate(_batches(corpus, options, batch, generator), 1):
        loss = neighbour_loss(encoder, corpus.sentences, pairs, options.temperature)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        taken = bool(torch.isfinite(norm))
        if taken:
            optimizer.step()
        skipped.count(taken)
        schedule.step()
        if on_step is not None:
            on_step(done, steps, float(loss.detach()))
    return encoder.eval()


def neighbour_loss(
    encoder: SentenceEncoder,
    sentences: Sequence[Ids],
    pairs: npt.NDArray[np.int32],
    temperature: float,
) -> Tensor:
    """Return the cross-entropy of finding each sentence's neighbour in the batch, both ways.

    Args:
        encoder: the sentence encoder.
        sentences: word ids of the distinct sentences.
        pairs: (B, 2) rows of `sentences`.
        temperature: what cosines are divided by.

    Source: the objective of quick-thoughts (Logeswaran and Lee 2018, section 3), with a cosine.
    """
    rows, places = np.unique(pairs, return_inverse=True)
    encoded = F.normalize(encode_rows(encoder, [sentences[row] for row in rows]), dim=-1)
    places = places.reshape(pairs.shape)
    left, right = encoded[places[:, 0]], encoded[places[:, 1]]
    scores = left @ right.T / temperature  # (B, B)
    # "Serve." follows many sentences: where it is the neighbour, its copies are no negatives.
    right_copies, left_copies = _copies(pairs[:, 1]), _copies(pairs[:, 0])
    neighbours = torch.arange(len(pairs))
    ahead = F.cross_entropy(scores.masked_fill(right_copies, -torch.inf), neighbours)
    back = F.cross_entropy(scores.T.masked_fill(left_copies, -torch.inf), neighbours)
    return (ahead + back) / 2


def encode_rows(encoder: SentenceEncoder, sentences: Sequence[Ids]) -> Tensor:
    """Return the vectors of sentences (S, D), encoded in chunks of like length.

    Args:
        encoder: the sentence encoder.
        sentences: word ids (W,) of S sentences.
    """
    lengths = np.array([len(ids) for ids in sentences])
    order = np.argsort(lengths, kind="stable")
    parts = []
    for start in range(0, len(order), _CHUNK):
        chunk = order[start : start + _CHUNK]
        word_ids, counts = pad_ids([sentences[position] for position in chunk])
        parts.append(encoder(torch.from_numpy(word_ids), torch.from_numpy(counts)))
    places = torch.from_numpy(np.argsort(order, kind="stable"))  # undoes the order by length
    return torch.cat(parts)[places]


@torch.no_grad()
def encode_sentences(encoder: SentenceEncoder, sentences: Sequence[Ids]) -> Floats:
    """Return the vectors of sentences, equal ones encoded once, (S, D) float32.

    Args:
        encoder: the sentence encoder.
        sentences: word ids, none empty.
    """
    if not sentences:
        return np.zeros((0, encoder.width), dtype=np.float32)
    distinct = DistinctSentences()
    rows = distinct.rows(sentences) - 1
    encoded = encode_rows(encoder.eval(), distinct.word_ids)
    vectors: Floats = encoded.float().numpy()
    return vectors[rows]


def _batches(
    corpus: SentenceCorpus, options: SentenceTraining, size: int, generator: np.random.Generator
) -> Iterator[npt.NDArray[np.int32]]:
    """Yield the batches (size, 2) of all epochs; pairs are drawn anew for each."""
    epochs = (corpus.pairs(options.pairs, generator) for _ in range(options.epochs))
    return chain.from_iterable(
        (pairs[start : start + size] for start in range(0, len(pairs) - size + 1, size))
        for pairs in epochs
    )


def _copies(rows: npt.NDArray[np.int32]) -> Tensor:
    """Return where the same sentence stands at another place (B, B), bool."""
    same = torch.from_numpy(rows[:, None] == rows[None, :])
    return same.fill_diagonal_(False)
