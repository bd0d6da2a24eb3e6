"""What a training run tells whoever started it."""

from hficma.progress import Progress as Progress
