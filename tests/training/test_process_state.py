"""A library call leaves the process as it was: its threads, its products, its random state."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hficma.benchmarks.common.timing import torch_threads
from hficma.cli.process_settings import quiet_exporter
from hficma.engine.bundle.bundle import Bundle
from hficma.engine.gpu.gpu_index import require_full_float32
from hficma.engine.runtimes.options import ExecutionOptions
from hficma.errors import InputError
from tests.engine.factories import tiny_bundle


def state() -> tuple[object, ...]:
    """Everything of the process that some library function once changed."""
    return (
        torch.get_num_threads(),
        torch.get_float32_matmul_precision(),
        torch.get_rng_state().numpy().tobytes(),
        # Packages filter warnings of their own when they are imported; nobody else's.
        [one for one in warnings.filters if one[2] is Warning and not one[1] and not one[3]],
        logging.getLogger("torch.onnx").level,
    )


def test_training_leaves_the_process_as_it_was(trained: Callable[..., Path]) -> None:
    """A server that imports this would find its random numbers repeated, its threads fewer."""
    before = state()
    trained("process-state", "trainer.epochs=1", "loss.classification=0.1")
    assert state() == before


def test_opening_a_bundle_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    """The torch runtime was asked for seven threads, and gave them to everybody."""
    path, random = tiny_bundle(tmp_path), torch.get_rng_state()
    before = state()
    bundle = Bundle.open(path, ExecutionOptions(runtime="torch", threads=7))
    assert bundle.runtime("image").describe().runtime == "torch"
    torch.set_rng_state(random)
    assert state()[:2] == before[:2]
    assert state()[3:] == before[3:]


def test_what_commands_switch_is_switched_back() -> None:
    before = state()
    with torch_threads(3), quiet_exporter():
        assert torch.get_num_threads() == 3
        assert state() != before
    assert state() == before


def test_shortened_products_are_refused_and_not_switched_off() -> None:
    """TF32 is off by a thousand times what the bounds of a proved answer allow."""
    require_full_float32()
    torch.set_float32_matmul_precision("medium")
    try:
        with pytest.raises(InputError, match=r"'medium'.*highest"):
            require_full_float32()
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_a_bundle_made_anew_under_its_name_is_not_run_with_its_old_weights(tmp_path: Path) -> None:
    """The torch runtime keeps models by path; what is there may have changed."""
    import shutil

    def photo_of(bundle: Path) -> bytes:
        opened = Bundle.open(bundle, ExecutionOptions(runtime="torch"))
        photos = torch.full((1, 224, 224, 3), 99, dtype=torch.uint8).numpy()
        return opened.run("image", {"photos": photos})["global"].tobytes()

    first = tiny_bundle(tmp_path / "a")
    place = tmp_path / "here"
    shutil.copytree(first, place)
    before = photo_of(place)
    shutil.rmtree(place)
    shutil.copytree(tiny_bundle(tmp_path / "b", seed=1), place)
    assert photo_of(place) != before
