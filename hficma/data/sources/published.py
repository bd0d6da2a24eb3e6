"""The files that Recipe1M's users share, in whatever folder they were unpacked."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hficma.data.json_stream import read_json_list
from hficma.errors import InputError
from hficma.recipe import PARTITIONS, Recipe
from hficma.safe_pickle import load_all
from hficma.text import FIRST_WORD_ID
from hficma.vectors import WordVectors
from hficma.word2vec import read_word2vec

BACKGROUND = "background"
FOLDERS = ("", "text", "data", "recipe1M", "Recipe1M", "recipe1M/text")


def find(root: Path, *names: str) -> Path | None:
    """The first of these files, looked for where the published archives put them."""
    places = (root / folder / name for name in names for folder in FOLDERS)
    return next((place for place in places if place.exists()), None)


class SideTable:
    """JSON values by recipe id on the disk: the layers are joined in no more memory than this."""

    def __init__(self, scratch: Path, name: str) -> None:
        self._database = sqlite3.connect(scratch / f"{name}.sqlite", check_same_thread=False)
        self._database.execute("PRAGMA journal_mode=OFF")
        self._database.execute("PRAGMA synchronous=OFF")
        self._database.execute("DROP TABLE IF EXISTS side")
        self._database.execute("CREATE TABLE side (id TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID")

    def fill(self, values: Iterable[tuple[str, Any]]) -> SideTable:
        """Add values; a later one replaces an earlier one of the same id."""
        rows = ((key, json.dumps(value, ensure_ascii=False)) for key, value in values)
        self._database.executemany("INSERT OR REPLACE INTO side VALUES (?, ?)", rows)
        self._database.commit()
        return self

    def get(self, key: str) -> Any:
        """The value of an id, or None."""
        row = self._database.execute("SELECT value FROM side WHERE id = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def layer1_recipe(entry: Mapping[str, Any], where: str) -> Recipe:
    """A recipe of `layer1.json`."""
    record = {
        **{key: entry.get(key) for key in ("id", "title", "partition", "url")},
        "ingredients": texts(entry, "ingredients", where),
        "instructions": texts(entry, "instructions", where),
    }
    return Recipe.parse(record, where=where)


def texts(entry: Mapping[str, Any], field: str, where: str) -> list[str]:
    """The texts of a layer's list of `{"text": ...}`."""
    parts = entry.get(field) or []
    if not isinstance(parts, list) or not all(
        isinstance(part, dict) and isinstance(part.get("text"), str) for part in parts
    ):
        raise InputError(f'{where}: {field} is no list of objects with "text"')
    return [part["text"] for part in parts]


def detected_names(entry: Mapping[str, Any], where: str) -> list[str]:
    """Names that Recipe1M's detector was sure of, from an entry of `det_ingrs.json`."""
    names = texts(entry, "ingredients", where)
    valid = entry.get("valid")
    sure = valid if isinstance(valid, list) and len(valid) == len(names) else [True] * len(names)
    return [name for name, is_sure in zip(names, sure, strict=True) if is_sure and name]


def image_table(path: Path | None, scratch: Path) -> SideTable | None:
    """Photo file names by recipe id, from `layer2.json`."""
    if path is None:
        return None
    where = str(path)
    return SideTable(scratch, "images").fill(
        (entry["id"], _ids(entry.get("images"), where))
        for entry in read_json_list(path)
        if isinstance(entry.get("id"), str)
    )


def name_table(path: Path | None, scratch: Path) -> SideTable | None:
    """Detected ingredient names by recipe id, from `det_ingrs.json`."""
    if path is None:
        return None
    return SideTable(scratch, "names").fill(
        (entry["id"], detected_names(entry, str(path)))
        for entry in read_json_list(path)
        if isinstance(entry.get("id"), str)
    )


def text_table(path: Path | None, scratch: Path) -> SideTable | None:
    """Whole recipes by id, from `layer1.json`, for sources that hold vectors only."""
    if path is None:
        return None
    return SideTable(scratch, "texts").fill(
        (entry["id"], entry) for entry in read_json_list(path) if isinstance(entry.get("id"), str)
    )


def removed_ids(path: Path | None) -> frozenset[str]:
    """Ids in `remove1M.txt`; the published reader keeps the first line's by mistake."""
    if path is None:
        return frozenset()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error})") from error
    return frozenset(line.split()[0] for line in lines if line.split())


class Classes:
    """Class names by recipe, from `classes1M.pkl`: two pickles, one after the other."""

    def __init__(self, path: Path | None) -> None:
        self._of: Mapping[Any, Any] = {}
        self._names: Mapping[Any, Any] = {}
        if path is not None:
            values = load_all(path)
            if len(values) != 2 or not all(isinstance(value, dict) for value in values):
                raise InputError(f"{path}: holds no two dicts of classes")
            self._of, self._names = values

    def of(self, identity: str) -> str | None:
        """The class of a recipe, or None where it is the background or unknown."""
        return self.name(self._of.get(identity, 0))

    def name(self, number: Any) -> str | None:
        """The name of a class from 0, the background, on."""
        name = self._names.get(number)
        return name if isinstance(name, str) and name != BACKGROUND else None


class ImageTree:
    """Photos in folders `a/b/c/d/`, with the split's folder above (Recipe1M) or not (Recipe1M+)."""

    def __init__(self, root: Path) -> None:
        folders = [root / "images", root / "recipe1M" / "images", root / "recipe1M_images", root]
        bases = [folder for folder in folders if folder.is_dir()]
        heads = set("0123456789abcdef")
        self._places = [
            base / split
            for base in bases
            for split in (*PARTITIONS, "")
            if (base / split).is_dir()
            and any(child.name in heads and child.is_dir() for child in (base / split).iterdir())
        ]

    def __bool__(self) -> bool:
        """Whether there are photos at all."""
        return bool(self._places)

    def find(self, name: str) -> Path:
        """The file of a photo called `name`.

        Raises:
            InputError: there is none.
        """
        name = Path(name).name
        for place in self._places:
            path = place.joinpath(*name[:4], name)
            if path.is_file():
                return path
        raise InputError(f"{name}: is in none of the image folders")


def published_vectors(root: Path) -> WordVectors | None:
    """Word vectors in `vocab.bin` or AdaMine's `vocab.pkl`."""
    path = find(root, "vocab.bin")
    if path is not None:
        return read_word2vec(path)
    path = find(root, "vocab.pkl")
    if path is None:
        return None
    value = load_all(path)[0]
    try:
        rows, words = np.asarray(value[0], dtype=np.float32), tuple(map(str, value[1]))
        if rows.ndim == 2 and len(rows) == len(words) + FIRST_WORD_ID:
            rows = rows[FIRST_WORD_ID:]
        counts = tuple(max(1, 10 * len(words) // rank) for rank in range(1, len(words) + 1))
        return WordVectors.from_rows(words, counts, rows)
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: holds no table of vectors with its words ({error})") from error


def published_words(root: Path) -> tuple[str, ...]:
    """The vocabulary's words in order: word i has id i + 2 in every published file.

    Raises:
        InputError: there is no vocabulary, so ingredient ids mean nothing.
    """
    path = find(root, "vocab.txt")
    if path is not None:
        try:
            return tuple(path.read_text(encoding="utf-8").removesuffix("\n").split("\n"))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read as text ({error})") from error
    vectors = published_vectors(root)
    if vectors is None:
        raise InputError(f"{root}: holds no vocab.txt, vocab.bin or vocab.pkl to name ingredients")
    return vectors.vocabulary.words


def ingredient_words(ids: Iterable[Any], words: tuple[str, ...]) -> tuple[str, ...]:
    """Names of published ingredient ids; 0 pads and 1 ends the list."""
    numbers = (int(number) - FIRST_WORD_ID for number in ids)
    return tuple(words[number].replace("_", " ") for number in numbers if 0 <= number < len(words))


def _ids(images: Any, where: str) -> list[str]:
    if not isinstance(images, list):
        raise InputError(f"{where}: an entry has no list of images")
    return [image["id"] for image in images if isinstance(image, dict) and "id" in image]
