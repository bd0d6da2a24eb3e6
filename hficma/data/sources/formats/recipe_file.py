"""Makes recipes of a file's records, and finds their photos: named in it, inside it, or beside it.

Every program stores photos its own way, and saved pages name addresses on the web. Nothing is ever
fetched: an address gives a photo where a copy of it lies in the folder.
"""

from __future__ import annotations

import base64
import binascii
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from ....errors import InputError
from ....limits import PHOTO_BYTES, RECIPES_BYTES, gunzip, parse_json
from ....recipe import Recipe
from ....recipe.field_names import UnknownKeys
from ..file_tree import IN_ARCHIVE, FileTree
from ..source import SourceRecipe

PHOTO_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".heic", ".heif", ".avif", ".gif", ".bmp",
    ".tif", ".tiff",
)  # fmt: skip
"""Suffixes of files that may be a recipe's photo, in the order in which they are tried. They only
find a file; its content tells its format when it is read."""
SAVED_FOLDERS = ("_files", " files", ".files", "-Dateien", "_fichiers", "_archivos", "_file")
"""Endings of the folder of a saved page's pictures, by the browser and its language."""
PHOTO_NAMES = ("full", "image", "original", "images/original", "photo", "thumb")
"""Names of the photo in a folder of one recipe: Nextcloud Cookbook has `full`, Tandoor `image`,
Mealie `original` or `images/original`."""


@dataclass(frozen=True, kw_only=True)
class RawRecord:
    """A recipe as a format's reader returns it, or why there is none."""

    fields: Mapping[str, Any]
    """The fields for `Recipe.parse`."""
    photos: tuple[str, ...] = ()
    """Addresses of its photos: paths or URLs."""
    inline: tuple[str, ...] = ()
    """Paths inside the file to photos in base64, of keys and positions: `3/photo_data`."""
    folders: tuple[str, ...] = field(default=())
    """Folders, relative to the file's, where its photo lies under one of `PHOTO_NAMES`."""
    error: str = ""
    """What is wrong, where it is no recipe."""


class RecipeFile:
    """A file of a tree, whose records become recipes with photos.

    Args:
        tree: the folder or archive.
        name: of the file in the tree.
        alone: whether it is the only file of recipes in its folder.
    """

    def __init__(self, tree: FileTree, name: str, *, alone: bool) -> None:
        self._tree = tree
        self._name = name
        self._alone = alone
        self._folder, self._base = _split(name)
        self.where = tree.display_name(name)

    def recipes(
        self, records: Iterable[RawRecord], *, beside: bool = True
    ) -> Iterator[SourceRecipe | InputError]:
        """Yield a recipe for each record, or why it is none.

        Args:
            records: of the file.
            beside: look for a photo beside the file where a single record names none.
        """
        unknown = UnknownKeys(self.where)
        records = list(records)
        for number, record in enumerate(records, 1):
            if record.error:
                yield InputError(record.error)
                continue
            where = self.where if len(records) == 1 else f"{self.where} recipe {number}"
            try:
                recipe = Recipe.parse(record.fields, where=where, unknown=unknown)
            except InputError as error:
                yield error
                continue
            addresses = record.photos or ((recipe.image,) if recipe.image else ())
            photos = self._photos(record, addresses, only=beside and len(records) == 1)
            yield SourceRecipe(recipe=recipe, images=tuple(dict.fromkeys(photos)))

    def _photos(self, record: RawRecord, addresses: Iterable[str], *, only: bool) -> list[str]:
        """Return the names of a record's photos, inside the file, by address or beside it."""
        photos = [f"{self._name}{IN_ARCHIVE}{place}" for place in record.inline]
        photos += filter(None, map(self._local, addresses))
        for folder in record.folders:
            if not photos:
                photos = self._first(_joined(self._folder, folder), PHOTO_NAMES)
        if not photos and only:
            stem = self._stem()
            photos = self._first(self._folder, (stem, *(PHOTO_NAMES if self._alone else ())))
        return photos

    def _stem(self) -> str:
        """Return the file's name without its suffixes."""
        base = self._base[: -len(".gz")] if self._base.lower().endswith(".gz") else self._base
        return base.rpartition(".")[0] or base

    def _local(self, address: str) -> str | None:
        """Return the name of the photo at an address, or of the copy that a browser saved of it."""
        try:
            parts = urlsplit(address)
        except ValueError:
            return None
        is_url = parts.scheme in ("http", "https") or bool(parts.netloc)
        path = PurePosixPath(unquote(parts.path)) if is_url else PurePosixPath(address)
        if not path.name or "\0" in address:
            return None
        places = [] if is_url else [(self._folder, str(path)), (self._root(), str(path))]
        saved = (f"{self._stem()}{ending}" for ending in SAVED_FOLDERS)
        for folder in (*saved, "", "images", "photos"):
            places.append((_joined(self._folder, folder), path.name))
        for folder, name in places:
            if match := self._file(folder, name):
                return match
        if not is_url and "%" in address:
            return self._local(unquote(address)) if unquote(address) != address else None
        return None

    def _root(self) -> str:
        """Return the root folder of the file's archive, or of the tree."""
        archive, mark, _ = self._folder.rpartition(IN_ARCHIVE)
        return archive + mark

    def _file(self, folder: str, name: str) -> str | None:
        """Return a file by its path from a folder, in any case, its suffix perhaps another."""
        inside, base = posixpath.split(name)
        folder = _joined(folder, inside)
        names = self._tree.names(folder)
        lower = base.lower()
        if lower in names:
            return _joined(folder, names[lower])
        # Saved copies are converted (`pie.jpg` to `pie.webp`), and tables name photos without one.
        stem = lower.rpartition(".")[0] if lower.endswith(PHOTO_SUFFIXES) else lower
        for suffix in PHOTO_SUFFIXES:
            if stem + suffix in names:
                return _joined(folder, names[stem + suffix])
        return None

    def _first(self, folder: str, stems: Iterable[str]) -> list[str]:
        """Return the first photo of one of these names in a folder, or nothing."""
        for stem in stems:
            inside, base = posixpath.split(stem)
            names = self._tree.names(_joined(folder, inside))
            for suffix in PHOTO_SUFFIXES:
                if match := names.get(base.lower() + suffix):
                    return [_joined(_joined(folder, inside), match)]
        return []


def read_photo_bytes(tree: FileTree, name: str) -> bytes:
    """Return the bytes of a photo: a file, or base64 inside a file of recipes.

    Args:
        tree: the folder or archive.
        name: of the photo: a file of the tree, or `recipes.json//3/photo_data`.

    Raises:
        InputError: there is no such photo.
    """
    file, mark, place = name.rpartition(IN_ARCHIVE)
    if not mark or not file.lower().endswith((".json", ".paprikarecipe", ".melarecipe")):
        return tree.read(name, limit=PHOTO_BYTES, what="a photo")
    label = tree.display_name(file)
    value = json_with_photos(tree, file)
    for key in place.split("/"):
        try:
            value = value[int(key)] if isinstance(value, list) else value[key]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise InputError(f"{label}: holds no photo {place}") from error
    try:
        return base64.b64decode(str(value).rpartition(",")[2], validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{label}: its photo {place} is no base64 ({error})") from error


def json_with_photos(tree: FileTree, name: str) -> Any:
    """Return the decoded JSON of a file, which may be gzip and may hold photos in base64.

    Args:
        tree: the folder or archive.
        name: of the file in the tree.

    Raises:
        InputError: it cannot be read, or is no JSON.
    """
    content = tree.read(name, limit=RECIPES_BYTES, what="a file of recipes")
    label = tree.display_name(name)
    if content.startswith(b"\x1f\x8b"):
        content = gunzip(content, name=label, limit=RECIPES_BYTES)
    return parse_json(content, name=label, limit=RECIPES_BYTES)


def _split(name: str) -> tuple[str, str]:
    """Return a name's folder and base; an archive's root is `export.zip//`."""
    archive, mark, inside = name.rpartition(IN_ARCHIVE)
    folder, base = posixpath.split(inside)
    return archive + mark + folder, base


def _joined(folder: str, name: str) -> str:
    """Return a name below a folder, `..` and `.` resolved inside the folder's archive."""
    archive, mark, inside = folder.rpartition(IN_ARCHIVE)
    whole = posixpath.normpath(posixpath.join(inside, name)) if name else inside
    return archive + mark + ("" if whole == "." else whole)
