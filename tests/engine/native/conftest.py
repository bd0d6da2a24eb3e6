"""The kernels, compiled into their place where the checkout has none, or older ones."""

from __future__ import annotations

import pytest

from hficma.engine.native import build


@pytest.fixture(scope="session", autouse=True)
def library() -> None:
    """Tests of kernels need them compiled; without a compiler there are none."""
    try:
        build.build()
    except build.BuildError as error:
        pytest.skip(f"no kernels: {error}")
