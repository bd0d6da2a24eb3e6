"""The page of plots: AdaMine's twelve, well-formed, and honest about what is not there."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

from hficma.training.runs.curves import plots, write_curves


def test_adamines_twelve_plots_come_first() -> None:
    titles = [plot.title for plot in plots()]
    assert titles[:2] == ["training loss", "share of idle pairs"]
    assert len([title for title in titles[2:10] if " to " in title]) == 8
    assert titles[10:12] == ["image encoder trained (1) or not (0)", "gradient norm"]


def test_losses_and_ranks_are_better_lower_and_recalls_higher() -> None:
    """A curve that falls looks like a failure, unless the page says that it should."""
    better = {plot.title: plot.better for plot in plots()}
    assert better["training loss"] == better["recipe to photo: medR"] == "lower"
    assert better["photo to recipe: R@10"] == better["recall sum"] == "higher"
    assert better["learning rate"] is None


def test_a_page_is_well_formed_even_for_odd_names_and_missing_numbers(tmp_path: Path) -> None:
    """A run named `<b>` or a loss that is no number must not break the page."""
    run = tmp_path / "<b> & co"
    run.mkdir()
    figures = {"medR": 3.0, "R@1": 10.0, "R@5": 20.0, "R@10": 30.0}
    records = [
        {"kind": "step", "epoch": 1, "step": 1, "lr": 0.1, "norm": 2.0},
        {"kind": "epoch", "epoch": 1, "step": 4, "train": {"loss": float("nan")}},
        {
            "kind": "epoch", "epoch": 2, "step": 8, "train": {"loss": 0.5},
            "validation": {"image_to_recipe": figures, "recall_sum": 60.0},
        },
    ]  # fmt: skip
    (run / "log.jsonl").write_text("\n".join(json.dumps(record) for record in records))
    page = write_curves([run], tmp_path / "page.html").read_text()
    body = page.split("<main>")[1].split("</main>")[0]
    drawn = ET.fromstring(f"<main>{body}</main>")
    titles = [text.text for text in drawn.iter("b")]
    assert "training loss" in titles
    assert "photo to recipe: medR" in titles
    assert "recipe to photo: medR" not in titles, "a plot without a single point"
    assert len(list(drawn.iter("{http://www.w3.org/2000/svg}svg"))) == len(titles)
    assert "best 0.5 in epoch 2" in body, "the loss of epoch 1 is no number"


def test_the_page_needs_no_other_file_and_runs_no_script(tmp_path: Path) -> None:
    """It is opened from a mail or a share, where nothing is beside it."""
    run = tmp_path / "run"
    run.mkdir()
    record = {"kind": "epoch", "epoch": 1, "step": 4, "train": {"loss": 1.0}, "seconds": 2.0}
    (run / "log.jsonl").write_text(json.dumps(record))
    page = write_curves([run]).read_text()
    assert not re.search(r"<(script|img|link|iframe)|@import|url\(http|src=", page)
    ids = re.findall(r'<path id="(m[0-9a-f]+)"', page)
    assert len(ids) == len(set(ids)) > 0, "two plots share a shape: one would show the other's"


def test_runs_whose_folders_have_one_name_are_all_drawn(tmp_path: Path) -> None:
    """Two runs called `best` in two workspaces came out as one line, of the second."""
    runs = [tmp_path / "first" / "best", tmp_path / "second" / "best"]
    for loss, run in enumerate(runs, 1):
        run.mkdir(parents=True)
        record = {"kind": "epoch", "epoch": 1, "step": 4, "train": {"loss": float(loss)}}
        (run / "log.jsonl").write_text(json.dumps(record))
    names = ["first/best", "second/best"]
    page = write_curves(runs, tmp_path / "page.html", names=names).read_text()
    assert all(name in page for name in names)
    assert "best 1 in epoch 1" in page
    assert "best 2 in epoch 1" in page


def test_switches_that_never_change_are_not_drawn(tmp_path: Path) -> None:
    """A frozen encoder's plot is a flat line at 0, which tells nothing."""
    run = tmp_path / "run"
    run.mkdir()

    def titles(*trained: int) -> str:
        records = [
            {"kind": "epoch", "epoch": n, "step": 4 * n, "trunk_trained": one, "skipped": 0,
             "train": {"loss": 1.0}}
            for n, one in enumerate(trained, 1)
        ]  # fmt: skip
        (run / "log.jsonl").write_text("\n".join(map(json.dumps, records)))
        return write_curves([run]).read_text()

    assert "image encoder trained" not in titles(0, 0)
    assert "image encoder trained" in titles(0, 1)
    assert "skipped steps" not in titles(0, 1)
    assert "training loss" in titles(0, 0)
