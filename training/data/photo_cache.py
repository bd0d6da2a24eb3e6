"""Photos of a dataset for training: decoded once into the workspace's cache.

Two caches, both arrays on disk that are mapped, not read: the pixels of every photo (a 256 x 256
centre square, from which 224 x 224 is cut), and, for a frozen trunk, its regions of the centre crop
and of a few random views, so that the trunk never sees a photo twice.

They are found by the photos' bytes, the code that decodes them and the trunk's weights. A photo
that could not be read is tried again each time: it may have been mended, or only been out of reach.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hficma.artifacts.content_digests import code_digest
from hficma.artifacts.manifest import write_atomically
from hficma.artifacts.unfinished import unfinished_directory
from hficma.data.dataset import Dataset
from hficma.data.photo_origin import photos_digest
from hficma.errors import InputError
from hficma.images import CROP, SHORT_SIDE, Pixels
from hficma.model import Model

from .photo_reading import read_all, read_photos

Positions = npt.NDArray[np.int64]

ENCODE_BATCH = 32
_CODE = (__name__, *(f"{__package__}.{name}" for name in ("photo_reading", "photo_views")))
_DECODERS = ("pillow", "simplejpeg", "pi-heif")
_TRIES = 3

logger = logging.getLogger("hficma")


@dataclass(frozen=True)
class PhotoArray:
    """A cached array with one row a photo, and which photos could be read."""

    rows: npt.NDArray[np.generic]
    """(P, ...), mapped from disk."""
    usable: npt.NDArray[np.bool_]
    """(P,); rows of unusable photos are zero."""
    complaints: tuple[str, ...]
    """One line for each photo that could not be read."""


def cached_pixels(
    dataset: Dataset, positions: Positions, cache: Path, on_done: Callable[[int], None]
) -> PhotoArray:
    """Squares (P, 256, 256, 3) uint8 of the photos at the given positions.

    Args:
        dataset: where the photos are.
        positions: which, in the order of the rows.
        cache: the workspace's cache folder.
        on_done: told how many photos were added.
    """

    def key() -> str:
        return _key("pixels", dataset, positions, cache)

    def fill(rows: npt.NDArray[np.generic]) -> Iterator[str | None]:
        for number, (pixels, complaint) in enumerate(read_all(dataset, positions, "square")):
            if pixels is not None:
                rows[number] = pixels[0]
            on_done(1)
            yield complaint

    shape = (len(positions), SHORT_SIDE, SHORT_SIDE, 3)
    return _Cache(cache / "photos", key, shape, np.uint8, dataset, positions).array(fill)


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
    """A frozen trunk's regions (P, 1 + views, R, C) float16: the centre crop, then random views.

    Args:
        model: whose trunk is run.
        dataset: where the photos are.
        positions: which, in the order of the rows.
        cache: the workspace's cache folder.
        on_done: told how many photos were added.
        views: random views beside the centre crop.
        scale: least share of a photo's area in a view.
    """
    trunk = hashlib.sha256()
    for name, tensor in sorted(model.trunk.state_dict().items()):
        trunk.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    detail = [trunk.hexdigest(), views, scale if views else 1.0]

    def key() -> str:
        return _key("regions", dataset, positions, cache, *detail)

    def fill(rows: npt.NDArray[np.generic]) -> Iterator[str | None]:
        waiting: list[tuple[int, Pixels]] = []
        for number, (pixels, complaint) in enumerate(
            read_all(dataset, positions, "views", views, scale)
        ):
            if pixels is not None:
                waiting.append((number, pixels))
            if len(waiting) * (views + 1) >= ENCODE_BATCH:
                _encode(model, waiting, rows)
                waiting = []
            on_done(1)
            yield complaint
        if waiting:
            _encode(model, waiting, rows)

    with torch.no_grad():
        probe = model.regions(torch.zeros(1, CROP, CROP, 3, dtype=torch.uint8, device=model.device))
    shape = (len(positions), views + 1, *probe.shape[1:])
    return _Cache(cache / "features", key, shape, np.float16, dataset, positions).array(fill)


@torch.no_grad()
def _encode(model: Model, photos: list[tuple[int, Pixels]], rows: npt.NDArray[np.generic]) -> None:
    pixels = torch.from_numpy(np.concatenate([views for _, views in photos]))
    regions: Tensor = model.regions(pixels.to(model.device)).half().cpu()
    for (number, _), found in zip(photos, regions.split(rows.shape[1]), strict=True):
        rows[number] = found.numpy()


def _key(kind: str, dataset: Dataset, positions: Positions, cache: Path, *detail: object) -> str:
    """Changes with anything that the cached array depends on, and with nothing else."""
    code = code_digest("hficma.images", *_CODE, packages=_DECODERS)
    photos = photos_digest(dataset, positions.tolist(), cache)
    content = json.dumps([kind, code, photos, *map(str, detail)])
    return hashlib.sha256(content.encode()).hexdigest()[:32]


Fill = Callable[[npt.NDArray[np.generic]], Iterator[str | None]]
"""Writes the rows; gives for each, in order, None or why there is no photo."""


class _Cache:
    """An array on disk with a row a photo.

    Args:
        folder: of arrays of its kind.
        key: names it, from what the photos are when it is called.
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
        """What is kept, or made now where it is missing.

        Raises:
            InputError: the cache cannot be written, or photos change all the time.
        """
        for _ in range(_TRIES):
            path = self._folder / self._key()
            try:
                if (found := self._opened(path)) is not None:
                    return found
                self._write(path, fill)
            except OSError as error:
                raise InputError(
                    f"{path}: the cache cannot be written ({error.strerror})"
                ) from error
        raise InputError(f"{self._dataset.name}: its photos change while they are read; try again")

    def _opened(self, path: Path) -> PhotoArray | None:
        if not (path / "notes.json").is_file():
            return None
        complaints: list[str | None] = json.loads((path / "notes.json").read_text())
        usable = np.array([complaint is None for complaint in complaints], dtype=np.bool_)
        damaged = self._positions[~usable]
        if any(pixels is not None for pixels, _ in read_photos(self._dataset, damaged)):
            logger.info("%s: photos that could not be read can be now", self._dataset.name)
            shutil.rmtree(path)
            return None
        return PhotoArray(
            np.load(path / "rows.npy", mmap_mode="r"),
            usable,
            tuple(complaint for complaint in complaints if complaint is not None),
        )

    def _write(self, path: Path, fill: Fill) -> None:
        """Make the array, whole or not at all, unless a photo became another meanwhile."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with unfinished_directory(path) as part:
            rows = np.lib.format.open_memmap(part / "rows.npy", "w+", self._dtype, self._shape)
            complaints = list(fill(rows))
            rows.flush()
            write_atomically(part / "notes.json", json.dumps(complaints).encode())
            if self._key() == path.name and not path.exists():
                part.rename(path)
