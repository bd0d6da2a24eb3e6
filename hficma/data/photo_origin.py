"""Which bytes a dataset's photos are made of: what a cache of them is keyed by."""

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
    """Return where a photo's bytes are; of a dataset that cannot tell, its pixels."""
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
    """
    places = [int(position) for position in positions]
    whole = hashlib.sha256()
    for place, content in zip(places, photo_origins(dataset, places, cache), strict=True):
        whole.update(f"{place} {content}\n".encode())
    return whole.hexdigest()


def photo_origins(dataset: Dataset, positions: Iterable[int], cache: Path) -> list[str]:
    """Return the digest of the file that holds each photo, or else what it is made from."""
    origins = [photo_origin(dataset, int(position)) for position in positions]
    files = [origin for origin in origins if isinstance(origin, Path)]
    digests = iter(file_digests(files, cache))
    return [next(digests) if isinstance(origin, Path) else origin for origin in origins]


def recipes_digest(dataset: Dataset, positions: Iterable[int]) -> str:
    """Return a digest that changes where a recipe at one of the positions does, photos apart."""
    whole = hashlib.sha256()
    for position in positions:
        whole.update(repr(dataset.recipe(int(position))).encode(errors="surrogatepass"))
    return whole.hexdigest()
