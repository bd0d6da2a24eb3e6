"""Batches of token sequences: padded to one length, each distinct sentence once.

Sentences repeat (between recipes, "Preheat the oven to 350 degrees." by the thousand), and to
encode one costs more than all else that is read of a recipe. So a batch encodes the distinct ones
and looks their vectors up by row, with a row of zeros in front for the padding:

    sentences of recipe 0: a b         vectors (1 + S, D_s):  0  zeros, for padding
    sentences of recipe 1: c a d                              1  vector of a
                                                              2  vector of b
    rows, padded (M, S):   1 2 0                              3  vector of c
                           3 1 4                              4  vector of d

    vectors[rows] (M, S, D_s) is what the recipe branch reads.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..types import Ids, Lengths, Positions


def pad_ids(sequences: Sequence[Ids]) -> tuple[Ids, Lengths]:
    """Write sequences below each other, padded with 0 to the longest.

    Args:
        sequences: N arrays of ids, at least one; each (L,), where L may differ and be 0.

    Returns:
        the ids (N, longest L), int64, and the length of each sequence (N,), int64.
    """
    lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    padded = np.zeros((len(sequences), int(lengths.max())), dtype=np.int64)
    for row, sequence in zip(padded, sequences, strict=True):
        row[: len(sequence)] = sequence
    return padded, lengths


class DistinctSentences:
    """A table of sentences in which each stands once, in the order in which they first came.

    Attributes:
        word_ids: word ids of each distinct sentence, each (W,); row r of the table of vectors is
            `word_ids[r - 1]`.
    """

    def __init__(self) -> None:
        self.word_ids: list[Ids] = []
        self._rows: dict[bytes, int] = {}

    def rows(self, sentences: Sequence[Ids]) -> Positions:
        """Return the rows of a recipe's sentences in the table, adding those that are new.

        Args:
            sentences: word ids of the recipe's sentences, S arrays (W,) of int64.

        Returns:
            (S,) int64, counted from 1: row 0 is the padding's.
        """
        rows = np.empty(len(sentences), dtype=np.int64)
        for position, sentence in enumerate(sentences):
            # The bytes of the ids are the sentence: all arrays are int64, and none is padded yet.
            row = self._rows.setdefault(sentence.tobytes(), len(self.word_ids) + 1)
            if row > len(self.word_ids):
                self.word_ids.append(sentence)
            rows[position] = row
        return rows
