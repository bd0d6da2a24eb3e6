"""What can be said on one system of the others: which modules the project needs."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from hficma.untrusted import worker
from tests.packaging.test_install import PARTS, ROOT

MODULES = ("fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty")
"""What Python has on POSIX systems alone."""

IMPORT_ALL = f"""
import builtins, importlib, sys

real = builtins.__import__

def without_posix(name, globals=None, *rest):
    ours = (globals or {{}}).get("__name__", "").split(".")[0] == "hficma"
    if ours and name.split(".")[0] in {MODULES}:
        raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
    return real(name, globals, *rest)

builtins.__import__ = without_posix
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def module_names() -> list[str]:
    names = []
    for part in PARTS:
        for file in sorted((ROOT / part).rglob("*.py")):
            parts = list(file.relative_to(ROOT).with_suffix("").parts)
            whole = parts if part == "hficma" else ["hficma", *parts]
            names.append(".".join(whole[:-1] if whole[-1] == "__init__" else whole))
    return [name for name in names if not name.endswith("__main__")]


@pytest.mark.torch
def test_every_module_imports_where_there_are_no_posix_modules() -> None:
    """On Windows the command would end in a ModuleNotFoundError.

    The blocked modules are missing for the project alone: other packages take their own way there.
    """
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *module_names()],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_worker_without_limits_of_memory_works_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Windows has no such limit: whoever reads foreign files there must know."""
    worker._log_no_memory_limit.cache_clear()
    with (
        caplog.at_level(logging.WARNING, "hficma"),
        worker.Worker(modules=["tests.packaging.without_posix"]) as reader,
    ):
        assert reader.call(len, [1, 2], name="x") == 2
        assert reader.call(len, [1], name="x") == 1
    (record,) = caplog.records
    assert "holds no process to a limit of memory" in record.getMessage()


def test_a_worker_with_limits_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A warning at every import would be one that nobody reads."""
    if sys.platform != "linux":
        pytest.skip("only Linux holds a process to a limit of memory")
    worker._log_no_memory_limit.cache_clear()
    with caplog.at_level(logging.WARNING, "hficma"), worker.Worker() as reader:
        reader.call(len, [1], name="x")
    assert not caplog.records
