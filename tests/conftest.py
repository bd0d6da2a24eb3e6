"""Where torch is not installed, what needs it is left out, by name.

Serving and data must work without torch. Whole folders that train, export or measure are named
here; a single test elsewhere that compares with the torch model says so where it imports it
(`pytest.importorskip`) or by the marker `torch`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

# Where no GPU is, Triton's interpreter runs the GPU's kernels. Triton asks once, when something in
# the process first imports it, which torch's exporter does: so before any other test.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")

NEED_TORCH = (
    "benchmarks",
    "cli/test_figures.py",
    "docs",
    "engine/gpu",
    "engine/test_text_bundles.py",
    "export",
    "model",
    "test_docs.py",
    "torture",
    "training",
)

collect_ignore = list(NEED_TORCH) if find_spec("torch") is None else []
if find_spec("fastapi") is None or find_spec("httpx") is None:
    collect_ignore.append("engine/serving")
if find_spec("triton") is None:  # it exists for Linux alone
    collect_ignore += ["engine/gpu/kernels", "benchmarks/kernels/test_gpu_kernels.py"]


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Fail a test that leaves logging changed: another one in the process would miss its lines."""
    before = _logging_state()
    yield
    assert _logging_state() == before


def _logging_state() -> tuple[object, ...]:
    """Return what decides which lines of the package's log arrive where."""
    log, root = logging.getLogger("hficma"), logging.getLogger()
    return (
        *(log.level, log.propagate, log.disabled, list(log.handlers)),
        *(root.level, root.disabled, root.manager.disable),
    )


def pytest_report_header() -> str | None:
    """Say what is left out."""
    if collect_ignore:
        return f"packages are missing: without tests/{{{','.join(collect_ignore)}}}"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked `torch`."""
    if find_spec("torch") is None:
        for item in items:
            if item.get_closest_marker("torch"):
                item.add_marker(
                    pytest.mark.skip(reason="trains or exports; torch is not installed")
                )
