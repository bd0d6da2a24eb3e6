"""Options: presets, includes, overrides, and what a mistake is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest

from hficma.errors import InputError
from hficma.training.config.option_files import flatten, load_options, presets
from hficma.training.config.option_values import parse_options, to_tree
from hficma.training.losses.retrieval_losses import Hinge, InfoNCE, Triplets


@pytest.mark.parametrize("preset", presets())
def test_every_preset_reads_and_survives_a_round_trip(preset: str) -> None:
    options = load_options(preset)
    assert parse_options(to_tree(options)) == options


def test_there_is_a_preset_for_every_published_row() -> None:
    published = {
        "hf-icma", "hf-icma-small", "adamine", "adamine-avg", "vse", "vse-plus-plus",
        "semi-hard", "lifted", "pwc", "pwc-plus-plus", "best", "demo",
    }  # fmt: skip
    assert published <= set(presets())


def test_an_override_beats_the_preset() -> None:
    options = load_options("hf-icma", ["optimizer.lr=3e-4", "trainer.epochs=1", "loss.block=8"])
    assert options.optimizer.lr == 3e-4
    assert options.trainer.epochs == 1
    assert options.loss.block == 8
    assert options.loss.on_score == Hinge(margin=0.2), "what was not overridden stays"


def test_an_older_name_of_an_option_is_read_with_a_notice(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Presets and commands of earlier releases must not become wrong, nor silently out of date."""
    options = load_options("hf-icma", ["model.backbone=mobilenet_v2"])
    assert options == load_options("hf-icma", ["model.image.encoder=mobilenet_v2"])
    assert caplog.text.count("model.image.encoder now") == 1
    tree = to_tree(options)
    tree["model"]["backbone"] = tree["model"].pop("image")["encoder"]
    assert parse_options(tree) == options, "options that a run recorded"


def test_a_loss_of_another_name_replaces_the_old_one_whole() -> None:
    """Merged field by field, the hinge's margin would be an unknown option of InfoNCE."""
    options = load_options("hf-icma", ["loss.on_score.name=infonce"])
    assert options.loss.on_score == InfoNCE()
    options = load_options("hf-icma", ["loss.on_score=null", "loss.on_global={name: triplets}"])
    assert options.loss.on_score is None
    assert options.loss.on_global == Triplets()


def test_a_file_includes_a_preset_and_a_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("include: hf-icma\ntrainer: {seed: 7}\n")
    (tmp_path / "own.yaml").write_text("include: [base.yaml]\noptimizer: {lr: 1e-2}\n")
    options = load_options(str(tmp_path / "own.yaml"))
    assert (options.trainer.seed, options.optimizer.lr, options.model.width) == (7, 1e-2, 1024)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.lrr=1", "did you mean lr"),
        ("optimiser.lr=1", "did you mean optimizer"),
        ("optimizer.lr=fast", "must be a number"),
        ("trainer.epochs=1.5", "must be a whole number"),
        ("trainer.precision=fp61", "did you mean fp16"),
        ("trunk=3", "is a section"),
        ("model.heads=3", "not divisible"),
        ("loss.on_score.name=hinges", "did you mean hinge"),
        ("loss.on_global={name: triplets, strategies: {irx: 1}}", "strategies must be some of"),
        ("epochs", "section.name=value"),
    ],
)
def test_a_mistake_is_named_with_the_nearest_real_name(override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_options("hf-icma", [override])


def test_an_unknown_preset_and_a_file_that_includes_itself_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean hf-icma"):
        load_options("hficma")
    (tmp_path / "a.yaml").write_text("include: a.yaml\n")
    with pytest.raises(InputError, match="includes itself"):
        load_options(str(tmp_path / "a.yaml"))


def test_flatten_names_every_leaf() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": 2}}, "e": 3}) == {"a.b": 1, "a.c.d": 2, "e": 3}
