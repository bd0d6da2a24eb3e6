"""Recipes without photos that a run learns of recipes from, beside its pairs.

Of a dish photographed a thousand times there are a hundred thousand recipes. `head_pretraining` and
`neighbours` read them, and both must see nothing of what the run is measured with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TypeVar

from hficma.artifacts.content_digests import file_digests
from hficma.data.dataset import Dataset, positions
from hficma.errors import InputError
from hficma.recipe import Recipe, read_jsonl

from .keep_out import title_key

Item = TypeVar("Item")


class OtherRecipes:
    """Recipes of a file that are none of a dataset's, nor of a test recipe's dish by its title.

    Left out alike whichever of the pairs are trained on: so all folds of a dataset, and all members
    of an ensemble, read the same ones.

    Args:
        path: JSONL, plain or `.gz`.
        dataset: whose partitions say which recipes are tested with.
        cache: the workspace's cache folder, where the file's digest is remembered.

    Attributes:
        path: the file.
        digest: changes with what is read of it.

    Raises:
        InputError: there is no such file.
    """

    def __init__(self, path: Path, dataset: Dataset, cache: Path) -> None:
        if not path.is_file():
            raise InputError(f"{path}: text.others takes a JSONL file of recipes")
        self.path = path
        tests = positions(dataset, ("test",))
        pairs = positions(dataset, with_photo=True)
        self._titles = {title_key(dataset.recipe(int(position)).title) for position in tests} - {""}
        self._texts = {
            _text_key(dataset.recipe(int(position))) for part in (tests, pairs) for position in part
        }
        (content,) = file_digests([path], cache)
        left_out = "\n".join([*sorted(self._titles), *sorted(self._texts)])
        self.digest = hashlib.sha256(f"{content}\n{left_out}".encode()).hexdigest()

    def __iter__(self) -> Iterator[Recipe]:
        """Read the recipes, in the file's order."""
        for recipe in read_jsonl(self.path):
            if title_key(recipe.title) not in self._titles and _text_key(recipe) not in self._texts:
                yield recipe


def _text_key(recipe: Recipe) -> str:
    """Return a digest of a recipe's ingredients and instructions, whatever the case and spaces."""
    text = " ".join((*recipe.ingredients, *recipe.instructions)).casefold()
    return hashlib.sha256(" ".join(text.split()).encode(errors="surrogatepass")).hexdigest()


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield items in lists of a size, the last one shorter."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
