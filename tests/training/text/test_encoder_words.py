"""Word vectors with a text encoder's vectors of the words beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hficma.text.word_vectors import WordVectors
from hficma.training.text.encoder_words import with_encoder_words
from tests.model.text_folders import text_folder, transformers


def test_each_word_is_what_the_encoder_says_of_it_alone(tmp_path: Path) -> None:
    """A row shifted by one, or a name read with its underscore, would be another word's vector."""
    transformers()
    folder = text_folder(tmp_path / "bert", "bert")
    words = ("salt", "olive_oil", "of")
    rows = np.random.default_rng(0).normal(size=(3, 4)) * 100
    seen: list[int] = []
    both = with_encoder_words(
        WordVectors.from_rows(words, (3, 2, 1), rows), folder, on_batch=seen.append
    )
    single = [
        with_encoder_words(
            WordVectors.from_rows((word, "of"), (2, 1), np.ones((2, 4))), folder,
            on_batch=seen.append,
        ).rows
        for word in ("olive oil", "salt")
    ]  # fmt: skip
    assert both.vocabulary.words == words
    assert both.dim == 4 + 16
    for half in (both.rows[:, :4], both.rows[:, 4:]):
        assert np.isclose((half**2).sum(axis=1).mean(), 1), "one half drowns the other"
    for vectors, word in zip(single, ("olive_oil", "salt"), strict=True):
        # Each table has another mean and scale; what lies between two words keeps its direction.
        of = both.rows[words.index("of"), 4:]
        apart = both.rows[words.index(word), 4:] - of
        expected = vectors[0, 4:] - vectors[1, 4:]
        cosine = apart @ expected / np.linalg.norm(apart) / np.linalg.norm(expected)
        assert cosine > 1 - 1e-5, word
    assert not both.table[:2].any()
    assert sum(seen) == 3 + 2 + 2
