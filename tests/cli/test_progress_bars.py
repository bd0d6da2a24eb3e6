"""What bars leave on the terminal, and in a file that stderr is sent to."""

from __future__ import annotations

import io
import itertools
import re
from typing import Any

import pytest

from hficma.cli.console import MAX_BAD_SHOWN, Bars
from hficma.terminal import TextConsole

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@pytest.fixture(autouse=True)
def any_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that moves its cursor, wherever the tests run."""
    monkeypatch.setenv("TERM", "xterm")


def bars_in_file(*, terminal: bool = False) -> tuple[Bars, io.StringIO]:
    """Bars that write to a text in memory, whose clock goes on by a second at each look."""
    file = io.StringIO()
    console = TextConsole(file=file, width=100)
    console._force_terminal = console.is_interactive = terminal
    bars = Bars(console)
    clock = itertools.count()
    bars._progress.get_time = lambda: float(next(clock))
    return bars, file


def test_a_stage_that_ended_leaves_its_time() -> None:
    """Nothing would say what a night was spent on."""
    bars, file = bars_in_file()
    with bars:
        report = bars.counting("indexing recipes")
        report(1250, 0)
    lines = file.getvalue().rstrip().splitlines()  # Rich 13 ends with an empty line
    assert len(lines) == 1
    assert lines[0].startswith("indexing recipes: ")
    assert lines[0].endswith(" s")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("terminal", [False, True])
def test_a_stage_that_was_cut_short_is_not_said_to_be_done(
    error: type[BaseException], terminal: bool
) -> None:
    """ "indexing recipes: 3 s" after Ctrl-C reads as an index that is there."""
    bars, file = bars_in_file(terminal=terminal)

    def cut_short() -> None:
        with bars:
            bars.counting("indexing recipes")(7, 0)
            raise error

    with pytest.raises(error):
        cut_short()
    text = ESCAPE.sub("", file.getvalue())
    assert not re.search(r": \d+ s", text)
    assert "?" not in text


def test_stages_of_one_job_are_shown_at_once() -> None:
    """An import looked as if it ended with its recipes, and its bar as if they were "1250/?"."""
    bars, file = bars_in_file(terminal=True)
    with bars:
        report = bars.counting_stages("recipes", "photos")
        report("recipes", 1250, 0)
        report("photos", 128, 1250)
        bars._progress.refresh()
        frame = ESCAPE.sub("", file.getvalue())
    assert "1250/1250" in frame, "the recipes are done, their bar is not full"
    assert "128/1250" in frame
    assert "?" not in frame
    assert file.getvalue().index("recipes: ") < file.getvalue().rindex("photos: ")


def test_a_stage_that_never_ran_leaves_no_line() -> None:
    """An import without photos would claim to have taken time for them."""
    bars, file = bars_in_file()
    with bars:
        bars.counting_stages("recipes", "photos")("recipes", 3, 3)
    assert "recipes: " in file.getvalue()
    assert "photos" not in file.getvalue()


def test_bad_lines_are_counted_past_the_first() -> None:
    """A thousand of them would push everything else off the screen."""
    bars, file = bars_in_file()
    with bars:
        for number in range(MAX_BAD_SHOWN + 5):
            bars.bad(f"line {number}")
    assert file.getvalue().count("left out: ") == MAX_BAD_SHOWN
    assert "... and 5 more lines like these" in file.getvalue()
    assert bars.left_out == MAX_BAD_SHOWN + 5


def test_a_bar_shows_its_description_as_text() -> None:
    """A file name must neither vanish as markup nor act on the terminal."""
    bars, file = bars_in_file(terminal=True)
    with bars:
        bars.stage("photos [/b] \x1b]0;x\x07", total=3)
    assert "[/b]" in file.getvalue()
    assert "\x1b]0" not in file.getvalue()


EPOCH = {
    "epoch": 10,
    "train": {"loss": 1.59005},
    "lr": 3.2e-05,
    "seconds": 14.7,
    "validation": {
        "image_to_recipe": {"R@10": 88.0, "intervals": {"R@10": [82.4, 92.1]}, "queries": 200},
        "recipe_to_image": {"R@10": 84.0, "intervals": {"R@10": [78.1, 88.6]}, "queries": 200},
        "recall_sum": 384.5,
    },
}
SHORT_EPOCH = "epoch 10  loss 1.59  R@10 photo 88.0 recipe 84.0 of 200  lr 3.2e-05  15 s"


@pytest.mark.parametrize(
    ("record", "width", "line"),
    [
        (EPOCH, 120, SHORT_EPOCH.replace("88.0", "88.0 [82, 92]").replace("84.0", "84.0 [78, 89]")),
        (EPOCH, 80, SHORT_EPOCH),
        (
            {**EPOCH, "validation": {}},
            80,
            "epoch 10  loss 1.59  not validated  lr 3.2e-05  15 s",
        ),
        (
            {**EPOCH, "train": {}, "validation": {}},
            80,
            "epoch 10  no step was taken  not validated  lr 3.2e-05  15 s",
        ),
    ],
)
def test_an_epoch_is_one_line(record: dict[str, Any], width: int, line: str) -> None:
    """An epoch without validation left a number and its seconds: nothing said how it went."""
    bars, file = bars_in_file(terminal=True)
    bars._console.width = width
    with bars:
        bars.stage("epoch 10/10", 3)
        bars.advance(3)
        bars.epoch(record)
    lines = [one.strip() for one in ESCAPE.sub("\n", file.getvalue()).splitlines()]
    assert line in lines
    assert len(line) <= width
    assert not any(one.startswith("epoch 10/10: ") for one in lines), "the seconds stand twice"
