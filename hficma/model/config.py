"""Sizes and choices of a model; everything else is in its weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..artifacts.json_fields import LARGEST_SIZE, Fields, dataclass_fields
from ..images.crops import COUNTS
from ..images.image_input import ImageInput
from ..scores import ScoreWeights
from ..text.vocabulary import TextConfig


@dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """The image encoder: which one, and what it reads (section `model.image`)."""

    encoder: str = "resnet50"
    """`tiny`, a name of torchvision's or timm's, `efficientnet-lite0` to `-lite2`, or the folder of
    a Hugging Face model."""
    family: Literal["torchvision", "efficientnet-lite", "timm", "transformers"] = "torchvision"
    """Whose architecture it is; follows from `encoder` when training begins."""
    architecture: str = ""
    """JSON text that its layers are built from, where its name alone does not say: the folder's
    `config.json`. Filled in when training begins, so that runs and bundles need no folder."""
    grid: int | None = None
    """Regions a side that a larger grid is pooled to; none keeps the encoder's own."""
    pooled: Literal["last", "stages"] = "last"
    """What of a photo as a whole is read: the mean of the last map, or of the map at each stage's
    end too, whose textures and colours the last has forgotten; of efficientnet-lite alone."""
    crops: int = 1
    """Crops of a photo, 1 or 5, that training shows, one a step, and whose global vectors indexes,
    searches and evaluations average unless told otherwise."""
    input: ImageInput | None = None
    """Pixels that it reads; none takes what its own files say."""

    def __post_init__(self) -> None:
        if self.crops not in COUNTS:
            raise ValueError(f"crops must be {' or '.join(map(str, COUNTS))}, not {self.crops}")

    def to_json(self) -> dict[str, Any]:
        """Return JSON values without what is at its default."""
        record = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }
        return record if self.input is None else {**record, "input": self.input.to_json()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> ImageConfig:
        """Read what `to_json` wrote.

        Raises:
            ValueError: a field is of another type, out of its range or unknown.
        """
        fields = dataclass_fields(cls, record, "the image encoder", most=LARGEST_SIZE)
        if fields.get("input") is not None:
            fields["input"] = ImageInput.from_json(fields["input"])
        return cls(**fields)


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """The layers that bring what encoders give into the joint space, by `global_text: fields`."""

    layers: Literal["none", "projection", "linear", "mlp"] = "linear"
    """One layer, or two with GELU between them, of centred vectors; `projection` is one of vectors
    as they come, without a bias, as CLIP has; `none` where encoders share a space already."""
    hidden: int = 1024
    """Width between the two layers of an `mlp`."""
    dropout: float = 0.0
    """Chance of each number that a layer reads to be 0, in training."""

    def __post_init__(self) -> None:
        if self.layers not in ("none", "projection", "linear", "mlp"):
            raise ValueError(f"layers must be none, projection, linear or mlp, not {self.layers!r}")
        if self.hidden < 1 or not 0 <= self.dropout < 1:
            raise ValueError("hidden must be at least 1 and dropout in 0 to 1")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What `build_model` builds. The defaults are HF-ICMA as published."""

    kind: Literal["hf-icma", "adamine", "dual"] = "hf-icma"
    """The system; `dual` has global vectors alone, as CLIP has."""
    width: int = 1024
    """D: of tokens in HF-ICMA, of the joint space in AdaMine."""
    heads: int = 8
    """H: heads of the cross-attention; divides the width."""
    image: ImageConfig = field(default_factory=ImageConfig)
    """The image encoder."""
    word_dim: int = 300
    """Width of a word vector."""
    sentence: Literal["mean", "gru", "none"] = "gru"
    """How a sentence's words become a vector; `none` leaves sentences to `text.encoder` alone."""
    sentence_dim: int = 1024
    """Width of a GRU's sentence vector; the mean keeps the word vectors' width."""
    ingredient_width: int = 300
    """AdaMine: state of each direction of the ingredient LSTM."""
    global_dim: int | None = None
    """D_g that both global vectors are brought to; None leaves them unprojected, as published."""
    global_similarity: Literal["dot", "cosine"] = "dot"
    """`dot` is the published, un-normalised inner product."""
    global_text: Literal["fused", "fields"] = "fused"
    """What a recipe's global vector is made of: its sentences fused with its ingredients, as
    published, or the means of the vectors of its title, ingredients and instructions."""
    image_head: HeadConfig = field(default_factory=HeadConfig)
    """By `fields`: from a photo's pooled features to its global vector."""
    recipe_head: HeadConfig = field(default_factory=HeadConfig)
    """By `fields`: from the means of a recipe's fields to its global vector."""
    members: int = 1
    """Of a dual encoder: the heads of so many trainings side by side, an ensemble; D_g is as many
    times `global_dim`."""
    global_weight: float = 0.2
    """w_g in S = w_g S_global + w_l S_local."""
    local_weight: float = 0.8
    """w_l; AdaMine has no local part."""
    local_limit: float = 1.0
    """The most that S_local counts in S. Below 1, what was not scored is known to reach less, so
    that fewer candidates prove an answer."""
    text: TextConfig = field(default_factory=TextConfig)
    """What of a recipe is read."""

    def __post_init__(self) -> None:
        if self.kind not in ("hf-icma", "adamine", "dual"):
            raise ValueError(f"kind must be hf-icma, adamine or dual, not {self.kind!r}")
        for name in ("width", "heads", "word_dim", "sentence_dim", "ingredient_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by {self.heads} heads")
        if (self.kind, self.global_text) in (("dual", "fused"), ("adamine", "fields")):
            text = "fields" if self.kind == "dual" else "fused"
            raise ValueError(f"global_text must be {text} for {self.kind}")
        if self.global_text == "fields" and self.global_dim is None:
            for name in ("image_head", "recipe_head"):
                if getattr(self, name).layers != "none":
                    raise ValueError(f"global_dim must be given: it is what {name} leads to")
        encoder = bool(self.text.encoder or self.text.architecture)
        if self.sentence == "none" and not encoder:
            raise ValueError("sentence is none: text.encoder must be given, to read sentences")
        # An encoder whose folder was not read yet: that settles what reads sentences.
        if self.text.architecture and self.sentence != "none" and self.global_text == "fused":
            raise ValueError(
                "text.encoder is read beside word vectors by global_text=fields, or alone by "
                "sentence=none"
            )
        if self.members < 1 or (self.members > 1 and self.kind != "dual"):
            raise ValueError("members must be at least 1, and 1 but for dual encoders")
        if self.text.unit == "field" and (self.global_text, self.sentence) != ("fields", "mean"):
            raise ValueError("text.unit=field is read by global_text=fields and sentence=mean")
        if self.global_weight <= 0 or self.local_weight < 0:
            raise ValueError("global_weight must be positive and local_weight not negative")
        if not 0 < self.local_limit <= 1:
            raise ValueError("local_limit must be above 0, and at most 1")

    @property
    def score_weights(self) -> ScoreWeights:
        """Return w_g and w_l: w_l is 0 for AdaMine, a dual encoder's S is S_global."""
        if self.kind == "dual":
            return ScoreWeights(1.0, 0.0)
        return ScoreWeights(
            self.global_weight,
            self.local_weight if self.kind == "hf-icma" else 0.0,
            self.local_limit,
        )

    @property
    def reads_ingredients(self) -> bool:
        """Return whether the recipe encoder reads ids of ingredients, each one by itself."""
        return self.kind != "dual" or (self.sentence != "none" and self.text.unit == "sentence")

    @property
    def unit_vectors(self) -> bool:
        """Return whether global vectors have length 1, so that S_global is their cosine."""
        return self.kind == "adamine" or self.global_similarity == "cosine"

    @property
    def image_input(self) -> ImageInput:
        """Return the pixels that the image encoder reads."""
        return self.image.input or ImageInput()

    def to_json(self) -> dict[str, Any]:
        """Return the configuration as JSON values.

        `model_id` hashes them, so that what models of earlier releases had not is left out where it
        is at its default, and an image encoder that is but a name keeps its old key.
        """
        record = dataclasses.asdict(self) | {"text": self.text.to_json()}
        image = self.image.to_json()
        del record["image"]
        if image.keys() <= {"encoder"}:
            record["backbone"] = self.image.encoder
        else:
            record["image"] = image
        return {key: value for key, value in record.items() if (key, value) not in _LATER_DEFAULTS}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> ModelConfig:
        """Read what `to_json` wrote.

        Raises:
            ValueError: a field is of another type, out of its range, unknown or missing.
        """
        record = dict(Fields(record, "the model's options").items())
        if "backbone" in record:
            record["image"] = {"encoder": record.pop("backbone")}
        fields = dataclass_fields(cls, record, "the model's options", most=LARGEST_SIZE)
        fields["image"] = ImageConfig.from_json(fields.get("image", {}))
        for name in ("image_head", "recipe_head"):
            head = dataclass_fields(HeadConfig, fields.get(name, {}), name, most=LARGEST_SIZE)
            fields[name] = HeadConfig(**head)
        return cls(**{**fields, "text": TextConfig.from_json(fields["text"])})


_LATER_DEFAULTS = (
    ("global_text", "fused"),
    ("members", 1),
    ("local_limit", 1.0),
    ("image_head", dataclasses.asdict(HeadConfig())),
    ("recipe_head", dataclasses.asdict(HeadConfig())),
)
"""Fields that came after models were saved without them, with the value that those have."""
