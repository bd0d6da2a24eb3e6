"""Makes runs: losses, samplers, the loop, curves, comparison, presets."""

from hficma.training.comparison import Comparison, compare
from hficma.training.evaluation import Evaluation, evaluate
from hficma.training.extraction import extract
from hficma.training.launch import train
from hficma.training.options import load_options, presets
from hficma.training.progress import Progress

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
