"""Photos of a dataset for training: decoded once into the workspace's cache.

Two caches, both arrays on disk that are mapped, not read:

    photos/KEY/squares.npy    (P, S, S, 3) uint8    centre squares of S = `short_side`, which random
                                                    crops are cut from
    features/KEY/regions.npy  (P, V, R, C) float16  a frozen image encoder's regions of V views: the
                                                    centre crop, perhaps corners, random ones
    features/KEY/pooled.npy   (P, V, C_p) float32   its vectors of the whole photo
    .../KEY/notes.json        why each photo could not be read, or null

The second spares a frozen image encoder from seeing a photo twice. Regions are many numbers (0.5 MB
a view for 9 x 9 of Lite2's), so that they are kept only where something reads them, and the mean of
regions that are kept is not kept beside them. KEY follows from the photos' bytes, the code that
decodes them, the encoder's input and, for features, its weights. A photo that could not be read is
tried again each time: it may have been mended, or only been out of reach.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hficma.artifacts.content_digests import code_digest
from hficma.artifacts.manifest import write_atomically
from hficma.artifacts.unfinished import unfinished_directory
from hficma.data.dataset import Dataset
from hficma.data.photo_origin import photos_digest
from hficma.errors import InputError
from hficma.images import ImageInput
from hficma.model import Model
from hficma.model.encoders.image.features import ImageFeatures, mean_pooled
from hficma.types import Array, Mask, Pixels, Positions

from .photo_reading import read_all, read_photos

ENCODE_BATCH = 32
"""Photos that the image encoder sees at once."""
_NOTES = "notes.json"
_CODE = (__name__, *(f"{__package__}.{name}" for name in ("photo_reading", "photo_views")))
"""Modules whose change makes other pixels, beside `hficma.images` ..."""
_DECODERS = ("pillow", "simplejpeg", "pi-heif")
"""... and packages."""
_TRIES = 3
"""Times that an array is made anew because photos changed while it was written."""

logger = logging.getLogger("hficma")


@dataclass(frozen=True)
class PhotoArrays:
    """Cached arrays with one row a photo, and which photos could be read."""

    arrays: Mapping[str, Array]
    """By name, each (P, ...), mapped from disk; rows of photos that could not be read are zero."""
    usable: Mask
    """Which photos could be read (P,)."""
    complaints: tuple[str, ...]
    """One line for each photo that could not be read."""

    @property
    def squares(self) -> Array:
        """Return the squares (P, S, S, 3) of `cached_pixels`."""
        return self.arrays["squares"]

    @property
    def views(self) -> int:
        """Return how many views of each photo `cached_features` holds, the centre crop included."""
        count: int = next(iter(self.arrays.values())).shape[1]
        return count

    def features(self, rows: Positions, views: Positions | int) -> ImageFeatures:
        """Return features of some photos, of the arrays of `cached_features`.

        Args:
            rows: which photos (B,).
            views: which view of each (B,), or of all; 0 is the centre crop.
        """
        parts = {
            name: torch.from_numpy(np.asarray(array[rows, views], dtype=np.float32))
            for name, array in self.arrays.items()
        }
        if "pooled" in parts:
            return ImageFeatures(parts["pooled"], parts.get("regions"))
        return mean_pooled(parts["regions"])


Arrays = Mapping[str, Array]
"""Arrays by name, each with a row a photo."""
Specs = dict[str, tuple[type[np.generic], tuple[int, ...]]]
"""The type of each array's numbers, and its shape."""
Fill = Callable[[Arrays], Iterator[str | None]]
"""Writes the rows; yields for each, in order, None or why there is no photo."""


def pixel_specs(photos: int, image_input: ImageInput) -> Specs:
    """Return what `cached_pixels` writes of so many photos."""
    side = image_input.short_side
    return {"squares": (np.uint8, (photos, side, side, 3))}


def feature_specs(
    model: Model, photos: int, *, regions: bool = True, crops: int = 1, views: int = 0
) -> Specs:
    """Return what `cached_features` writes of so many photos; see there for the arguments."""
    size = model.image_input.size
    with torch.no_grad():  # C_p and C are known by trying
        blank = torch.zeros(1, size, size, 3, dtype=torch.uint8, device=model.device)
        features = model.image_features(blank)
    assert features.regions is not None
    specs: Specs = {}
    if not (regions and model.pools_regions):
        specs["pooled"] = (np.float32, (photos, crops + views, features.pooled.shape[1]))
    if regions:
        shape = (photos, crops + views, *features.regions.shape[1:])
        specs["regions"] = (np.float16, shape)
    return specs


def specs_bytes(specs: Specs) -> int:
    """Return the bytes that arrays take on disk."""
    return sum(math.prod(shape) * np.dtype(kind).itemsize for kind, shape in specs.values())


def cached_pixels(
    dataset: Dataset,
    positions: Positions,
    image_input: ImageInput,
    cache: Path,
    on_done: Callable[[int], None],
    *,
    on_write: Callable[[int], None] = lambda size: None,
) -> PhotoArrays:
    """Return squares (P, S, S, 3) uint8 of photos, decoded where the cache lacks them.

    Args:
        dataset: where the photos are.
        positions: which, in the order of the rows.
        image_input: of the encoder that sees them; S is its `short_side`.
        cache: the workspace's cache folder.
        on_done: called with the number of photos that were just added.
        on_write: called with the bytes that are about to be written.

    Raises:
        InputError: the cache cannot be written, or photos change all the time.
    """

    def key() -> str:
        return _key("pixels", dataset, positions, image_input, cache)

    def fill(arrays: Arrays) -> Iterator[str | None]:
        readings = read_all(dataset, positions, image_input, "square")
        for number, (pixels, complaint) in enumerate(readings):
            if pixels is not None:
                arrays["squares"][number] = pixels[0]
            on_done(1)
            yield complaint

    specs = pixel_specs(len(positions), image_input)
    cached = _CachedArrays(cache / "photos", key, specs, dataset, positions, image_input)
    return cached.arrays(fill, on_write)


def cached_features(
    model: Model,
    dataset: Dataset,
    positions: Positions,
    cache: Path,
    on_done: Callable[[int], None],
    *,
    regions: bool = True,
    crops: int = 1,
    views: int = 0,
    scale: float = 1.0,
    on_write: Callable[[int], None] = lambda size: None,
) -> PhotoArrays:
    """Return a frozen image encoder's features of photos: `pooled`, `regions`, or both.

    The mean of regions that are there is left out: `PhotoArrays.features` takes it.

    Args:
        model: whose image encoder is run where the cache lacks them; in evaluation mode.
        dataset: where the photos are.
        positions: which, in the order of the rows.
        cache: the workspace's cache folder.
        on_done: called with the number of photos that were just added.
        regions: whether anything reads the regions.
        crops: crops of a photo, the centre first.
        views: random views, behind the crops.
        scale: least share of a photo's area in a view.
        on_write: called with the bytes that are about to be written.

    Raises:
        InputError: the cache cannot be written, or photos change all the time.
    """
    weights = hashlib.sha256()
    for name, tensor in sorted(model.trunk.state_dict().items()):
        weights.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    # The grid is the model's own choice, which its weights do not tell.
    detail = [weights.hexdigest(), model.grid, regions, crops, views, scale if views else 1.0]

    def key() -> str:
        return _key("features", dataset, positions, model.image_input, cache, *detail)

    def fill(arrays: Arrays) -> Iterator[str | None]:
        batch: list[tuple[int, Pixels]] = []
        readings = read_all(
            dataset, positions, model.image_input, "views", crops=crops, views=views, scale=scale
        )
        for number, (pixels, complaint) in enumerate(readings):
            if pixels is not None:
                batch.append((number, pixels))
            if len(batch) * (crops + views) >= ENCODE_BATCH:
                _encode(model, batch, arrays)
                batch = []
            on_done(1)
            yield complaint
        if batch:
            _encode(model, batch, arrays)

    specs = feature_specs(model, len(positions), regions=regions, crops=crops, views=views)
    cached = _CachedArrays(cache / "features", key, specs, dataset, positions, model.image_input)
    return cached.arrays(fill, on_write)


@torch.no_grad()
def _encode(model: Model, batch: list[tuple[int, Pixels]], arrays: Arrays) -> None:
    """Write the features of photos, each (crops + views, s, s, 3), into their rows."""
    pixels = torch.from_numpy(np.concatenate([views for _, views in batch]))
    features = model.image_features(pixels.to(model.device))
    for name, array in arrays.items():
        values: Tensor = getattr(features, name).cpu()
        for (number, _), rows in zip(batch, values.split(array.shape[1]), strict=True):
            array[number] = rows.numpy()


def _key(
    kind: str,
    dataset: Dataset,
    positions: Positions,
    image_input: ImageInput,
    cache: Path,
    *detail: object,
) -> str:
    """Return a name that changes with all that the arrays depend on, and with nothing else."""
    code = code_digest("hficma.images", *_CODE, packages=_DECODERS)
    photos = photos_digest(dataset, positions.tolist(), cache)
    content = json.dumps([kind, code, photos, image_input.to_json(), *map(str, detail)])
    return hashlib.sha256(content.encode()).hexdigest()[:32]


class _CachedArrays:
    """Arrays on disk, each in a file of its own, with a row a photo.

    Args:
        folder: of arrays of their kind.
        key: returns their folder's name, from what the photos are at that moment.
        specs: of the arrays.
        dataset: holds the photos.
        positions: of the rows.
        image_input: of the encoder that sees the photos.
    """

    def __init__(
        self,
        folder: Path,
        key: Callable[[], str],
        specs: Specs,
        dataset: Dataset,
        positions: Positions,
        image_input: ImageInput,
    ) -> None:
        self._folder, self._key, self._specs = folder, key, specs
        self._dataset, self._positions, self._image_input = dataset, positions, image_input

    def arrays(self, fill: Fill, on_write: Callable[[int], None]) -> PhotoArrays:
        """Return the cached arrays, written now where they are missing.

        Args:
            fill: writes them.
            on_write: called with their bytes first.

        Raises:
            InputError: the cache cannot be written, or photos change all the time.
        """
        # The key is taken before reading and compared after writing: in between, photos may change.
        for _ in range(_TRIES):
            path = self._folder / self._key()
            try:
                if (arrays := self._read(path)) is not None:
                    return arrays
                on_write(specs_bytes(self._specs))
                self._write(path, fill)
            except OSError as error:
                raise InputError(
                    f"{path}: the cache cannot be written ({error.strerror})"
                ) from error
        raise InputError(f"{self._dataset.name}: its photos change while they are read; try again")

    def _read(self, path: Path) -> PhotoArrays | None:
        """Return what lies there; None where nothing does, or photos can be read by now."""
        if not (path / _NOTES).is_file():
            return None
        complaints: list[str | None] = json.loads((path / _NOTES).read_text())
        usable = np.array([complaint is None for complaint in complaints], dtype=np.bool_)
        damaged = self._positions[~usable]
        readings = read_photos(self._dataset, damaged, self._image_input)
        if any(pixels is not None for pixels, _ in readings):
            logger.info("%s: photos that could not be read can be now", self._dataset.name)
            shutil.rmtree(path)
            return None
        arrays = {name: np.load(path / f"{name}.npy", mmap_mode="r") for name in self._specs}
        return PhotoArrays(arrays, usable, tuple(line for line in complaints if line is not None))

    def _write(self, path: Path, fill: Fill) -> None:
        """Write the arrays, whole or not at all, unless a photo became another meanwhile."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with unfinished_directory(path) as part:
            arrays = {
                name: np.lib.format.open_memmap(part / f"{name}.npy", "w+", dtype, shape)
                for name, (dtype, shape) in self._specs.items()
            }
            complaints = list(fill(arrays))
            for array in arrays.values():
                array.flush()
            write_atomically(part / _NOTES, json.dumps(complaints).encode())
            # Pixels of photos that changed in between must not stand under the old photos' name.
            if self._key() == path.name and not path.exists():
                part.rename(path)
