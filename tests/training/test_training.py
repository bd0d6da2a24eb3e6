"""Whole runs on a small sample: every preset, reproducible, resumable, killed at any moment."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from hficma.artifacts.manifest import read_manifest
from hficma.artifacts.workspace import Workspace
from hficma.errors import ArtifactError, InputError
from hficma.model import Model, load_model
from hficma.model.encoders.image.features import ImageFeatures
from hficma.training import load_options, presets, train
from hficma.training.runs.log import read_log

Trained = Callable[..., Path]


def weights_of(run: Path) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = load_file(
        run / read_manifest(run, kind="run").facts["last"]["file"]
    )
    return weights


def same_bits(first: Path, second: Path) -> bool:
    one, other = weights_of(first), weights_of(second)
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("preset", presets())
def test_every_preset_trains(preset: str, trained: Trained) -> None:
    """A preset that cannot take a step, or whose loss is no number, is a broken promise."""
    run = trained(f"preset-{preset}", "trainer.epochs=1", preset=preset)
    (epoch,) = [record for record in read_log(run) if record["kind"] == "epoch"]
    assert epoch["train"]["loss"] == pytest.approx(epoch["train"]["loss"], abs=1e6)
    options = load_options(preset)
    if options.trainer.validation_pairs:
        assert {"image_to_recipe", "recipe_to_image", "recall_sum"} <= epoch["validation"].keys()
    assert load_model(run).config.kind == options.model.kind


@pytest.mark.parametrize("preset", ["best", "hf-icma", "adamine", "dual-encoder"])
def test_an_image_encoder_that_begins_at_random_weights_and_is_not_trained_is_refused(
    preset: str, tmp_path: Path
) -> None:
    """It trained for minutes on regions that show nothing, and ended as if all were well."""
    space = Workspace(tmp_path)
    with pytest.raises(InputError, match=r"trunk.weights=\w+_imagenet.safetensors") as error:
        train(preset, data="sample:100", run=tmp_path / "run", workspace=space)
    assert "\n" not in str(error.value)
    assert "save_file(get_model(" in str(error.value)
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"
    with pytest.raises(InputError, match=r"tiny .* trunk.schedule=tuned"):
        train(preset, ["model.backbone=tiny"], data="sample:100", workspace=space)


def test_the_same_seed_gives_the_same_bits(reference: Path, trained: Trained) -> None:
    again = trained("again", "trainer.epochs=4", "trainer.average=0.9")
    assert same_bits(reference, again)
    other = trained("other", "trainer.epochs=1", "trainer.seed=5")
    assert not torch.equal(
        weights_of(other)["recipe_global.linear.weight"],
        weights_of(reference)["recipe_global.linear.weight"],
    )


def test_the_loss_falls(reference: Path) -> None:
    losses = [r["train"]["loss"] for r in read_log(reference) if r["kind"] == "epoch"]
    assert losses[-1] < losses[0]


def test_the_first_epoch_can_be_the_best(trained: Trained) -> None:
    """The published logger never saves at the first epoch."""
    run = trained("first", "trainer.epochs=1")
    assert read_manifest(run, kind="run").facts["best"]["epoch"] == 1


def test_a_run_killed_ten_times_ends_at_the_same_bits(
    reference: Path, trained: Trained, workspace: Workspace
) -> None:
    """Whatever is being written when the kill comes: weights, manifest, log or nothing."""
    path = workspace.home / "runs" / "killed"
    draw = random.Random(0)
    context = multiprocessing.get_context("fork")

    def go_on() -> None:
        torch.set_num_threads(1)
        if path.exists():
            train(run=path, resume=True, workspace=workspace)
        else:
            trained("killed", "trainer.epochs=4", "trainer.average=0.9")

    started = time.monotonic()
    process = context.Process(target=go_on)
    process.start()
    process.join()
    whole = time.monotonic() - started
    shutil.rmtree(path)
    kills = 0
    while kills < 10:
        process = context.Process(target=go_on)
        process.start()
        process.join(timeout=draw.uniform(0.1, whole / 3))
        if process.exitcode is None:
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            process.join()
        elif path.exists():
            shutil.rmtree(path)  # it finished: begin anew until ten kills are done
        kills += 1
    process = context.Process(target=go_on)
    process.start()
    process.join()
    assert process.exitcode == 0
    assert same_bits(reference, path)
    epochs = [record["epoch"] for record in read_log(path) if record["kind"] == "epoch"]
    assert epochs == [1, 2, 3, 4], "the log repeats or misses an epoch"
    files = {f"checkpoints/{file.name}" for file in (path / "checkpoints").iterdir()}
    assert files <= set(read_manifest(path, kind="run").files), "a kill left files behind"


def test_without_validation_its_pairs_are_trained_on(reference: Path, trained: Trained) -> None:
    """Options chosen by folds need none, and a tenth more pairs are worth points."""
    run = trained("unvalidated", "trainer.validation_pairs=0", "trainer.keep=last")
    facts, before = (read_manifest(path, kind="run").facts for path in (run, reference))
    assert before["validation_pairs"] > 0
    assert facts["validation_pairs"] == 0
    assert facts["training_pairs"] == before["training_pairs"] + before["validation_pairs"]
    assert not any("validation" in record for record in read_log(run))
    assert facts["best"]["epoch"] == facts["last"]["epoch"] == 2
    load_model(run)
    with pytest.raises(InputError, match="keep=last"):
        trained("unvalidated-best", "trainer.validation_pairs=0", "trainer.keep=best")
    with pytest.raises(InputError, match="alternate"):
        trained(
            "unvalidated-turns",
            "trainer.validation_pairs=0",
            "trainer.keep=last",
            "trunk.schedule=alternate",
        )


def test_an_existing_run_is_not_touched(reference: Path, trained: Trained) -> None:
    before = (reference / "manifest.json").read_bytes()
    with pytest.raises(ArtifactError, match="exists already"):
        trained("reference")
    assert (reference / "manifest.json").read_bytes() == before


def test_resuming_can_add_epochs_and_change_nothing_else(
    trained: Trained, workspace: Workspace
) -> None:
    run = trained("more", "trainer.epochs=1")
    with pytest.raises(InputError, match="cannot change"):
        train(run=run, overrides=["optimizer.lr=1"], resume=True, workspace=workspace)
    train(run=run, overrides=["trainer.epochs=2"], resume=True, workspace=workspace)
    assert read_manifest(run, kind="run").facts["last"]["epoch"] == 2


def test_a_frozen_image_encoder_keeps_its_weights_and_its_batchnorm(trained: Trained) -> None:
    """The published code lets BatchNorm statistics drift while the image encoder is frozen."""
    one = weights_of(trained("frozen-1", "trainer.epochs=1"))
    two = weights_of(trained("frozen-2", "trainer.epochs=2"))
    trunk = [name for name in one if name.startswith("trunk.")]
    assert trunk
    assert all(torch.equal(one[name], two[name]) for name in trunk)


def test_the_first_epochs_show_small_photos_and_the_last_ones_whole(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image encoder that never sees the size of evaluation scores it badly."""
    seen: list[int] = []
    image_features = Model.image_features

    def watched(model: Model, photos: Tensor) -> ImageFeatures:
        if model.trunk.training:
            seen.append(photos.shape[1])
        return image_features(model, photos)

    monkeypatch.setattr(Model, "image_features", watched)
    trained("small", "trunk.schedule=tuned", "photos.small=0.5", "trainer.epochs=3")
    steps = len(seen) // 3
    assert seen == [112] * steps + [224] * 2 * steps


@pytest.mark.parametrize("schedule", ["tuned", "alternate", "freeze-then-tune"])
def test_schedules_train_the_image_encoder_when_they_say(schedule: str, trained: Trained) -> None:
    run = trained(
        f"schedule-{schedule}",
        f"trunk.schedule={schedule}",
        "trunk.switch_epoch=1",
        "trunk.patience=0",
        "trainer.epochs=2",
    )
    trained_in = [r["trunk_trained"] for r in read_log(run) if r["kind"] == "epoch"]
    assert trained_in[1] == 1 or schedule == "alternate"
    assert trained_in[0] == (1 if schedule == "tuned" else 0)


def test_options_environment_and_curves_are_in_the_run(reference: Path) -> None:
    options = json.loads((reference / "options.json").read_text())
    assert options["trainer"]["epochs"] == 4
    environment = json.loads((reference / "environment.json").read_text())
    assert environment["packages"]["torch"]
    assert not {"PATH", "HOME"} & environment.keys(), "environment variables leak secrets"
    page = (reference / "curves.html").read_text()
    assert "photo to recipe: medR" in page
    assert "<script" not in page
    assert "src=" not in page
    assert list((reference / "events").iterdir())


def test_a_run_without_the_plotting_library_is_whole_but_for_its_curves(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Hours of training must not end as a failure because a picture cannot be drawn."""
    find = importlib.util.find_spec

    def absent(name: str) -> object:
        return None if name == "matplotlib" else find(name)

    monkeypatch.setattr(importlib.util, "find_spec", absent)
    run = trained("no-curves", "trainer.epochs=1")
    load_model(run)
    assert not (run / "curves.html").exists()
    assert "hficma[train]" in caplog.text


def test_fewer_than_two_pairs_is_an_error_that_says_so(tmp_path: Path) -> None:
    file = tmp_path / "recipes.jsonl"
    file.write_text('{"title": "soup", "ingredients": ["water"]}\n')
    with pytest.raises(InputError, match="training pairs"):
        train(data=str(file), workspace=Workspace(tmp_path / "home"))


def test_global_vectors_of_different_widths_are_an_error_that_says_what_to_give(
    trained: Trained,
) -> None:
    with pytest.raises(InputError, match="global_dim"):
        trained("widths", "model.global_dim=null")
