"""A Ray cluster of three machines, all of them processes here, started once for the tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hficma.engine.cluster.options import ClusterOptions
from tests.engine.cluster.machines import Machines


@pytest.fixture(scope="session")
def machines() -> Iterator[Machines]:
    """Three machines; what they wrote and every process of theirs is gone afterwards."""
    pytest.importorskip("ray", reason="needs the extra [cluster]")
    cluster = Machines()
    try:
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def on_two_actors(machines: Machines) -> ClusterOptions:
    """Two actors on the three machines."""
    return ClusterOptions(address=machines.address, actors=2)
