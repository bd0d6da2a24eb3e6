"""Which pairs of a dataset are learnt from, and which are validated on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hficma.data.dataset import Dataset, positions
from hficma.errors import InputError
from hficma.types import Positions

from ..keep_out import VALIDATION_SHARE


def split(
    dataset: Dataset, seed: int, note: Callable[[str], None], *, validate: bool = True
) -> tuple[Positions, Positions]:
    """Return the positions of the training and validation pairs.

    Args:
        dataset: whose partitions say which; `keep_out` chooses them where it names none.
        seed: draws validation pairs, for a run of an older version, which did not keep them.
        note: hears where that is so.
        validate: keep validation pairs; without, they are training pairs too.

    Returns:
        positions in the dataset (P,), ascending, of training and of validation.

    Raises:
        InputError: too few pairs to train on.
    """
    train = positions(dataset, ("train",), with_photo=True)
    validation = positions(dataset, ("val",), with_photo=True)
    if not validate:
        train, validation = np.sort(np.concatenate([train, validation])), validation[:0]
    if len(train) < 2 or (validate and not len(validation) and len(train) < 4):
        raise InputError(
            f"{dataset.name}: {len(train)} training pairs; training takes recipes with photos "
            "(field image), a few hundred at least"
        )
    if validate and not len(validation):
        order = np.random.default_rng(seed).permutation(train)
        count = max(2, round(VALIDATION_SHARE * len(train)))
        train, validation = np.sort(order[count:]), np.sort(order[:count])
        note(f"{dataset.name} names no validation pairs: {count} training pairs are held out")
    return train, validation


def in_order(train: Positions, validation: Positions) -> Positions:
    """Return the positions (P,) of a run's pairs, by row."""
    return np.sort(np.concatenate([train, validation]))
