"""The rows of the quality table: every loss and system, at sizes where they compare."""

from __future__ import annotations

from dataclasses import dataclass

BASELINE = "dual-encoder"
"""The plain dual encoder: all others are compared with it."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """One row of the table."""

    name: str
    preset: str | None
    """None: nothing is trained by a preset; canonical correlation analysis."""
    overrides: tuple[str, ...] = ()
    """On top of the preset: the sizes at which every system is compared."""
    seeds: int = 3
    note: str = ""
    """What must be known of it."""


VECTORS = ("model.word_dim=300", "model.sentence_dim=256")
"""Widths of the word vectors that all methods read, and of the sentence encoder of some."""

_SENTENCES = ("model.sentence=gru",)
_MEANS = ("model.sentence=mean",)
_ADAMINE = (
    "model.backbone=mobilenet_v2", "model.width=256", "model.ingredient_width=128",
    "model.text.title=instruction", "trunk.schedule=frozen", "optimizer.lr=1e-3",
    "trainer.epochs=20",
)  # fmt: skip
_PUBLISHED = (
    "model.backbone=mobilenet_v2", "model.global_dim=512", "trunk.schedule=frozen",
    "trainer.epochs=2", "trainer.validate_every=1",
)  # fmt: skip
_SMALL = (
    "model.backbone=mobilenet_v2", "trunk.schedule=frozen", "trainer.epochs=6", "loss.group=16",
)  # fmt: skip

METHODS = (
    Method(
        name=BASELINE,
        preset=BASELINE,
        overrides=_MEANS,
        note="InfoNCE on S_global, means of word vectors, nothing tuned",
    ),
    Method(
        name="dual-encoder, sentences",
        preset=BASELINE,
        overrides=_SENTENCES,
        note="the same with the sentence encoder, as all below but where means are named",
    ),
    *(
        Method(name=name, preset=name, overrides=_ADAMINE, note="width 256, 20 epochs")
        for name in (
            "adamine",
            "adamine-avg",
            "vse",
            "vse-plus-plus",
            "semi-hard",
            "lifted",
            "pwc",
            "pwc-plus-plus",
        )
    ),
    Method(
        name="hf-icma-small",
        preset="hf-icma-small",
        overrides=(*_SMALL, *_SENTENCES),
        note="6 epochs",
    ),
    Method(
        name="hf-icma",
        preset="hf-icma",
        overrides=_PUBLISHED,
        seeds=1,
        note="width 1024, one seed, 2 epochs, both global vectors projected to 512",
    ),
    Method(
        name="best",
        preset="best",
        note="chosen by folds, so trained on the validation pairs too, as the two below",
    ),
    Method(
        name="best without S_local",
        preset="best",
        overrides=("loss.on_score=null", "model.local_weight=0"),
        note="the same, trained and scored by S_global alone",
    ),
    Method(
        name="best with means",
        preset="best",
        overrides=_MEANS,
        note="the same with means of word vectors in place of the sentence encoder",
    ),
    Method(
        name="cca",
        preset=None,
        seeds=1,
        note="canonical correlation analysis of pooled regions and mean word vectors",
    ),
)
