"""Digests of a dataset's photos and recipes: the keys of caches that are computed from them.

A cache keyed by a dataset's name would answer with features of photos that have been replaced
since; one keyed by pixels would decode a million photos to find out. So the key is the content of
the files that the photos lie in, whose digests are remembered from run to run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, runtime_checkable

from ..artifacts.content_digests import file_digests
from ..errors import InputError
from .dataset import Dataset


@runtime_checkable
class PhotoOrigin(Protocol):
    """A dataset that knows where its photos' bytes are."""

    def photo_origin(self, index: int) -> Path | str:
        """Return the file that holds a photo, alone or beside others, or what it is made from."""


def photo_origin(dataset: Dataset, index: int) -> Path | str:
    """Return where a photo's bytes are; for a dataset that cannot tell, a digest of the pixels.

    Args:
        dataset: holds the photo.
        index: the recipe's position.

    Returns:
        A file, or text that changes with the photo. A photo that cannot be read has its error: it
        stays the same until it can.
    """
    if isinstance(dataset, PhotoOrigin):
        return dataset.photo_origin(index)
    try:
        photo = dataset.photo(index)
    except InputError as error:
        return str(error)
    return f"{photo.size} {hashlib.sha256(photo.tobytes()).hexdigest()}"


def photos_digest(dataset: Dataset, positions: Iterable[int], cache: Path) -> str:
    """Return a digest that changes where a photo at one of the positions does.

    Args:
        dataset: holds the photos.
        positions: in order.
        cache: the workspace's cache folder, where digests of files are remembered.

    Returns:
        SHA-256 in hexadecimal.
    """
    indices = [int(position) for position in positions]
    whole = hashlib.sha256()
    # With the position: many photos lie in one file (an LMDB), whose digest is the same for all.
    for index, content in zip(indices, photo_origins(dataset, indices, cache), strict=True):
        whole.update(f"{index} {content}\n".encode())
    return whole.hexdigest()


def photo_origins(dataset: Dataset, positions: Iterable[int], cache: Path) -> list[str]:
    """Return the digest of the file that holds each photo, or else what it is made from.

    Args:
        dataset: holds the photos.
        positions: of the recipes.
        cache: as for `photos_digest`.
    """
    origins = [photo_origin(dataset, int(position)) for position in positions]
    files = [origin for origin in origins if isinstance(origin, Path)]
    digests = iter(file_digests(files, cache))
    return [next(digests) if isinstance(origin, Path) else origin for origin in origins]


def recipes_digest(dataset: Dataset, positions: Iterable[int]) -> str:
    """Return a digest that changes where a recipe at one of the positions does, photos apart.

    Args:
        dataset: holds the recipes.
        positions: in order.

    Returns:
        SHA-256 in hexadecimal.
    """
    whole = hashlib.sha256()
    for position in positions:
        # A title may hold half of a surrogate pair (JSON's "\\ud83d"), which strict UTF-8 refuses.
        whole.update(repr(dataset.recipe(int(position))).encode(errors="surrogatepass"))
    return whole.hexdigest()
