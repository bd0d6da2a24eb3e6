"""An index built over a cluster is the one that one machine builds, whatever dies meanwhile."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hficma.data import open_dataset
from hficma.engine import build_index
from hficma.engine.cluster import build as cluster_build
from hficma.engine.cluster.build import build_index_on_ray
from hficma.engine.cluster.options import ClusterOptions
from hficma.engine.writing.build import IndexOptions
from hficma.engine.writing.transaction import building_folder
from hficma.errors import ArtifactError, InputError
from tests.engine.cluster.machines import Machines, kill
from tests.engine.datasets import NoiseDataset

pytestmark = pytest.mark.xdist_group("cluster")

EXECUTION: dict[str, Any] = {"runtime": "onnxruntime", "threads": 1}
LONG = "sample:3000"
"""Data that take some seconds to encode, so that something can die meanwhile."""
LONG_SHARD = 50


def contents(index: Path) -> dict[str, str]:
    """Every file's hash but the manifest's, which says when it was written."""
    return {
        str(file.relative_to(index)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(index.rglob("*"))
        if file.is_file() and file.name != "manifest.json"
    }


def facts(index: Path) -> Any:
    """What the manifest says, but for when."""
    record = json.loads((index / "manifest.json").read_text())
    return record["facts"], record["files"]


def same(index: Path, other: Path) -> bool:
    """Whether two indexes are the same, byte by byte."""
    return contents(index) == contents(other) and facts(index) == facts(other)


@pytest.fixture(scope="module")
def dishes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recipes with photos; ids that stand twice, and the photo of a first one cannot be read."""
    folder = tmp_path_factory.mktemp("dishes")
    data = NoiseDataset(40)
    records = []
    for place in range(len(data)):
        record = data.recipe(place).to_json() | {"image": f"{place}.png"}
        data.photo(place).save(folder / f"{place}.png")
        records.append(record)
    for place, first in ((15, 2), (35, 2), (28, 4), (30, 29)):
        records[place]["id"] = records[first]["id"]
    (folder / "2.png").write_bytes(b"no photo")
    records[20]["image"] = None
    (folder / "recipes.jsonl").write_text("\n".join(map(json.dumps, records)))
    return folder / "recipes.jsonl"


@pytest.mark.parametrize("of", ["recipes", pytest.param("images", marks=pytest.mark.cluster)])
def test_the_index_is_the_one_that_one_machine_builds(
    of: Any,
    dishes: Path,
    hf_icma_bundle: Path,
    tmp_path: Path,
    on_two_actors: ClusterOptions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An item more or less, another number or bit: then two ways to build are two indexes."""
    options: dict[str, Any] = {
        "of": of, "shard_items": 9, "keep_photos": of == "images", "side_precision": "int8",
        "prefilter": "SQ8",
    }  # fmt: skip
    alone: list[str] = []
    together: list[str] = []
    one = build_index(
        hf_icma_bundle, open_dataset(str(dishes)), tmp_path / "one", on_bad=alone.append,
        **options, **EXECUTION,
    )  # fmt: skip
    if of == "images":  # as for data whose ids one machine would not read
        monkeypatch.setattr(cluster_build, "ITEMS_READ_HERE", 0)
    seen: list[tuple[int, int]] = []
    two = build_index_on_ray(
        hf_icma_bundle, str(dishes), tmp_path / "two", on_two_actors, IndexOptions(**options),
        on_bad=together.append, progress=lambda done, total: seen.append((done, total)),
        **EXECUTION,
    )  # fmt: skip
    assert same(one, two)
    assert sorted(together) == sorted(alone)
    assert seen[-1] == (40, 40)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_what_is_wrong_is_said_once_and_nothing_half_made_stays(
    dishes: Path, hf_icma_bundle: Path, tmp_path: Path, on_two_actors: ClusterOptions
) -> None:
    """A scheduler that tries a bad photo for ever never says that it is bad."""
    out = tmp_path / "index"
    with pytest.raises(InputError, match=r"2\.png"):
        build_index_on_ray(
            hf_icma_bundle, str(dishes), out, on_two_actors,
            IndexOptions(of="images", shard_items=100), strict=True, **EXECUTION,
        )  # fmt: skip
    with pytest.raises(InputError, match="a stream is read once"):
        build_index_on_ray(hf_icma_bundle, "-", out, on_two_actors)
    assert not list(tmp_path.iterdir())
    out.mkdir()
    with pytest.raises(ArtifactError, match="exists already"):
        build_index_on_ray(hf_icma_bundle, str(dishes), out, on_two_actors)


@pytest.fixture(scope="module")
def long_index(hf_icma_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The long data, indexed on one machine."""
    out = tmp_path_factory.mktemp("long") / "index"
    data = open_dataset(LONG)
    return build_index(hf_icma_bundle, data, out, shard_items=LONG_SHARD, **EXECUTION)


def finished(out: Path) -> int:
    """Shards that an unfinished build has finished."""
    return len(list(building_folder(out).glob("shards/[0-9]*")))


def builders() -> list[int]:
    """Processes that write shards."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"MapWorker(Map(ShardBuilder))" in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def while_building(
    bundle: Path, out: Path, cluster: ClusterOptions, disturb: Callable[[], None]
) -> None:
    """Build the long index, and disturb it when some of it is done."""
    errors: list[BaseException] = []

    def build() -> None:
        try:
            options = IndexOptions(shard_items=LONG_SHARD)
            build_index_on_ray(bundle, LONG, out, cluster, options, **EXECUTION)
        except BaseException as error:
            errors.append(error)

    building = threading.Thread(target=build)
    building.start()
    while finished(out) < 5 and building.is_alive():
        time.sleep(0.01)
    assert building.is_alive(), errors
    disturb()
    building.join(timeout=300)
    assert not building.is_alive()
    assert not errors, errors


@pytest.mark.cluster
def test_an_actor_that_dies_while_an_index_is_built_costs_a_shard(
    hf_icma_bundle: Path, long_index: Path, tmp_path: Path, on_two_actors: ClusterOptions
) -> None:
    """A build of days must not end because one process did."""
    out = tmp_path / "index"
    while_building(hf_icma_bundle, out, on_two_actors, lambda: kill(builders()[0]))
    assert same(out, long_index)


@pytest.mark.cluster
def test_a_machine_that_is_removed_while_an_index_is_built_leaves_its_shards_to_others(
    hf_icma_bundle: Path, long_index: Path, tmp_path: Path, machines: Machines
) -> None:
    """Machines are reclaimed by whoever rents them out."""
    extra = machines.add()
    cluster = ClusterOptions(address=machines.address, actors=4)
    while_building(hf_icma_bundle, tmp_path / "index", cluster, lambda: machines.remove(extra))
    assert same(tmp_path / "index", long_index)


DRIVER = """
import sys
from pathlib import Path
from hficma.engine.cluster.build import build_index_on_ray
from hficma.engine.cluster.options import ClusterOptions
from hficma.engine.writing.build import IndexOptions
bundle, data, out, address, items = sys.argv[1:]
build_index_on_ray(
    Path(bundle), data, Path(out), ClusterOptions(address=address, actors=2),
    IndexOptions(shard_items=int(items)), runtime="onnxruntime", threads=1,
)
"""


@pytest.mark.cluster
def test_a_driver_that_is_killed_is_gone_on_with_and_never_two_manifests(
    hf_icma_bundle: Path, long_index: Path, tmp_path: Path, machines: Machines
) -> None:
    """Who starts the build sits at a laptop that falls asleep."""
    out = tmp_path / "index"
    words = [hf_icma_bundle, LONG, out, machines.address, LONG_SHARD]
    command = [sys.executable, "-c", DRIVER, *map(str, words)]
    for kills in (5, 15):
        driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while finished(out) < kills and driver.poll() is None:
            time.sleep(0.01)
        assert driver.poll() is None
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        assert not out.exists()
        assert not list(tmp_path.rglob("manifest.json"))
    before = {
        path.parent.name: path.stat().st_mtime_ns
        for path in building_folder(out).glob("shards/[0-9]*/shard.json")
    }
    assert len(before) >= 15
    subprocess.run(command, check=True, timeout=300, stderr=subprocess.DEVNULL)
    assert same(out, long_index)
    # What was finished was not written again.
    assert (
        before.items()
        <= {
            path.parent.name: path.stat().st_mtime_ns for path in out.glob("shards/*/shard.json")
        }.items()
    )
    assert [path.name for path in tmp_path.rglob("manifest.json")] == ["manifest.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
