"""Trains models into runs: losses, samplers, optimizers, evaluation, curves, presets.

Names are loaded when first used: the command line lists its commands without importing torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hficma.lazy_names import on_demand
from hficma.progress import Progress

if TYPE_CHECKING:
    from .comparison import RunComparison, compare
    from .config.option_files import load_options, presets
    from .evaluation import evaluate
    from .evaluation_figures import Evaluation
    from .extraction import extract
    from .sureness.calibrate import calibrate
    from .training import train

__all__ = [
    "Evaluation",
    "Progress",
    "RunComparison",
    "calibrate",
    "compare",
    "evaluate",
    "extract",
    "load_options",
    "presets",
    "train",
]

__getattr__ = on_demand(
    __name__,
    {
        "RunComparison": ".comparison",
        "calibrate": ".sureness.calibrate",
        "compare": ".comparison",
        "Evaluation": ".evaluation_figures",
        "evaluate": ".evaluation",
        "extract": ".extraction",
        "train": ".training",
        "load_options": ".config.option_files",
        "presets": ".config.option_files",
    },
)
