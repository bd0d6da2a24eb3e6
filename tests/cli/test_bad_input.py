"""Whatever a user gets wrong: one line that says what and what to do, exit 2, no traceback."""

from __future__ import annotations

import io
import json
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import Ended, Hficma
from tests.engine.datasets import NoiseDataset


def refused(ended: Ended, *said: str) -> None:
    assert ended.code == 2, ended
    lines = [line for line in ended.err.splitlines() if line.startswith("hficma: ")]
    assert len(lines) == 1, ended.err
    assert "Traceback" not in ended.err + ended.out
    for text in said:
        assert text in lines[0]


def jpeg(size: tuple[int, int] = (300, 280), mode: str = "RGB") -> bytes:
    content = io.BytesIO()
    NoiseDataset(1).photo(0).resize(size).convert(mode).save(content, "JPEG")
    return content.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        (b"", "empty"),
        (b"these are no pixels", "no image"),
        (jpeg()[:2000], "damaged or truncated"),
        (png_header(100_000, 100_000), "scale it down"),
    ],
    ids=["missing", "empty", "text", "truncated", "bomb"],
)
def test_photos_that_are_none(
    hficma: Hficma, tmp_path: Path, content: bytes | None, said: str
) -> None:
    """A traceback of a decoder would not say which file to look at."""
    photo = tmp_path / "dish.jpg"
    if content is not None:
        photo.write_bytes(content)
    refused(hficma("search", "--image", photo), "dish.jpg", said)


def test_a_directory_is_no_photo(hficma: Hficma, tmp_path: Path) -> None:
    """A folder dropped onto the command belongs to another option."""
    refused(hficma("search", "--image", tmp_path), "is a directory")


@pytest.mark.parametrize("mode", ["L", "CMYK", "I;16", "P", "RGBA", "rotated"])
def test_every_kind_of_photo_is_answered(hficma: Hficma, tmp_path: Path, mode: str) -> None:
    """Scans, screenshots and phones give these; none may be refused."""
    image = NoiseDataset(1).photo(0)
    path = tmp_path / ("dish.jpg" if mode in ("L", "CMYK", "rotated") else "dish.png")
    if mode == "rotated":
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(path, exif=exif)
    elif mode == "I;16":
        image.convert("L").convert("I").point(lambda value: value * 257).convert("I;16").save(path)
    else:
        image.convert(mode).save(path)
    ended = hficma("search", "--image", path, "-k", 3, "--json")
    assert ended.code == 0, ended.err
    assert len(json.loads(ended.out)["hits"]) == 3


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ("{not json", "not valid JSON"),
        ("", "empty"),
        ("[1, 2]", "must be a JSON object"),
        ('{"title": "air"}', "no ingredients"),
        ('{"ingredients": []}', "no ingredients"),
        (json.dumps({"ingredients": ["salt"] * 201}), "201 ingredients"),
        ('{"ingredients": [1, 2]}', "must be text, not a number"),
        ('{"ingredients": ["salt"], "title": 7}', "title must be text"),
        ('{"ingredients": ["zzyzx"], "instructions": ["qwxyz"]}', "no word"),
    ],
)
def test_recipes_that_are_none(hficma: Hficma, tmp_path: Path, record: str, said: str) -> None:
    """A record without ingredients would be searched as nothing."""
    path = tmp_path / "soup.json"
    path.write_text(record, encoding="utf-8")
    refused(hficma("search", "--recipe", path), "soup", said)


def test_words_of_another_script_are_no_crime(hficma: Hficma) -> None:
    """Unknown words beside a known one are left out, with a note."""
    ended = hficma("search", "--ingredients", "tomato, バジル, соль", "-k", "2")
    assert ended.code == 0, ended.err


def test_more_than_twenty_ingredients_are_cut_with_a_note(hficma: Hficma, tmp_path: Path) -> None:
    """The model reads twenty; the others would be dropped without a word."""
    path = tmp_path / "long.json"
    path.write_text(json.dumps({"ingredients": ["salt", "onion"] * 15}), encoding="utf-8")
    ended = hficma("search", "--recipe", path, "-k", "2", "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["notes"]


def test_what_search_asks_for(hficma: Hficma, photo: Path) -> None:
    """A search without a query, or with two, must say what it takes."""
    refused(hficma("search"), "--image")
    refused(hficma("search", "--image", photo, "--ingredients", "salt"), "takes one of")
    refused(hficma("search", "--ingredients", " , "), "--ingredients is empty")
    refused(hficma("search", "--image", photo, "--index", "nowhere"), "nowhere")


@pytest.mark.torch
def test_an_empty_home_names_the_command_to_run(
    hficma: Hficma, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first thing that a new user meets is an empty workspace."""
    monkeypatch.setattr("hficma.pretrained.FOLDER", tmp_path)  # which else stands in
    empty = tmp_path / "empty"
    refused(hficma("--home", empty, "search", "--image", photo), "hficma index")
    refused(hficma("--home", empty, "index"), "hficma export")
    refused(hficma("--home", empty, "export"), "hficma train")
    refused(hficma("--home", empty, "eval"), "hficma train")


def test_an_index_of_another_model(hficma: Hficma, home: Path, photo: Path, tmp_path: Path) -> None:
    """Scores across models mean nothing, so they must not be given."""
    from tests.engine.factories import tiny_bundle

    other = tiny_bundle(tmp_path, seed=5)
    refused(
        hficma("search", "--image", photo, "--index", home / "indexes/recipes", "--bundle", other),
        "another model",
    )


def test_a_bundle_with_a_flipped_byte(
    hficma: Hficma, home: Path, photo: Path, tmp_path: Path
) -> None:
    """A compiled branch that was changed would answer wrongly without a word."""
    import shutil

    bundle = tmp_path / "bundle"
    shutil.copytree(next((home / "bundles").iterdir()), bundle)
    graph = next((bundle / "onnx").glob("image*.onnx"))
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    refused(hficma("search", "--image", photo, "--bundle", bundle), graph.name, "SHA-256")


def test_bad_records_are_left_out_and_counted(
    hficma: Hficma, recipes: Path, tmp_path: Path
) -> None:
    """One bad line in a million must not cost the night's work, nor pass unsaid."""
    out = tmp_path / "index"
    ended = hficma("index", "--data", recipes, "--out", out)
    assert ended.code == 0, ended.err
    assert "6 recipes, 2 left out" in ended.out
    assert "line 4" in ended.err
    assert "line 5" in ended.err
    strict = tmp_path / "strict"
    refused(hficma("index", "--data", recipes, "--out", strict, "--strict"), "line 4")
    assert not strict.exists()


def test_a_taken_name_is_never_overwritten(hficma: Hficma, recipes: Path, tmp_path: Path) -> None:
    """A mistyped path would cost whatever lies there."""
    out = tmp_path / "index"
    out.mkdir()
    (out / "precious").write_text("mine", encoding="utf-8")
    refused(hficma("index", "--data", recipes, "--out", out), "exists")
    assert (out / "precious").read_text(encoding="utf-8") == "mine"


def test_a_place_that_cannot_be_written(hficma: Hficma, recipes: Path) -> None:
    """A read-only disk; /proc refuses even the superuser."""
    refused(hficma("index", "--data", recipes, "--out", "/proc/hficma/index"), "/proc")


@pytest.mark.parametrize("command", ["index", pytest.param("train", marks=pytest.mark.torch)])
def test_an_interrupt_leaves_nothing_half_made(home: Path, tmp_path: Path, command: str) -> None:
    """Ctrl-C in the middle: one line, exit 130, and no directory that only looks whole."""
    out = tmp_path / "made" / "it"
    if command == "train":
        home = tmp_path / "home"  # another test's cache would look as if this one had begun
    words = {
        "index": ["index", "--of", "images", "--data", "sample:5000", "--out", out],
        "train": ["train", "--preset", "demo", "--data", "sample:5000", "--run", out],
    }[command]
    process = subprocess.Popen(
        [sys.executable, "-m", "hficma.cli", "--home", home, *words],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    begun = home / "cache" if command == "train" else out.parent
    deadline = time.monotonic() + 120
    while not begun.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert begun.exists()
    time.sleep(1)  # into the start of worker processes, or their work
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "hficma: interrupted" in err
    assert "Traceback" not in err
    if out.exists():
        assert json.loads((out / "manifest.json").read_text(encoding="utf-8"))["kind"] == "run"


def test_an_interrupt_while_packages_are_loaded_is_one_line(tmp_path: Path) -> None:
    """Who presses Ctrl-C at once, on a slow machine, would get a page of imports."""
    code = (
        "import sys, hficma.cli\n"
        "class Interrupts:\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        if name == 'typer': exec('raise KeyboardInterrupt')\n"
        "sys.meta_path.insert(0, Interrupts)\n"
        "hficma.cli.main()"
    )
    (tmp_path / "interrupted_early.py").write_text(code)
    command = [sys.executable, "-m", "interrupted_early"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert len(done.stderr.splitlines()) == 1
    assert "hficma: interrupted" in done.stderr


@pytest.mark.torch
def test_an_option_of_no_preset_suggests_the_nearest(hficma: Hficma, recipes: Path) -> None:
    """A typo that is ignored trains another model than was meant."""
    refused(hficma("train", "--data", recipes, "optimizer.lrr=1"), "optimizer.lrr", "optimizer.lr")
    refused(hficma("train", "--data", recipes, "optimizer.lr=fast"), "optimizer.lr")
    refused(hficma("train", "--data", recipes, "--preset", "hf-icma-smal"), "hf-icma-small")
