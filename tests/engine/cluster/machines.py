"""Several machines on this one: the processes of Ray's own cluster for tests."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
from typing import Any

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

        # Not the default folder, which would grow with every run of the tests.
        self._folder = tempfile.TemporaryDirectory(prefix="hf-ray-", ignore_cleanup_errors=True)
        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 2, "include_dashboard": False, "object_store_memory": STORE_BYTES,
                "temp_dir": self._folder.name,
            },
        )  # fmt: skip
        self.others = [self.add() for _ in range(count - 1)]
        self.address: str = self._cluster.address
        self.ray.init(address=self.address, log_to_driver=False, logging_level=logging.ERROR)

    def add(self) -> Any:
        """Add a machine and return it."""
        return self._cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)

    def remove(self, machine: Any) -> None:
        """Kill a machine, and all that runs on it."""
        self._cluster.remove_node(machine, allow_graceful=False)

    def close(self) -> None:
        """End every process."""
        self.ray.shutdown()
        self._cluster.shutdown()
        self._folder.cleanup()


def kill(process: int) -> None:
    """Kill a process as the system does where memory is short."""
    os.kill(process, signal.SIGKILL)
