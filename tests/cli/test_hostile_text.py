"""Titles, names and paths of others, through whole commands."""

import json

import pytest
from PIL import Image

from hficma.data.dataset import open_dataset

TITLE = "\x1b]0;PWNED\x07\x9b31m [/b] [final] \u202evil \x1b[2J"
PATH = "mine [old] [b]"


@pytest.fixture
def hostile(tmp_path):
    """Three recipes of which every text is hostile."""
    lines = [
        {"id": f"{n}{TITLE}", "title": TITLE, "ingredients": [TITLE, "1 onion [/nope]"],
         "instructions": [TITLE], "category": TITLE}
        for n in range(3)
    ]  # fmt: skip
    path = tmp_path / "r.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def acting(ended):
    return [c for c in ended.out + ended.err if (ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160]


def test_no_command_lets_a_title_act(hficma, hostile, tmp_path, home):
    """A recipe from the web could clear the screen or type into the shell."""
    photo = tmp_path / "x[b]\x1b[2J.png"
    Image.new("RGB", (300, 300), "red").save(photo)
    out = tmp_path / PATH
    assert len(open_dataset(str(hostile))) == 3
    for words in (
        ["index", "--data", hostile, "--out", out],
        ["index", "info", "--index", out],
        ["search", "--index", out, "--image", photo],
        ["search", "--index", out, "--image", photo, "--json"],
        ["search", "--index", out, "--image", photo, "--with", "[/nope] \x1b[2J"],
        ["data", "show", hostile],
        ["index", "add", "--index", out, "--data", hostile],
        ["index", "compact", "--index", out],
    ):
        ended = hficma(*words)
        assert ended.code == 0, (words, ended.err)
        assert not acting(ended), words
    assert PATH in hficma("index", "info", "--index", out).out


def test_a_path_is_printed_as_it_is(hficma, hostile, tmp_path):
    """A path whose brackets are taken for markup cannot be copied."""
    ended = hficma("index", "--data", hostile, "--out", tmp_path / PATH)
    assert f"index: {tmp_path / PATH} (3 recipes" in ended.out


@pytest.mark.parametrize("word", ["--nosuch[/b]\x1b[2J", "nosuch[/b]\x1b]0;x\x07"])
def test_a_wrong_word_is_quoted_harmlessly(hficma, word):
    """What a shell completes may be any name of a file."""
    ended = hficma("search", word)
    assert ended.code == 2
    assert "[/b]" in ended.err
    assert not acting(ended)


def test_what_the_package_logs_is_a_line(hficma, hostile, monkeypatch):
    """A fallback must be seen, and may quote a path."""
    import logging

    from hficma.data import dataset

    opened = dataset.open_dataset

    def open_and_warn(*given, **options):
        logging.getLogger("hficma.data").warning("falls back on %s", TITLE)
        return opened(*given, **options)

    monkeypatch.setattr("hficma.data.open_dataset", open_and_warn)
    ended = hficma("data", "show", hostile)
    assert ended.err.count("hficma: falls back on") == 1
    assert not acting(ended)


def test_doctor_names_the_extra_in_brackets(hficma, monkeypatch):
    """Taken for markup, the extra would vanish from the line to copy."""
    from hficma.cli.commands import doctor

    monkeypatch.setattr(doctor, "_distribution", lambda name: None)
    assert "pip install 'hficma[cpu]'" in hficma("doctor").out
