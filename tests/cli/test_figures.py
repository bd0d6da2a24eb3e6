"""What commands say of figures: how many pairs they are of, and how sure that is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hficma.data.dataset import open_dataset
from tests.cli.conftest import Hficma
from tests.training.conftest import SMALL


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Forty pairs of one's own, without partitions."""
    sample, lines = open_dataset("sample:100"), []
    for number in range(40):
        sample.photo(number).save(tmp_path / f"{number}.png")
        record = {**sample.recipe(number).to_json(), "image": f"{number}.png", "id": str(number)}
        record = {key: value for key, value in record.items() if key != "partition"}
        lines.append(json.dumps({**record, "title": f"Dish {number}"}))
    (tmp_path / "own.jsonl").write_text("\n".join(lines))
    return tmp_path / "own.jsonl"


def test_own_pairs_give_a_figure_with_its_number_and_interval(
    few: Path, hficma: Hficma, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A figure without the number of its pairs and an interval says more than was measured."""
    monkeypatch.setenv("HFICMA_HOME", str(tmp_path / "space"))
    run = "mine"  # a name of the workspace, for each of the commands
    refused = hficma("train", "--data", few, "--hold-out", "everything", "--run", run)
    assert refused.code == 2
    assert "10%" in refused.err
    options = [*SMALL, "trainer.epochs=1"]
    ended = hficma("train", "--data", few, "--hold-out", "3", "--run", run, *options)
    assert ended.code == 0, ended.err
    assert (tmp_path / "space" / "runs" / "mine").is_dir()
    assert "3 test pairs (3 whole dishes)" in ended.err
    both = "photo 100.0 [34, 100] recipe 100.0 [34, 100]"
    assert f"R@10 {both} of 2  lr " in ended.err, "beside each epoch"
    assert "`hficma eval` measures on 3 test pairs" in " ".join(ended.out.split())
    ended = hficma("eval", "--run", run)
    assert ended.code == 0, ended.err
    assert "± 0.0" not in ended.out
    assert "100.0" in ended.out
    assert " 44, 100 " in ended.out, "of three, whatever the model"
    assert "n = 3 pairs" in ended.err
    assert "R@10 100" in ended.err, "so much is chance"
    ended = hficma("compare", run, "--metric", "R@10")
    assert "[34, 100]" in ended.out
    assert "best of 1" in ended.out
    assert "[44, 100]" in ended.out, "what eval found stands below"


def test_a_frozen_random_trunk_is_refused_with_what_to_bring(few: Path, hficma: Hficma) -> None:
    """An encoder that stays random trains for an hour and learns nothing."""
    ended = hficma("train", "--preset", "best", "--data", few)
    assert ended.code == 2
    assert "trunk.weights=mobilenet_v2_imagenet.safetensors" in ended.err
    assert len(ended.err.strip().splitlines()) <= 2, "a line, and that nothing is held out"


def test_train_names_the_first_bad_lines_and_counts_the_others(few: Path, hficma: Hficma) -> None:
    """A file gone wrong would scroll everything else away."""
    with few.open("a") as file:
        file.write('\n{"title": "air"}' * 30)
    ended = hficma("train", "--preset", "best", "--data", few)
    assert ended.err.count("left out: ") == 10
    assert "... and 20 more lines like these" in ended.err


def test_a_proved_answer_is_not_called_right(hficma: Hficma, photo: Path) -> None:
    """ "all ranks certified" reads as if the dish were surely found."""
    said = hficma("search", "--image", photo, "--exact").out
    assert "the same as scoring all 30" in said
    assert "certified" not in said
    said = hficma("search", "--image", photo, "--candidates", "1", "-k", "1").out
    assert "as scoring all 30" in said
