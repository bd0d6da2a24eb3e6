"""Word vectors with a second half: what a pretrained text encoder says of each word alone.

A recipe is then still read by looking words up, at no cost and without the encoder, and yet knows
what the encoder does of words that the recipes hardly use. Averages of such vectors keep most of
what the encoder would say of the whole text, where that is a list of ingredients.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from hficma.model.encoders.text_encoder import TextEncoder
from hficma.model.encoders.text_folder import read_text_folder
from hficma.text.batching import pad_ids
from hficma.text.word_vectors import WordVectors
from hficma.types import Floats

BATCH = 128
"""Words encoded at once."""


@torch.inference_mode()
def with_encoder_words(
    vectors: WordVectors, folder: Path, *, on_batch: Callable[[int], None]
) -> WordVectors:
    """Return word vectors with a text encoder's vector of each word behind its own.

    Args:
        vectors: (V + 2, D_w) of the words.
        folder: of the text encoder; see `read_text_folder`.
        on_batch: hears how many words were encoded.

    Returns:
        (V + 2, D_w + D_t), both halves of the same mean length, so that neither drowns the other.

    Raises:
        InputError: the folder holds no text encoder that is known.
    """
    tokenizer = read_text_folder(folder)
    encoder = TextEncoder(tokenizer.architecture, folder).eval()
    # `olive_oil` is a name of two words to us.
    ids = [tokenizer.ids(word.replace("_", " "))[0] for word in vectors.vocabulary.words]
    parts = []
    for start in range(0, len(ids), BATCH):
        padded, lengths = map(torch.from_numpy, pad_ids(ids[start : start + BATCH]))
        parts.append(encoder(padded, lengths).numpy())
        on_batch(len(padded))
    encoded = np.concatenate(parts)
    rows = np.concatenate(
        [_of_mean_length_1(vectors.rows), _of_mean_length_1(encoded - encoded.mean(axis=0))], axis=1
    )
    words = vectors.vocabulary
    return WordVectors.from_rows(words.words, words.counts, rows)


def _of_mean_length_1(rows: Floats) -> Floats:
    """Scale vectors (V, D) alike, so that their root mean square length is 1."""
    scaled: Floats = rows / np.sqrt((rows**2).sum(axis=1).mean())
    return scaled
