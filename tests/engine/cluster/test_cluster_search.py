"""A cluster's answers are one machine's, and say what they could not see."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hficma.engine import Answer, Engine, Filter, IndexWriter, build_index
from hficma.engine.cluster.engine import ClusterEngine
from hficma.engine.cluster.options import ClusterOptions
from hficma.errors import InputError
from tests.engine.cluster.machines import Machines, kill
from tests.engine.datasets import NoiseDataset

pytestmark = pytest.mark.xdist_group("cluster")

DATA = NoiseDataset(48)
EXECUTION: dict[str, Any] = {"runtime": "onnxruntime", "threads": 1}
FILTERS = (
    None,
    Filter(categories=("soup",)),
    Filter(having=("egg",)),
    Filter(without=("egg", "milk"), categories=("cake",)),
    Filter(having=("kryptonite",)),
)


def shown(answer: Any) -> Any:
    """All that an answer says but for its times."""
    assert isinstance(answer, Answer), answer
    hits = [
        (hit.number, hit.id, hit.score, hit.global_score, hit.local_score) for hit in answer.hits
    ]
    rest = answer.certified, answer.scored, answer.searched, answer.notes, answer.share
    return hits, rest, answer.hits and answer.hits[0].recipe


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "is not so in time"
        time.sleep(0.1)


@pytest.fixture
def indexes(hf_icma_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes indexes of `DATA`."""

    def make(**options: Any) -> Path:
        folder = tmp_path_factory.mktemp("cluster") / "index"
        return build_index(hf_icma_bundle, DATA, folder, **options, **EXECUTION)

    return make


@pytest.fixture
def opened(machines: Machines) -> Iterator[Callable[..., ClusterEngine]]:
    """Opens engines on the three machines, closed at the end."""
    engines: list[ClusterEngine] = []

    def open_engine(index: Path, **options: Any) -> ClusterEngine:
        cluster = ClusterOptions(address=machines.address, **{"actors": 2, **options})
        engines.append(ClusterEngine.open_on(index, cluster, **EXECUTION))
        return engines[-1]

    yield open_engine
    for engine in engines:
        engine.close()


@settings(
    max_examples=5, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(data=st.data())
def test_answers_are_those_of_one_machine(
    data: st.DataObject, indexes: Callable[..., Path], opened: Callable[..., ClusterEngine]
) -> None:
    """A rank, a score or a proof that differs: then growing changed what the program says."""
    of = data.draw(st.sampled_from(["recipes", "images"]), "of")
    index = indexes(
        of=of,
        keep=data.draw(st.sampled_from(["tokens", "projections", "tables"]), "level"),
        side_precision=data.draw(st.sampled_from(["fp32", "fp16", "int8"]), "precision"),
        prefilter=data.draw(
            st.sampled_from(["Flat", "SQ8", "SQfp16", "IVF4,Flat", "HNSW8"]), "kind"
        ),
        shard_items=data.draw(st.integers(3, 20), "shard_items"),
    )
    removed = data.draw(st.sets(st.integers(0, len(DATA) - 1), max_size=9), "removed")
    if removed:
        with IndexWriter(index) as writer:
            writer.remove(f"r{number}" for number in removed)
    engine = opened(index, actors=data.draw(st.integers(1, 3), "actors"))
    with Engine.open(index, **EXECUTION) as alone:
        for _ in range(5):
            queries: list[Any] = [
                DATA.photo(number) if of == "recipes" else DATA.recipe(number)
                for number in data.draw(
                    st.lists(st.integers(0, 47), min_size=1, max_size=4), "queries"
                )
            ]
            options: dict[str, Any] = {
                "k": data.draw(st.integers(1, 12), "k"),
                "candidates": data.draw(st.integers(1, 60), "candidates"),
                "exact": data.draw(st.booleans(), "exact"),
                "filter": data.draw(st.sampled_from(FILTERS), "filter"),
            }
            expected = [shown(answer) for answer in alone.search_many(queries, **options)]
            assert [shown(answer) for answer in engine.search_many(queries, **options)] == expected
    engine.close()


def test_an_actor_killed_among_queries_loses_no_answer_and_no_rank_where_there_are_replicas(
    indexes: Callable[..., Path], opened: Callable[..., ClusterEngine]
) -> None:
    """A machine that dies is an hour's work for somebody, and nothing to who asks."""
    index = indexes(shard_items=7)
    engine = opened(index, actors=3, replicas=2)
    photos = [DATA.photo(number) for number in range(6)]
    with Engine.open(index, **EXECUTION) as alone:
        expected = [shown(alone.search(image=photo)) for photo in photos]
    answers: list[Any] = []
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            for _ in range(12):
                answers.extend(shown(engine.search(image=photo)) for photo in photos)
        except BaseException as error:
            failures.append(error)

    asking = threading.Thread(target=ask)
    states = engine.group.states()
    assert all(state is not None for state in states)
    asking.start()
    wait_until(lambda: len(answers) > 5)
    assert states[1] is not None
    kill(states[1].process)
    asking.join(timeout=120)
    assert not failures
    assert answers == 12 * expected
    wait_until(lambda: engine.cluster_state.ready == 3)
    assert shown(engine.search(image=photos[0])) == expected[0]


def test_without_replicas_an_answer_says_what_was_searched_and_proves_nothing(
    indexes: Callable[..., Path], opened: Callable[..., ClusterEngine]
) -> None:
    """An answer from half of an index that says it is proved is a lie."""
    index = indexes(shard_items=7)
    engine = opened(index)
    with Engine.open(index, **EXECUTION) as alone:
        expected = shown(alone.search(image=DATA.photo(0), exact=True))
    states = engine.group.states()
    assert states[0] is not None
    kill(states[0].process)
    answer = engine.search(image=DATA.photo(0), exact=True)
    missing = states[0].items
    assert answer.searched == len(DATA) - missing
    assert answer.share == pytest.approx(1 - missing / len(DATA))
    assert answer.certified == 0
    assert f"{missing} of {len(DATA)} items" in answer.notes[0]
    assert answer.to_json()["share"] == answer.share
    state = engine.cluster_state
    assert state.share == answer.share or state.ready == 2  # another may have opened them since
    wait_until(lambda: engine.cluster_state.ready == 2)
    assert shown(engine.search(image=DATA.photo(0), exact=True)) == expected


@pytest.mark.cluster
def test_a_machine_that_is_removed_leaves_its_shards_to_another(
    indexes: Callable[..., Path], opened: Callable[..., ClusterEngine], machines: Machines
) -> None:
    """Else an index shrinks with every machine that goes."""
    index = indexes(shard_items=7)
    extra = machines.add()
    engine = opened(index, actors=4)
    with Engine.open(index, **EXECUTION) as alone:
        expected = shown(alone.search(image=DATA.photo(0)))
    machines.remove(extra)
    first = engine.search(image=DATA.photo(0))
    assert first.certified == (0 if first.share < 1 else expected[1][0])
    wait_until(lambda: engine.cluster_state.ready == 4)
    assert shown(engine.search(image=DATA.photo(0))) == expected


@pytest.mark.cluster
def test_an_actor_without_memory_is_missed_and_never_answers_wrongly(
    indexes: Callable[..., Path], opened: Callable[..., ClusterEngine]
) -> None:
    """What a machine cannot hold must not be half an answer that looks whole."""
    index = indexes(shard_items=7, keep="tokens")
    engine = opened(index)
    photos = [DATA.photo(number) for number in range(8)]
    with Engine.open(index, **EXECUTION) as alone:
        expected = [shown(answer) for answer in alone.search_many(photos, k=20)]
    state = engine.group.states()[0]
    assert state is not None
    pages = int(Path(f"/proc/{state.process}/statm").read_text().split()[0])
    limit = resource.RLIMIT_AS
    resource.prlimit(state.process, limit, (pages * resource.getpagesize(), resource.RLIM_INFINITY))
    for _ in range(8):
        for answer, right in zip(engine.search_many(photos, k=20), expected, strict=True):
            assert isinstance(answer, Answer)
            if answer.share == 1.0:
                assert shown(answer) == right
            else:
                assert answer.certified == 0
    if Path(f"/proc/{state.process}").exists():  # or another has taken its place
        resource.prlimit(state.process, limit, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    wait_until(lambda: engine.cluster_state.ready == 2)
    assert [shown(answer) for answer in engine.search_many(photos, k=20)] == expected


@pytest.mark.cluster
def test_hundreds_of_small_shards_are_one_index(
    hf_icma_bundle: Path, tmp_path: Path, opened: Callable[..., ClusterEngine]
) -> None:
    """An index that grew by small additions: a question a shard would be hundreds of them."""
    data = NoiseDataset(300)
    index = build_index(hf_icma_bundle, data, tmp_path / "index", shard_items=1, **EXECUTION)
    engine = opened(index)
    with Engine.open(index, **EXECUTION) as alone:
        assert len(alone.index.shards) == 300
        for options in ({}, {"candidates": 20, "k": 5, "exact": True}):
            photos = [data.photo(number) for number in range(3)]
            expected = [shown(answer) for answer in alone.search_many(photos, **options)]
            assert [shown(answer) for answer in engine.search_many(photos, **options)] == expected


def test_what_a_cluster_cannot_do_is_said_in_a_line(
    indexes: Callable[..., Path], opened: Callable[..., ClusterEngine], machines: Machines
) -> None:
    """A traceback out of a scheduler tells nobody what to change."""
    index = indexes()
    with pytest.raises(InputError, match=r"has GPUs for 0 actors of 1 each"):
        opened(index, gpus=1)
    with pytest.raises(InputError, match=r"3 replicas of 2 actors"):
        opened(index, replicas=3)


def test_nothing_runs_when_an_engine_is_closed(
    indexes: Callable[..., Path], opened: Callable[..., ClusterEngine], machines: Machines
) -> None:
    """Actors that outlive their engine hold an index's memory until somebody looks."""
    engine = opened(indexes())
    processes = [state.process for state in engine.group.states() if state is not None]
    assert len(processes) == 1  # one shard has one holder
    engine.close()
    wait_until(lambda: not any(Path(f"/proc/{process}").exists() for process in processes))
    assert machines.ray.is_initialized()  # it is the test's own connection
