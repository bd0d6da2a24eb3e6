"""What a user types to search and serve over a cluster."""

from __future__ import annotations

import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest

from hficma.engine import Engine, build_index
from tests.engine.cluster.machines import Machines
from tests.engine.datasets import NoiseDataset

pytest.importorskip("httpx", reason="asks the service; needs the extra [dev]")

from tests.engine.serving.servers import running_server

pytestmark = pytest.mark.xdist_group("cluster")

DATA = NoiseDataset(24)


@pytest.fixture(scope="module")
def index(hf_icma_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four recipes in three shards."""
    return build_index(hf_icma_bundle, DATA, tmp_path_factory.mktemp("i") / "index", shard_items=8)


def photo_file(folder: Path) -> Path:
    """A photo's file."""
    path = folder / "photo.png"
    DATA.photo(3).save(path)
    return path


def hficma(*words: object) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    command = [sys.executable, "-m", "hficma.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=180)


def test_a_service_over_a_cluster_answers_and_says_how_much_of_it_is_there(
    machines: Machines, index: Path, tmp_path: Path
) -> None:
    """Whoever watches the service sees a machine go before users do."""
    photo = photo_file(tmp_path).read_bytes()
    with Engine.open(index) as engine:
        expected = [hit.id for hit in engine.search(image=photo, k=5).hits]
    with (
        running_server("--index", index, "--ray", machines.address, "--ray-actors", 2) as server,
        server.client() as client,
    ):
        answer = client.post("/search", files={"photo": BytesIO(photo)}, data={"k": "5"}).json()
        assert [hit["id"] for hit in answer["hits"]] == expected
        assert answer["certified"] == 5
        [info] = client.get("/info").json()["indexes"]
        assert info["cluster"] == {"actors": 2, "ready": 2, "share": 1.0}
        assert client.get("/health/ready").json() == {"status": "ready"}
        metrics = client.get("/metrics").text
        assert 'hficma_cluster_actors{index="index",state="ready"} 2.0' in metrics
        assert 'hficma_cluster_share{index="index"} 1.0' in metrics


def test_search_starts_a_ray_of_its_own_and_ends_it(index: Path, tmp_path: Path) -> None:
    """Processes that a command leaves behind fill a machine in a week."""
    photo = photo_file(tmp_path)
    ended = hficma("search", "--image", photo, "--index", index, "--json", "--ray", "local")
    assert ended.returncode == 0, ended.stderr
    with Engine.open(index) as engine:
        expected = [hit.id for hit in engine.search(image=photo).hits]
    assert [hit["id"] for hit in json.loads(ended.stdout)["hits"]] == expected
    assert not ended.stderr
    running = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not any(b"hficma-ray-" in line for line in running)


def test_options_of_a_cluster_without_one_and_addresses_of_none_are_said() -> None:
    """An option that does nothing is worse than one that is refused."""
    ended = hficma("search", "--image", "photo.jpg", "--replicas", 2)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "--replicas is of a cluster: it goes with --ray" in ended.stderr
