"""What a cluster is told: where it is, and how an index is spread over it."""

from __future__ import annotations

from dataclasses import dataclass

from hficma.errors import InputError

LOCAL = "local"
"""In the place of an address: a Ray of this machine alone, which ends with the process."""
ANSWER_SECONDS = 60.0
"""Seconds after which a server that says nothing counts as gone: far more than a scan takes, and
less than Ray waits for a machine that was cut off."""


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """Where Ray runs, and how many actors hold an index there."""

    address: str = LOCAL
    """Of Ray's head, such as `10.0.0.1:6379`; `auto` finds one on this machine, `local` starts
    one that ends with the process."""
    actors: int | None = None
    """Actors, each of which holds or writes shards; None takes one for each machine, or for each
    share of the GPUs."""
    replicas: int = 1
    """Actors that hold each shard."""
    gpus: float = 0.0
    """GPUs of each actor: those with any run the engine on `cuda`."""
    answer_seconds: float = ANSWER_SECONDS
    """Seconds after which an actor that does not answer counts as gone, until it answers again."""

    def __post_init__(self) -> None:
        if self.actors is not None and self.actors < 1:
            raise InputError(f"actors is {self.actors}: must be at least 1")
        if self.replicas < 1:
            raise InputError(f"replicas is {self.replicas}: must be at least 1")
        if self.actors is not None and self.replicas > self.actors:
            raise InputError(
                f"{self.replicas} replicas of {self.actors} actors: each holds a shard once"
            )
        if self.gpus < 0 or (self.gpus > 1 and self.gpus != int(self.gpus)):
            raise InputError(f"gpus is {self.gpus:g}: must be a share of one, or a whole number")
        if self.answer_seconds <= 0:
            raise InputError(f"answer_seconds is {self.answer_seconds:g}: must be above 0")
