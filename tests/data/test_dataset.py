"""What `--data` opens: a file's records, each once."""

from __future__ import annotations

from pathlib import Path

import pytest

from hficma.data.dataset import open_dataset
from hficma.errors import InputError


def test_a_record_that_is_there_twice_is_named_and_left_out(tmp_path: Path) -> None:
    """Records without an id have one of their content: two equal ones would share it."""
    path = tmp_path / "r.jsonl"
    path.write_text(
        '{"title": "Soup", "ingredients": ["water"]}\n'
        '{"ingredients": ["water"], "title": "Soup"}\n'
        '{"title": "Soup", "ingredients": ["wine"]}\n',
        encoding="utf-8",
    )
    told: list[str] = []
    assert len(open_dataset(str(path), on_bad=told.append)) == 2
    assert len(told) == 1
    assert "'Soup') is there twice" in told[0]
    with pytest.raises(InputError, match="there twice"):
        open_dataset(str(path), strict=True)
