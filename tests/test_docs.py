"""Every code block and command of README, docs and examples does what its page says."""

from __future__ import annotations

import ast
import os
import re
import runpy
import shlex
import shutil
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

from hficma.cli import main
from hficma.pretrained import has_pretrained
from tests.cli.conftest import Ended
from tests.docs.kitchen import make_kitchen
from tests.docs.pages import ROOT, Block, blocks, commands, inline_commands, pages, prose, text_of
from tests.docs.runner import CHANGES, SKIPPED, Broken, Run, examples, parse, run_page

PAGES = pages()
RUN = [
    page
    for page in PAGES
    if any(b.language in ("sh", "python") for b in blocks(page, text_of(page)))
]


@pytest.fixture(scope="session")
def kitchen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One trained workspace for all pages; each works on a copy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    made = make_kitchen(tmp_path_factory.mktemp("kitchen") / "kitchen")
    torch.set_num_threads(threads)
    return made


@pytest.fixture
def here(kitchen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the kitchen as working directory, with the examples where a clone has them."""
    folder = shutil.copytree(kitchen, tmp_path / "kitchen")
    shutil.copytree(ROOT / "docs" / "examples", folder / "docs" / "examples")
    monkeypatch.chdir(folder)
    monkeypatch.delenv("HFICMA_HOME", raising=False)
    if not has_pretrained():
        monkeypatch.setattr("hficma.pretrained.FOLDER", folder / "brought")
    monkeypatch.setenv("COLUMNS", "120")
    return folder


@pytest.fixture
def hficma(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line as a shell would, in this process."""

    def run(*words: str) -> Ended:
        home = os.environ.get("HFICMA_HOME")
        monkeypatch.setattr(sys, "argv", ["hficma", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        if home is None:
            os.environ.pop("HFICMA_HOME", None)
        captured = capsys.readouterr()
        code = ended.value.code
        return Ended(code if isinstance(code, int) else 0, captured.out, captured.err)

    return run


@pytest.mark.parametrize("page", RUN)
def test_what_a_page_shows_works(page: str, here: Path, hficma: Run) -> None:
    """A reader who copies a block would get an error, or something else than the page says."""
    if page == "docs/howto/recipes.md":
        # A photo beside a table of one recipe is taken for that recipe's.
        (here / "photo.jpg").unlink()
    run_page(blocks(page, text_of(page)), hficma)


@pytest.mark.parametrize("example", examples(), ids=lambda path: path.name)
def test_an_example_runs(
    example: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An example is copied as it stands, with the command in its docstring."""
    text = example.read_text(encoding="utf-8")
    docstring = re.sub(r"\\\n\s*", "", ast.get_docstring(ast.parse(text)) or "")
    assert re.fullmatch(r"\d\d_\w+\.py", example.name)
    assert text.count("\n") < 60, "an example is read in one look"
    shown = re.search(r"^ *python (docs/examples/.*)$", docstring, re.M)
    assert shown is not None, "its docstring shows the command that runs it"
    words = shlex.split(shown[1])
    assert words[0] == f"docs/examples/{example.name}"
    monkeypatch.setattr(sys, "argv", words)
    runpy.run_path(words[0], run_name="__main__")
    assert capsys.readouterr().out


def test_every_example_is_named_where_people_look() -> None:
    """An example that no page links is found by nobody."""
    readme = text_of("docs/index.md")
    assert [e.name for e in examples() if e.name not in readme] == []


@pytest.mark.parametrize("page", PAGES)
def test_commands_inside_sentences_exist(page: str) -> None:
    """A sentence that names an option which is gone sends its reader into an error."""
    for command in inline_commands(text_of(page)):
        if not re.search(r"\.\.\.|COMMAND", command):
            parse(shlex.split(command)[1:])


@pytest.mark.parametrize("page", PAGES)
def test_no_command_stands_outside_a_fence(page: str) -> None:
    """An indented block is run by no test, so it holds no code."""
    for line in prose(text_of(page)).splitlines():
        assert not re.match(r"^(    |\t)(hficma|pip|make|python|git|from|import) ", line), line


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """In a repository browser there is no strict build that finds a dead link."""
    for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", prose(text_of(page))):
        base = Path() if page.startswith("docs/project") else (ROOT / page).parent
        assert (base / target).exists(), target


def test_what_is_skipped_or_changed_is_still_there() -> None:
    """A line that was reworded would be skipped by a rule that no longer means it."""
    shown = {
        command
        for page in PAGES
        for block in blocks(page, text_of(page))
        if block.language == "sh"
        for command in commands(block)
    }
    assert set(SKIPPED) - shown == set()
    everything = shown | {text_of(page) for page in PAGES}
    unused = [p for p in CHANGES if not any(re.search(p, command) for command in everything)]
    assert unused == []


@pytest.mark.parametrize(
    ("language", "title", "text", "said"),
    [
        ("sh", None, "hficma search --image photo.jpg --no-such-option", "no-such-option"),
        ("sh", None, "hficma search --image gone.jpg", "exit code 2"),
        ("sh", None, "cat gone.jpg", "exit code 1"),
        ("python", None, "from hficma import NoSuchName", "NoSuchName"),
        ("text", "prints", "something else", "printed"),
    ],
)
def test_a_broken_block_fails(
    language: str, title: str | None, text: str, said: str, here: Path, hficma: Run
) -> None:
    """A runner that lets everything pass would keep every page green."""
    block = Block(page="page.md", line=7, language=language, title=title, text=text + "\n")
    with pytest.raises(Broken, match=f"page.md:7: .*{said}"):
        run_page([block], hficma)


def test_an_unknown_option_of_a_skipped_command_is_found() -> None:
    """What cannot run here must at least parse."""
    parse(["search", "--image", "photo.jpg", "--device", "cuda"])
    for words in (["search", "--no-such-option"], ["no-such-command"], ["index", "ad"]):
        with pytest.raises(AssertionError, match="No such"):
            parse(words)


def test_every_name_of_the_reference_exists() -> None:
    """A page that documents what is gone builds only where mkdocstrings is not strict."""
    for name in re.findall(r"^::: (\S+)$", text_of("docs/reference/api.md"), re.M):
        module, _, last = name.rpartition(".")
        try:
            import_module(name)
        except ModuleNotFoundError:
            assert getattr(import_module(module), last).__doc__


def test_contributing_names_files_that_exist() -> None:
    """A newcomer who is sent to a file that has moved gives up there."""
    named = re.findall(
        r"`([\w./-]+(?:/|\.py|\.md|\.yaml|\.toml|\.txt))`", text_of("CONTRIBUTING.md")
    )
    assert len(named) > 15
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_promise_names_the_tests_that_hold_it() -> None:
    """A promise of compatibility whose test has gone is a sentence."""
    named = re.findall(r"`(tests/[\w/.]+)`", text_of("docs/reference/compatibility.md"))
    assert len(named) >= 3
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_readme_is_short() -> None:
    """It is read in a minute, or not at all."""
    assert len((ROOT / "README.md").read_bytes()) <= 10_000
