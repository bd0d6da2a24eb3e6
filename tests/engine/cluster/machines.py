"""Several machines on this one: the processes of Ray's own cluster for tests."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

STORE_BYTES = 80 << 20
"""Shared memory of a machine: close to the least that Ray takes."""


class Machines:
    """A Ray cluster whose machines are processes of this one.

    Args:
        count: machines, one of which is the head.
    """

    def __init__(self, count: int = 3) -> None:
        from hficma.engine.cluster.session import import_ray

        self.ray = import_ray()
        from ray.cluster_utils import Cluster

        # Not the default folder, which would grow with every run of the tests, and which Ray takes
        # to be there. By the environment, so that `auto` finds these machines in every process.
        self._folder = Path(tempfile.mkdtemp(prefix="hf-ray-"))
        (self._folder / "ray").mkdir()
        self._environment = pytest.MonkeyPatch()
        self._environment.setenv("RAY_TMPDIR", str(self._folder))
        # Said, as it is for this process: else another that finds them by `auto` takes the token of
        # the home folder where there is one, and they know of none.
        self._environment.setenv("RAY_AUTH_MODE", "disabled")
        self._cluster = Cluster()
        try:
            self._cluster.add_node(
                num_cpus=2, include_dashboard=False, object_store_memory=STORE_BYTES
            )
            self.others = [self.add() for _ in range(count - 1)]
            self.address: str = self._cluster.address
            self.ray.init(address=self.address, log_to_driver=False, logging_level=logging.ERROR)
        except BaseException:
            # On a machine with too much to do Ray gives up, and leaves what it has started.
            self.close()
            raise

    def add(self, gpus: int = 0) -> Any:
        """Add a machine and return it; Ray believes how many GPUs it has."""
        return self._cluster.add_node(num_cpus=1, num_gpus=gpus, object_store_memory=STORE_BYTES)

    def remove(self, machine: Any) -> None:
        """Kill a machine, and all that runs on it."""
        self._cluster.remove_node(machine, allow_graceful=False)

    def close(self) -> None:
        """End every process, and remove what they wrote."""
        self.ray.shutdown()
        self._cluster.shutdown()
        self._environment.undo()
        # Processes that are ending write a last line of their logs meanwhile.
        end = time.monotonic() + 20
        while self._folder.exists() and time.monotonic() < end:
            shutil.rmtree(self._folder, ignore_errors=True)
            time.sleep(0.1)


def kill(process: int) -> None:
    """Kill a process as the system does where memory is short."""
    os.kill(process, signal.SIGKILL)
