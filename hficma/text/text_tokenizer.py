"""The tokenizer of a pretrained text encoder: texts to ids, by the `tokenizer.json` it came with.

The file is of the library `tokenizers`, which is all that serving needs of such an encoder beside
its graph.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..artifacts.manifest import Manifest, verified_file
from ..errors import ArtifactError, InputError, MissingDependencyError
from ..limits import MEGABYTE, read_regular_file
from ..types import Ids
from .text_architecture import TextArchitecture

TEXT_TOKENIZER_FILE = "text_tokenizer.json"
"""Its name in runs and bundles; a folder of an encoder calls it `tokenizer.json`."""
TOKENIZER_BYTES = 64 * MEGABYTE
"""The largest there are, of vocabularies of 256,000 words in all languages, take 35 MB."""
MOST_CHARACTERS = 20_000
"""Characters of a text that are read: more than any encoder has room for."""


@dataclass(frozen=True)
class TextTokenizer:
    """Turns texts into a text encoder's ids, cut to its length. Safe to share between threads."""

    architecture: TextArchitecture
    """Of the encoder."""
    content: bytes
    """The file's bytes."""
    source: str
    """Where they are from, for messages."""

    @classmethod
    def load(cls, path: Path, architecture: TextArchitecture) -> TextTokenizer:
        """Read a tokenizer's file and try it.

        Raises:
            ArtifactError: no such file, too long, or no tokenizer.
            MissingDependencyError: the package `tokenizers` is not installed.
        """
        try:
            content = read_regular_file(path, limit=TOKENIZER_BYTES, what="a tokenizer")
        except InputError as error:
            raise ArtifactError(str(error)) from error
        tokenizer = cls(architecture, content, str(path))
        tokenizer.ids("salt")
        return tokenizer

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the file, a part of `model_id`."""
        return hashlib.sha256(self.content).hexdigest()

    def ids(self, text: str) -> tuple[Ids, bool]:
        """Return a text's ids (W,), special ones included, and whether it was cut."""
        architecture = self.architecture
        cut = len(text) > MOST_CHARACTERS
        encoding = self._tokenizer.encode(architecture.clean(text[:MOST_CHARACTERS]))
        ids = np.array(encoding.ids, dtype=np.int64)
        if architecture.pad is not None:
            missing = max(0, architecture.longest - len(ids))
            ids = np.pad(ids, (0, missing), constant_values=architecture.pad)
        return ids, cut or bool(encoding.overflowing)

    @cached_property
    def specials(self) -> frozenset[int]:
        """Return the ids that stand in every text, whatever it says."""
        return frozenset(self.ids("")[0].tolist())

    @cached_property
    def _tokenizer(self) -> Any:
        """Return the library's tokenizer, which cuts and does not pad."""
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise MissingDependencyError(
                "tokenizers", "text", "this model's text encoder"
            ) from error
        # The library raises Exception itself, with the reason in its text, and panics on some
        # files: those are no Exceptions.
        try:
            tokenizer = Tokenizer.from_buffer(self.content)
            tokenizer.no_padding()
            tokenizer.enable_truncation(self.architecture.longest)
            ids = tokenizer.encode("salt").ids
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
                raise
            reason = " ".join(str(error).split())[:120]
            raise ArtifactError(f"{self.source}: is no tokenizer ({reason})") from error
        most = int(self.architecture.config.get("vocab_size", 0))
        if tokenizer.get_vocab_size() > most or not ids or max(ids) >= most:
            raise ArtifactError(f"{self.source}: has other words than its text encoder, {most}")
        return tokenizer


def text_tokenizer(
    architecture: TextArchitecture | None, directory: Path, manifest: Manifest
) -> TextTokenizer | None:
    """Return the text encoder's tokenizer of a run or a bundle, or None where it has none.

    Args:
        architecture: of the model's text encoder, if any.
        directory: of the run or bundle.
        manifest: of the directory, which has the file's hash.

    Raises:
        ArtifactError: the file is missing, was changed, or is no tokenizer.
    """
    if architecture is None:
        return None
    file = verified_file(directory, manifest, TEXT_TOKENIZER_FILE)
    return TextTokenizer.load(file, architecture)
