"""A served index changes, through the service or beside it, without a dropped request."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from hficma.engine import IndexWriter
from tests.engine.datasets import NoiseDataset
from tests.engine.serving.conftest import photo_of
from tests.engine.serving.servers import Server, running_server

KEY = "a-key-of-some-length"
NEW = {"id": "new", "title": "New soup", "ingredients": ["salt", "milk", "rice"]}


@pytest.fixture(scope="module")
def own_server(kitchen: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that may be written to, on copies of the indexes, of two processes."""
    folder = tmp_path_factory.mktemp("changing")
    for name in ("recipes", "photos"):
        shutil.copytree(kitchen / name, folder / name)
    (folder / "keys").write_text(f"# mine\n{KEY}\n")
    with running_server(
        "--index", folder / "recipes", "--index", folder / "photos", "--writable",
        "--api-key-file", folder / "keys", "--workers", "2",
    ) as server:  # fmt: skip
        server.folder = folder
        yield server


@pytest.fixture
def writer(own_server: Server) -> Iterator[httpx.Client]:
    """A client with the key."""
    with own_server.client(headers={"authorization": f"Bearer {KEY}"}) as client:
        yield client


def test_only_who_has_the_key_gets_in(own_server: Server) -> None:
    """All but the page, which asks for the key, and the health checks."""
    with own_server.client() as client:
        for path in ("/info", "/metrics", "/openapi.json", "/items/r1"):
            assert client.get(path).status_code == 401
        assert client.get("/info", headers={"x-api-key": KEY[:-1]}).status_code == 401
        assert client.get("/info", headers={"x-api-key": KEY}).status_code == 200
        for path in ("/", "/static/app.js", "/health/ready"):
            assert client.get(path).status_code == 200


def test_items_come_and_go_while_requests_are_answered(writer: httpx.Client) -> None:
    """Each change is live when it is answered, and no search meanwhile fails."""
    stop, failures, answered = threading.Event(), [], 0

    def search() -> None:
        nonlocal answered
        photo = photo_of(3)
        while not stop.is_set():
            response = writer.post("/search", files={"photo": photo})
            answered += 1
            if response.status_code != 200:
                failures.append(response.text)

    searching = threading.Thread(target=search)
    searching.start()
    try:
        added = writer.post("/items", json={"recipe": NEW}).raise_for_status().json()
        assert (added["changed"], added["items"]) == (1, 25)
        again = writer.post("/items", json={"recipes": [NEW]}).json()
        assert again["changed"] == 0
        assert again["notes"]
        photo = {"photo": photo_of(1)}
        pictured = writer.post(
            "/items?index=photos", files=photo, data={"recipe": '{"ingredients": ["milk"]}'}
        )
        assert pictured.json()["changed"] == 1
        assert eventually(lambda: writer.get("/items/new").status_code == 200)
        removed = writer.delete("/items/new").raise_for_status().json()
        assert (removed["changed"], removed["items"]) == (1, 24)
        assert writer.delete("/items/new").status_code == 404
        assert writer.post("/compact").json()["items"] == 24
    finally:
        stop.set()
        searching.join()
    assert not failures
    assert answered > 3


def test_a_path_in_a_clients_recipe_is_not_opened(writer: httpx.Client) -> None:
    """A recipe may name a photo by a path: here that would be a file of the service's."""
    recipe = NEW | {"id": "thief", "image": "/etc/hostname"}
    answer = writer.post("/items?index=photos", json={"recipe": recipe}).json()
    assert answer["changed"] == 0
    assert "no photo was sent" in answer["notes"][0]


def test_a_change_beside_the_service_goes_live_and_the_old_files_are_closed(
    own_server: Server, writer: httpx.Client
) -> None:
    """`hficma index add` on the same folder; a file that stays mapped would fill the disk."""
    with IndexWriter(own_server.folder / "recipes") as index:
        index.add(NoiseDataset(2, first=100))
        index.remove(["r0"])
        index.compact()
    for _ in range(4):  # whichever of the two processes answers
        assert eventually(lambda: writer.get("/items/r100").status_code == 200)
        assert eventually(lambda: writer.get("/items/r0").status_code == 404)

    def old_files() -> list[str]:
        children = Path(f"/proc/{own_server.process.pid}/task").glob("*/children")
        pids = [pid for file in children for pid in file.read_text().split()]
        maps = [Path(f"/proc/{pid}/maps").read_text().splitlines() for pid in pids]
        return [
            line for lines in maps for line in lines if "(deleted)" in line and "shards" in line
        ]

    assert eventually(lambda: not old_files()), old_files()


def test_a_damaged_change_leaves_the_old_state_answering(
    own_server: Server, writer: httpx.Client
) -> None:
    """A half-copied index must not take the service down."""
    manifest = own_server.folder / "recipes" / "manifest.json"
    good = manifest.read_bytes()
    manifest.with_suffix(".part").write_bytes(b"{")
    manifest.with_suffix(".part").rename(manifest)
    try:
        assert own_server.logs("its new state cannot be served")
        response = writer.post("/search", files={"photo": photo_of(3)})
        assert response.status_code == 200
    finally:
        manifest.with_suffix(".part").write_bytes(good)
        manifest.with_suffix(".part").rename(manifest)


def eventually(holds: object, seconds: float = 15.0) -> bool:
    """Whether a condition comes to hold: two processes notice a change in their own time."""
    assert callable(holds)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if holds():
            return True
        time.sleep(0.05)
    return False
