"""The figures of docs/data.md count what they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hficma.benchmarks.quality.page_accuracy import main, page_accuracy

NODE = {"@type": "Recipe", "name": "Tart", "recipeIngredient": ["2  leeks"]}


def test_right_wrong_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A page whose lines differ must not count as right, nor a page without a recipe as read."""
    expected = {"title": "Tart", "ingredients": ["2 leeks"], "instructions_list": ["Bake."]}
    for name, value in (("a", NODE), ("b", {"@type": "WebSite"})):
        script = f'<script type="application/ld+json">{json.dumps(value)}</script>'
        (tmp_path / f"{name}.testhtml").write_text(script, encoding="utf-8")
        (tmp_path / f"{name}.json").write_text(json.dumps(expected), encoding="utf-8")
    counts = page_accuracy(sorted(tmp_path.glob("*.testhtml")), sites=False)
    assert dict(counts) == {
        "pages": 2, "imported": 1, "title": 1, "ingredients": 1, "instructions": 0, "named": 1,
    }  # fmt: skip
    main(tmp_path, every=1)
    said = "of 2 pages: imported 1, title 1, ingredients 1, instructions 0, vanished 0"
    assert said in capsys.readouterr().out
