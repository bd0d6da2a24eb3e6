"""What is stored by default fits the machine, and who gets less than the fastest is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from hficma.engine.index.item_encoding import Level, bytes_per_token
from hficma.engine.writing import storage_policy
from hficma.engine.writing.storage_policy import PROJECTIONS_SHARE, TABLES_SHARE, default_level

TOKENS, WIDTH, HEADS = 1000.0, 64, 4


def size(level: Level) -> float:
    return TOKENS * bytes_per_token(level, "fp16", WIDTH, HEADS)


@pytest.mark.parametrize(
    ("memory", "level", "lines"),
    [
        (size("tables") / TABLES_SHARE, "tables", 0),
        (size("tables") / TABLES_SHARE - 1, "projections", 1),
        (size("projections") / PROJECTIONS_SHARE - 1, "tokens", 2),
        (0, "tokens", 2),
    ],
)
def test_a_level_that_does_not_fit_is_logged(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    memory: float,
    level: Level,
    lines: int,
) -> None:
    """A search is several times slower without tables: nobody would know why."""
    monkeypatch.setattr(storage_policy, "_memory", lambda: memory)
    with caplog.at_level("INFO", logger="hficma"):
        chosen = default_level(TOKENS, "fp16", width=WIDTH, heads=HEADS, folder=tmp_path)
    assert chosen == level
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == lines
    assert all("stores no tables" in message for message in messages[:1])
    assert all("stores no projections" in message for message in messages[1:])
