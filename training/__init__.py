"""Makes runs: losses, samplers, the loop, curves, comparison, presets.

Names are loaded when first used: the command line lists its commands without importing torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hficma.progress import Progress

if TYPE_CHECKING:
    from hficma.training.comparison import Comparison, compare
    from hficma.training.evaluation import Evaluation, evaluate
    from hficma.training.extraction import extract
    from hficma.training.launch import train
    from hficma.training.options import load_options, presets

__all__ = [
    "Comparison",
    "Evaluation",
    "Progress",
    "compare",
    "evaluate",
    "extract",
    "load_options",
    "presets",
    "train",
]

_HOMES = {
    "Comparison": "comparison",
    "compare": "comparison",
    "Evaluation": "evaluation",
    "evaluate": "evaluation",
    "extract": "extraction",
    "train": "launch",
    "load_options": "options",
    "presets": "options",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'hficma.training' has no attribute {name!r}")
    return getattr(importlib.import_module(f"hficma.training.{_HOMES[name]}"), name)
