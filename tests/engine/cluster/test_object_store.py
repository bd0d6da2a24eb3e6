"""What is fetched is what was published, or nothing; and a store never shows half an index."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from hficma.engine import Engine, build_index, verify_index
from hficma.engine.cluster import object_store
from hficma.engine.cluster.object_store import fetch_index, publish_index
from hficma.errors import ArtifactError, InputError
from tests.engine.cluster.stores import s3_server
from tests.engine.datasets import NoiseDataset

fsspec = pytest.importorskip("fsspec", reason="needs the extra [cluster]")

DATA = NoiseDataset(24)


@pytest.fixture(scope="module")
def index(hf_icma_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four recipes in three shards."""
    return build_index(hf_icma_bundle, DATA, tmp_path_factory.mktemp("i") / "index", shard_items=8)


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A bucket of an S3 of this machine."""
    with s3_server("kitchen") as url:
        yield url


@pytest.fixture(params=["memory", "file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place of each kind that holds nothing yet."""
    if request.param == "s3":
        return f"{request.getfixturevalue('s3')}/{uuid4().hex}"
    return f"memory://{uuid4().hex}" if request.param == "memory" else f"file://{tmp_path}/store"


def listed(url: str) -> set[str]:
    """The files at a URL."""
    files, root = fsspec.core.url_to_fs(url)
    files.invalidate_cache()
    paths = files.find(root)
    return {path.partition(root.lstrip("/") + "/")[2] for path in paths}


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_what_is_fetched_is_what_was_published_and_answers_the_same(
    index: Path, url: str, hf_icma_bundle: Path, tmp_path: Path
) -> None:
    """A copy that differs in a byte is another index."""
    seen: list[tuple[int, int]] = []
    size = publish_index(index, url, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (size, size)
    assert publish_index(index, url) == 0
    assert listed(url) == content(index).keys()
    out = fetch_index(url, tmp_path / "fetched" / "index")
    assert content(out) == content(index)
    assert [path.name for path in out.parent.iterdir()] == ["index"]
    assert not verify_index(out, bundle=hf_icma_bundle).problems
    with Engine.open(out, bundle=hf_icma_bundle) as copy, Engine.open(index) as first:
        photo = DATA.photo(3)
        assert copy.search(image=photo).hits == first.search(image=photo).hits


def test_another_index_in_its_place_is_refused(
    index: Path, url: str, hf_icma_bundle: Path, tmp_path: Path
) -> None:
    """Half of one and half of the other would stand there."""
    publish_index(index, url)
    before = listed(url)
    other = build_index(hf_icma_bundle, NoiseDataset(5), tmp_path / "other")
    with pytest.raises(ArtifactError, match="holds another index"):
        publish_index(other, url)
    assert listed(url) == before


def test_a_manifest_comes_last_and_a_publication_that_ended_early_is_gone_on_with(
    index: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever fetches meanwhile must find nothing, and not an index that lacks a shard."""
    write: Callable[..., None] = object_store._Store.write
    written: list[str] = []

    def failing(self: Any, name: str, *rest: Any) -> None:
        if len(written) > 4:
            raise ArtifactError("the network is gone")
        written.append(name)
        write(self, name, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(object_store._Store, "write", failing)
        with pytest.raises(ArtifactError, match="network is gone"):
            publish_index(index, url)
    assert "manifest.json" not in listed(url)
    with pytest.raises(ArtifactError, match="holds no index"):
        fetch_index(url, tmp_path / "out")
    publish_index(index, url)
    assert content(fetch_index(url, tmp_path / "out")) == content(index)


def test_what_changed_in_the_store_is_not_fetched(index: Path, url: str, tmp_path: Path) -> None:
    """A flipped bit, a missing file, a longer one: none must become an index that answers."""
    publish_index(index, url)
    files, root = fsspec.core.url_to_fs(url)
    name = f"{root}/shards/000001/global"
    whole = files.cat_file(name)
    for damage in (bytes([whole[0] ^ 1]) + whole[1:], whole + b"x", None):
        if damage is None:
            files.rm_file(name)
        else:
            files.pipe_file(name, damage)
        with pytest.raises(ArtifactError, match=r"SHA-256 differs|is missing"):
            fetch_index(url, tmp_path / "out")
        assert not [path for path in tmp_path.iterdir() if path.name != "store"]
    files.pipe_file(name, whole)
    fetch_index(url, tmp_path / "out")


def test_a_damaged_index_is_not_published(index: Path, url: str, tmp_path: Path) -> None:
    """A store would keep it for years."""
    damaged = Path(shutil.copytree(index, tmp_path / "damaged"))
    file = damaged / "shards/000001/global"
    file.write_bytes(b"\xff" + file.read_bytes()[1:])
    with pytest.raises(ArtifactError, match="SHA-256 differs"):
        publish_index(damaged, url)
    assert "manifest.json" not in listed(url)


def test_a_stranger_s_manifest_leads_nowhere(index: Path, tmp_path: Path) -> None:
    """Names in it become paths of this machine."""
    url = f"memory://{uuid4().hex}"
    publish_index(index, url)
    files, root = fsspec.core.url_to_fs(url)
    manifest = files.cat_file(f"{root}/manifest.json")
    files.pipe_file(f"{root}/manifest.json", manifest.replace(b"shards/000001/", b"../000001/"))
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        fetch_index(url, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_places_that_are_none_are_said_in_a_line(index: Path, tmp_path: Path) -> None:
    """A traceback of a store's library says nothing of what to do."""
    with pytest.raises(InputError, match="is no URL"):
        publish_index(index, str(tmp_path / "store"))
    with pytest.raises(InputError, match="names no kind of store"):
        publish_index(index, "cupboard://shelf")
    (tmp_path / "out").mkdir()
    with pytest.raises(ArtifactError, match="exists already"):
        fetch_index("memory://nothing", tmp_path / "out")
