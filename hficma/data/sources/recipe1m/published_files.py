"""Reads the files that Recipe1M's users share, in whatever folder they were unpacked."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ....errors import InputError
from ....limits import is_regular_file
from ....recipe import PARTITIONS, Recipe
from .json_stream import read_json_list
from .untrusted_reader import in_worker, read_classes

BACKGROUND = "background"
"""The class of recipes that are of no class."""
FOLDERS = ("", "text", "data", "recipe1M", "Recipe1M", "recipe1M/text")
"""Where the published archives, and the READMEs of those who use them, put the files."""


def find(root: Path, *names: str) -> Path | None:
    """Return the first of these files that is there, or None.

    Args:
        root: the source's folder, searched with its `FOLDERS`.
        *names: of files or folders, the most wanted first.
    """
    places = (root / folder / name for name in names for folder in FOLDERS)
    return next((place for place in places if place.exists()), None)


class LayerTable:
    """JSON values by recipe id, on the disk: joins layers of gigabytes in little memory.

    Args:
        scratch: a folder that is removed after the import; a crash may leave the table damaged.
        name: of the table's file.
    """

    def __init__(self, scratch: Path, name: str) -> None:
        self._database = sqlite3.connect(scratch / f"{name}.sqlite", check_same_thread=False)
        # No journal and no waiting for the disk: the table is made anew by every import.
        self._database.execute("PRAGMA journal_mode=OFF")
        self._database.execute("PRAGMA synchronous=OFF")
        self._database.execute("DROP TABLE IF EXISTS entries")
        self._database.execute(
            "CREATE TABLE entries (id BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID"
        )

    def fill(self, values: Iterable[tuple[str, Any]]) -> LayerTable:
        """Add values; a later one replaces an earlier one of the same id."""
        rows = (
            (_stored(key), _stored(json.dumps(value, ensure_ascii=False))) for key, value in values
        )
        self._database.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?)", rows)
        self._database.commit()
        return self

    def get(self, key: str) -> Any:
        """Return the value of an id, or None."""
        row = self._database.execute(
            "SELECT value FROM entries WHERE id = ?", (_stored(key),)
        ).fetchone()
        return None if row is None else json.loads(row[0])

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def _stored(text: str) -> bytes:
    # As bytes: SQLite takes no text that holds half of a surrogate pair, as JSON may.
    return text.encode(errors="surrogatepass")


def layer1_recipe(entry: Mapping[str, Any], where: str) -> Recipe:
    """Return a recipe of `layer1.json`.

    Args:
        entry: one object of its list.
        where: how to name it in an error.

    Raises:
        InputError: it is no recipe.
    """
    record = {
        **{key: entry.get(key) for key in ("id", "title", "partition", "url")},
        "ingredients": texts(entry, "ingredients", where),
        "instructions": texts(entry, "instructions", where),
    }
    return Recipe.parse(record, where=where)


def texts(entry: Mapping[str, Any], field: str, where: str) -> list[str]:
    """Return the texts of a layer's list of `{"text": ...}`.

    Args:
        entry: an object of the layer.
        field: the list's key.
        where: how to name the object in an error.

    Raises:
        InputError: it is no such list.
    """
    parts = entry.get(field) or []
    if not isinstance(parts, list) or not all(
        isinstance(part, dict) and isinstance(part.get("text"), str) for part in parts
    ):
        raise InputError(f'{where}: {field} is no list of objects with "text"')
    return [part["text"] for part in parts]


def detected_names(entry: Mapping[str, Any], where: str) -> list[str]:
    """Return the names that Recipe1M's detector was sure of, from an entry of `det_ingrs.json`.

    Its `valid` says so for each of its `ingredients`; without it, all count.

    Args:
        entry: one object of the list.
        where: how to name it in an error.

    Raises:
        InputError: it has no list of ingredients.
    """
    names = texts(entry, "ingredients", where)
    valid = entry.get("valid")
    sure = valid if isinstance(valid, list) and len(valid) == len(names) else [True] * len(names)
    return [name for name, is_sure in zip(names, sure, strict=True) if is_sure and name]


def layer_table(
    path: Path | None, scratch: Path, name: str, value: Callable[[Mapping[str, Any], str], Any]
) -> LayerTable | None:
    """Return what a layer says of each recipe, by id.

    Args:
        path: of the layer's JSON file; None where it is missing, and so is the table.
        scratch: a temporary folder for the table.
        name: of the table.
        value: what to keep of an entry, which comes with the file's name for errors.

    Raises:
        InputError: the file cannot be read.
    """
    if path is None:
        return None
    return LayerTable(scratch, name).fill(
        (entry["id"], value(entry, str(path)))
        for entry in read_json_list(path)
        if isinstance(entry.get("id"), str)
    )


def image_names(entry: Mapping[str, Any], where: str) -> list[str]:
    """Return the names of photo files in an entry of `layer2.json`.

    Args:
        entry: of the layer.
        where: how to name it in an error.

    Raises:
        InputError: it has no list of images.
    """
    images = entry.get("images")
    if not isinstance(images, list):
        raise InputError(f"{where}: an entry has no list of images")
    return [image["id"] for image in images if isinstance(image, dict) and "id" in image]


def whole_entry(entry: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """Return an entry of `layer1.json` as it is, for sources that hold vectors only."""
    return entry


def removed_ids(path: Path | None) -> frozenset[str]:
    """Return the ids in `remove1M.txt`: recipes that the authors took out.

    The published reader keeps the recipe of the first line by mistake; this one does not.
    """
    if path is None:
        return frozenset()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error})") from error
    return frozenset(line.split()[0] for line in lines if line.split())


class Classes:
    """Class names by recipe, from `classes1M.pkl`: two pickles, one after the other.

    Args:
        path: of the file; None knows no class.
    """

    def __init__(self, path: Path | None) -> None:
        numbers, names = in_worker(read_classes, path) if path is not None else ([], [])
        self._of: Mapping[str, int] = dict(numbers)
        self._names: Mapping[int, str] = dict(names)

    def of(self, identity: str) -> str | None:
        """Return the class of a recipe, or None where it is the background or unknown."""
        return self.name(self._of.get(identity, 0))

    def name(self, number: Any) -> str | None:
        """Return the name of a class, which are numbered from 0; None for 0, the background."""
        name = self._names.get(number)
        return name if isinstance(name, str) and name != BACKGROUND else None


class ImageTree:
    """Photos in folders by the first four letters of their names.

    `train/a/b/c/d/abcd123456.jpg` in Recipe1M, `a/b/c/d/abcd123456.jpg` in Recipe1M+: a folder of a
    million files is slow on most disks.

    Args:
        root: the source's folder.
    """

    def __init__(self, root: Path) -> None:
        folders = [root / "images", root / "recipe1M" / "images", root / "recipe1M_images", root]
        bases = [folder for folder in folders if folder.is_dir()]
        heads = set("0123456789abcdef")
        # Names are hexadecimal, which tells a folder of photos from any other.
        self._places = [
            base / split
            for base in bases
            for split in (*PARTITIONS, "")
            if (base / split).is_dir()
            and any(child.name in heads and child.is_dir() for child in (base / split).iterdir())
        ]

    def __bool__(self) -> bool:
        """Return whether there are photos at all."""
        return bool(self._places)

    def find(self, name: str) -> Path:
        """Return the file of a photo.

        Args:
            name: as the layers give it; folders in it are ignored.

        Raises:
            InputError: there is none.
        """
        name = Path(name).name
        for place in self._places:
            path = place.joinpath(*name[:4], name)
            if is_regular_file(path):
                return path
        raise InputError(f"{name}: is in none of the image folders")


class UnusedPhotos:
    """Counts the photos that recipes name where no folder of images lies beside them.

    Args:
        root: the source's folder.
        photos: its image folders.
    """

    def __init__(self, root: Path, photos: ImageTree) -> None:
        self._root = root
        self._photos = photos
        self._photo_count = 0

    def of(self, images: Sequence[str]) -> tuple[str, ...]:
        """Return the names of a recipe's photos for `Source.photo`; none without folders."""
        if self._photos:
            return tuple(images)
        self._photo_count += len(images)
        return ()

    def report(self, on_bad: Callable[[str], None]) -> None:
        """Report once what was left out; a line for each of a million photos says no more."""
        if self._photo_count:
            on_bad(
                f"{self._root}: has no image folders, so the {self._photo_count} photos that its "
                "recipes name are left out"
            )
