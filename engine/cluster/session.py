"""Connecting to Ray: once in a process, however many engines are open on it."""

from __future__ import annotations

import logging
import os
import secrets
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hficma.errors import InputError, MissingDependencyError

from ..runtimes.options import processors
from .options import LOCAL, ClusterOptions

LOCAL_STORE_BYTES = 512 << 20
"""Shared memory of a local Ray: queries pass through it, never items."""
AUTHENTICATION = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
"""Environment variables by which whoever runs a cluster says who may reach it."""

_lock = threading.Lock()
_users = 0
"""Engines and builds that use the connection that this process made."""


@contextmanager
def connected(options: ClusterOptions) -> Iterator[Any]:
    """Hold a connection to Ray for a block.

    A process has one connection. Where a program has made its own, that one is used and stays;
    else the first user connects, and the last one disconnects.

    Args:
        options: say where Ray runs.

    Yields:
        the module `ray`, connected.

    Raises:
        InputError: no Ray answers at the address.
        MissingDependencyError: Ray is not installed.
    """
    global _users
    ray = import_ray()
    with _lock:
        if _users or not ray.is_initialized():
            if not _users:
                _connect(ray, options)
            _users += 1
            mine = True
        else:
            mine = False
    try:
        yield ray
    finally:
        if mine:
            with _lock:
                _users -= 1
                if not _users:
                    _disconnect(ray)


def import_ray() -> Any:
    """Import Ray, which is told to send no statistics of its use.

    Raises:
        MissingDependencyError: it is not installed.
    """
    # Read when Ray is imported and by the processes that it starts.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray would hide the GPUs from an actor that asks for none, by a variable that torch reads.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise MissingDependencyError("ray", "cluster", "working over Ray") from error
    return ray


_folder: tempfile.TemporaryDirectory[str] | None = None
"""Where the sockets and logs of a local Ray lie while it runs."""


def _connect(ray: Any, options: ClusterOptions) -> None:
    """Connect this process to Ray, or start one for it."""
    global _folder
    common = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    if options.address != LOCAL:
        try:
            ray.init(address=options.address, **common)
        # Ray raises errors of a dozen kinds here, its own and the system's.
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise InputError(f"{options.address}: no Ray answers there ({reason})") from error
        return
    _set_token()
    # Its path is short: Ray makes sockets far below it, whose names have 107 bytes at most.
    _folder = tempfile.TemporaryDirectory(prefix="hficma-ray-", ignore_cleanup_errors=True)
    try:
        ray.init(
            address="local",
            # At least as many as Ray Data needs beside an actor, on a machine of one processor.
            num_cpus=max(2, processors()),
            include_dashboard=False,
            object_store_memory=LOCAL_STORE_BYTES,
            _temp_dir=_folder.name,
            **common,
        )
    except BaseException:
        _disconnect(ray)
        raise


def _set_token() -> None:
    """Give a local Ray a token of this process's, where the environment says nothing of any.

    By default Ray would write one into the user's home, by which it starts to ask for one in other
    clusters of this user.
    """
    if not any(name in os.environ for name in AUTHENTICATION):
        # Ray itself says then that tokens are asked for. The same for every local Ray of this
        # process, which remembers it.
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _disconnect(ray: Any) -> None:
    """End the connection, and what was started with it."""
    global _folder
    ray.shutdown()
    if _folder is not None:
        _folder.cleanup()
        _folder = None
