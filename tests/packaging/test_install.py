"""Where Python finds hficma: installed as a wheel or editable, wherever it is started."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("hficma", "training", "export", "engine", "benchmarks")
SUFFIXES = (
    ".py", ".yaml", ".json", ".typed", ".j2", ".toml", ".tsv", ".html", ".css", ".js", ".svg",
)  # fmt: skip
"""Of the files that make the package."""

LOCATE = """
import importlib, os
for name in ("hficma", "hficma.engine", "hficma.training", "hficma.benchmarks", "hficma.text"):
    print(os.path.realpath(importlib.import_module(name).__file__))
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in a folder called `hficma`, as `git clone` names it."""
    folder = tmp_path_factory.mktemp("parent") / "hficma"
    unwanted = shutil.ignore_patterns("__pycache__")
    for part in (*PARTS, "docs"):
        shutil.copytree(ROOT / part, folder / part, ignore=unwanted)
    (folder / "tests").mkdir()
    (folder / "tests" / "__init__.py").touch()
    for file in ("pyproject.toml", "build_backend.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked as an installer does."""
    return unpacked(build("build_wheel", clone, tmp_path_factory.mktemp("wheel")))


@pytest.fixture(scope="module")
def editable(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an editable install puts into site-packages."""
    return unpacked(build("build_editable", clone, tmp_path_factory.mktemp("editable")))


@pytest.fixture(scope="module")
def pythons(
    wheel: Path, editable: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Interpreters of two environments; the editable one has the wheel further down its path."""
    return {
        "wheel": environment(tmp_path_factory.mktemp("wheel_venv"), [wheel]),
        "editable": environment(tmp_path_factory.mktemp("editable_venv"), [editable, wheel]),
    }


def build(hook: str, project: Path, out: Path) -> Path:
    """Run a hook of the build backend, as pip does."""
    code = f"import sys, build_backend; build_backend.{hook}(sys.argv[1])"
    run(Path(sys.executable), "-c", code, str(out), cwd=project)
    (built,) = (file for file in out.iterdir() if file.suffix in (".whl", ".gz"))
    return built


def unpacked(built: Path) -> Path:
    with zipfile.ZipFile(built) as archive:
        archive.extractall(built.parent / "content")
    return built.parent / "content"


def environment(folder: Path, packages: list[Path]) -> Path:
    """A new virtual environment that sees `packages`, then this interpreter's for their needs."""
    venv.create(folder, symlinks=os.name == "posix")
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    (site,) = folder.rglob("site-packages")
    shutil.copytree(packages[0], site, dirs_exist_ok=True)
    needs = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    (site / "needs.pth").write_text("\n".join([*map(str, packages[1:]), *needs]), encoding="utf-8")
    return next(scripts.glob("python*"))


def run(
    python: Path, *words: str, cwd: Path, check: bool = True
) -> subprocess.CompletedProcess[str]:
    unset = ("PYTHONPATH", "PYTHONSAFEPATH")
    clean = {name: value for name, value in os.environ.items() if name not in unset}
    return subprocess.run(
        [python, *words], cwd=cwd, env=clean, check=check, capture_output=True, text=True
    )


@pytest.mark.parametrize("place", ["empty", "clone", "parent"])
@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_python_finds_one_hficma_wherever_it_is_started(
    kind: str, place: str, clone: Path, pythons: dict[str, Path], tmp_path: Path
) -> None:
    """A checkout has `hficma` without its sub-packages; its parent has a folder of that name.

    Python takes the folder that it is started in first, so in a checkout the checkout runs, whole.
    """
    cwd = {"empty": tmp_path, "clone": clone, "parent": clone.parent}[place]
    located = run(pythons[kind], "-c", LOCATE, cwd=cwd).stdout.splitlines()
    if kind == "wheel" and place != "clone":
        home = Path(located[0]).parent
        assert "site-packages" in home.parts
        assert all(Path(file).is_relative_to(home) for file in located)
    else:
        assert all(Path(file).is_relative_to(clone.resolve()) for file in located)
    assert "Usage: " in run(pythons[kind], "-m", "hficma.cli", "--help", cwd=cwd).stdout


@pytest.mark.parametrize("name", ["tests", "docs", "hficma", "build_backend"])
def test_nothing_else_of_a_checkout_is_a_part_of_hficma(
    name: str, clone: Path, pythons: dict[str, Path]
) -> None:
    """What works only in a checkout would be missed after an install."""
    code = f"""
import hficma.engine, importlib.util
assert importlib.util.find_spec("hficma.{name}") is None
"""
    run(pythons["editable"], "-c", code, cwd=clone)


def test_an_editable_install_whose_checkout_is_gone_says_so(clone: Path, tmp_path: Path) -> None:
    """A moved checkout gave a trace of the import system."""
    moved = Path(shutil.copytree(clone, tmp_path / "moved"))
    python = environment(tmp_path / "venv", [unpacked(build("build_editable", moved, tmp_path))])
    moved.rename(tmp_path / "elsewhere")
    ended = run(python, "-c", "import hficma", cwd=tmp_path, check=False)
    last = ended.stderr.splitlines()[-1]
    assert "moved" in last
    assert last.endswith("which is gone: install it again")


def test_the_wheel_holds_every_module_and_no_test(wheel: Path) -> None:
    """A file left out works from a checkout and fails after `pip install`."""
    expected = set()
    for part in PARTS:
        inside = Path() if part == "hficma" else Path(part)
        for file in (ROOT / part).rglob("*"):
            # What the package brings to answer with is all data, some of it without a suffix.
            brought = "pretrained" in file.parts and file.is_file() and file.suffix != ".pyc"
            if brought or file.suffix in SUFFIXES:
                expected.add(inside / file.relative_to(ROOT / part))
    # Compiled while it was built, where there is a compiler.
    if shutil.which("cc"):
        expected.add(Path("engine/native/libkernels.so"))
    packed = {f.relative_to(wheel / "hficma") for f in (wheel / "hficma").rglob("*") if f.is_file()}
    assert packed == expected
    assert {entry.name.split("-")[0] for entry in wheel.iterdir()} == {"hficma"}


def test_the_source_distribution_holds_all_that_the_repository_does(tmp_path: Path) -> None:
    """Whoever packages it further would lack a fixture, a page of the docs or the build backend."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    tracked = {name for name in listed.stdout.splitlines() if (ROOT / name).is_file()}
    for name in tracked:
        (tmp_path / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / "clone" / name)
    with tarfile.open(build("build_sdist", tmp_path / "clone", tmp_path)) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    assert tracked <= packed
