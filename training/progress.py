"""What a training run tells whoever started it: see `hficma.progress`."""

from hficma.progress import Progress

__all__ = ["Progress"]
