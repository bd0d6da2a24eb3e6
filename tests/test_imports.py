"""Which part of the program may import which: one way, without a circle.

The graph is read from the sources, imports inside functions and under `TYPE_CHECKING` too: a circle
that a function hides is still two files of which neither can be understood alone. `__init__` files
that only offer names from below are a face, not a part, and are left out.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("hficma", "training", "export", "engine", "benchmarks")
FILES_A_FOLDER = 14

BASE = "hficma.base"
"""The modules directly in `hficma/`: errors, limits, types and the like."""

FOUNDATION = {
    BASE, "hficma.pretrained", "hficma.artifacts", "hficma.untrusted", "hficma.recipe",
    "hficma.images",
}  # fmt: skip
LIBRARY = FOUNDATION | {"hficma.text", "hficma.model", "hficma.data"}
ENGINE_READING = {
    "engine.native",
    "engine.runtimes",
    "engine.bundle",
    "engine.files",
    "engine.index",
}

ALLOWED: dict[str, set[str]] = {
    BASE: set(),
    "hficma.pretrained": {BASE},
    "hficma.artifacts": {BASE, "hficma.pretrained"},
    "hficma.untrusted": {BASE, "hficma.artifacts"},
    "hficma.recipe": {BASE},
    "hficma.images": {BASE, "hficma.artifacts", "hficma.untrusted"},
    "hficma.text": {BASE, "hficma.artifacts", "hficma.recipe"},
    "hficma.model": FOUNDATION | {"hficma.text"},
    "hficma.data": FOUNDATION | {"hficma.text"},
    "engine.native": LIBRARY,
    "engine.runtimes": LIBRARY | {"engine.native"},
    "engine.bundle": LIBRARY | {"engine.runtimes"},
    "engine.files": LIBRARY,
    "engine.index": LIBRARY | {"engine.files", "engine.bundle"},
    "engine.encoder": LIBRARY | ENGINE_READING,
    "engine.writing": LIBRARY | ENGINE_READING | {"engine.encoder"},
    "engine.retrieval": LIBRARY | ENGINE_READING | {"engine.encoder", "engine.results"},
    "engine.gpu": LIBRARY
    | ENGINE_READING
    | {"engine.encoder", "engine.results", "engine.retrieval"},
    "engine.results": LIBRARY | ENGINE_READING | {"engine.encoder"},
    "engine.query": LIBRARY | ENGINE_READING | {"engine.encoder"},
    "engine.explain": LIBRARY | ENGINE_READING | {"engine.encoder", "engine.results"},
    "engine.opening": LIBRARY
    | ENGINE_READING
    | {f"engine.{part}" for part in ("encoder", "gpu", "retrieval")},
    "engine.engine": LIBRARY
    | ENGINE_READING
    | {f"engine.{part}" for part in ("encoder", "explain", "opening", "query", "results")}
    | {"engine.retrieval"},
    "engine.cluster": LIBRARY
    | ENGINE_READING
    | {f"engine.{part}" for part in ("encoder", "engine", "opening", "results")}
    | {"engine.retrieval", "engine.writing"},
    "engine.serving": LIBRARY | {"engine"},
    "export": LIBRARY | {"engine"},
    "training": LIBRARY,
    "benchmarks": LIBRARY | {"engine", "export", "training"},
    "hficma.cli": LIBRARY | {"engine", "export", "training", "benchmarks"},
}
"""What each part may import besides itself. A name without a dot stands for the whole folder."""


def test_each_part_imports_only_what_lies_below_it() -> None:
    """An arrow that points up makes two parts one: neither can be read, tested or moved alone."""
    wrong = []
    for module, targets in sorted(imports().items()):
        for target in sorted(targets):
            mine, its = part_of(module), part_of(target)
            allowed = ALLOWED[mine]
            if mine != its and its not in allowed and its.partition(".")[0] not in allowed:
                wrong.append(f"{module} imports {target}: {mine} may not import {its}")
    assert not wrong, "\n".join(wrong)


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Files in a circle are one file in pieces, whatever function hides the import."""
    circles = [sorted(circle) for circle in components(imports()) if len(circle) > 1]
    assert not circles, "\n".join(" <-> ".join(circle) for circle in circles)


def test_no_folder_holds_more_files_than_can_be_taken_in() -> None:
    """Forty files side by side say nothing of which belong together."""
    for folder in FOLDERS:
        for place in [ROOT / folder, *(ROOT / folder).rglob("*/")]:
            assert len(list(place.glob("*.py"))) <= FILES_A_FOLDER, place


def test_imports_are_relative_within_a_top_folder_and_full_across() -> None:
    """One spelling, which editors and mypy resolve in a checkout as in a wheel."""
    for file in sources():
        top = file.relative_to(ROOT).parts[0]
        for node in ast.walk(tree(file)):
            if not isinstance(node, ast.ImportFrom) or node.level:
                continue
            parts = (node.module or "").split(".")
            if parts[0] == "hficma":
                across = parts[1] if len(parts) > 1 and parts[1] in FOLDERS else "hficma"
                assert across != top, f"{file}:{node.lineno}: write it as a relative import"


def sources() -> Iterator[Path]:
    """The files that the graph is made of."""
    for folder in FOLDERS:
        yield from sorted((ROOT / folder).rglob("*.py"))


@cache
def tree(file: Path) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse(file.read_text(encoding="utf-8"))


def name_of(file: Path) -> str:
    """A file's module by its place in the repository, such as `engine.index.shard`."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str:
    """The part of the program that a module belongs to, as a key of `ALLOWED`."""
    top, *rest = module.split(".")
    if top in ("export", "training", "benchmarks"):
        return top
    if top == "engine":
        return f"engine.{rest[0]}"
    part = f"hficma.{rest[0]}"
    return part if part in ALLOWED else BASE


@cache
def imports() -> dict[str, set[str]]:
    """Every module's imports of the program's own, by the names of `name_of`; faces left out."""
    files = {name_of(file): file for file in sources()}
    faces = {name for name, file in files.items() if file.name == "__init__.py" and is_face(file)}
    graph: dict[str, set[str]] = {}
    for module, file in files.items():
        if module in faces:
            continue
        package = module if file.name == "__init__.py" else module.rpartition(".")[0]
        targets = {target for name in imported(file, package) for target in resolve(name, files)}
        graph[module] = targets - faces - {module}
    return graph


def is_face(file: Path) -> bool:
    """Whether a file holds nothing but a docstring, imports and names for them."""
    return all(
        isinstance(node, (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.If))
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        for node in tree(file).body
    )


def imported(file: Path, package: str) -> Iterator[tuple[str, str]]:
    """(module, name in it) of every import of the program's own in a file."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "hficma":
                    yield place(alias.name), ""
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                parts = package.split(".")
                base = ".".join(
                    [*parts[: len(parts) - node.level + 1], *filter(None, [node.module])]
                )
            elif (node.module or "").split(".")[0] == "hficma":
                base = place(node.module or "")
            else:
                continue
            for alias in node.names:
                yield base, alias.name


def place(full: str) -> str:
    """`hficma.engine.index` as it lies in the repository: `engine.index`."""
    _head, _, tail = full.partition(".")
    return tail if tail.partition(".")[0] in FOLDERS[1:] else full


def resolve(target: tuple[str, str], files: dict[str, Path]) -> Iterator[str]:
    """The module that an import reads: a submodule, or the module that holds the name.

    Names that a face offers are followed to where they are written, so that a face hides no arrow.
    """
    module, name = target
    if f"{module}.{name}" in files:
        yield f"{module}.{name}"
        return
    yield module
    file = files[module]
    if file.name == "__init__.py" and is_face(file):
        for inner, offered in imported(file, module):
            if offered == name:
                yield from resolve((inner, offered), files)


def components(graph: dict[str, set[str]]) -> list[set[str]]:
    """Strongly connected components, by Tarjan's algorithm."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def connect(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in graph.get(node, ()):
            if target not in index:
                connect(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            component = set(stack[stack.index(node) :])
            del stack[stack.index(node) :]
            found.append(component)

    for node in graph:
        if node not in index:
            connect(node)
    return found
