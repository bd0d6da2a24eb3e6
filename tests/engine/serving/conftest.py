"""A kitchen that is served: recipes with photos, an index of each kind, and one server for all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import httpx
import pytest

from hficma.data import open_dataset
from hficma.engine import build_index
from tests.engine.datasets import NoiseDataset
from tests.engine.serving.servers import Server, running_server

DISHES = NoiseDataset(24)
HOSTILE = '<img src=x onerror="document.title=1">\r\nX-Evil: 1'
"""A title as someone could write it who wants it to act on a page or a header."""


@pytest.fixture(scope="session")
def kitchen(hf_icma_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `recipes` and `photos`, indexes of 24 dishes; never written to."""
    folder = tmp_path_factory.mktemp("kitchen")
    (folder / "images").mkdir()
    records = []
    for place in range(len(DISHES)):
        record = DISHES.recipe(place).to_json() | {"url": f"https://example.org/{place}"}
        DISHES.photo(place).save(folder / "images" / f"{place}.jpg")
        records.append(record | {"image": f"images/{place}.jpg"})
    records[3]["title"] = HOSTILE
    records[5]["id"] = "a/b ö?%2F"
    records[6]["url"] = "javascript:alert(1)"
    (folder / "recipes.jsonl").write_text("\n".join(map(json.dumps, records)))
    data = open_dataset(str(folder / "recipes.jsonl"))
    build_index(hf_icma_bundle, data, folder / "recipes")
    build_index(hf_icma_bundle, data, folder / "photos", of="images")
    return folder


@pytest.fixture(scope="session")
def server(kitchen: Path) -> Iterator[Server]:
    """A server of both indexes, for tests that change nothing of it."""
    with running_server("--index", kitchen / "recipes", "--index", kitchen / "photos") as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    """A client of the shared server."""
    with server.client() as client:
        yield client


@pytest.fixture(scope="session")
def photo() -> bytes:
    """A photo's file."""
    return photo_of(7)


def photo_of(dish: int) -> bytes:
    """The file of a dish's photo."""
    buffer = BytesIO()
    DISHES.photo(dish).save(buffer, "png")
    return buffer.getvalue()
