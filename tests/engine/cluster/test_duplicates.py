"""Shards that are written apart hold each id once, as if they were written one after the other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hficma.engine.cluster.duplicates import SharedIds, hash_ids, shared_hashes

CHUNKS = st.lists(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=6), max_size=7
)


def written(chunk: list[tuple[str, bool]], before: set[str]) -> set[str]:
    """The ids that a shard holds: those that can be read and did not come before."""
    return {id_ for id_, readable in chunk if readable and id_ not in before}


@given(chunks=CHUNKS)
def test_whatever_cannot_be_read_the_first_item_of_an_id_that_can_is_held(
    chunks: list[list[tuple[str, bool]]],
) -> None:
    """An id that two shards hold answers twice; one that none holds is lost."""
    expected: list[set[str]] = []
    for chunk in chunks:
        expected.append(written(chunk, set().union(*expected)))
    ids = [[id_ for id_, _ in chunk] for chunk in chunks]
    shared = set(shared_hashes([hash_ids(one) for one in ids]).tolist())
    several = [{i for i in one if int(hash_ids([i])[0]) in shared} for one in ids]
    shared_ids = SharedIds(several)
    shards = [written(chunk, shared_ids.before[n]) for n, chunk in enumerate(chunks)]
    rounds = 0
    while wrong := shared_ids.wrong_chunks(lambda chunk, id_: id_ in shards[chunk]):
        for chunk in wrong:
            shards[chunk] = written(chunks[chunk], shared_ids.before[chunk])
        rounds += 1
        assert rounds <= len(chunks)
    assert shards == expected


@given(chunks=st.lists(st.lists(st.text(max_size=3), max_size=5), max_size=5))
def test_what_stands_in_two_chunks_is_found_by_its_hash(chunks: list[list[str]]) -> None:
    """An id that is not looked at is in the index twice."""
    shared = set(shared_hashes([hash_ids(chunk) for chunk in chunks]).tolist())
    for id_ in {id_ for chunk in chunks for id_ in chunk}:
        assert (int(hash_ids([id_])[0]) in shared) == (sum(id_ in c for c in chunks) > 1)
