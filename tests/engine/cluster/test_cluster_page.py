"""The commands of docs/howto/cluster.md take a cluster of three machines to a served index."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hficma.engine import Engine
from tests.docs.pages import blocks, commands, text_of
from tests.engine.cluster.machines import Machines
from tests.engine.cluster.stores import s3_server
from tests.engine.datasets import NoiseDataset

pytest.importorskip("httpx", reason="asks the service; needs the extra [dev]")

from tests.engine.serving.servers import running_server

pytestmark = [pytest.mark.xdist_group("cluster"), pytest.mark.cluster]

PAGE = "docs/howto/cluster.md"
DATA = NoiseDataset(30)


def page_commands() -> list[str]:
    """The page's own commands, in their order."""
    shown = [block for block in blocks(PAGE, text_of(PAGE)) if block.language == "sh"]
    return [c for block in shown for c in commands(block) if c.startswith("hficma ")]


def test_the_page_s_commands_serve_an_index(
    machines: Machines, hf_icma_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody with a hundred machines types these first."""
    bundle = shutil.copytree(hf_icma_bundle, tmp_path / "workspace/bundles/demo")
    lines = (json.dumps(DATA.recipe(place).to_json() | {"image": None}) for place in range(30))
    (tmp_path / "recipes.jsonl").write_text("\n".join(lines))
    DATA.photo(3).convert("RGB").save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HFICMA_HOME", "workspace")
    told = page_commands()
    assert len(told) == 7, "five to serve an index, two for an object store"
    here = [
        command.replace("file:///var/backups", f"file://{tmp_path}/backups") for command in told
    ]
    [serving] = [command for command in here if command.startswith("hficma serve")]
    with s3_server("bucket"):
        for command in here:
            if command == serving:
                continue
            words = [sys.executable, "-m", "hficma.cli", *shlex.split(command)[1:]]
            ended = subprocess.run(
                words, capture_output=True, text=True, timeout=300, env=os.environ.copy()
            )
            assert ended.returncode == 0, f"{command}: {ended.stderr}"
    for copy in ("workspace/indexes/all", "workspace/indexes/fetched", "backups/recipes"):
        assert (tmp_path / copy / "manifest.json").is_file()
    with Engine.open("workspace/indexes/all", bundle=bundle) as engine:
        expected = [hit.id for hit in engine.search(image="photo.jpg").hits]
    with running_server(*shlex.split(serving)[2:]) as server, server.client() as client:
        photo = (tmp_path / "photo.jpg").read_bytes()
        answer = client.post("/search", files={"photo": photo}).json()
        assert [hit["id"] for hit in answer["hits"]] == expected
        [info] = client.get("/info").json()["indexes"]
        assert info["cluster"]["share"] == 1.0
