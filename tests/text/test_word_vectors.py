"""Word vectors in the project's directory and in word2vec's formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hficma.errors import ArtifactError, InputError
from hficma.text.word2vec_files import read_word2vec, write_word2vec
from hficma.text.word_vectors import SENTENCES, WordVectors, read_tensors


@pytest.fixture
def vectors() -> WordVectors:
    rows = np.random.default_rng(0).normal(size=(4, 5)).astype("f4")
    return WordVectors.from_rows(("</s>", "olive_oil", "crème", "砂糖"), (9, 7, 3, 1), rows)


def test_table_is_shifted(vectors: WordVectors) -> None:
    """Row i + 2 holds word i, the padding and the end marker are zero."""
    assert vectors.table.shape == (6, 5)
    assert not vectors.table[:2].any()
    assert np.array_equal(vectors["olive_oil"], vectors.rows[1])
    with pytest.raises(KeyError):
        vectors["basil"]
    with pytest.raises(ValueError, match="rows"):
        WordVectors(vectors.vocabulary, vectors.rows)


def test_directory(vectors: WordVectors, tmp_path: Path) -> None:
    """Words, counts and values come back exactly; a flipped byte is found."""
    weights = {"gru.weight": np.arange(6, dtype="f4")}
    vectors.save(tmp_path / "v", made_by="a test", sentences=weights)
    loaded = WordVectors.load(tmp_path / "v")
    assert loaded.vocabulary == vectors.vocabulary
    assert loaded.table.tobytes() == vectors.table.tobytes()
    assert np.array_equal(read_tensors(tmp_path / "v" / SENTENCES)["gru.weight"], np.arange(6))
    content = bytearray((tmp_path / "v" / "words.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "v" / "words.safetensors").write_bytes(content)
    with pytest.raises(ArtifactError, match="not as it was written"):
        WordVectors.load(tmp_path / "v")


@pytest.mark.parametrize("binary", [True, False])
def test_gensim_reads_what_we_write(vectors: WordVectors, tmp_path: Path, binary: bool) -> None:
    """Others' tools must find the same words and values."""
    from gensim.models import KeyedVectors

    write_word2vec(vectors, tmp_path / "v.bin", binary=binary)
    loaded = KeyedVectors.load_word2vec_format(str(tmp_path / "v.bin"), binary=binary)
    assert tuple(loaded.index_to_key) == vectors.vocabulary.words
    assert np.array_equal(loaded.vectors, vectors.rows)


@pytest.mark.parametrize("binary", [True, False])
def test_we_read_what_gensim_writes(vectors: WordVectors, tmp_path: Path, binary: bool) -> None:
    """The format is found out, not asked for."""
    from gensim.models import KeyedVectors

    theirs = KeyedVectors(5)
    theirs.add_vectors(list(vectors.vocabulary.words), vectors.rows)
    theirs.save_word2vec_format(str(tmp_path / "v"), binary=binary)
    loaded = read_word2vec(tmp_path / "v")
    assert loaded.vocabulary.words == vectors.vocabulary.words
    np.testing.assert_allclose(loaded.rows, vectors.rows, rtol=1e-6)
    assert list(loaded.vocabulary.counts) == sorted(loaded.vocabulary.counts, reverse=True)


def test_original_tool_ends_each_vector_by_a_line_break(
    vectors: WordVectors, tmp_path: Path
) -> None:
    """The C tool writes one, gensim does not: both are read."""
    content = b"2 2\na " + np.array([1, 2], "f4").tobytes() + b"\nb "
    (tmp_path / "v.bin").write_bytes(content + np.array([3, 4], "f4").tobytes() + b"\n")
    assert read_word2vec(tmp_path / "v.bin").rows.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("header", [b"", b"x y\n", b"0 5\n", b"5 0\n", b"999999999 300\nab"])
def test_bad_files(tmp_path: Path, header: bytes) -> None:
    """A header must not make the reader allocate what the file does not hold."""
    (tmp_path / "v.bin").write_bytes(header)
    with pytest.raises(InputError, match=r"v\.bin"):
        read_word2vec(tmp_path / "v.bin")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.integers(0, 150), st.binary(min_size=1, max_size=5)), max_size=4))
@pytest.mark.parametrize("binary", [True, False])
def test_fuzzed(
    vectors: WordVectors, tmp_path: Path, binary: bool, edits: list[tuple[int, bytes]]
) -> None:
    """A damaged file is read or refused by the project's own error."""
    path = tmp_path / "v"
    write_word2vec(vectors, path, binary=binary)
    content = bytearray(path.read_bytes())
    for at, new in edits:
        content[at : at + len(new)] = new
    path.write_bytes(content)
    try:
        assert read_word2vec(path).dim >= 1
    except InputError as error:
        assert str(path) in str(error)  # noqa: PT017
