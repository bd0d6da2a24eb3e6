"""The presets of the papers train as their published code does, at its sizes.

Each number stands with where it is published: a file of the code of HF-ICMA (repository
AnonymousRecipe/HF-ICMA) or AdaMine (Cadene/recipe1m.bootstrap.pytorch); the papers give fewer.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from hficma.training import load_options
from hficma.training.config.option_files import flatten
from hficma.training.config.option_values import to_tree
from hficma.training.config.options import ImageEncoderOptions
from hficma.training.optim.schedule import LATER_PATIENCE, ImageEncoderSchedule

ABSTRACT = "options/abstract.yaml"
ADAMINE = "options/adamine.yaml"
SAMPLER = "datasets/batch_sampler.py"

HF_ICMA: list[tuple[str, Any, str]] = [
    ("trainer.seed", 1234, "args.py"),
    ("trainer.epochs", 60, "args.py"),
    ("trainer.batch_size", 32, "args.py"),
    ("trainer.validate_every", 5, "args.py, valfreq"),
    ("trainer.validation_pairs", 1000, "args.py, medr"),
    ("trainer.precision", "fp32", "train.py"),
    ("optimizer.name", "adam", "train.py"),
    ("optimizer.lr", 1e-4, "args.py"),
    ("optimizer.weight_decay", 0.0, "train.py"),
    ("optimizer.clip", 0.0, "train.py"),
    ("optimizer.warmup", 0.0, "train.py"),
    ("optimizer.decay", "none", "train.py, but for the tenth at a turn"),
    ("trunk.schedule", "alternate", "train.py, freeVision and freeRecipe"),
    ("trunk.patience", 2, "args.py"),
    ("model.image.encoder", "resnet50", "args.py, preModel"),
    ("model.width", 1024, "args.py, embDim"),
    ("model.heads", 8, "trijoint.py, MultiHeadedAttention"),
    ("model.word_dim", 300, "args.py, ingrW2VDim"),
    ("model.sentence_dim", 1024, "args.py, stDim"),
    ("model.global_similarity", "dot", "trijoint.py"),
    ("model.global_weight", 0.2, "trijoint.py"),
    ("model.local_weight", 0.8, "trijoint.py"),
    ("model.text.max_ingredients", 20, "args.py, maxIngrs"),
    ("model.text.max_sentences", 20, "args.py, maxSeqlen"),
    ("model.text.title", "none", "data_loader.py"),
    ("loss.on_score.name", "hinge", "trijoint.py"),
    ("loss.on_score.margin", 0.2, "trijoint.py"),
    ("loss.classification", 0.0, "train.py"),
    ("sampler.name", "shuffle", "train.py"),
]
ADAMINE_NUMBERS: list[tuple[str, Any, str]] = [
    ("trainer.epochs", 80, ABSTRACT),
    ("trainer.batch_size", 100, ABSTRACT),
    ("trainer.validate_every", 1, ABSTRACT),
    ("trainer.validation_pairs", 1000, f"{ABSTRACT}, nb_matchs_per_bag"),
    ("optimizer.name", "adam", "optimizers/trijoint.py"),
    ("optimizer.lr", 1e-4, ABSTRACT),
    ("optimizer.clip", 8.0, ABSTRACT),
    ("optimizer.weight_decay", 0.0, "optimizers/trijoint.py"),
    ("optimizer.warmup", 0.0, ABSTRACT),
    ("optimizer.decay", "none", ABSTRACT),
    ("trunk.schedule", "freeze-then-tune", "optimizers/trijoint.py"),
    ("trunk.switch_epoch", 20, ABSTRACT),
    ("model.image.encoder", "resnet50", "models/networks/trijoint.py"),
    ("model.width", 1024, f"{ABSTRACT}, dim_emb"),
    ("model.ingredient_width", 300, f"{ABSTRACT}, dim_ingr_out"),
    ("model.sentence_dim", 1024, f"{ABSTRACT}, dim_instr_in"),
    ("model.global_similarity", "cosine", f"{ABSTRACT}, activations"),
    ("loss.on_global.name", "triplets", ADAMINE),
    ("loss.on_global.margin", 0.3, ADAMINE),
    ("loss.on_global.negatives", "all", f"{ADAMINE}, nb_samples"),
    ("loss.on_global.aggregation", "valid", ADAMINE),
    ("loss.on_global.strategies.irr", 1.0, ADAMINE),
    ("loss.on_global.strategies.rii", 1.0, ADAMINE),
    ("loss.on_global.strategies.sirr", 0.1, ADAMINE),
    ("loss.on_global.strategies.srii", 0.1, ADAMINE),
    ("sampler.name", "class-pairs", ABSTRACT),
    ("sampler.labelled", 0.5, SAMPLER),
]
OTHERS: dict[str, list[tuple[str, Any, str]]] = {
    "adamine-avg": [("loss.on_global.aggregation", "mean", "options/avg.yaml")],
    "vse": [
        ("loss.on_global.aggregation", "mean", "options/avg_nosem.yaml"),
        ("loss.on_global.strategies.irr", 1.0, "options/avg_nosem.yaml"),
        ("loss.on_global.strategies.rii", 1.0, "options/avg_nosem.yaml"),
    ],
    "vse-plus-plus": [("loss.on_global.negatives", "hardest", "options/max.yaml")],
    "semi-hard": [("loss.on_global.negatives", "semi_hard", "options/semi_hard.yaml")],
    "lifted": [("loss.on_global.name", "lifted", "options/lifted_struct.yaml")],
    "pwc": [
        ("loss.on_global.mismatch", 0.8, "options/pairwise.yaml, freq_mismatch"),
        ("loss.on_global.negative_margin", 0.9, "options/pairwise.yaml: 1 - margin"),
        ("loss.classification", 0.01, "options/pairwise.yaml, weight_classif"),
    ],
    "pwc-plus-plus": [
        ("loss.on_global.positive_margin", 0.3, "options/pairwise_plus.yaml"),
        ("loss.on_global.negative_margin", 0.9, "options/pairwise_plus.yaml"),
        ("loss.classification", 0.01, "options/pairwise_plus.yaml, weight_classif"),
    ],
}
TRAINING_PAIRS = 238_408
"""Of Recipe1M, by the published lists of ids."""
SHARED = ("trainer.epochs", "trainer.batch_size", "optimizer.lr", "optimizer.clip", "trunk.")


@pytest.mark.parametrize(
    ("preset", "numbers"),
    [("hf-icma", HF_ICMA), ("adamine", ADAMINE_NUMBERS), *OTHERS.items()],
    ids=["hf-icma", "adamine", *OTHERS],
)
def test_a_preset_has_the_published_numbers(
    preset: str, numbers: list[tuple[str, Any, str]]
) -> None:
    """A figure that does not come out as published would be the preset's fault, not the data's."""
    options = flatten(to_tree(load_options(preset)))
    for name, value, source in numbers:
        assert options[name] == value, f"{name}: {source}"
    if preset in OTHERS:  # their schedule is AdaMine's
        adamine = flatten(to_tree(load_options("adamine")))
        names = [name for name in adamine if name.startswith(SHARED)]
        assert {name: options[name] for name in names} == {name: adamine[name] for name in names}


def run(schedule: ImageEncoderSchedule, scores: dict[int, float], epochs: int) -> list[str]:
    """What is trained in each epoch, and the share of the learning rate that it takes."""
    course = []
    for epoch in range(1, epochs + 1):
        schedule.begin(epoch)
        parts = "image" * schedule.image_encoder + "rest" * schedule.rest
        course.append(f"{parts} {schedule.rate:g}")
        if epoch in scores:
            schedule.observe(scores[epoch])
    return course


def test_hf_icma_takes_turns_and_lowers_its_learning_rate_as_published() -> None:
    """train.py: patience 2, then 4, and a tenth where a turn ends in epoch 25 or 50.

    The best score comes in epoch 15; validations of 20 and 25 bring no better one.
    """
    options = load_options("hf-icma")
    scores = {epoch: float(min(epoch, 15)) for epoch in range(5, 61, 5)}
    course = run(ImageEncoderSchedule(options.trunk), scores, options.trainer.epochs)
    assert LATER_PATIENCE == 4
    expected = ["rest 1"] * 25 + ["image 0.1"] * 20 + ["rest 0.1"] * 15
    assert course == expected


def test_a_turn_in_another_epoch_keeps_the_learning_rate() -> None:
    schedule = ImageEncoderSchedule(ImageEncoderOptions(schedule="alternate"))
    course = run(schedule, {epoch: float(min(epoch, 5)) for epoch in range(5, 61, 5)}, 60)
    assert course[14:16] == ["rest 1", "image 1"]
    again = ImageEncoderSchedule(ImageEncoderOptions(schedule="alternate"))
    again.load_state(schedule.state())
    assert again.state() == schedule.state()


def test_adamine_trains_its_image_encoder_from_epoch_21_on() -> None:
    """optimizers/trijoint.py, switch_epoch: 20 epochs of the rest alone, then 60 of both."""
    options = load_options("adamine")
    course = run(ImageEncoderSchedule(options.trunk), {}, options.trainer.epochs)
    assert course == ["rest 1"] * 20 + ["imagerest 1"] * 60


def test_the_hours_of_the_page_follow_from_presets_and_rates() -> None:
    """docs/howto/recipe1m.md: who books a GPU by it must not find that the preset has changed."""
    page = (Path(__file__).parents[3] / "docs/howto/recipe1m.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| (\d+) \| (\d+) \| ([\d.]+) \|$", page, re.MULTILINE)
    assert len(rows) == 3
    for preset, epochs, rate, hours in rows:
        assert int(epochs) == load_options(preset).trainer.epochs
        assert f"{int(epochs) * TRAINING_PAIRS / int(rate) / 3600:.1f}" == hours
