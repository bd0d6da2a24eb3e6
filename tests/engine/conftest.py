"""Bundles that tests of the engine share; never written to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.factories import tiny_bundle


@pytest.fixture(scope="session")
def hf_icma_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random HF-ICMA, with GRU sentences."""
    return tiny_bundle(tmp_path_factory.mktemp("bundles"), sentence="gru", sentence_dim=7)


@pytest.fixture(scope="session")
def adamine_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random AdaMine."""
    return tiny_bundle(tmp_path_factory.mktemp("bundles"), "adamine")
