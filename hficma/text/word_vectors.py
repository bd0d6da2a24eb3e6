"""Word vectors with their vocabulary, and the directory that holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..artifacts.manifest import new_directory, read_manifest, verified_file
from ..errors import ArtifactError
from ..types import AnyFloats, Array, Floats
from .vocabulary import FIRST_WORD_ID, VOCABULARY_FILE, Vocabulary

WORDS = "words.safetensors"
SENTENCES = "sentences.safetensors"


@dataclass(frozen=True, eq=False)
class WordVectors:
    """An embedding table and the words of its rows."""

    vocabulary: Vocabulary
    """The words, by falling count."""
    table: Floats
    """float32 (V + 2, D_w): row i + 2 holds word i, rows 0 and 1 are zero."""

    def __post_init__(self) -> None:
        if self.table.ndim != 2 or len(self.table) != self.vocabulary.table_rows:
            raise ValueError(
                f"a table for {len(self.vocabulary)} words has {self.vocabulary.table_rows} rows, "
                f"this one has shape {self.table.shape}"
            )

    @classmethod
    def from_rows(
        cls, words: tuple[str, ...], counts: tuple[int, ...], rows: AnyFloats
    ) -> WordVectors:
        """Take vectors whose row i holds word i, as word2vec stores them, and shift them to ids.

        Args:
            words: V words.
            counts: how often each was seen, V numbers.
            rows: (V, D_w), any float dtype.
        """
        # The published loaders copy rows unshifted, so that id i + 2 gets the vector of word i + 2.
        table = np.zeros((len(words) + FIRST_WORD_ID, rows.shape[1]), dtype=np.float32)
        table[FIRST_WORD_ID:] = rows
        return cls(Vocabulary(words, counts), table)

    @property
    def dim(self) -> int:
        """Return D_w, the width of a vector."""
        return int(self.table.shape[1])

    @property
    def rows(self) -> Floats:
        """Return the words' vectors (V, D_w), without the two reserved rows."""
        return self.table[FIRST_WORD_ID:]

    def __getitem__(self, word: str) -> Floats:
        """Return the vector of a word, (D_w,).

        Raises:
            KeyError: the word is unknown.
        """
        number = self.vocabulary.id_of(word)
        if number is None:
            raise KeyError(word)
        vector: Floats = self.table[number]
        return vector

    def save(
        self,
        path: Path,
        *,
        made_by: str,
        facts: Mapping[str, Any] | None = None,
        sentences: Mapping[str, Array] | None = None,
    ) -> None:
        """Write a vectors directory.

        Args:
            path: where; must not exist.
            made_by: the command that trained or imported them.
            facts: more for the manifest, beside `words` and `dim`.
            sentences: the weights of a sentence encoder over these words, written beside them.

        Raises:
            ArtifactError: `path` exists or cannot be written.
        """
        from safetensors.numpy import save_file

        with new_directory(path, kind="vectors", made_by=made_by) as (building, manifest_facts):
            self.vocabulary.save(building / VOCABULARY_FILE)
            save_file({"vectors": np.ascontiguousarray(self.table)}, building / WORDS)
            if sentences is not None:
                save_file(dict(sentences), building / SENTENCES)
            manifest_facts.update({"words": len(self.vocabulary), "dim": self.dim})
            manifest_facts.update(facts or {})

    @classmethod
    def load(cls, path: Path) -> WordVectors:
        """Read a vectors directory.

        Raises:
            ArtifactError: no such directory, damaged, or of another kind.
        """
        manifest = read_manifest(path, kind="vectors")
        vocabulary = Vocabulary.load(verified_file(path, manifest, VOCABULARY_FILE))
        tensors = read_tensors(verified_file(path, manifest, WORDS))
        try:
            return cls(vocabulary, tensors["vectors"])
        except (KeyError, ValueError) as error:
            raise ArtifactError(f"{path / WORDS}: does not fit its vocabulary ({error})") from error


def read_tensors(path: Path) -> dict[str, Array]:
    """Read the tensors of a safetensors file, by name.

    Raises:
        ArtifactError: the file is no safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path}: is no safetensors file ({error})") from error
