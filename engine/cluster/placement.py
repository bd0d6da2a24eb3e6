"""Which machine an actor starts on, which shards it holds, and which holder answers for a shard.

Three shards of 5, 3 and 4 GB over three servers, each shard held twice:

    server 0   shard 0 (5)   shard 1 (3)       answers for 0
    server 1   shard 0 (5)   shard 2 (4)       answers for 2
    server 2   shard 2 (4)   shard 1 (3)       answers for 1

When server 0 is gone, server 1 answers for shards 0 and 2. When both holders of a shard are gone,
it is missing until one of them is back.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple


class Route(NamedTuple):
    """Which servers answer for which shards."""

    shards: dict[int, list[int]]
    """Server to the numbers of the shards that it answers for, rising; never none."""
    missing: tuple[int, ...]
    """Numbers of shards that no server can answer for now."""


def place_shards(sizes: Sequence[int], servers: int, replicas: int) -> list[list[int]]:
    """Return the numbers of the shards that each server holds, rising.

    The largest first, each to the servers that hold the fewest bytes so far: none then holds more
    than 4/3 of the least possible (Graham 1969), for one replica.

    Args:
        sizes: bytes of each shard.
        servers: how many there are.
        replicas: servers that hold each shard, at most `servers`.
    """
    held: list[list[int]] = [[] for _ in range(servers)]
    load = [0] * servers
    for shard in sorted(range(len(sizes)), key=lambda number: -sizes[number]):
        for server in sorted(range(servers), key=lambda number: load[number])[:replicas]:
            held[server].append(shard)
            load[server] += sizes[shard]
    return [sorted(shards) for shards in held]


def place_on_gpus(gpus: Sequence[int], share: float) -> list[int]:
    """Return the machine of each actor that there are GPUs for, in the order of their starts.

    A share of a GPU lies on one of them, and several GPUs of an actor in one machine: what is left
    of each does not add up to room for another. By turns, so that few actors are on many machines.

    Args:
        gpus: of each machine.
        share: GPUs of each actor, a part of one or a whole number.
    """
    # Whole at last: 1 / (1 / 3) may be rounded down.
    room = [count * int(1 / share + 1e-6) if share < 1 else int(count // share) for count in gpus]
    return [
        machine for turn in range(max(room, default=0)) for machine in range(len(room))
        if turn < room[machine]
    ]  # fmt: skip


def choose_servers(
    held: Sequence[Sequence[int]], sizes: Sequence[int], gone: Collection[int] = ()
) -> Route:
    """Choose the server that answers for each shard: of its holders the one with the least to do.

    Args:
        held: numbers of the shards that each server holds.
        sizes: bytes of each shard.
        gone: servers that do not answer.
    """
    holders: list[list[int]] = [[] for _ in sizes]
    for server, shards in enumerate(held):
        if server not in gone:
            for shard in shards:
                holders[shard].append(server)
    load = [0] * len(held)
    chosen: dict[int, list[int]] = {}
    for shard in sorted(
        range(len(sizes)), key=lambda number: (len(holders[number]), -sizes[number])
    ):
        if holders[shard]:
            server = min(holders[shard], key=lambda number: load[number])
            chosen.setdefault(server, []).append(shard)
            load[server] += sizes[shard]
    return Route(
        {server: sorted(shards) for server, shards in sorted(chosen.items())},
        tuple(shard for shard, servers in enumerate(holders) if not servers),
    )
