"""What hostile text could do to a terminal, and to what reads our JSON."""

import io
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from hficma.printable import json_text, one_line, printable, printable_lines
from hficma.terminal import TextConsole

HOSTILE = (
    "\x1b]0;PWNED\x07", "\x1b[2J\x1b[H", "\x9b31m", "a\x00nul", "line\nbreak\rcr", "\u202egpj.exe",
    "[bold red]x[/bold red]", "[/nope]", "x[/b].jpg", "[final]", ":smile:", "half \ud83d",
    "[link=javascript:alert(1)]x[/link]", "\x7f", "tab\there", "\u2066a\u2069", "\u2028",
)  # fmt: skip
STYLE = re.compile(r"\x1b\[[0-9;]*m")
ACTING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
CHARACTERS = st.characters() | st.sampled_from("\x1b[]/\x07\x9b\n\r\ud800\u202e")
anything = st.text(CHARACTERS, max_size=40)
values = st.recursive(
    anything | st.none() | st.booleans() | st.integers(),
    lambda inner: st.lists(inner) | st.dictionaries(anything, inner),
    max_leaves=9,
)


def rendered(draw, *, colours=False):
    """What a terminal 60 columns wide receives, without the console's own colours."""
    console = TextConsole()
    console.file = io.StringIO()
    console.width = 60
    console._force_terminal = colours
    draw(console)
    return STYLE.sub("", console.file.getvalue())


@given(anything)
def test_no_text_acts_on_a_terminal(text):
    """Whatever a recipe says, it must be shown and not obeyed."""
    table = Table(text, title=text, caption=text)
    table.add_row(text)
    table.add_row(Text(text, style=f"link {'http://x'}"))
    for colours in (False, True):
        for draw in (
            lambda console: console.print(text, Text(text), table),
            lambda console: console.print_line(text),
        ):
            assert not ACTING.search(rendered(draw, colours=colours))
    for safe in (printable, printable_lines, one_line, json_text):
        assert not ACTING.search(safe(text))
    assert "\n" not in printable(text) + one_line(text)


@given(values)
def test_json_says_what_was_given(value):
    """Escapes must not change what a program reads."""
    assert json.loads(json_text(value)) == value
    assert json.loads(json_text(value, indent=1)) == value


@pytest.mark.parametrize("text", HOSTILE)
def test_text_is_shown_as_it_is_written(text):
    """Brackets, and the escapes for what is no print: nothing vanishes and nothing crashes."""
    assert rendered(lambda console: console.print_line(text)) == one_line(text) + "\n"
    assert one_line(text) == printable(text.replace("\n", " "))


def test_markup_is_no_markup_in_cells_titles_and_lines():
    """Words in brackets would vanish, or end the program."""
    table = Table("[b]head[/b]", title="title [final]")
    table.add_row("x[/b].jpg")
    out = rendered(lambda console: console.print("photo [b].jpg", table))
    for text in ("photo [b].jpg", "[b]head[/b]", "title [final]", "x[/b].jpg"):
        assert text in out


def test_a_long_line_is_not_broken():
    """A path that is wrapped at 80 columns cannot be copied."""
    path = "/".join(["folder"] * 30)
    assert rendered(lambda console: console.print_line(f"index: {path}")) == f"index: {path}\n"


def test_prose_is_broken_between_words_on_a_terminal_alone():
    """A terminal breaks words in two, and whoever reads a file reads a line."""
    prose = ("told in words, " * 8).strip()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORCE_COLOR", "1")
        # Made here: older releases of Rich read the variable once, newer ones each time.
        console = TextConsole(file=io.StringIO(), width=80)
        with console.capture() as capture:
            console.print_prose(prose + " " + "/".join(["folder"] * 30))
        lines = capture.get().splitlines()
    assert [len(line.rstrip()) <= 80 for line in lines] == [True, True, False]
    assert lines[-1].rstrip() == "/".join(["folder"] * 30)
    assert rendered(lambda console: console.print_prose(prose)) == prose + "\n"


def test_messages_of_several_lines_become_one():
    """A log that is read by the line would hold half a message."""
    assert one_line("a\nb\x1b[2J") == "a b\\x1b[2J"
