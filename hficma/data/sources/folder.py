"""A folder (or one file) of recipes as JSON objects, JSON-LD, or saved HTML pages, with photos."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from hficma.errors import InputError
from hficma.recipe import Recipe

from .schema_org import (
    decode_block,
    image_addresses,
    is_json_ld,
    json_ld_blocks,
    recipe_nodes,
    to_recipe,
)
from .source import Source, SourceRecipe, read_bytes

SUFFIXES = (".json", ".jsonld", ".html", ".htm")
MAX_FILE_BYTES = 50_000_000


class FolderSource(Source):
    """Recipe files below a folder, in the order of their names."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._root = path if path.is_dir() else path.parent

    @classmethod
    def fits(cls, path: Path) -> bool:
        """Whether there is a file to read."""
        return next(_files(path), None) is not None

    def recipes(
        self, *, strict: bool, on_bad: Callable[[str], None], scratch: Path
    ) -> Iterator[SourceRecipe]:
        """See the base."""
        for file in _files(self.path):
            try:
                content = _read(file)
            except InputError as error:
                _complain(error, strict, on_bad)
                continue
            name = str(file.relative_to(self._root).with_suffix(""))
            for read in self._in_file(file, name, content):
                try:
                    yield read()
                except InputError as error:
                    _complain(error, strict, on_bad)

    def photo(self, image: str) -> bytes:
        """See the base."""
        return read_bytes(self._root / image)

    def _in_file(self, file: Path, name: str, content: str) -> Iterator[Callable[[], SourceRecipe]]:
        """A reader for each recipe of a file, so that one bad recipe leaves the others be."""
        if file.suffix in (".html", ".htm"):
            blocks = json_ld_blocks(content)
            if not blocks:
                yield lambda: _fail(f"{file}: the page holds no JSON-LD")
            number = 0
            for block in blocks:
                try:
                    nodes = list(recipe_nodes(decode_block(block, str(file))))
                except InputError as error:
                    message = str(error)
                    yield lambda message=message: _fail(message)  # type: ignore[misc]
                    continue
                for node in nodes:
                    number += 1
                    yield self._reader(file, _numbered(name, number), node)
            return
        try:
            value = json.loads(content)
        except (ValueError, RecursionError) as error:
            message = f"{file}: is not valid JSON ({error})"
            yield lambda: _fail(message)
            return
        if is_json_ld(value):
            for number, node in enumerate(recipe_nodes(value), 1):
                yield self._reader(file, _numbered(name, number), node)
        else:
            records = value if isinstance(value, list) else [value]
            for number, record in enumerate(records, 1):
                yield self._plain(file, _numbered(name, number), record)

    def _reader(self, file: Path, name: str, node: Any) -> Callable[[], SourceRecipe]:
        def read() -> SourceRecipe:
            recipe = to_recipe(node, where=f"{file} ({name})")
            photos = (self._local(file, address) for address in image_addresses(node))
            return SourceRecipe(recipe=recipe, images=tuple(photo for photo in photos if photo))

        return read

    def _plain(self, file: Path, name: str, record: Any) -> Callable[[], SourceRecipe]:
        def read() -> SourceRecipe:
            recipe = Recipe.parse(record, where=f"{file} ({name})")
            photo = self._local(file, recipe.image) if recipe.image else self._beside(file)
            return SourceRecipe(recipe=recipe, images=(photo,) if photo else ())

        return read

    def _local(self, file: Path, address: str) -> str | None:
        """The photo of an address on this disk: a path, or the copy a browser saved.

        Nothing is ever fetched; an address that has no copy here gives no photo.
        """
        try:
            path = Path(unquote(urlsplit(address).path))
        except ValueError:
            return None
        places = [] if "://" in address else [file.parent / path, self._root / path]
        for folder in (f"{file.stem}_files", f"{file.stem} files", ""):
            places.append(file.parent / folder / path.name)
        for place in places:
            try:
                if path.name and place.is_file():
                    return os.path.relpath(place, self._root)
            except (OSError, ValueError):  # a name too long or with a zero byte
                continue
        return None

    def _beside(self, file: Path) -> str | None:
        """A photo that has the recipe file's name."""
        for suffix in (".jpg", ".jpeg", ".png", ".webp"):
            if (photo := file.with_suffix(suffix)).is_file():
                return os.path.relpath(photo, self._root)
        return None


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    for folder, folders, files in os.walk(path):
        folders.sort()
        for name in sorted(files):
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield Path(folder, name)


def _read(file: Path) -> str:
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"{file}: is larger than {MAX_FILE_BYTES} bytes")
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read as text ({error})") from error


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}-{number}"


def _fail(message: str) -> SourceRecipe:
    raise InputError(message)


def _complain(error: InputError, strict: bool, on_bad: Callable[[str], None]) -> None:
    if strict:
        raise error
    on_bad(str(error))
