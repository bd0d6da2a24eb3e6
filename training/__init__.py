"""Makes runs: losses, samplers, the loop, curves, comparison, presets."""

from hficma.progress import Progress
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
