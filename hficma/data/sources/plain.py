"""Sources of the project's own: a JSONL file, the built-in sample, another dataset."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ...recipe import read_jsonl
from ..dataset import Dataset
from .source import Source, SourceRecipe, read_bytes

JPEG_QUALITY = 95
"""Of photos that have no file, such as the sample's; they are encoded once more when they are
shrunk."""


class JsonlSource(Source):
    """A JSONL file, plain or `.gz`, whose photos lie relative to its folder."""

    def recipes(
        self, *, strict: bool, on_bad: Callable[[str], None], scratch: Path
    ) -> Iterator[SourceRecipe]:
        """See the base."""
        for recipe in read_jsonl(self.path, strict=strict, on_bad=on_bad):
            yield SourceRecipe(recipe=recipe, images=(recipe.image,) if recipe.image else ())

    def photo(self, image: str) -> bytes:
        """See the base."""
        return read_bytes(self.path.parent / image)


class DatasetSource(Source):
    """A dataset that `open_dataset` opens; its photos are encoded anew."""

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(Path(dataset.name))
        self._dataset = dataset

    def __len__(self) -> int:
        """Count its recipes."""
        return len(self._dataset)

    def recipes(
        self, *, strict: bool, on_bad: Callable[[str], None], scratch: Path
    ) -> Iterator[SourceRecipe]:
        """See the base."""
        for index in range(len(self._dataset)):
            recipe = self._dataset.recipe(index)
            images = () if recipe.image is None else (str(index),)
            yield SourceRecipe(recipe=recipe, images=images)

    def photo(self, image: str) -> bytes:
        """See the base."""
        buffer = io.BytesIO()
        self._dataset.photo(int(image)).save(buffer, "JPEG", quality=JPEG_QUALITY)
        return buffer.getvalue()

    def signature(self) -> dict[str, Any]:
        """See the base."""
        return {"source": "Dataset", "name": self._dataset.name, "recipes": len(self._dataset)}
