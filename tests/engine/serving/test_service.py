"""A running service answers as the engine does, and says in words what it cannot answer."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest

from hficma.engine import Engine, Filter
from tests.engine.serving.conftest import DISHES, HOSTILE, photo_of
from tests.engine.serving.servers import Server

PNG = {"content-type": "image/png"}


def ids(answer: dict[str, Any]) -> list[str]:
    return [hit["id"] for hit in answer["hits"]]


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def test_a_photo_is_answered_as_by_the_engine_however_it_is_sent(
    client: httpx.Client, kitchen: Path, photo: bytes
) -> None:
    """A form, the bytes themselves and JSON are three ways to send one photo."""
    with Engine.open(kitchen / "recipes", threads=1) as engine:
        found = engine.search(image=photo, k=3)
    options = {"k": "3", "index": "recipes"}
    answers = [
        client.post("/search", files={"photo": photo}, data=options),
        client.post(
            "/search", params=options, content=photo, headers={"content-type": "image/png"}
        ),
        client.post("/search", json={"photo": base64_of(photo), "k": 3}),
    ]
    for response in answers:
        answer, expected = response.raise_for_status().json(), found.to_json()
        assert list(answer) == list(expected)  # as `search --json` prints it
        for hit, same in zip(answer["hits"], expected["hits"], strict=True):
            scores = {name: same.pop(name) for name in ("score", "global_score", "local_score")}
            assert {name: hit.pop(name) for name in scores} == pytest.approx(scores)
            assert hit == same
        assert answer["certified"] == expected["certified"]
        assert answer["milliseconds"].keys() == expected["milliseconds"].keys()


def test_recipes_and_ingredients_find_photos(client: httpx.Client, kitchen: Path) -> None:
    """The reverse search, by the same address."""
    recipe = DISHES.recipe(2)
    with Engine.open(kitchen / "photos", threads=1) as engine:
        expected = [hit.id for hit in engine.search(recipe=recipe, k=5).hits]
    answer = client.post("/search", json={"recipe": recipe.to_json(), "k": 5}).json()
    assert ids(answer) == expected
    text = ", ".join(recipe.ingredients[:2])
    answer = client.post("/search", json={"ingredients": text, "k": 5}).json()
    assert len(answer["hits"]) == 5


def test_filters_are_those_of_the_command_line(
    client: httpx.Client, kitchen: Path, photo: bytes
) -> None:
    """Names apart by commas or repeated: a form and an address have no lists."""
    with Engine.open(kitchen / "recipes", threads=1) as engine:
        chosen = Filter(without=("butter", "salt"), categories=("soup",))
        expected = [hit.id for hit in engine.search(image=photo, k=20, filter=chosen).hits]
    for without in (["butter, salt"], ["butter", "salt"]):
        data = {"k": "20", "without": without, "category": "soup"}
        response = client.post("/search", files={"photo": photo}, data=data)
        assert ids(response.json()) == expected
    options = {"exact": "true", "k": "4", "candidates": "4"}
    proved = client.post("/search", params=options, content=photo, headers=PNG).json()
    assert proved["certified"] == 4


def test_a_batch_is_answered_in_order_and_a_bad_photo_alone(client: httpx.Client) -> None:
    """One broken file must not cost the answers of the others."""
    files = [("photo", photo_of(1)), ("photo", b"no photo"), ("photo", photo_of(2))]
    answers = client.post("/search/batch", files=files, data={"k": "2"}).json()["answers"]
    alone = [
        client.post("/search", files={"photo": photo_of(dish)}, data={"k": "2"}).json()
        for dish in (1, 2)
    ]
    assert ids(answers[0]) == ids(alone[0])
    assert "no image" in answers[1]["error"]
    assert ids(answers[2]) == ids(alone[1])
    both = {"queries": [{"photo": base64_of(photo_of(1))}, {"ingredients": ["salt"]}]}
    assert client.post("/search/batch", json=both).status_code == 422


def test_vectors_are_the_engines(client: httpx.Client, kitchen: Path, photo: bytes) -> None:
    """Someone's vector database must find what the index would."""
    recipe = DISHES.recipe(4)
    queries = [{"photo": base64_of(photo)}, {"recipe": recipe.to_json()}, {"photo": "AAAA"}]
    answer = client.post("/embed", json={"queries": queries, "index": "recipes"}).json()
    with Engine.open(kitchen / "recipes", threads=1) as engine:
        expected = [engine.encode(images=[photo])[0], engine.encode(recipes=[recipe])[0]]
    for item, vector in zip(answer["items"], expected, strict=False):
        np.testing.assert_allclose(item["vector"], vector, atol=1e-5)
    assert "no image" in answer["items"][2]["error"]


def test_an_explanation_has_every_weight_of_a_pair(client: httpx.Client, photo: bytes) -> None:
    """The page draws nothing else: rows that do not sum to 1 would be drawn wrong."""
    answer = client.post(
        "/explain", files={"photo": photo}, data={"ids": ["r1", "r2"], "index": "recipes"}
    ).json()
    regions = answer["rows"] * answer["columns"]
    assert [item["id"] for item in answer["items"]] == ["r1", "r2"]
    for item in answer["items"]:
        for ingredient in item["ingredients"]:
            assert len(ingredient["weights"]) == len(ingredient["shades"]) == regions
            assert sum(ingredient["weights"]) == pytest.approx(1, abs=1e-4)
        assert len(item["region_weights"]) == len(item["region_gates"]) == regions
        assert all(sum(row) == pytest.approx(1, abs=1e-4) for row in item["region_weights"])
    assert answer["photo"].startswith("data:image/jpeg;base64,")
    missing = client.post("/explain", files={"photo": photo}, data={"ids": "nobody"})
    assert missing.status_code == 404


def test_items_and_their_photos_are_looked_up_by_any_id(client: httpx.Client) -> None:
    """Ids come from data: slashes and percent signs in them must find their item."""
    for item_id in ("r1", "a/b ö?%2F"):
        address = f"/items/{quote(item_id, safe='')}"
        assert client.get(address).json()["id"] == item_id
        picture = client.get(f"{address}/photo?index=photos")
        assert picture.headers["content-type"] == "image/jpeg"
        assert picture.content.startswith(b"\xff\xd8")
    assert client.get("/items/nobody").status_code == 404
    assert client.get("/items/r1?index=nothing").status_code == 404


def test_what_cannot_be_used_is_said_in_one_line(client: httpx.Client, photo: bytes) -> None:
    """A cook who sends the wrong thing is told what is wrong, and where."""
    wrong: list[tuple[dict[str, Any], int, str]] = [
        ({"files": {"photo": b"GIF89a"}}, 422, "photo: "),
        ({"files": {"photo": b""}}, 422, "empty"),
        ({"files": {"photo": photo}, "data": {"k": "0"}}, 422, "k: "),
        ({"files": {"photo": photo}, "data": {"kay": "3"}}, 422, "kay: "),
        ({"files": {"photo": photo}, "data": {"with": "!!"}}, 422, "holds no word"),
        ({"files": {"photo": photo}, "data": {"index": "photos"}}, 404, "no index"),
        ({"files": [("photo", photo), ("photo", photo)]}, 422, "one photo"),
        ({"json": {}}, 422, "one of photo, recipe and ingredients"),
        ({"json": {"recipe": {"title": "air"}}}, 422, "no ingredients"),
        ({"json": {"photo": "/etc/passwd"}}, 422, "base64"),
        ({"json": {"ingredients": ["qqq"]}}, 422, "no word of this recipe is known"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 422, "JSON"),
        ({"content": b"x", "headers": {"content-type": "text/html"}}, 400, "form"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "form"),
    ]
    for request, status, words in wrong:
        response = client.post("/search", **request)
        body = response.json()
        assert (response.status_code, words in body["error"]) == (status, True), (request, body)
        assert "\n" not in body["error"]
        assert body["request_id"] == response.headers["x-request-id"]


def test_a_title_from_data_reaches_no_header_and_no_markup(client: httpx.Client) -> None:
    """It is sent as JSON, under headers that let no page run it."""
    response = client.get("/items/r3")
    assert response.json()["title"] == HOSTILE
    assert "x-evil" not in response.headers
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "script-src 'self'" in response.headers["content-security-policy"]
    assert "unsafe" not in response.headers["content-security-policy"]


def test_every_answer_has_an_id_that_the_log_has_too(client: httpx.Client, server: Server) -> None:
    """What a user reports must be found in the log; an id that would act on it is not taken."""
    good = client.get("/info", headers={"x-request-id": "mine-1"})
    assert good.headers["x-request-id"] == "mine-1"
    assert server.logs("id=mine-1")
    bad = client.get("/info", headers={"x-request-id": "a b\x1b[2J"})
    assert bad.headers["x-request-id"] != "a b\x1b[2J"


def test_a_page_of_another_site_may_not_speak_to_it(client: httpx.Client) -> None:
    """A stranger's page in this machine's browser must not search, nor under another name."""
    assert client.get("/info", headers={"host": "evil.example"}).status_code == 403
    crossing = client.post("/search", headers={"sec-fetch-site": "cross-site"})
    assert crossing.status_code == 403
    assert client.delete("/items/r1").status_code == 403  # it is read only, too


def test_metrics_tell_of_requests_stages_and_indexes(client: httpx.Client, photo: bytes) -> None:
    """What a dashboard is made of."""
    client.post("/search", files={"photo": photo})
    text = client.get("/metrics").text
    for line in (
        'hficma_requests_total{path="/search",status="200"}',
        'hficma_stage_seconds_count{stage="rerank"}',
        'hficma_queue_seconds_count{lane="search"}',
        'hficma_batch_size_count{lane="search"}',
        'hficma_index_version{index="recipes"} 1.0',
        'hficma_index_items{index="photos"} 24.0',
    ):
        assert line in text
    [memory] = [line for line in text.splitlines() if line.startswith("hficma_memory_bytes ")]
    assert float(memory.split()[1]) > 1e7
    assert client.get("/health/live").json() == {"status": "live"}
    assert client.get("/health/ready").json() == {"status": "ready"}


def test_serving_imports_no_torch() -> None:
    """The container for a CPU has none."""
    code = "import hficma.engine.serving.http.app, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
