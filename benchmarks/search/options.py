"""What `hficma bench` measures, and how long."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hficma.errors import InputError

SETUPS = {"1k": 1_000, "10k": 10_000}
FEWEST = 20
"""Items that are searched: with fewer there is nothing to tell."""


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """Options of one run; the defaults end within 5 minutes for 1k on two cores, 40 for 10k."""

    setup: str = "1k"
    """Items that are searched: `1k`, `10k` or a number."""
    bundle: Path | None = None
    """None takes the newest; where there is none, a small model is trained."""
    index: Path | None = None
    """Measure this index as it stands, whole, with its own bundle; queries are test items."""
    data: str | None = None
    """What `open_dataset` takes; None takes items like those that the bundle was trained on."""
    runtime: str = "auto"
    """What executes the branches."""
    precisions: tuple[str, ...] = ("fp32",)
    """Of the branches that encode queries; the first is measured stage by stage."""
    kinds: tuple[str, ...] = ("Flat/fp32", "SQ8/int8", "HNSW/fp16")
    """Prefilter and precision of the stored encodings; the first is measured stage by stage."""
    candidates: tuple[int, ...] = (10, 50, 100, 200, 500)
    """Numbers of items re-ranked."""
    concurrency: tuple[int, ...] = (1, 4, 16)
    """Numbers of clients at once."""
    device: str = "cpu"
    """`cpu` or `cuda[:N]`."""
    threads: int | None = None
    """None takes all processors."""
    exhaustive: bool = False
    """Also score every photo with every recipe, in blocks."""
    rounds: int = 5
    """Rounds that the repetitions are spread over."""
    queries: int | None = None
    """A round at most; None takes 20, or 40 above 1,000 items."""
    compared: int = 4
    """Queries a round that are re-ranked in every other way."""
    sweep_seconds: float | None = None
    """For recall against latency, about, or fewer queries are asked; None takes 60, or 480."""

    def __post_init__(self) -> None:
        """Refuse what cannot be measured.

        Raises:
            InputError: naming the option.
        """
        if self.setup not in SETUPS and not (self.setup.isdecimal() and int(self.setup) >= FEWEST):
            raise InputError(f"--setup {self.setup}: takes 1k, 10k or a number from {FEWEST}")
        if self.rounds < 2:
            raise InputError(f"--rounds {self.rounds}: must be at least 2; one tells no noise")
        for name in ("candidates", "concurrency", "precisions", "kinds"):
            if not getattr(self, name):
                raise InputError(f"--{name}: needs at least one")
        for name in ("candidates", "concurrency", "compared", "queries", "threads"):
            value = getattr(self, name)
            if value is not None and np.min(value) < 1:
                raise InputError(f"--{name}: must be at least 1")

    @property
    def items(self) -> int:
        """Items that are searched."""
        return SETUPS.get(self.setup) or int(self.setup)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; a path is its name alone, for reports are published."""
        record = dataclasses.asdict(self)
        return {k: v.name if isinstance(v, Path) else v for k, v in record.items()}
