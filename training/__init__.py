"""Makes runs: losses, samplers, the loop, curves, comparison, presets.

Names are loaded when first used: the command line lists its commands without importing torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hficma.on_demand import on_demand
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

__getattr__ = on_demand(
    __name__,
    {
        "Comparison": ".comparison",
        "compare": ".comparison",
        "Evaluation": ".evaluation",
        "evaluate": ".evaluation",
        "extract": ".extraction",
        "train": ".launch",
        "load_options": ".options",
        "presets": ".options",
    },
)
