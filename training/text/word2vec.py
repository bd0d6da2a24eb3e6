"""Trains word vectors: skip-gram word2vec over recipes, names of ingredients as words.

The settings are the published ones (Salvador et al. 2017: hierarchical softmax, window 10,
10 passes, words seen at least 10 times).
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from hficma.errors import InputError, MissingDependencyError
from hficma.recipe import Recipe
from hficma.text.ingredients import MAX_NAME_WORDS, ingredient_name
from hficma.text.word_vectors import WordVectors
from hficma.text.words import sentences, words

SMALL_CORPUS = 20_000
"""Recipes below which words seen fewer than `min_count` times are kept, and common ones read."""


@dataclass(frozen=True)
class _Text:
    """What the corpus reads of one recipe."""

    names: tuple[tuple[str, ...], ...]
    """Ingredient names in order, each as its words."""
    sentences: tuple[tuple[str, ...], ...]
    """The title and the instructions' sentences."""


def train_word_vectors(
    recipes: Iterable[Recipe],
    *,
    dim: int = 300,
    window: int = 10,
    min_count: int = 10,
    epochs: int = 10,
    sample: float | None = None,
    seed: int = 0,
    workers: int = 2,
    on_epoch: Callable[[int], None] | None = None,
) -> WordVectors:
    """Train skip-gram vectors with hierarchical softmax.

    The corpus is each recipe's title and instructions, and its ingredients' names as one more
    sentence. A name of several words that is frequent enough is a word of its own there
    (`olive_oil`); in the text of every second recipe its ingredients' names are joined too, so
    that names meet their context and the plain words keep theirs.

    Args:
        recipes: where the text comes from; read once.
        dim: width of a vector.
        window: words to either side that a word predicts.
        min_count: leave out words and names seen less often; small corpora get less.
        epochs: passes over the corpus.
        sample: the share of the text above which a word is read less often. None takes the
            original tool's 1e-3, and 1e-4 for large corpora: half the time, taken from "the".
        seed: of the first vectors; with `workers=1` the result depends on nothing else.
        workers: threads.
        on_epoch: called with the number of each pass that ended, from 1.

    Raises:
        InputError: there is no text to learn from.
    """
    try:
        from gensim.models import Word2Vec
        from gensim.models.callbacks import CallbackAny2Vec
    except ImportError as error:
        raise MissingDependencyError("gensim", "train", "training word vectors") from error

    texts = [_text(recipe) for recipe in recipes]
    if not any(text.names or text.sentences for text in texts):
        raise InputError("no recipe holds a word: word vectors need text to learn from")
    min_count = min(min_count, max(2, round(min_count * len(texts) / SMALL_CORPUS)))
    if sample is None:
        sample = 1e-3 if len(texts) < SMALL_CORPUS else 1e-4
    names = _frequent_names(texts, min_count)

    class Report(CallbackAny2Vec):  # type: ignore[misc]
        """Counts passes for the caller's progress bar."""

        epoch = 0

        def on_epoch_end(self, model: object) -> None:
            self.epoch += 1
            if on_epoch is not None:
                on_epoch(self.epoch)

    # From a file gensim's threads run without Python's lock: twice as fast as from an iterator.
    descriptor, corpus = tempfile.mkstemp(prefix="hficma-", suffix=".txt")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.writelines(" ".join(line) + "\n" for line in _corpus(texts, names))
        model = Word2Vec(
            corpus_file=corpus,
            vector_size=dim,
            window=window,
            min_count=min_count,
            sg=1,
            hs=1,
            negative=0,
            epochs=epochs,
            sample=sample,
            seed=seed,
            workers=workers,
            callbacks=[Report()],
        )
    except RuntimeError as error:
        raise InputError(f"no word is seen {min_count} times: too little text") from error
    finally:
        Path(corpus).unlink(missing_ok=True)
    keyed = model.wv
    vocabulary = tuple(keyed.index_to_key)
    counts = tuple(int(keyed.get_vecattr(word, "count")) for word in vocabulary)
    return WordVectors.from_rows(vocabulary, counts, keyed.vectors)


def _text(recipe: Recipe) -> _Text:
    """Return a recipe's names of ingredients and its sentences, as words."""
    names = (_interned(ingredient_name(line)) for line in recipe.ingredients)
    lines = ([recipe.title] if recipe.title else []) + sentences(recipe.instructions)
    return _Text(tuple(filter(None, names)), tuple(_interned(words(line)) for line in lines))


def _interned(text: Iterable[str]) -> tuple[str, ...]:
    """Return words, of which equal ones are one object: a million recipes say "the" 50 million
    times.
    """
    return tuple(map(sys.intern, text))


def _frequent_names(texts: Sequence[_Text], min_count: int) -> frozenset[tuple[str, ...]]:
    """Return names of two and more words that enough recipes share."""
    counts = Counter(chain.from_iterable(text.names for text in texts))
    return frozenset(
        name
        for name, count in counts.items()
        if count >= min_count and 1 < len(name) <= MAX_NAME_WORDS
    )


def _corpus(texts: Sequence[_Text], names: frozenset[tuple[str, ...]]) -> Iterator[list[str]]:
    """Yield the corpus's sentences; see `train_word_vectors`."""
    for number, text in enumerate(texts):
        frequent = {name for name in text.names if name in names}
        yield list(chain.from_iterable(["_".join(n)] if n in frequent else n for n in text.names))
        for sentence in text.sentences:
            yield join_names(sentence, frequent) if number % 2 else list(sentence)


def join_names(sentence: Sequence[str], names: Iterable[tuple[str, ...]]) -> list[str]:
    """Return a sentence with names joined by `_` where they stand in it, the longest first."""
    by_length = sorted(names, key=len, reverse=True)
    joined: list[str] = []
    position = 0
    while position < len(sentence):
        size = next(
            (
                len(name)
                for name in by_length
                if name == tuple(sentence[position : position + len(name)])
            ),
            1,
        )
        joined.append("_".join(sentence[position : position + size]))
        position += size
    return joined
