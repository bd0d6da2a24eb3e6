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

from collections.abc import Iterator, Sequence

import numpy as np

from ..types import Ids, Lengths, Positions

BATCH_IDS = 32_768
"""Ids of a batch, padding included: 90 MB of word vectors of 684 numbers."""


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


def batches_by_length(sequences: Sequence[Ids], most: int) -> Iterator[list[int]]:
    """Yield the positions of sequences in batches, those of like lengths together.

    Little of such a batch is padding. Long sequences come fewer at a time, so that what a batch
    takes of memory is bounded whatever strangers write.

    Args:
        sequences: N arrays of ids, each (L,).
        most: sequences a batch.
    """
    order = sorted(range(len(sequences)), key=lambda position: len(sequences[position]))
    batch: list[int] = []
    for position in order:
        # Ascending: with this one the batch would be padded to its length.
        if len(batch) == most or (len(batch) + 1) * len(sequences[position]) > BATCH_IDS:
            if batch:
                yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch


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
