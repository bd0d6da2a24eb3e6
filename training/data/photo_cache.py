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
import os
import shutil
import signal
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from hficma.artifacts.content_digests import code_digest
from hficma.artifacts.manifest import write_atomically
from hficma.artifacts.unfinished import unfinished_directory
from hficma.data.dataset import Dataset, open_dataset
from hficma.data.photo_origin import photos_digest
from hficma.errors import InputError
from hficma.images import CROP, SHORT_SIDE, Pixels, preprocess, resize_short_side
from hficma.model import Model

Positions = npt.NDArray[np.int64]

MARGIN = (SHORT_SIDE - CROP) // 2
ENCODE_BATCH = 32
_CHUNK = 32
_CHUNKS_AHEAD = 16
_PARALLEL_FROM = 2_000
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


def square(photo: Image.Image) -> Pixels:
    """The centre 256 x 256 of a photo whose shorter side is brought to 256.

    Its centre 224 x 224 is exactly what `hficma.images.preprocessing.preprocess` gives.
    """
    resized = resize_short_side(photo, SHORT_SIDE)
    left, top = (resized.width - CROP) // 2 - MARGIN, (resized.height - CROP) // 2 - MARGIN
    return np.asarray(resized.crop((left, top, left + SHORT_SIDE, top + SHORT_SIDE)))


def random_view(photo: Image.Image, scale: float, generator: np.random.Generator) -> Pixels:
    """A random part of a photo, perhaps mirrored, as uint8 (224, 224, 3).

    Args:
        photo: upright RGB.
        scale: least share of the area; the aspect ratio lies within 3:4 and 4:3.
        generator: draws the part.
    """
    width, height = photo.size
    area = width * height * generator.uniform(scale, 1)
    ratio = np.exp(generator.uniform(np.log(3 / 4), np.log(4 / 3)))
    wide = min(width, max(1, round(float(np.sqrt(area * ratio)))))
    high = min(height, max(1, round(float(np.sqrt(area / ratio)))))
    left = int(generator.integers(width - wide + 1))
    top = int(generator.integers(height - high + 1))
    view = photo.resize(
        (CROP, CROP), Image.Resampling.BILINEAR, box=(left, top, left + wide, top + high)
    )
    if generator.random() < 0.5:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(view)


def centre_crops(squares: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The evaluation crop of 256 x 256 squares: (B, 256, 256, 3) -> (B, 224, 224, 3)."""
    return squares[:, MARGIN : MARGIN + CROP, MARGIN : MARGIN + CROP]


def random_crops(
    squares: npt.NDArray[np.uint8], side: int, generator: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """The published training crop: a random part of each square, mirrored half the time.

    Args:
        squares: (B, H, H, 3).
        side: of the crops; 224 of 256 as published.
        generator: draws the corners and the mirrors.

    Returns:
        (B, side, side, 3).
    """
    corners = generator.integers(squares.shape[1] - side + 1, size=(len(squares), 2))
    flips = generator.random(len(squares)) < 0.5
    crops = [
        one[top : top + side, left : left + side]
        for one, (top, left) in zip(squares, corners, strict=True)
    ]
    return np.stack(
        [crop[:, ::-1] if flip else crop for crop, flip in zip(crops, flips, strict=True)]
    )


def halved(photos: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Photos (B, H, W, 3) at half their size: means of 2 x 2 pixels."""
    planes = torch.from_numpy(photos).permute(0, 3, 1, 2)
    # At half size, bilinear interpolation is that mean, rounded once a direction; torch has a
    # kernel of it for uint8, where pooling would copy everything to float32 first.
    means = F.interpolate(planes, scale_factor=0.5, mode="bilinear")
    return means.permute(0, 2, 3, 1).contiguous().numpy()


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
        for number, (pixels, complaint) in enumerate(_read_all(dataset, positions, "square")):
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
            _read_all(dataset, positions, "views", views, scale)
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


def read_photos(
    dataset: Dataset, positions: Positions
) -> Iterator[tuple[Pixels | None, str | None]]:
    """Each photo's centre crop (1, 224, 224, 3), or why it cannot be read, in order."""
    return _read_all(dataset, positions, "views")


def _key(kind: str, dataset: Dataset, positions: Positions, cache: Path, *detail: object) -> str:
    """Changes with anything that the cached array depends on, and with nothing else."""
    code = code_digest("hficma.images", __name__, packages=_DECODERS)
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


def _read_all(
    dataset: Dataset, positions: Positions, how: str, views: int = 0, scale: float = 1.0
) -> Iterator[tuple[Pixels | None, str | None]]:
    """Each photo's pixels (views, side, side, 3), or why there are none, in order."""
    chunks = deque(positions[start : start + _CHUNK] for start in range(0, len(positions), _CHUNK))
    pool = _workers(dataset, len(positions))
    source = dataset if isinstance(pool, ThreadPoolExecutor) else dataset.name
    jobs: deque[Future[list[tuple[Pixels | None, str | None]]]] = deque()
    try:
        while chunks or jobs:
            while chunks and len(jobs) < _CHUNKS_AHEAD:  # bounds the memory
                chunk = chunks.popleft()
                jobs.append(pool.submit(_read_chunk, source, chunk, how, views, scale))
            yield from jobs.popleft().result()
    finally:
        # An interrupt must not wait for chunks that nobody will read.
        pool.shutdown(cancel_futures=True)


def _workers(dataset: Dataset, photos: int) -> Executor:
    """Threads; for a large sample, whose photos are drawn in Python, processes."""
    count = min(8, os.cpu_count() or 1)
    if dataset.name.startswith("sample") and photos >= _PARALLEL_FROM and count > 1:
        return ProcessPoolExecutor(
            count, mp_context=get_context("spawn"), initializer=_leave_interrupts_to_the_parent
        )
    return ThreadPoolExecutor(count)


def _leave_interrupts_to_the_parent() -> None:
    """Ctrl-C reaches every process of a terminal; only the parent knows what to tidy."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _read_chunk(
    source: Dataset | str, positions: Positions, how: str, views: int, scale: float
) -> list[tuple[Pixels | None, str | None]]:
    dataset = open_dataset(source) if isinstance(source, str) else source
    found: list[tuple[Pixels | None, str | None]] = []
    for position in positions.tolist():
        try:
            photo = dataset.photo(position)
        except InputError as error:
            found.append((None, str(error)))
            continue
        if how == "square":
            pixels = square(photo)[None]
        else:
            generator = np.random.default_rng(position)
            pixels = np.stack(
                [preprocess(photo), *(random_view(photo, scale, generator) for _ in range(views))]
            )
        found.append((pixels, None))
    return found
