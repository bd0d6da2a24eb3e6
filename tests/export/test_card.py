"""A bundle's card quotes recall of pairs that training never saw, and how sure it is, or none."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hficma.data.dataset import open_dataset
from hficma.engine.bundle.bundle_facts import BundleFacts
from hficma.export.calibration_items import real_items
from hficma.export.card import write_card
from hficma.export.rank_changes import RankChange
from hficma.model import ModelConfig
from tests.model.factories import make_model

FACTS = BundleFacts(
    model=ModelConfig(width=8), model_id="0", has_local=True, global_dim=8, width=8, heads=8,
    regions=49, sentence_dim=8, graphs={}, opset=20, run="run", dataset="/home/a/own.jsonl",
    trained_on=None, int8_kept_wide=None,
)  # fmt: skip


def card(folder: Path, change: RankChange, *, trained_on: str | None) -> str:
    write_card(folder, replace(FACTS, trained_on=trained_on), [], [change])
    return (folder / "README.md").read_text()


def change(tests: int) -> RankChange:
    """All queries find their recipe; of the test pairs among them, one in three."""
    share = {1: 0.0, 10: 100 / 3}
    return RankChange(
        precision="fp32", runtime="onnxruntime", queries=30, overlap=1.0,
        recall={1: 63.2, 10: 97.7}, reference_recall={1: 63.2, 10: 97.7}, tests=tests,
        test_recall=share if tests else None, test_reference_recall=share if tests else None,
    )  # fmt: skip


def test_recall_is_that_of_test_pairs_with_their_number_and_interval(tmp_path: Path) -> None:
    """`best` trains on the validation pairs, and finds those it knows by heart."""
    text = card(tmp_path, change(3), trained_on="/home/a/own.jsonl")
    assert "n = 3 test pairs alone" in text
    assert "33.3 [6, 79]" in text
    assert not re.search(r"63\.2|97\.7", text), "recall of pairs that were trained on"
    assert "/home/a" not in text, "a path of the machine that made it"


@pytest.mark.parametrize(
    ("trained_on", "reason"),
    [
        ("/home/a/own.jsonl", "was trained on these pairs"),
        ("/home/a/others.jsonl", "is not known here"),
        (None, "is not known here"),
    ],
)
def test_without_test_pairs_no_recall_is_quoted_and_the_card_says_why(
    tmp_path: Path, trained_on: str | None, reason: str
) -> None:
    text = card(tmp_path, change(0), trained_on=trained_on)
    assert reason in text
    assert "R@10 |" not in text
    assert not re.search(r"63\.2|97\.7|33\.3", text)
    assert "100.00 %" in text, "that answers stay may be said of any pairs"


def test_items_know_which_of_them_are_test_pairs() -> None:
    dataset, model = open_dataset("sample:100"), make_model()
    items = real_items(dataset, model, ("test", "val"), 8)
    assert items.test is not None
    assert 0 < items.test.sum() < 8
    only = real_items(dataset, model, ("test",), 4)
    assert only.test is not None
    assert np.all(only.test)
