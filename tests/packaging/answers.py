"""Install a built file into a new environment and have it answer in an empty folder.

    python -m tests.packaging.answers dist/*.whl dist/*.tar.gz

What a user does first: install, `hficma --help`, `hficma doctor`, a search with nothing of one's
own. Then it answers from the index and bundle of an older release in tests/fixtures, so those
answers are known.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

from tests.engine.datasets import NoiseDataset

ROOT = Path(__file__).parents[2]
OLDER = ROOT / "tests" / "fixtures" / "older"

SEARCHES = {
    "plain": ["-k", "4"],
    "exact": ["-k", "8", "--exact"],
    "soups": ["-k", "8", "--category", "soup", "--without", "salt"],
}
"""The options of each answer in tests/fixtures/older/answers.json."""

COLD_SECONDS = 2.0
"""What an answer may take with nothing but the package, the start of Python included."""


def check(built: Path) -> None:
    """Raise AssertionError or CalledProcessError unless what was built answers as it must."""
    with tempfile.TemporaryDirectory() as scratch:
        environment, home = Path(scratch, "venv"), Path(scratch, "home")
        home.mkdir()
        venv.create(environment, with_pip=True)
        (scripts,) = [path for path in environment.iterdir() if path.name in ("bin", "Scripts")]
        run(
            scripts / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
            "-c", ROOT / "constraints.txt", f"{built.resolve()}[cpu]", cwd=home,
        )  # fmt: skip
        assert "Usage:" in run(scripts / "hficma", "--help", cwd=home)
        steps = json.loads(run(scripts / "hficma", "doctor", "--json", cwd=home))["steps"]
        assert steps["search, index"] == "ready", steps
        NoiseDataset(4).photo(3).save(home / "photo.png")
        at_once = "brings no model"
        if steps["search the cookbook"] == "ready":
            at_once = f"cold in {_answer_at_once(scripts / 'hficma', home):.1f} s"

        older = shutil.copytree(OLDER, home / "older")
        expected = json.loads((older / "answers.json").read_text(encoding="utf-8"))
        for name, options in SEARCHES.items():
            place = ["--index", "older/index", "--bundle", "older/bundle"]
            query = ["--image", "photo.png", "--runtime", "onnxruntime", "--json", *options]
            answer = json.loads(run(scripts / "hficma", "search", *place, *query, cwd=home))
            hits = answer["hits"]
            assert len(hits) == len(expected[name]["hits"]), name
            for hit, (identity, score, title) in zip(hits, expected[name]["hits"], strict=True):
                assert (hit["id"], hit["title"]) == (identity, title), name
                assert math.isclose(hit["score"], score, rel_tol=1e-6), name
    print(f"{built.name}: installs, and answers in an empty folder as it must; {at_once}")


def _answer_at_once(program: Path, home: Path) -> float:
    """Ask about a photo with nothing of one's own; return the seconds from typing to answer."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        answer = run(program, "search", "--image", "photo.png", "--json", cwd=home)
        seconds.append(time.perf_counter() - start)
        hits = json.loads(answer)["hits"]
        assert len(hits) == 10
        assert all(hit["id"].startswith("cookbook:") for hit in hits), hits
    # The least: what else the machine does only adds.
    assert min(seconds) <= COLD_SECONDS, seconds
    return min(seconds)


def run(*words: object, cwd: Path) -> str:
    """Return what a command prints; what it complains about goes to the terminal."""
    return subprocess.run(
        [str(word) for word in words], cwd=cwd, check=True, stdout=subprocess.PIPE, encoding="utf-8"
    ).stdout


if __name__ == "__main__":
    for file in sys.argv[1:]:
        check(Path(file))
