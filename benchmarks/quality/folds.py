"""Cross-validation over a dataset's training and validation pairs, the test pairs never touched."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from hficma.data.dataset import Dataset, positions
from hficma.data.partitions import DatasetView
from hficma.recipe import Recipe

Positions = npt.NDArray[np.int64]


class Repartitioned(DatasetView):
    """A dataset whose recipes say other partitions; photos and recipes are the dataset's own.

    Args:
        dataset: the dataset.
        partitions: partition by position; positions not named are left out of every partition.
    """

    def __init__(self, dataset: Dataset, partitions: Mapping[int, str]) -> None:
        super().__init__(dataset)
        self._partitions = partitions

    def recipe(self, index: int) -> Recipe:
        """The recipe, in its new partition; without a photo where it has none."""
        recipe = self._dataset.recipe(index)
        partition = self._partitions.get(index)
        if partition is None:
            return dataclasses.replace(recipe, image=None, partition="test")
        return dataclasses.replace(recipe, partition=partition)


def folds(dataset: Dataset, count: int, seed: int = 0) -> list[tuple[Repartitioned, Positions]]:
    """The dataset with each fold in turn as its validation pairs, and the fold's positions."""
    everyone = positions(dataset, ("train", "val"), with_photo=True)
    order = np.random.default_rng(seed).permutation(everyone)
    found = []
    for fold in np.array_split(order, count):
        partitions = {int(position): "train" for position in everyone}
        partitions |= {int(position): "val" for position in fold}
        found.append((Repartitioned(dataset, partitions), np.sort(fold)))
    return found
