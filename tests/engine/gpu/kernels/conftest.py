"""Leaves the kernels out, with a line that says why, where nothing can run them."""

from __future__ import annotations

import os
from importlib.util import find_spec

import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
REASON = ""
if find_spec("triton") is None:
    REASON = "triton is missing, which exists for Linux alone"
elif not INTERPRETED and not torch.cuda.is_available():
    REASON = "there is a GPU that torch does not see"

collect_ignore_glob = ["test_*.py"] if REASON else []


def pytest_report_header() -> str | None:
    """Say what is left out."""
    return f"without the GPU's kernels: {REASON}" if REASON else None
