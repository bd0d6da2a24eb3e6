"""`hficma extract`: the embeddings and tokens of a dataset, or of a folder of photos, in a file."""

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

from .device import pick_device
from .encoding import encode_positions
from .evaluation import dataset_of
from .runs.run import RunDirectory


class PhotoFiles:
    """Every file of a folder and its subfolders, by path; they have no recipes."""

    def __init__(self, folder: Path) -> None:
        found = photo_folder(folder)
        self._folder = folder
        self._paths = found.files
        self.hidden = found.hidden
        """Files whose names begin with a dot: not among them."""

    @property
    def name(self) -> str:
        """The folder's path."""
        return str(self._folder.resolve())

    def __len__(self) -> int:
        """Number of photo files."""
        return len(self._paths)

    def recipe(self, index: int) -> Recipe:
        """A recipe that says nothing but where its photo is."""
        path = self._paths[index].relative_to(self._folder).as_posix()
        return Recipe(id=path, image=path)

    def photo(self, index: int) -> Image:
        """The photo at a position."""
        return read_photo(self._paths[index])


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

    Tensors: `image.global` (N, D_g) and, with a local part, `image.tokens` (N, R, d); for a
    dataset also `recipe.global` (N, D_g), `recipe.tokens` (all tokens, d), one recipe's after
    the other's, and `recipe.offsets` (N + 1). The metadata hold `ids` as a JSON list, and the
    `model_id`. Photos that cannot be read are left out and told of.

    Args:
        run: the run directory.
        out: the file; must not exist.
        data: another dataset than the run's own.
        images: a folder of photos instead of a dataset.
        split: `train`, `val` or `test`; None takes all.
        device: `cpu`, `cuda`, `cuda:N` or `auto`.
        progress: told of the work.

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
    found = encode_positions(model, source, rows, progress)
    for complaint in found.complaints:
        progress.note(complaint)
    tensors = _padded("image", found.image)
    if images is None:
        tensors |= _ragged("recipe", found.recipe)
    ids = [source.recipe(int(row)).id for row in rows[found.usable]]
    metadata = {"ids": json.dumps(ids), "model_id": model.model_id, "dataset": source.name}
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        save_file(tensors, part, metadata=metadata)
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)
    return out


def _padded(name: str, tokens: Tokens) -> dict[str, Tensor]:
    found = {f"{name}.global": tokens.global_.cpu().contiguous()}
    if tokens.tokens is not None:
        found[f"{name}.tokens"] = tokens.tokens.cpu().contiguous()
    return found


def _ragged(name: str, tokens: Tokens) -> dict[str, Tensor]:
    found = {f"{name}.global": tokens.global_.cpu().contiguous()}
    if tokens.tokens is not None:
        lengths: Sequence[int] = tokens.lengths.tolist()
        rows = [row[:length] for row, length in zip(tokens.tokens.cpu(), lengths, strict=True)]
        found[f"{name}.tokens"] = torch.cat(rows).contiguous()
        found[f"{name}.offsets"] = torch.from_numpy(np.cumsum([0, *lengths]))
    return found
