"""Photos of a dataset for training: decoded once into the workspace's cache.

Two caches, both arrays on disk that are mapped, not read:

    photos/KEY/rows.npy      (P, 256, 256, 3) uint8         centre squares, which crops are cut from
    features/KEY/rows.npy    (P, 1 + views, R, C) float16   a frozen image encoder's regions of the
                                                            centre crop and of random views
    .../KEY/notes.json       why each photo could not be read, or null

The second spares a frozen image encoder from seeing a photo twice. KEY follows from the photos'
bytes, the code that decodes them and, for regions, the image encoder's weights. A photo that could
not be read is tried again each time: it may have been mended, or only been out of reach.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hficma.artifacts.content_digests import code_digest
from hficma.artifacts.manifest import write_atomically
from hficma.artifacts.unfinished import unfinished_directory
from hficma.data.dataset import Dataset
from hficma.data.photo_origin import photos_digest
from hficma.errors import InputError
from hficma.images import CROP, SHORT_SIDE
from hficma.model import Model
from hficma.types import Array, Mask, Pixels, Positions

from .photo_reading import read_all, read_photos

ENCODE_BATCH = 32
"""Photos that the image encoder sees at once."""
_ROWS, _NOTES = "rows.npy", "notes.json"
_CODE = (__name__, *(f"{__package__}.{name}" for name in ("photo_reading", "photo_views")))
"""Modules whose change makes other pixels, beside `hficma.images` ..."""
_DECODERS = ("pillow", "simplejpeg", "pi-heif")
"""... and packages."""
_TRIES = 3
"""Times that an array is made anew because photos changed while it was written."""

logger = logging.getLogger("hficma")


@dataclass(frozen=True)
class PhotoArray:
    """A cached array with one row a photo, and which photos could be read."""

    rows: Array
    """(P, ...), mapped from disk; rows of photos that could not be read are zero."""
    usable: Mask
    """Which photos could be read (P,)."""
    complaints: tuple[str, ...]
    """One line for each photo that could not be read."""


def cached_pixels(
    dataset: Dataset, positions: Positions, cache: Path, on_done: Callable[[int], None]
) -> PhotoArray:
    """Return squares (P, 256, 256, 3) uint8 of photos, decoded where the cache lacks them.

    Args:
        dataset: where the photos are.
        positions: which, in the order of the rows.
        cache: the workspace's cache folder.
        on_done: called with the number of photos that were just added.

    Raises:
        InputError: the cache cannot be written, or photos change all the time.
    """

    def key() -> str:
        return _key("pixels", dataset, positions, cache)

    def fill(rows: Array) -> Iterator[str | None]:
        for number, (pixels, complaint) in enumerate(read_all(dataset, positions, "square")):
            if pixels is not None:
                rows[number] = pixels[0]
            on_done(1)
            yield complaint

    shape = (len(positions), SHORT_SIDE, SHORT_SIDE, 3)
    return _CachedArray(cache / "photos", key, shape, np.uint8, dataset, positions).array(fill)


def cached_regions(
    model: Model,
    dataset: Dataset,
    positions: Positions,
    cache: Path,
    on_done: Callable[[int], None],
    *,
    views: int = 0,
    scale: float = 1.0,
) -> PhotoArray:
    """Return a frozen image encoder's regions (P, 1 + views, R, C) float16 of photos.

    Args:
        model: whose image encoder is run where the cache lacks them; in evaluation mode.
        dataset: where the photos are.
        positions: which, in the order of the rows.
        cache: the workspace's cache folder.
        on_done: called with the number of photos that were just added.
        views: random views beside the centre crop, which comes first.
        scale: least share of a photo's area in a view.

    Raises:
        InputError: the cache cannot be written, or photos change all the time.
    """
    weights = hashlib.sha256()
    for name, tensor in sorted(model.trunk.state_dict().items()):
        weights.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    detail = [weights.hexdigest(), views, scale if views else 1.0]

    def key() -> str:
        return _key("regions", dataset, positions, cache, *detail)

    def fill(rows: Array) -> Iterator[str | None]:
        batch: list[tuple[int, Pixels]] = []
        readings = read_all(dataset, positions, "views", views, scale)
        for number, (pixels, complaint) in enumerate(readings):
            if pixels is not None:
                batch.append((number, pixels))
            if len(batch) * (views + 1) >= ENCODE_BATCH:
                _encode(model, batch, rows)
                batch = []
            on_done(1)
            yield complaint
        if batch:
            _encode(model, batch, rows)

    with torch.no_grad():  # R and C are known by trying
        blank = torch.zeros(1, CROP, CROP, 3, dtype=torch.uint8, device=model.device)
        shape = (len(positions), views + 1, *model.regions(blank).shape[1:])
    return _CachedArray(cache / "features", key, shape, np.float16, dataset, positions).array(fill)


@torch.no_grad()
def _encode(model: Model, batch: list[tuple[int, Pixels]], rows: Array) -> None:
    """Write the regions of photos, each (1 + views, 224, 224, 3), into their rows."""
    pixels = torch.from_numpy(np.concatenate([views for _, views in batch]))
    regions: Tensor = model.regions(pixels.to(model.device)).half().cpu()
    for (number, _), photo_regions in zip(batch, regions.split(rows.shape[1]), strict=True):
        rows[number] = photo_regions.numpy()


def _key(kind: str, dataset: Dataset, positions: Positions, cache: Path, *detail: object) -> str:
    """Return a name that changes with all that the array depends on, and with nothing else."""
    code = code_digest("hficma.images", *_CODE, packages=_DECODERS)
    photos = photos_digest(dataset, positions.tolist(), cache)
    content = json.dumps([kind, code, photos, *map(str, detail)])
    return hashlib.sha256(content.encode()).hexdigest()[:32]


Fill = Callable[[Array], Iterator[str | None]]
"""Writes the rows; yields for each, in order, None or why there is no photo."""


class _CachedArray:
    """An array on disk with a row a photo.

    Args:
        folder: of arrays of its kind.
        key: returns its name, from what the photos are at that moment.
        shape: of the array.
        dtype: of its numbers.
        dataset: holds the photos.
        positions: of the rows.
    """

    def __init__(
        self,
        folder: Path,
        key: Callable[[], str],
        shape: tuple[int, ...],
        dtype: type[np.generic],
        dataset: Dataset,
        positions: Positions,
    ) -> None:
        self._folder, self._key, self._shape, self._dtype = folder, key, shape, dtype
        self._dataset, self._positions = dataset, positions

    def array(self, fill: Fill) -> PhotoArray:
        """Return the cached array, written now where it is missing.

        Raises:
            InputError: the cache cannot be written, or photos change all the time.
        """
        # The key is taken before reading and compared after writing: in between, photos may change.
        for _ in range(_TRIES):
            path = self._folder / self._key()
            try:
                if (array := self._read(path)) is not None:
                    return array
                self._write(path, fill)
            except OSError as error:
                raise InputError(
                    f"{path}: the cache cannot be written ({error.strerror})"
                ) from error
        raise InputError(f"{self._dataset.name}: its photos change while they are read; try again")

    def _read(self, path: Path) -> PhotoArray | None:
        """Return what lies there; None where nothing does, or photos can be read by now."""
        if not (path / _NOTES).is_file():
            return None
        complaints: list[str | None] = json.loads((path / _NOTES).read_text())
        usable = np.array([complaint is None for complaint in complaints], dtype=np.bool_)
        damaged = self._positions[~usable]
        if any(pixels is not None for pixels, _ in read_photos(self._dataset, damaged)):
            logger.info("%s: photos that could not be read can be now", self._dataset.name)
            shutil.rmtree(path)
            return None
        rows: Any = np.load(path / _ROWS, mmap_mode="r")
        return PhotoArray(rows, usable, tuple(line for line in complaints if line is not None))

    def _write(self, path: Path, fill: Fill) -> None:
        """Write the array, whole or not at all, unless a photo became another meanwhile."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with unfinished_directory(path) as part:
            rows = np.lib.format.open_memmap(part / _ROWS, "w+", self._dtype, self._shape)
            complaints = list(fill(rows))
            rows.flush()
            write_atomically(part / _NOTES, json.dumps(complaints).encode())
            # Pixels of photos that changed in between must not stand under the old photos' name.
            if self._key() == path.name and not path.exists():
                part.rename(path)
