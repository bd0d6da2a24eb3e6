"""What a pretrained text encoder is and reads, without its weights: enough to tokenize for it.

Written as JSON text into `TextConfig.architecture` when training begins, so that runs and bundles
need no folder. It is read back from files of strangers, so sizes are bounded.
"""

from __future__ import annotations

import dataclasses
import json
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..artifacts.json_fields import Fields, dataclass_fields, strict_json

MOST_TOKENS = 8192
"""Tokens of one text at most, whatever a file says."""
_MOST = {
    "num_hidden_layers": 64,
    "n_layers": 64,
    "hidden_size": 8192,
    "dim": 8192,
    "intermediate_size": 32768,
    "hidden_dim": 32768,
    "projection_dim": 8192,
    "projection_size": 8192,
    "vocab_size": 1_000_000,
    "max_position_embeddings": MOST_TOKENS + 2,
    "type_vocab_size": 16,
}
"""Sizes of an encoder at most: what is built before its weights are compared with it."""
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, kw_only=True)
class TextArchitecture:
    """A text encoder's layers, and how texts become its token ids."""

    model_type: Literal[
        "bert", "roberta", "xlm-roberta", "mpnet", "distilbert", "clip", "siglip", "siglip2"
    ]
    """As its `config.json` names it."""
    config: Mapping[str, Any]
    """Sizes and choices of its layers, from the same file."""
    pooling: Literal["mean", "cls", "last"]
    """The vector of a text: the mean of its tokens, or the first or the last of them."""
    longest: int
    """Tokens of a text at most, special ones included; those past it are cut off."""
    pad: int | None = None
    """Id that every text is filled up with to `longest`, as SigLIP was trained; None: none."""
    case: Literal["kept", "lower", "lower-words"] = "kept"
    """`lower` is SigLIP 2's, `lower-words` SigLIP's, which also reads no punctuation; others have
    it in their tokenizer's file."""

    def __post_init__(self) -> None:
        if not 3 <= self.longest <= MOST_TOKENS:
            raise ValueError(f"longest must be from 3 to {MOST_TOKENS}")
        if self.pad is not None and self.pad < 0:
            raise ValueError("pad must be an id")
        for name, most in _MOST.items():
            size = self.config.get(name, 1)
            if type(size) is not int or not 1 <= size <= most:
                raise ValueError(f"{name} must be from 1 to {most}, not {str(size)[:20]}")
        if not any(name in self.config for name in ("hidden_size", "dim")):
            raise ValueError("it names no width")

    @property
    def width(self) -> int:
        """Return D_t, the width of a text's vector."""
        projected = {"clip": "projection_dim", "siglip": "projection_size",
                     "siglip2": "projection_size", "distilbert": "dim"}  # fmt: skip
        width: int = self.config.get(
            projected.get(self.model_type, "hidden_size"), self.config.get("hidden_size")
        )
        return width

    def clean(self, text: str) -> str:
        """Return a text as the encoder was shown texts in its training."""
        if self.case == "kept":
            return text
        text = text.lower()
        return " ".join(text.translate(_PUNCTUATION).split()) if self.case != "lower" else text

    def to_text(self) -> str:
        """Return JSON text: the same for the same architecture, since `model_id` hashes it."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_text(cls, content: str) -> TextArchitecture:
        """Read what `to_text` wrote.

        Raises:
            ValueError: it is of another form or out of range.
        """
        fields = dataclass_fields(cls, strict_json(content.encode()), "the text encoder")
        config = fields["config"]
        Fields(config, "the text encoder's config")  # an object
        return cls(**fields)
