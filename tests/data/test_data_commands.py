"""`hficma data` and `hficma vectors` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from hficma.cli.commands.datasets import app as data_app
from hficma.cli.commands.text_vectors import app as vectors_app
from hficma.data import open_dataset
from hficma.data.summary import contact_sheet, summarise
from hficma.errors import ArtifactError, InputError
from hficma.text.word_vectors import SENTENCES, WordVectors

run = CliRunner().invoke


def test_import_and_show(jsonl: Path, tmp_path: Path) -> None:
    """The two commands one after the other, with JSON for programs and a sheet for people."""
    out = tmp_path / "dataset"
    result = run(data_app, ["import", str(jsonl), "--out", str(out), "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "out": str(out), "recipes": 9, "photos": 9, "left_out": 0,
    }  # fmt: skip
    sheet = tmp_path / "sheet.png"
    result = run(data_app, ["show", str(out), "--sheet", str(sheet)])
    assert result.exit_code == 0
    assert "9 recipes (train 5, val 2, test 2), 9 with a photo" in result.stdout
    assert "olive oil" in result.stdout
    assert "tomato salad 3" in result.stdout
    with Image.open(sheet) as image:
        assert image.format == "PNG"
        assert image.width > image.height


def test_a_damaged_source_is_reported(jsonl: Path, tmp_path: Path) -> None:
    """What was left out is counted at the end, and said where to read of it."""
    with jsonl.open("a") as file:
        file.write("{\n")
    result = run(data_app, ["import", str(jsonl), "--out", str(tmp_path / "out")])
    assert "1 bad record or photo left out" in result.stdout
    assert "line 10" in result.stderr
    result = run(data_app, ["import", str(jsonl), "--out", str(tmp_path / "o"), "--strict"])
    assert isinstance(result.exception, InputError)


def test_summary_of_a_file(jsonl: Path) -> None:
    """Counts come from the recipes, whatever kind of dataset holds them."""
    summary = summarise(open_dataset(str(jsonl)))
    assert (summary.recipes, summary.with_photo) == (9, 9)
    assert summary.partitions == {"train": 5, "val": 2, "test": 2}
    assert dict(summary.ingredients)["salt"] == 4
    assert summary.lengths["ingredients"] == {"median": 3.0, "90 %": 3.0, "most": 3.0}


def test_no_photos_no_sheet(tmp_path: Path) -> None:
    """A blank picture would hide that there is nothing to show."""
    (tmp_path / "r.jsonl").write_text('{"ingredients": ["salt"]}\n')
    with pytest.raises(InputError, match="no recipe has a photo"):
        contact_sheet(open_dataset(str(tmp_path / "r.jsonl")))


@pytest.mark.torch
def test_vectors_chain(tmp_path: Path) -> None:
    """Words, then sentences over them, then out to word2vec's file and in again."""
    record: dict[str, Any] = {"title": "Bean soup", "ingredients": ["2 cups white beans", "salt"]}
    record["instructions"] = ["Soak the white beans.", "Boil them with salt.", "Serve hot."]
    lines = [{**record, "title": f"Bean soup {n}"} for n in range(40)]
    source = tmp_path / "r.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    words, both = tmp_path / "words", tmp_path / "both"
    result = run(
        vectors_app,
        ["words", "--data", str(source), "--out", str(words), "--dim", "8", "--epochs", "1"],
    )
    assert result.exit_code == 0, result.output
    assert "white_beans" in WordVectors.load(words).vocabulary
    arguments = ["--data", str(source), "--vectors", str(words), "--out", str(both)]
    result = run(vectors_app, ["sentences", *arguments, "--dim", "4", "--epochs", "1", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["sentence_dim"] == 4
    assert (both / SENTENCES).is_file()
    assert run(vectors_app, ["write", str(both), str(tmp_path / "v.bin")]).exit_code == 0
    result = run(vectors_app, ["read", str(tmp_path / "v.bin"), "--out", str(tmp_path / "again")])
    assert result.exit_code == 0
    again = WordVectors.load(tmp_path / "again")
    assert again.table.tobytes() == WordVectors.load(words).table.tobytes()
    result = run(vectors_app, ["words", "--data", str(source), "--out", str(words)])
    assert isinstance(result.exception, ArtifactError)


@pytest.mark.parametrize(
    ("app", "commands"),
    [(data_app, ["import", "show"]), (vectors_app, ["words", "sentences", "read", "write"])],
)
def test_help_shows_an_example(app: Any, commands: list[str]) -> None:
    """Every command says how it is typed."""
    for command in commands:
        result = run(app, [command, "--help"])
        assert result.exit_code == 0
        assert "Example: hficma" in result.stdout
