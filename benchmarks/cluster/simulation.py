"""What a search over many machines costs, drawn from the times of one shard.

A search waits twice for the slowest of its actors:

    encode ─▶ max over actors (scan of n items) ─▶ merge ─▶ max over actors (scores of its items)
              each + a round trip, some of them late

The median of a scan grows with the items that an actor holds, that of scores with the candidates
that fall to it; what a repetition took beyond its median is the machine's noise, drawn as it was. A
call is late with a small chance, by a factor: a page that is not in memory, a neighbour. Machines
are assumed to be as fast as the one that was measured, a core an actor, and the network not to be
the limit, whose bytes stand beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hficma.types import Floats64


@dataclass(frozen=True, kw_only=True)
class MeasuredTimes:
    """What was measured of one shard and of the head, on one core."""

    items: int
    """Items of the shard that was scanned."""
    candidates: int
    """Items that were scored."""
    scan_ms: Floats64
    """Of each repetition, the shard's first stage."""
    score_ms: Floats64
    """Of each repetition, the scores of the candidates."""
    head_ms: Floats64
    """Of each repetition, the head's own work: decoding, encoding, merging, records."""
    trip_ms: Floats64
    """Of each repetition, a question to an actor that answers at once."""
    item_bytes: float
    """Bytes of an item in the index."""
    query_bytes: int
    """Bytes of a query with its tables, which every actor with a candidate gets."""
    vector_bytes: int
    """Bytes of a query's global vector."""


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """What is assumed of machines that are not there."""

    machine_gb: float = 64.0
    """Memory of a machine for the index: it must lie in memory to be fast."""
    cores: int = 16
    """Actors of a machine, a core each."""
    late_chance: float = 0.01
    """Chance that an actor's call is late."""
    late_factor: float = 10.0
    """How many times longer a late call takes."""
    draws: int = 4000
    """Searches that are simulated."""


class SimulatedSearch(NamedTuple):
    """A search of an index of one size."""

    items: int
    """Of the index."""
    gigabytes: float
    """Of its files."""
    machines: int
    """That hold it."""
    actors: int
    """That answer."""
    network_kb: float
    """Bytes that a search sends and receives, in kilobytes."""
    p50_ms: float
    """Median."""
    p99_ms: float
    """Ninety-ninth percentile."""


def simulate(
    items: int, measured: MeasuredTimes, assumed: Assumptions, *, actors: int | None = None
) -> SimulatedSearch:
    """Simulate searches of an index.

    Args:
        items: N, of the index.
        measured: on one core.
        assumed: of the machines.
        actors: that hold it; None takes as many machines as its bytes need, all their cores.
    """
    gigabytes = items * measured.item_bytes / 1e9
    machines = max(1, math.ceil(gigabytes / assumed.machine_gb))
    if actors is None:
        actors = machines * assumed.cores
    rng = np.random.default_rng(0)
    shape = assumed.draws, actors

    def slowest(times: Floats64, share: Floats64 | float) -> Floats64:
        """Return how long each search waits for its slowest actor, (draws,).

        Args:
            times: as measured.
            share: of that work that falls to an actor, (draws, actors) or one for all.
        """
        late = np.where(rng.random(shape) < assumed.late_chance, assumed.late_factor, 1.0)
        median = float(np.median(times))
        noise = rng.choice(np.maximum(times - median, 0.0), shape)
        work = median * share * late + noise + rng.choice(measured.trip_ms, shape)
        # Whoever has nothing to do is not asked.
        longest: Floats64 = np.where(np.asarray(share) > 0, work, 0.0).max(axis=1)
        return longest

    scan = slowest(measured.scan_ms, items / actors / measured.items)
    # Each candidate lies at any actor: the fullest one has some more than its share.
    fallen = rng.multinomial(measured.candidates, np.full(actors, 1 / actors), assumed.draws)
    score = slowest(measured.score_ms, fallen / measured.candidates)
    total = rng.choice(measured.head_ms, assumed.draws) + scan + score
    asked = float((fallen > 0).sum(axis=1).mean())
    # Vector out, position and score of the best K + 1 back; the query and positions out to those
    # that hold a candidate, three float64 an item back.
    network: float = actors * (measured.vector_bytes + 12 * (measured.candidates + 1))
    network += asked * measured.query_bytes + measured.candidates * (8 + 24)
    return SimulatedSearch(
        items, gigabytes, machines, actors, network / 1e3,
        *(float(np.percentile(total, part)) for part in (50, 99)),
    )  # fmt: skip
