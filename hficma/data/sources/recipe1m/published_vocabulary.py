"""Reads the vocabulary and the word vectors that Recipe1M's users share, and compares them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ....errors import InputError
from ....limits import MEGABYTE, read_regular_file
from ....text.vocabulary import FIRST_WORD_ID
from ....text.word2vec_files import read_word2vec
from ....text.word_vectors import WordVectors
from .published_files import find
from .untrusted_reader import in_worker, read_word_table

VOCABULARY_BYTES = 200 * MEGABYTE
"""Bytes of `vocab.txt`, at most; Recipe1M's 30,167 words take 0.3 MB."""


class VocabularyError(InputError):
    """Vocabulary files that disagree: going on would give ingredients others' names."""


@dataclass(frozen=True)
class PublishedWords:
    """A published vocabulary: word i has the id i + 2 in every published file.

    0 pads a list of ingredients and 1 ends it. So `vocab.txt`, which lists words only, is off by
    two from the ids in the LMDBs.
    """

    path: Path
    """The file that it was read from."""
    words: tuple[str, ...]
    """In the file's order."""

    def names(self, ids: Iterable[int], where: str) -> tuple[str, ...]:
        """Return the names of ingredient ids.

        Args:
            ids: as a published record has them, with padding and end.
            where: how to name the record in an error.

        Raises:
            VocabularyError: an id has no word.
        """
        numbers = [number for number in ids if number >= FIRST_WORD_ID]
        last = len(self.words) - 1 + FIRST_WORD_ID
        if numbers and max(numbers) > last:
            raise VocabularyError(
                f"{where}: names ingredient {max(numbers)}, but {self.path} has "
                f"{len(self.words)} words (ids {FIRST_WORD_ID} to {last}); bring the vocabulary "
                "that belongs to the LMDBs"
            )
        return tuple(self.words[number - FIRST_WORD_ID].replace("_", " ") for number in numbers)


def published_vectors(root: Path) -> WordVectors | None:
    """Return the word vectors of `vocab.bin` or AdaMine's `vocab.pkl`, or None.

    Args:
        root: the source's folder.

    Raises:
        VocabularyError: vocabulary files of the folder disagree.
        InputError: the file cannot be read.
    """
    vectors_of = _vectors(root)
    _agreeing(root, {path: vectors.vocabulary.words for path, vectors in vectors_of.items()})
    return next(iter(vectors_of.values()), None)


def published_words(root: Path) -> PublishedWords:
    """Return the vocabulary of `vocab.txt`, else of the word vectors.

    Args:
        root: the source's folder.

    Raises:
        VocabularyError: vocabulary files of the folder disagree.
        InputError: there is no vocabulary, so ingredient ids mean nothing.
    """
    words = {path: vectors.vocabulary.words for path, vectors in _vectors(root).items()}
    words = _agreeing(root, words)
    if not words:
        raise InputError(f"{root}: holds no vocab.txt, vocab.bin or vocab.pkl to name ingredients")
    return PublishedWords(*next(iter(words.items())))


def _agreeing(
    root: Path, of_vectors: Mapping[Path, tuple[str, ...]]
) -> dict[Path, tuple[str, ...]]:
    """Return the words of all vocabulary files of a folder, `vocab.txt` first.

    Two files of different vocabularies happen where someone unpacks an archive over another. Going
    on would call onions garlic, without an error anywhere.

    Raises:
        VocabularyError: they are not the same.
    """
    listed = find(root, "vocab.txt")
    words = {} if listed is None else {listed: _listed_words(listed)}
    words.update(of_vectors)
    for other in list(words)[1:]:
        first = next(iter(words))
        if len(words[first]) != len(words[other]):
            difference = f"{first} has {len(words[first])} words, {other} {len(words[other])}"
        else:
            pairs = zip(words[first], words[other], strict=True)
            unequal = (number for number, (one, two) in enumerate(pairs) if one != two)
            at = next(unequal, None)
            if at is None:
                continue
            difference = (
                f"word {at + 1} is {words[first][at]!r} in {first} and {words[other][at]!r} "
                f"in {other}"
            )
        raise VocabularyError(
            f"{difference}: they are not of one vocabulary; keep the one that belongs to the data"
        )
    return words


def _listed_words(path: Path) -> tuple[str, ...]:
    """Return the words of `vocab.txt`, one a line."""
    content = read_regular_file(path, limit=VOCABULARY_BYTES, what="a list of words")
    try:
        lines = content.decode("utf-8-sig").replace("\r\n", "\n").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read as text ({error})") from error
    return tuple(lines)


def _vectors(root: Path) -> dict[Path, WordVectors]:
    """Return the word vectors of a folder by their files."""
    vectors_of: dict[Path, WordVectors] = {}
    if (path := find(root, "vocab.bin")) is not None:
        vectors_of[path] = read_word2vec(path)
    if (path := find(root, "vocab.pkl")) is not None:
        vectors_of[path] = _pickled_vectors(path)
    return vectors_of


def _pickled_vectors(path: Path) -> WordVectors:
    """Return the word vectors of AdaMine's `vocab.pkl`."""
    facts, content = in_worker(read_word_table, path)
    words, size = facts["words"], facts["rows"]
    rows = np.frombuffer(content, dtype="<f4").reshape(size, facts["dim"])
    # A table that is indexed by ids has two more rows, of padding and end, before the first word.
    if size == len(words) + FIRST_WORD_ID:
        rows = rows[FIRST_WORD_ID:]
    elif size != len(words):
        raise VocabularyError(
            f"{path}: has {size} vectors for {len(words)} words; they are not of one vocabulary"
        )
    # The file has no counts. Words are in the order of their frequency, so Zipf's law stands in.
    counts = tuple(max(1, 10 * len(words) // rank) for rank in range(1, len(words) + 1))
    try:
        return WordVectors.from_rows(tuple(words), counts, rows)
    except ValueError as error:
        raise InputError(f"{path}: holds no table of vectors with its words ({error})") from error
