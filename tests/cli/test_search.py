"""Searching as a user does: answers in tables and JSON, many at once, cold, without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import Hficma
from tests.engine.datasets import NoiseDataset

FORBID = """
import sys
sys.modules["torch"] = sys.modules["inflect"] = None  # any import of them now fails
from hficma.cli import main
sys.argv = ["hficma", *sys.argv[1:]]
main()
"""


def without_torch(home: Path, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", FORBID, "--home", str(home), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_search_needs_no_torch(home: Path, photo: Path) -> None:
    """With only [cpu] installed there is none; both kinds of query must still be answered.

    Nor is there time for the dictionary of plurals, which only filters ask.
    """
    for query in (("--image", photo), ("--ingredients", "tomato, basil")):
        ended = without_torch(home, "search", *query, "-k", "3", "--json")
        assert ended.returncode == 0, ended.stderr
        assert len(json.loads(ended.stdout)["hits"]) == 3


@pytest.mark.parametrize("command", [("train",), ("eval", "--run", "x")])
def test_training_without_torch_names_the_extra(home: Path, command: tuple[str, ...]) -> None:
    """A serving machine's user who types `train` must learn what to install."""
    ended = without_torch(home, *command)
    assert ended.returncode == 2
    assert "pip install 'hficma[train]'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_table_shows_what_a_cook_asks(hficma: Hficma, photo: Path) -> None:
    """Rank, title, score, ingredients, and how far the answer is proved."""
    ended = hficma("search", "--image", photo, "-k", "4")
    assert ended.code == 0, ended.err
    for word in ("title", "ingredients", "soup", "items scored", "ms"):
        assert word in ended.out


def test_exact_answers_are_certified(hficma: Hficma, photo: Path) -> None:
    """--exact that is not proved would be a promise broken."""
    ended = hficma("search", "--image", photo, "-k", "5", "--exact", "--candidates", 5, "--json")
    assert json.loads(ended.out)["certified"] == 5


def test_a_filter_that_nothing_passes_says_why(hficma: Hficma, photo: Path) -> None:
    """An empty table reads as a broken search, and "all ranks certified" of none as a proof."""
    ended = hficma("search", "--image", photo, "--with", "tomatto")
    assert (ended.code, ended.out.strip()) == (0, "nothing passes the filter")
    assert "no recipe of the index has 'tomatto'; nearest: tomato" in ended.err
    assert "certified" not in ended.out + ended.err
    answer = json.loads(hficma("search", "--image", photo, "--with", "tomatto", "--json").out)
    assert (answer["hits"], answer["certified"], len(answer["notes"])) == ([], 0, 1)


def test_an_answer_can_be_explained(hficma: Hficma, photo: Path, tmp_path: Path) -> None:
    """The page must stand alone: nothing in it may be fetched from elsewhere."""
    page = tmp_path / "why.html"
    ended = hficma("search", "--image", photo, "-k", "2", "--explain", page)
    assert ended.code == 0, ended.err
    content = page.read_text(encoding="utf-8")
    assert "data:image/" in content
    assert 'src="http' not in content
    assert hficma("search", "--ingredients", "salt", "--explain", page).code == 2


def test_filters_keep_k_answers(hficma: Hficma, photo: Path) -> None:
    """Thrown away afterwards, answers would be fewer than asked for."""
    ended = hficma("search", "--image", photo, "-k", "8", "--without", "salt", "--json")
    hits = json.loads(ended.out)["hits"]
    assert len(hits) == 8
    assert all("salt" not in line.split() for hit in hits for line in hit["ingredients"])


def test_a_filter_of_several_names_is_several_filters(hficma: Hficma, photo: Path) -> None:
    """`--without "salt, oil"` looked for the two side by side in a line, and kept both."""
    apart = hficma("search", "--image", photo, "--without", "salt", "--without", "oil", "--json")
    together = hficma("search", "--image", photo, "--without", "salt, oil", "--json")
    ids = [[hit["id"] for hit in json.loads(ended.out)["hits"]] for ended in (apart, together)]
    assert ids[0] == ids[1]
    assert hficma("search", "--image", photo, "--without", " , ").code == 2


def test_many_photos_answer_in_order_and_survive_a_bad_one(hficma: Hficma, tmp_path: Path) -> None:
    """One broken upload must not cost the batch."""
    for number in range(3):
        NoiseDataset(1, first=number).photo(0).save(tmp_path / f"{number}.png")
    (tmp_path / "1b.png").write_bytes(b"broken")
    ended = hficma("search", "--images", tmp_path, "-k", "2")
    answers = [json.loads(line) for line in ended.out.splitlines()]
    assert [Path(answer["query"]).name for answer in answers] == [
        "0.png", "1.png", "1b.png", "2.png",
    ]  # fmt: skip
    assert [len(answer.get("hits", ())) for answer in answers] == [2, 2, 0, 2]
    assert "1b.png" in answers[2]["error"]
    assert "3 answered, 1 could not be read" in ended.err


def test_recipes_find_photos(hficma: Hficma, recipes: Path, tmp_path: Path) -> None:
    """The other direction, from a file of recipes and from one."""
    ended = hficma("search", "--recipes", recipes, "-k", "2")
    answers = [json.loads(line) for line in ended.out.splitlines()]
    assert [a["query"] for a in answers if "hits" in a] == [f"r{n}" for n in range(100, 106)]
    bad = [(place, a) for place, a in enumerate(answers) if "error" in a]
    assert [(place, a["query"]) for place, a in bad] == [
        (3, f"{recipes} line 4"), (4, f"{recipes} line 5"),
    ]  # fmt: skip
    assert "6 answered, 2 could not be read" in ended.err
    one = tmp_path / "one.json"
    one.write_text(recipes.read_text(encoding="utf-8").splitlines()[0], encoding="utf-8")
    ended = hficma("search", "--recipe", one, "-k", "1", "--json")
    assert json.loads(ended.out)["hits"][0]["image"].endswith(".png")


def test_an_index_can_be_changed(hficma: Hficma, recipes: Path, tmp_path: Path) -> None:
    """Add, remove, compact, info and verify, as the README shows them."""
    index = tmp_path / "index"
    assert hficma("index", "--data", recipes, "--out", index).code == 0
    assert "2 removed" in hficma("index", "remove", "r100", "r103", "--index", index).out
    assert hficma("index", "compact", "--index", index).code == 0
    facts = json.loads(hficma("index", "info", "--index", index, "--json").out)
    assert facts["items"] == 4
    assert "2 added" in hficma("index", "add", "--data", recipes, "--index", index).out
    ended = hficma("index", "verify", "--index", index)
    assert ended.code == 0, ended.err
    assert "6 items" in ended.out


def test_half_an_emoji_is_indexed_and_found(hficma: Hficma, tmp_path: Path) -> None:
    """JSON says \\ud800, which no database takes: a traceback, and nothing was indexed."""
    lines = (
        r'{"id": "k\ud800", "title": "lone \ud800", "ingredients": ["1 onion \udfff"]}',
        '{"id": "1", "title": "whole", "ingredients": ["1 leek"]}',
    )
    path, index = tmp_path / "r.jsonl", tmp_path / "index"
    path.write_text("\n".join(lines), encoding="utf-8")
    assert hficma("index", "--data", path, "--out", index).code == 0
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (300, 300), "green").save(tmp_path / "photos" / "a.png")
    ended = hficma("search", "--images", tmp_path / "photos", "--index", index, "-k", "2")
    assert {hit["title"] for hit in json.loads(ended.out)["hits"]} == {"lone \ufffd", "whole"}
    one = tmp_path / "one.json"
    one.write_text(lines[0], encoding="utf-8")
    assert hficma("search", "--recipe", one, "-k", "1").code == 0


def test_pages_and_tables_are_imported_first(hficma: Hficma, tmp_path: Path) -> None:
    """A page given as a dataset was a screen of lines that are no JSON."""
    (tmp_path / "r.CSV").write_text("name,ingredients\nx,y\n")
    ended = hficma("index", "--data", tmp_path / "r.CSV", "--out", tmp_path / "index")
    assert ended.code == 2
    assert "hficma data import" in ended.err
