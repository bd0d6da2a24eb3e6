"""Finds the photos of an index's items: small ones that it keeps, or the files that it remembers.

A photo that is not where it was is no error: answers go without it, and one line says so.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from hficma.artifacts.manifest import MANIFEST
from hficma.artifacts.workspace import recorded_path
from hficma.data.photo_places import PhotoRoot
from hficma.errors import HficmaError, InputError
from hficma.limits import printable_path

from ..files.photo_file import PhotoRow

if TYPE_CHECKING:
    from hficma.data.dataset import Dataset

PHOTOS_VARIABLE = "HFICMA_PHOTOS"
"""Environment variable that says where photos are now: a folder, or a dataset directory."""

_log = logging.getLogger("hficma")


def recorded_root(root: PhotoRoot, index: Path) -> PhotoRoot:
    """Return a root as an index's manifest records it: relative to the index where it is a path.

    Args:
        root: of a dataset.
        index: its directory.
    """
    if _is_sample(root):
        return root
    return root._replace(where=recorded_path(Path(root.where), index))


def _is_sample(root: PhotoRoot) -> bool:
    """Return whether a root is a sample, which is drawn from its name and lies nowhere."""
    return root.kind == "dataset" and root.where.startswith("sample:")


class PhotoFinder:
    """Finds photos by what an index remembers of them; any number of threads may share it.

    Args:
        index: its directory.
        roots: of its manifest.
        folder: where its photos are now, instead of where the manifest says; None takes what the
            environment variable `HFICMA_PHOTOS` says, if it is set.
    """

    def __init__(self, index: Path, roots: Sequence[PhotoRoot], folder: Path | None) -> None:
        moved = os.environ.get(PHOTOS_VARIABLE)
        self._index = index
        self._roots = roots
        self._folder = folder or (Path(moved) if moved else None)
        self._datasets: dict[str, Dataset] = {}
        self._lock = threading.Lock()
        self._complained = False

    @property
    def places(self) -> list[str]:
        """Return where photos are looked for: folders, dataset directories and samples."""
        return [
            root.where if _is_sample(root) else printable_path(self._where(number))
            for number, root in enumerate(self._roots)
        ]

    def jpeg(self, photo: PhotoRow) -> bytes | None:
        """Return a photo as a small JPEG: the one that is kept, or one made of its file now.

        Args:
            photo: what the index knows of it.

        Returns:
            at most 256 pixels a side, without EXIF; None where the photo cannot be read, of which
            the first is logged.
        """
        if photo.jpeg is not None:
            return photo.jpeg
        from hficma.images import read_photo
        from hficma.images.thumbnails import thumbnail

        try:
            if isinstance(photo.place, int):
                return thumbnail(self._dataset(photo).photo(photo.place))
            path = self.file(photo)
            return None if path is None else thumbnail(read_photo(path))
        except (HficmaError, IndexError) as error:
            self._complain(error)
            return None

    def file(self, photo: PhotoRow) -> Path | None:
        """Return the file of a photo; None where it is none of its own, or not remembered.

        Args:
            photo: what the index knows of it.

        Raises:
            InputError: its place leads out of its root.
        """
        if photo.root is None or not isinstance(photo.place, str):
            return None
        folder = self._where(photo.root)
        place = PurePosixPath(photo.place)
        outside = place.is_absolute() or ".." in place.parts or "\0" in photo.place
        # Links inside the folder may lead to another file there, and not out of it.
        if outside or not (folder / place).resolve().is_relative_to(folder.resolve()):
            raise InputError(
                f"{printable_path(folder)}: a photo's place, {photo.place[:80]!r}, leads out of it"
            )
        return folder / place

    def _where(self, number: int) -> Path:
        """Return the folder or the dataset directory that a root is now."""
        if not 0 <= number < len(self._roots):
            raise InputError(f"{self._index}: has no place of photos of number {number}")
        return self._folder or (self._index / self._roots[number].where).resolve()

    def _dataset(self, photo: PhotoRow) -> Dataset:
        """Return the dataset that holds a photo, opened once."""
        from hficma.data.dataset import open_dataset

        if photo.root is None:
            raise InputError(f"{self._index}: a photo's dataset is not named")
        folder, recorded = self._where(photo.root), self._roots[photo.root]
        if recorded.kind != "dataset":
            raise InputError(f"{self._index}: a photo's place is no file's")
        drawn = _is_sample(recorded)
        if not drawn and not (folder / MANIFEST).is_file():
            raise InputError(f"{printable_path(folder)}: no dataset there")
        name = recorded.where if drawn else str(folder)
        with self._lock:
            if name not in self._datasets:
                self._datasets[name] = open_dataset(name)
            return self._datasets[name]

    def _complain(self, error: Exception) -> None:
        """Log the first photo that cannot be shown."""
        with self._lock:
            if not self._complained:
                self._complained = True
                _log.warning(
                    "%s: its photos cannot all be shown (%s); if they were moved, let %s name "
                    "their folder", self._index, error, PHOTOS_VARIABLE,
                )  # fmt: skip
