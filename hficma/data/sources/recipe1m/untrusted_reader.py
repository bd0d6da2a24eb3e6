"""Reads files that others made with pickle and LMDB, in a process of its own.

The functions here run in a `Worker`: a damaged LMDB can crash the library that reads it, and a
pickle that passes every check may still be slow. They return JSON values and bytes, so nothing that
a pickle made reaches the process that called.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ....errors import InputError
from ....untrusted.pickles import load_all, loads
from ....untrusted.worker import Worker
from ...lmdb_files import open_lmdb

SECONDS = 120.0
"""For reading a whole file of pickles; the classes of a million recipes take ten."""
KEY_PROTOCOLS = (3, 4, 2, 5)
"""AdaMine's code pickles keys by Python's default: 3 until 3.7, 4 since 3.8."""
JPEG_QUALITY = 95
"""Of images that are stored as pixels."""
MAX_NUMBER = 2**31
"""Of an id, a class or a position, at most: a pickle may hold a number of a million digits."""
MAX_SENTENCES = 10_000
"""Instructions of one recipe; the longest published one has a few hundred."""

Values = dict[str, Any]
"""`id`, `ingredients` (ids), `images`, `class` (from 0), and the sentence vectors' `rows` and
`dim`; or `error`, why there is no recipe."""
Record = tuple[Values, bytes]
"""A recipe's values and its sentence vectors, float32 little-endian (rows, dim)."""


def in_worker(function: Any, path: Path) -> Any:
    """Return `function(path)` of this module, run in a process that ends afterwards.

    Args:
        function: of this module; takes a path, returns JSON values and bytes.
        path: of the file.

    Raises:
        InputError: the function raised one, or took too much time or memory, or crashed.
    """
    with Worker(modules=[__name__]) as worker:
        return worker.call(function, path, name=str(path), seconds=SECONDS)


def read_classes(path: Path) -> list[Any]:
    """Read `classes1M.pkl`, two pickles one after the other.

    Returns:
        [[recipe id, class number], ...] and [[class number, name], ...].
    """
    values = load_all(path)
    if len(values) != 2 or not all(isinstance(value, dict) for value in values):
        raise InputError(f"{path}: holds no two dicts of classes")
    numbers, names = values
    try:
        return [
            [[_text(key), _number(number)] for key, number in numbers.items()],
            [[_number(number), _text(name)] for number, name in names.items()],
        ]
    except (OverflowError, TypeError, ValueError) as error:
        raise InputError(f"{path}: holds no classes by number ({error})") from error


def read_word_table(path: Path) -> Record:
    """Read AdaMine's `vocab.pkl`: a pair of a table of vectors and its words.

    Returns:
        `words`, `rows` and `dim`, and the vectors, float32 (rows, dim).
    """
    value = load_all(path)[0]
    try:
        rows = _rows(value[0])
        words = [_text(word) for word in value[1]]
    except (IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise InputError(f"{path}: holds no table of vectors with its words ({error})") from error
    return {"words": words, "rows": len(rows), "dim": rows.shape[1]}, rows.tobytes()


def im2recipe_records(store: Path, keys: Path) -> Iterator[Values | Record]:
    """Yield the recipes of one split of im2recipe's LMDBs.

    Args:
        store: the LMDB.
        keys: the pickled list of its recipe ids.

    Yields:
        first {"keys": number of ids, "entries": number of recipes in the LMDB}, then recipes.
    """
    identities = load_all(keys)[0]
    if not isinstance(identities, list):
        raise InputError(f"{keys}: holds no list of recipe ids")
    environment = open_lmdb(store)
    yield {"keys": len(identities), "entries": int(environment.stat()["entries"])}
    with environment.begin() as transaction:
        for number, key in enumerate(identities, 1):
            try:
                identity = _identity(key, f"{keys} id {number}")
                where = f"{store} recipe {identity}"
                value = _get(transaction, identity.encode("latin1", errors="replace"), where)
                if value is None:
                    raise InputError(f"{where}: {keys} names it, the LMDB does not hold it")
                yield _im2recipe_record(identity, loads(value, name=where), where)
            except InputError as error:
                yield {"error": str(error)}


def _im2recipe_record(identity: str, record: Any, where: str) -> Record:
    """Return a record of im2recipe's in the common form."""
    try:
        # `intrs` is the field's published spelling.
        vectors = _rows(record["intrs"])
        values = {
            "id": identity,
            "ingredients": [_number(number) for number in record["ingrs"]],
            "images": [_text(image["id"]) for image in record["imgs"]],
            "class": _number(record["classes"]) - 1,  # Lua counts from 1
        }
    except (IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise InputError(f"{where}: is no im2recipe record ({error!r})") from error
    return {**values, "rows": len(vectors), "dim": vectors.shape[1]}, vectors.tobytes()


class Field:
    """One field of AdaMine's: an LMDB of values by position from 0, its keys pickled integers.

    Args:
        path: of the LMDB.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._environment = open_lmdb(path)
        # A key is found by its bytes, so by the pickle protocol of the Python that wrote it.
        known = (p for p in KEY_PROTOCOLS if self._stored(pickle.dumps(0, p)) is not None)
        self._protocol = next(known, KEY_PROTOCOLS[0])

    def __len__(self) -> int:
        """Count the values."""
        return int(self._environment.stat()["entries"])

    def __getitem__(self, position: int) -> Any:
        """Return the value at a position.

        Raises:
            InputError: there is none, or it is no pickle that may be read.
        """
        value = self._stored(pickle.dumps(position, self._protocol))
        if value is None:
            raise InputError(f"{self.path}: holds no value {position}; it has {len(self)}")
        return loads(value, name=f"{self.path} value {position}")

    def _stored(self, key: bytes) -> bytes | None:
        with self._environment.begin() as transaction:
            return _get(transaction, key, str(self.path))


# Fields with a value for each recipe: photos, where they are in `ims`, ingredients and their
# number, class, where the sentences begin in `stvecs`, and their number.
_BY_RECIPE = ("numims", "impos", "ingrs", "ilens", "classes", "rbps", "rlens")


def adamine_records(folder: Path) -> Iterator[Values | Record]:
    """Yield the recipes of one split of AdaMine's LMDBs.

    Args:
        folder: of the split.

    Yields:
        first {"recipes": number}, then recipes; their images are positions from 0 in `ims.lmdb`.

    Raises:
        InputError: a field has another number of recipes than the ids.
    """
    names = (*_BY_RECIPE, "ids", "stvecs")
    paths = {name: folder / f"{name}.lmdb" for name in names}
    fields = {name: Field(path) for name, path in paths.items() if path.exists()}
    ids = fields["ids"]
    for name in _BY_RECIPE:
        if name in fields and len(fields[name]) != len(ids):
            raise InputError(
                f"{fields[name].path} has values for {len(fields[name])} recipes, {ids.path} "
                f"names {len(ids)}: they are not of one data set"
            )
    yield {"recipes": len(ids)}
    for position in range(len(ids)):
        try:
            yield _adamine_record(folder, fields, position)
        except InputError as error:
            yield {"error": str(error)}


def _adamine_record(folder: Path, fields: dict[str, Field], position: int) -> Record:
    """Return a recipe of AdaMine's in the common form."""
    where = f"{folder} recipe {position}"

    def value(name: str, default: Any) -> Any:
        return fields[name][position] if name in fields else default

    try:
        # Pointers into other fields count from 1.
        images = [_number(image) - 1 for image in value("impos", [])]
        number = _number(value("numims", len(images)))
        if number != len(images):
            raise ValueError(f"numims says {number} images, impos names {len(images)}")
        vectors = _sentence_rows(fields, position)
        return {
            "id": _text(fields["ids"][position]),
            "ingredients": [_number(word) for word in value("ingrs", [])],
            "images": images,
            "class": _number(value("classes", 1)) - 1,
            "rows": len(vectors),
            "dim": vectors.shape[1],
        }, vectors.tobytes()
    except (IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise InputError(f"{where}: is no AdaMine record ({error})") from error


def _sentence_rows(fields: dict[str, Field], position: int) -> Any:
    """Return a recipe's sentence vectors, float32 (S, D_s); (0, 0) where it has none."""
    if not {"rbps", "rlens", "stvecs"} <= set(fields):
        return np.zeros((0, 0), dtype="<f4")
    start = _number(fields["rbps"][position]) - 1
    count = _number(fields["rlens"][position])
    if count <= 0:
        return np.zeros((0, 0), dtype="<f4")
    vectors = fields["stvecs"]
    if not 0 <= start <= start + count <= len(vectors) or count > MAX_SENTENCES:
        raise ValueError(f"sentences {start} to {start + count} of {len(vectors)}")
    return _rows(np.stack([np.asarray(vectors[row]) for row in range(start, start + count)]))


def adamine_photo(store: Path, position: int) -> bytes:
    """Return an image of AdaMine's `ims.lmdb`, which holds pixels, as a JPEG file.

    Args:
        store: the LMDB.
        position: of the image, from 0.

    Raises:
        InputError: there is no such image.
    """
    value = Field(store)[position]
    if not hasattr(value, "save"):
        raise InputError(f"{store}: image {position} is no image")
    buffer = io.BytesIO()
    try:
        value.convert("RGB").save(buffer, "JPEG", quality=JPEG_QUALITY)
    except (OSError, SystemError, ValueError) as error:  # no pixels, or more than JPEG takes
        raise InputError(f"{store}: image {position} of {value.size} is no photo") from error
    return buffer.getvalue()


def _get(transaction: Any, key: bytes, where: str) -> bytes | None:
    import lmdb

    try:
        value: bytes | None = transaction.get(key)
    except lmdb.Error as error:
        raise InputError(f"{where}: cannot be read from its LMDB ({error})") from error
    return value


def _rows(value: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return vectors as float32 (S, D_s), little-endian.

    Raises:
        ValueError: they have another shape, or are no finite numbers.
    """
    vectors = np.asarray(value)
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        raise ValueError(f"vectors of shape {vectors.shape} and type {vectors.dtype}")
    # Doubles too large for single precision become infinite, which the next line refuses.
    with np.errstate(over="ignore"):
        rows = np.ascontiguousarray(vectors, dtype="<f4")
    if not np.isfinite(rows).all():
        raise ValueError("vectors that are no finite numbers")
    return rows


def _identity(value: Any, where: str) -> str:
    try:
        return _text(value)
    except ValueError as error:
        raise InputError(f"{where}: is no recipe's id ({error})") from error


def _number(value: Any) -> int:
    """Return a whole number of any of Python's or NumPy's types.

    Raises:
        ValueError: it is none, or too large.
    """
    if np.iscomplexobj(value) or (number := int(value)) != value:
        raise ValueError(f"a {type(value).__name__} stands where a whole number should")
    if abs(number) > MAX_NUMBER:
        raise ValueError(f"a number of {number.bit_length()} bits")
    return number


def _text(value: Any) -> str:
    """Return a text, which Python 2 pickled as bytes, or a number that stands for one.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, bytes):
        return value.decode("latin1")
    if not isinstance(value, (str, int)):
        raise ValueError(f"{type(value).__name__} stands where a text should")
    return value if isinstance(value, str) else str(_number(value))
