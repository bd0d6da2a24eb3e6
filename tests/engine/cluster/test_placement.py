"""Every shard is held and answered for, and no machine has much more to do than it must."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hficma.engine.cluster.placement import choose_servers, place_shards

SIZES = st.lists(st.integers(1, 1000), min_size=1, max_size=40)


@given(sizes=SIZES, servers=st.integers(1, 8), replicas=st.integers(1, 3))
def test_each_shard_lies_on_as_many_servers_as_it_has_replicas(
    sizes: list[int], servers: int, replicas: int
) -> None:
    """Two replicas on one machine die together."""
    replicas = min(replicas, servers)
    held = place_shards(sizes, servers, replicas)
    for shard in range(len(sizes)):
        assert sum(shard in shards for shards in held) == replicas
    load = [sum(sizes[shard] for shard in shards) for shards in held]
    # Graham's bound for one machine's share: the mean, and the largest shard on top of it.
    assert max(load) <= replicas * sum(sizes) / servers + max(sizes)


@given(
    sizes=SIZES,
    servers=st.integers(1, 6),
    replicas=st.integers(1, 3),
    gone=st.sets(st.integers(0, 5)),
)
def test_one_holder_answers_for_each_shard_that_has_one_left(
    sizes: list[int], servers: int, replicas: int, gone: set[int]
) -> None:
    """A shard that two answered for would have its items twice in an answer."""
    held = place_shards(sizes, servers, min(replicas, servers))
    route = choose_servers(held, sizes, gone)
    chosen = [shard for shards in route.shards.values() for shard in shards]
    assert sorted([*chosen, *route.missing]) == list(range(len(sizes)))
    assert not gone & route.shards.keys()
    for server, shards in route.shards.items():
        assert shards == sorted(shards)
        assert set(shards) <= set(held[server])
    for shard in route.missing:
        assert all(shard not in shards for n, shards in enumerate(held) if n not in gone)
