"""Writes the embeddings and tokens of a dataset, or of a folder of photos, to a file."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from hficma.data.dataset import positions
from hficma.errors import InputError
from hficma.images import read_photo
from hficma.images.photo_folder import photo_folder
from hficma.model import Tokens, load_model
from hficma.progress import Progress
from hficma.recipe import Recipe

from .encoding import encode_positions
from .evaluation import dataset_of
from .parallel.device import pick_device
from .runs.run import RunDirectory


class PhotoFiles:
    """Every file of a folder and its subfolders, by path, as a dataset without recipes."""

    def __init__(self, folder: Path) -> None:
        listing = photo_folder(folder)
        self._folder = folder
        self._paths = listing.files
        self.hidden = listing.hidden
        """How many files were left out because their names begin with a dot."""

    @property
    def name(self) -> str:
        """Return the folder's path."""
        return str(self._folder.resolve())

    def __len__(self) -> int:
        """Return the number of photo files."""
        return len(self._paths)

    def recipe(self, index: int) -> Recipe:
        """Return a recipe that says nothing but where its photo is."""
        path = self._paths[index].relative_to(self._folder).as_posix()
        return Recipe(id=path, image=path)

    def photo(self, index: int) -> Image:
        """Return the photo at a position."""
        return read_photo(self._paths[index])

    def reduced_photo(self, index: int, side: int) -> Image:
        """Return the photo at a reduced size; see `hficma.data.photos.ReducedPhotos`."""
        return read_photo(self._paths[index], enough=side)


def extract(
    run: Path,
    out: Path,
    *,
    data: str | None = None,
    images: Path | None = None,
    split: str | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Path:
    """Write embeddings and tokens as one safetensors file.

        image.global      (N, D_g)      of the photos
        image.tokens      (N, R, D)     with a local part
        recipe.global     (N, D_g)      of a dataset's recipes
        recipe.tokens     (sum(L), D)   likewise with a local part, one recipe after the other
        recipe.offsets    (N + 1,)      where each recipe's tokens begin

    The metadata hold `ids` as a JSON list, the `model_id` and the `dataset`. Photos that cannot be
    read are left out, and noted.

    Args:
        run: the run directory.
        out: the file; must not exist.
        data: another dataset than the run's own.
        images: a folder of photos instead of a dataset.
        split: `train`, `val` or `test`; None takes all.
        device: `cpu`, `cuda`, `cuda:N` or `auto`.
        progress: receives stages, steps and notes.

    Returns:
        the file's path.

    Raises:
        InputError: `out` exists, or there is nothing to extract.
    """
    from safetensors.torch import save_file

    if out.exists():
        raise InputError(f"{out}: exists already; give another name")
    progress = progress or Progress()
    model = load_model(run).to(pick_device(device))
    source = (
        PhotoFiles(images)
        if images is not None
        else dataset_of(RunDirectory.open(run), data, progress)
    )
    rows = positions(source, None if split is None else (split,), with_photo=True)
    if not len(rows):
        raise InputError(f"{source.name}: has no {split or ''} pairs with photos")
    if isinstance(source, PhotoFiles) and source.hidden:
        progress.note(f"{source.name}: {source.hidden} hidden passed over")
    encoded = encode_positions(model, source, rows, progress)
    for complaint in encoded.complaints:
        progress.note(complaint)
    tensors = _padded("image", encoded.image)
    if images is None:
        tensors |= _ragged("recipe", encoded.recipe)
    ids = [source.recipe(int(row)).id for row in rows[encoded.usable]]
    metadata = {"ids": json.dumps(ids), "model_id": model.model_id, "dataset": source.name}
    out.parent.mkdir(parents=True, exist_ok=True)
    # Beside its place and renamed when whole: a killed command leaves no half-written file.
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        save_file(tensors, part, metadata=metadata)
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)
    return out


def _padded(name: str, tokens: Tokens) -> dict[str, Tensor]:
    """Return tensors of items that all have as many tokens."""
    tensors = {f"{name}.global": tokens.global_.cpu().contiguous()}
    if tokens.tokens is not None:
        tensors[f"{name}.tokens"] = tokens.tokens.cpu().contiguous()
    return tensors


def _ragged(name: str, tokens: Tokens) -> dict[str, Tensor]:
    """Return tensors of items whose tokens stand one item after the other, without padding."""
    tensors = {f"{name}.global": tokens.global_.cpu().contiguous()}
    if tokens.tokens is not None:
        lengths: Sequence[int] = tokens.lengths.tolist()
        rows = [row[:length] for row, length in zip(tokens.tokens.cpu(), lengths, strict=True)]
        tensors[f"{name}.tokens"] = torch.cat(rows).contiguous()
        tensors[f"{name}.offsets"] = torch.from_numpy(np.cumsum([0, *lengths]))
    return tensors
