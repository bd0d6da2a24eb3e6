"""Reads a folder, an archive or one file of recipes as people have them.

Those are saved web pages, recipe managers' exports, tables and JSON. A format's reader (`formats/`)
makes records of a file, `RecipeFile` makes recipes of records and finds their photos.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from ...errors import InputError
from ...limits import PAGE_SECONDS, RECIPES_BYTES, TEXT_BYTES, gunzip
from ...recipe import BadRecord, read_jsonl_lines
from ...untrusted.worker import Worker
from .file_tree import ARCHIVES, IN_ARCHIVE, FileTree
from .formats.page_worker import page_worker, read_page_file
from .formats.recipe_file import RawRecord, RecipeFile, read_photo_bytes
from .formats.registry import LINES, PAGES, READERS, recipe_suffix
from .source import Source, SourceRecipe


class FolderSource(Source):
    """The recipe files below a folder, in the order of their names.

    Args:
        path: a folder, an archive, or one file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._tree = FileTree(path)

    @classmethod
    def fits(cls, path: Path) -> bool:
        """Return whether there is a file to read."""
        return any(_is_recipes(name) for name in FileTree(path).walk(into_archives=False))

    def recipes(
        self, *, strict: bool, on_bad: Callable[[str], None], scratch: Path
    ) -> Iterator[SourceRecipe]:
        """See the base."""
        for item in self._items():
            if isinstance(item, SourceRecipe):
                yield item
            elif strict:
                raise item
            else:
                on_bad(str(item))

    def photo(self, image: str) -> bytes:
        """See the base."""
        return read_photo_bytes(self._tree, image)

    def _items(self) -> Iterator[SourceRecipe | InputError]:
        """Yield the recipes, and an error for each file or record that gives none."""
        names: list[str] = []
        for name in self._tree.walk():
            if isinstance(name, InputError):
                yield name
            elif recipe_suffix(name) is not None:
                names.append(name)
        in_folder = Counter(_folder(name) for name in names)
        with ExitStack() as stack:
            # Started with the first page: most sources have none.
            workers: list[Worker] = []

            def worker() -> Worker:
                if not workers:
                    workers.append(stack.enter_context(page_worker()))
                return workers[0]

            counts: Counter[str] = Counter()
            for name in names:
                file = RecipeFile(self._tree, name, alone=in_folder[_folder(name)] == 1)
                try:
                    for item in self._in_file(file, name, worker):
                        yield item if isinstance(item, InputError) else _numbered(item, counts)
                except InputError as error:
                    yield error

    def _in_file(
        self, file: RecipeFile, name: str, worker: Callable[[], Worker]
    ) -> Iterator[SourceRecipe | InputError]:
        """Yield the recipes of one file, and an error for each record that gives none."""
        suffix = recipe_suffix(name)
        if suffix in LINES and IN_ARCHIVE not in name:
            for recipe in read_jsonl_lines(self._tree.root / name):
                if isinstance(recipe, BadRecord):
                    yield recipe
                else:
                    record = RawRecord(fields=recipe.to_json())
                    yield from file.recipes([record], beside=False)
            return
        limit = RECIPES_BYTES if suffix in READERS else TEXT_BYTES
        content = self._tree.read(name, limit=limit, what="a file of recipes")
        if name.lower().endswith(".gz"):
            content = gunzip(content, name=file.where, limit=limit)
        if not content.strip():
            raise InputError(f"{file.where}: the file is empty")
        if suffix in PAGES:
            records, notes = read_page_file(worker(), content, file.where, PAGE_SECONDS)
            yield from file.recipes(records)
            yield from (InputError(f"{file.where}: {note}") for note in notes)
        elif suffix in LINES:
            raise InputError(f"{file.where}: lines of JSON are not read from an archive; unpack it")
        else:
            assert suffix is not None
            yield from file.recipes(READERS[suffix](content, file.where))


def _numbered(item: SourceRecipe, counts: Counter[str]) -> SourceRecipe:
    """Return a recipe under an id of its own where another file holds the same one.

    A recipe without an id is named by a digest of its content. Two files that say the same are two
    recipes nevertheless, so the second gets "-2" behind its id.
    """
    recipe = item.recipe
    if recipe.id != recipe.content_id:
        return item
    counts[recipe.id] += 1
    if counts[recipe.id] == 1:
        return item
    return replace(item, recipe=replace(recipe, id=f"{recipe.id}-{counts[recipe.id]}"))


def _folder(name: str) -> str:
    return posixpath.dirname(name)


def _is_recipes(name: str | InputError) -> bool:
    return isinstance(name, str) and (
        recipe_suffix(name) is not None or name.lower().endswith(ARCHIVES)
    )
