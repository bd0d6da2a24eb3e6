"""Where no GPU is, the kernels' programs run one after the other on the processor.

Triton decides so once in a process, when it is first imported.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

import torch

collect_ignore_glob: list[str] = []
if find_spec("triton") is None:  # it exists for Linux alone
    collect_ignore_glob.append("test_*.py")
elif not torch.cuda.is_available():
    assert os.environ.get("TRITON_INTERPRET") == "1" or "triton" not in sys.modules
    os.environ["TRITON_INTERPRET"] = "1"


def pytest_report_header() -> str | None:
    """Say what is left out."""
    return "triton is missing: without the GPU's kernels" if collect_ignore_glob else None
