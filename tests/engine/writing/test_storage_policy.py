"""What is stored by default fits the machine, and who gets less than the fastest is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from hficma.engine.index.item_encoding import EncodingPrecision, Level, bytes_per_token
from hficma.engine.writing import storage_policy
from hficma.engine.writing.storage_policy import (
    PROJECTIONS_SHARE,
    TABLES_SHARE,
    check_form,
    default_level,
    form_within,
)
from hficma.errors import InputError

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


@pytest.mark.parametrize(
    ("budget", "form"),
    [
        (300_000, ("tables", "fp32")),
        (15_000, ("projections", "int8")),
        (9_217, ("tokens", "fp32")),
        (2_400, ("tokens", "int8")),
        (1_400, ("tokens", "int4")),
    ],
)
def test_the_best_that_fits_a_budget_is_stored(budget: float, form: tuple[str, str]) -> None:
    """1.4 KB hold a recipe of nine ingredients at D = 256, and no byte of a budget is passed."""
    chosen = form_within(
        budget, 9.0, width=256, heads=4, level=None, precision=None, exact_tokens=False
    )
    assert chosen == form


def test_six_kilobytes_hold_a_recipe_at_the_published_width() -> None:
    """The figure by which memory is planned; exact tokens beside them count."""
    sizes = {"width": 1024, "heads": 8, "level": None, "precision": None}
    assert form_within(6000, 9.0, exact_tokens=False, **sizes) == ("tokens", "int4")
    assert form_within(24_000, 9.0, exact_tokens=True, **sizes) == ("tokens", "int4")
    with pytest.raises(InputError, match="no less than 5,184"):
        form_within(5000, 9.0, exact_tokens=False, **sizes)


@pytest.mark.parametrize(
    ("level", "precision", "exact_tokens"),
    [("tables", "int4", False), (None, "fp32", True), ("projections", "int8", True)],
)
def test_what_cannot_be_stored_is_refused(
    level: Level | None, precision: EncodingPrecision, exact_tokens: bool
) -> None:
    """Before anything is encoded, not by the first shard."""
    with pytest.raises(InputError, match="tokens"):
        check_form(level, precision, exact_tokens=exact_tokens)
