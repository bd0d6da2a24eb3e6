"""Actors own GPUs as they ask for them: Ray counts what a machine says it has, cards or none."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hficma.engine import Engine, build_index
from hficma.engine.cluster import build as cluster_build
from hficma.engine.cluster import server_group
from hficma.engine.cluster.build import build_index_on_ray
from hficma.engine.cluster.engine import ClusterEngine
from hficma.engine.cluster.options import ClusterOptions
from hficma.engine.cluster.shard_builder import Row, ShardBuilder
from hficma.engine.runtimes.options import ExecutionKeywords
from hficma.engine.writing.build import IndexOptions
from hficma.errors import InputError
from tests.engine.cluster.machines import Machines
from tests.engine.datasets import NoiseDataset

pytestmark = [pytest.mark.xdist_group("cluster"), pytest.mark.cluster]

DATA = NoiseDataset(24)
EXECUTION: dict[str, Any] = {"runtime": "onnxruntime", "threads": 1}
VISIBLE = "CUDA_VISIBLE_DEVICES"


@pytest.fixture(scope="module")
def index(hf_icma_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four recipes in six shards."""
    folder = tmp_path_factory.mktemp("gpus") / "index"
    return build_index(hf_icma_bundle, DATA, folder, shard_items=4, **EXECUTION)


@pytest.fixture(scope="module")
def address(machines: Machines) -> Iterator[str]:
    """Of the three machines, which have no GPU, and two others, which say they have 1 and 2."""
    others = [machines.add(gpus=gpus) for gpus in (1, 2)]
    yield machines.address
    for other in others:
        machines.remove(other)


@pytest.fixture
def on_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets actors that own GPUs work on processors: here is no card that they could work on."""

    def execution(
        ray: Any, options: ClusterOptions, actors: int, execution: ExecutionKeywords
    ) -> ExecutionKeywords:
        return {**execution, "device": "cpu", "threads": 1}

    for module in (server_group, cluster_build):
        monkeypatch.setattr(module, "actor_execution", execution)


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.5, ["0", "0", "0", "0", "1", "1"]), (1, ["0", "0", "1"]), (2, ["0,1"])],
)
def test_each_actor_of_a_search_sees_the_gpus_that_it_asked_for(
    share: float, expected: list[str], machines: Machines, address: str, index: Path,
    on_processors: None,
) -> None:  # fmt: skip
    """Two actors on one card of which another is idle, or an actor that waits for a card for ever
    on a machine whose cards are taken while another's are free."""
    options = ClusterOptions(address=address, gpus=share)
    with ClusterEngine.open_on(index, options, **EXECUTION) as engine:
        actors = engine.group._actors
        seen = machines.ray.get(
            [actor.__ray_call__.remote(lambda _: os.environ[VISIBLE]) for actor in actors]
        )
        assert sorted(seen) == expected
        hits = engine.search(image=DATA.photo(3)).hits
    with Engine.open(index, **EXECUTION) as alone:
        assert [hit.id for hit in hits] == [
            hit.id for hit in alone.search(image=DATA.photo(3)).hits
        ]


def test_each_actor_of_a_build_sees_the_gpu_that_it_asked_for(
    address: str, hf_icma_bundle: Path, tmp_path: Path, on_processors: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A build of days that leaves every card but the first idle."""
    seen = tmp_path / "seen"
    seen.mkdir()

    class Watched(ShardBuilder):
        """Says which GPUs its process sees, and waits for the others to say so."""

        def __call__(self, row: Row) -> Row:
            (seen / str(os.getpid())).write_text(os.environ[VISIBLE])
            end = time.monotonic() + 60
            while len(list(seen.iterdir())) < 3 and time.monotonic() < end:
                time.sleep(0.05)
            return super().__call__(row)

    monkeypatch.setattr(cluster_build, "ShardBuilder", Watched)
    out = build_index_on_ray(
        hf_icma_bundle, "sample:100", tmp_path / "index", ClusterOptions(address=address, gpus=1),
        IndexOptions(shard_items=20), **EXECUTION,
    )  # fmt: skip
    assert sorted(file.read_text() for file in seen.iterdir()) == ["0", "0", "1"]
    with Engine.open(out, **EXECUTION) as engine:
        assert engine.index.item_count == 100


def test_more_actors_than_the_gpus_have_room_for_are_refused(address: str, index: Path) -> None:
    """Three cards are 1.8 times two actors of 0.6, and still no room for four."""
    options = ClusterOptions(address=address, gpus=0.6, actors=4)
    with pytest.raises(InputError, match=r"has GPUs for 3 actors of 0\.6 each, not for 4"):
        ClusterEngine.open_on(index, options, **EXECUTION)


@pytest.mark.parametrize("command", ["search", "index"])
def test_a_gpu_that_torch_does_not_see_is_said_in_a_line(
    command: str, address: str, index: Path, hf_icma_bundle: Path, tmp_path: Path
) -> None:
    """A traceback, or an actor that is started again and again, names no driver to install."""
    torch = pytest.importorskip("torch", reason="needs the extra [gpu]")
    if torch.cuda.is_available():
        pytest.skip("needs a machine without a GPU")
    DATA.photo(3).convert("RGB").save(tmp_path / "photo.jpg")
    words = {
        "search": ["--image", tmp_path / "photo.jpg", "--index", index],
        "index": ["--data", "sample:100", "--bundle", hf_icma_bundle, "--out", tmp_path / "out"],
    }[command]
    program = [sys.executable, "-m", "hficma.cli", command, *map(str, words)]
    ended = subprocess.run(
        [*program, "--ray", address, "--ray-gpus", "1"],
        capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    # Ray may write a line of its own log before.
    lines = [line for line in ended.stderr.splitlines() if "core_worker.cc" not in line]
    assert (ended.returncode, len(lines)) == (2, 1)
    assert "device cuda: torch sees" in lines[0]
    assert not (tmp_path / "out").exists()
