"""An S3 of this machine, in a process of its own."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def s3_server(bucket: str) -> Iterator[str]:
    """Run it with one bucket; the environment names it to whoever looks for a store.

    Yields:
        the bucket's URL.
    """
    fsspec = pytest.importorskip("fsspec", reason="needs the extra [cluster]")
    pytest.importorskip("s3fs", reason="needs the extra [dev]")
    pytest.importorskip("moto", reason="needs the extra [dev]")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (
            ("AWS_ENDPOINT_URL", address), ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"), ("AWS_DEFAULT_REGION", "us-east-1"),
        ):  # fmt: skip
            patch.setenv(name, value)
        try:
            _await(address)
            fsspec.filesystem("s3", skip_instance_cache=True).mkdir(bucket)
            yield f"s3://{bucket}"
        finally:
            server.terminate()
            server.wait()


def _await(address: str) -> None:
    """Wait until the server answers."""
    end = time.monotonic() + 60
    while True:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(address, timeout=1).close()
            return
        assert time.monotonic() < end, "no S3 server"
        time.sleep(0.1)
