"""word2vec's file formats, as the original tool and gensim's `save_word2vec_format` write them.

    header     number of words, a space, their width D_w, a line break
    binary     word, a space, D_w floats of 4 bytes (the original tool adds a line break)
    text       word, D_w numbers as text, a space before each, and a line break

Read here and not by gensim's `load_word2vec_format`, for three reasons. Gensim comes with the extra
`train`, while importing Recipe1M's `vocab.bin` needs no training and no gensim. It passes over a
word that stands there twice, which moves every later word up a row, where the ids of published data
count rows. And files come from anywhere: this reader allocates nothing that the file is too short
to fill, and gives up on a word without an end after `MAX_WORD_BYTES`, where gensim copies what it
has read so far for each block more.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

import numpy as np

from ..errors import InputError
from ..limits import open_regular_file
from ..types import Floats
from .word_vectors import WordVectors

MAX_DIM = 100_000
"""Widest vector that is read."""
MAX_WORD_BYTES = 10_000
"""Longest word that is read."""


def read_word2vec(path: Path) -> WordVectors:
    """Read word vectors from the binary or the text format, whichever the file is in.

    The files do not say how often a word was seen; the words stand by falling count, and
    their counts are read as the shares of Zipf's law.

    Raises:
        InputError: the file cannot be read, or is in neither format.
    """
    try:
        with open_regular_file(path, what="word vectors") as file:
            size = os.fstat(file.fileno()).st_size
            number, dim = _header(file, path)
            # A word takes at least two bytes of text, and a value four bytes or two characters.
            if number * (2 + 2 * dim) > size + 2 * dim + 2:
                raise InputError(f"{path}: is too short for {number} vectors of {dim}")
            binary = _is_binary(file, dim)
            read_vectors = _read_binary if binary else _read_text
            words, rows = read_vectors(file, number, dim, path)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as word vectors ({error})") from error
    # Zipf's law: the word of rank r is seen 1 / r as often as the first.
    counts = tuple(max(1, 10 * number // rank) for rank in range(1, number + 1))
    try:
        return WordVectors.from_rows(tuple(words), counts, rows)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


def write_word2vec(vectors: WordVectors, path: Path, *, binary: bool) -> None:
    """Write word vectors so that the original tool and gensim read them."""
    with path.open("wb") as file:
        file.write(f"{len(vectors.vocabulary)} {vectors.dim}\n".encode())
        for word, row in zip(vectors.vocabulary.words, vectors.rows, strict=True):
            if binary:
                file.write(word.encode() + b" " + row.astype("<f4").tobytes() + b"\n")
            else:
                file.write(f"{word} {' '.join(map(repr, row.tolist()))}\n".encode())


def _header(file: IO[bytes], path: Path) -> tuple[int, int]:
    """Read the number of words and the width of their vectors."""
    fields = file.readline(100).split()
    if len(fields) != 2 or not all(field.isdigit() for field in fields):
        raise InputError(f"{path}: does not begin with the number of words and their width")
    number, dim = int(fields[0]), int(fields[1])
    if not number or not 0 < dim <= MAX_DIM:
        raise InputError(f"{path}: {number} vectors of width {dim} cannot be")
    return number, dim


def _is_binary(file: IO[bytes], dim: int) -> bool:
    """Return whether the first vector is four bytes a value rather than numbers as text."""
    start = file.tell()
    line = file.readline(MAX_WORD_BYTES + 40 * dim)
    file.seek(start)
    try:
        values = line.decode("utf-8").split()[1:]
        return len(values) != dim or any(not np.isfinite(float(value)) for value in values)
    except ValueError:
        return True


def _read_binary(file: IO[bytes], number: int, dim: int, path: Path) -> tuple[list[str], Floats]:
    """Read words and their vectors (V, D_w) behind the header of a binary file."""
    words: list[str] = []
    rows = np.empty((number, dim), dtype=np.float32)
    for position in range(number):
        word = bytearray()
        while (byte := file.read(1)) != b" ":
            if not byte or len(word) > MAX_WORD_BYTES:
                raise InputError(f"{path}: ends or breaks off at word {position + 1} of {number}")
            if byte != b"\n":  # the original tool ends each vector by one, gensim does not
                word += byte
        values = file.read(4 * dim)
        if len(values) != 4 * dim:
            raise InputError(f"{path}: ends within the vector of word {position + 1} of {number}")
        words.append(word.decode("utf-8", errors="replace"))
        rows[position] = np.frombuffer(values, dtype="<f4")
    return words, rows


def _read_text(file: IO[bytes], number: int, dim: int, path: Path) -> tuple[list[str], Floats]:
    """Read words and their vectors (V, D_w) behind the header of a text file."""
    words: list[str] = []
    rows = np.empty((number, dim), dtype=np.float32)
    for position in range(number):
        fields = file.readline(MAX_WORD_BYTES + 40 * dim).decode("utf-8").rstrip().rsplit(" ", dim)
        try:
            rows[position] = np.array(fields[1:], dtype=np.float32)
        except ValueError as error:
            raise InputError(f"{path}: word {position + 1} has no vector of {dim}") from error
        words.append(fields[0])
    return words, rows
