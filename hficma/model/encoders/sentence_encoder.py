"""Sentence encoders: word ids of one sentence in, its vector out."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from ..numerics import unit_rows
from .recurrent import last_valid, run_steps

SMOOTHING = 1e-3
"""`a` in the word weight a / (a + p(word)) of Arora et al., ICLR 2017."""


class SentenceEncoder(nn.Module):
    """Base of the sentence encoders.

    Attributes:
        width: D_s, the length of a sentence vector.
    """

    width: int

    @abstractmethod
    def forward(self, word_ids: Tensor, lengths: Tensor) -> Tensor:
        """Encode sentences.

        Args:
            word_ids: (S, W) int64, padded with 0.
            lengths: (S,) int64, words of each sentence.

        Returns:
            (S, D_s) float.
        """


class MeanSentences(SentenceEncoder):
    """The frequency-weighted mean of word vectors, brought to unit length.

    Args:
        table: (V + 2, D_w) word vectors; rows 0 and 1 are zero.
        weights: (V + 2,) weight of each word, see `word_weights`.
    """

    def __init__(self, table: Tensor, weights: Tensor) -> None:
        super().__init__()
        self.width = table.shape[1]
        self.words = nn.Embedding.from_pretrained(
            table * weights[:, None], freeze=True, padding_idx=0
        )

    def forward(self, word_ids: Tensor, lengths: Tensor) -> Tensor:
        """See `SentenceEncoder.forward`; padding adds zero rows, so the lengths are not needed."""
        # A sum serves as the mean: unit length takes the number of words off.
        return unit_rows(self.words(word_ids).sum(dim=1))


class GRUSentences(SentenceEncoder):
    """The last state of a GRU over word vectors.

    Args:
        table: (V + 2, D_w) word vectors; rows 0 and 1 are zero.
        width: D_s.
    """

    def __init__(self, table: Tensor, width: int) -> None:
        super().__init__()
        self.width = width
        self.words = nn.Embedding.from_pretrained(table.clone(), freeze=False, padding_idx=0)
        self.gru = nn.GRU(table.shape[1], width, batch_first=True)

    def forward(self, word_ids: Tensor, lengths: Tensor) -> Tensor:
        """See `SentenceEncoder.forward`."""
        return last_valid(run_steps(self.gru, self.words(word_ids)), lengths)


def word_weights(counts: Tensor) -> Tensor:
    """Compute weights of words by frequency: rare words say more (Arora et al., ICLR 2017).

    Args:
        counts: (V + 2,) how often each word was seen; zeros for the reserved rows.

    Returns:
        (V + 2,) float32, a / (a + count / total).
    """
    share = counts.to(torch.float64) / counts.sum().clamp_min(1)
    return (SMOOTHING / (SMOOTHING + share)).to(torch.float32)
