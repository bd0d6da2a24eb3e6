"""Sizes and choices of a model; everything else is in its weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..artifacts.json_fields import LARGEST_SIZE, dataclass_fields
from ..scores import ScoreWeights
from ..text.vocabulary import TextConfig

REGION_GRID = 7
"""Regions a side: every image encoder ends at 7 x 7 for photos of 224 x 224."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What `build_model` builds. The defaults are HF-ICMA as published."""

    kind: Literal["hf-icma", "adamine"] = "hf-icma"
    """The system."""
    width: int = 1024
    """D: of tokens in HF-ICMA, of the joint space in AdaMine."""
    heads: int = 8
    """H: heads of the cross-attention; divides the width."""
    backbone: str = "resnet50"
    """The image encoder: `tiny`, or any torchvision classifier that ends at 7 x 7 regions."""
    word_dim: int = 300
    """Width of a word vector."""
    sentence: Literal["mean", "gru"] = "gru"
    """How a sentence becomes a vector."""
    sentence_dim: int = 1024
    """Width of a GRU's sentence vector; the mean keeps the word vectors' width."""
    ingredient_width: int = 300
    """AdaMine: state of each direction of the ingredient LSTM."""
    global_dim: int | None = None
    """D_g that both global vectors are brought to; None leaves them unprojected, as published."""
    global_similarity: Literal["dot", "cosine"] = "dot"
    """`dot` is the published, un-normalised inner product."""
    global_weight: float = 0.2
    """w_g in S = w_g S_global + w_l S_local."""
    local_weight: float = 0.8
    """w_l; AdaMine has no local part."""
    text: TextConfig = field(default_factory=TextConfig)
    """What of a recipe is read."""

    def __post_init__(self) -> None:
        if self.kind not in ("hf-icma", "adamine"):
            raise ValueError(f"kind must be hf-icma or adamine, not {self.kind!r}")
        for name in ("width", "heads", "word_dim", "sentence_dim", "ingredient_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by {self.heads} heads")
        if self.global_weight <= 0 or self.local_weight < 0:
            raise ValueError("global_weight must be positive and local_weight not negative")

    @property
    def score_weights(self) -> ScoreWeights:
        """Return w_g and w_l; w_l is 0 for AdaMine, which has no local part."""
        return ScoreWeights(
            self.global_weight, self.local_weight if self.kind == "hf-icma" else 0.0
        )

    def to_json(self) -> dict[str, Any]:
        """Return the configuration as JSON values."""
        return {**dataclasses.asdict(self), "text": self.text.to_json()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> ModelConfig:
        """Read what `to_json` wrote.

        Raises:
            ValueError: a field is of another type, out of its range, unknown or missing.
        """
        fields = dataclass_fields(cls, record, "the model's options", most=LARGEST_SIZE)
        return cls(**{**fields, "text": TextConfig.from_json(fields["text"])})
