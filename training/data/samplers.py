"""Says which pairs make a batch, from seed and epoch alone: a resumed run repeats them."""

from __future__ import annotations

import numpy as np

from hficma.types import Classes, Positions

PER_CLASS = 2
"""Items of one dish class that the class-pair sampler puts side by side."""


def shuffled_batches(
    items: int, batch_size: int, generator: np.random.Generator
) -> list[Positions]:
    """Return every item once, in random order, in batches of nearly equal size.

    A small rest would train on few negatives or be thrown away; spreading it does neither.

    Args:
        items: number of pairs.
        batch_size: the largest batch.
        generator: draws the order.
    """
    order = generator.permutation(items)
    return [part for part in np.array_split(order, -(-items // batch_size)) if len(part)]


def class_pair_batches(
    classes: Classes, batch_size: int, labelled: float, generator: np.random.Generator
) -> list[Positions]:
    """Return AdaMine's batches: pairs of one dish class first, then items without a class.

        class 3  class 3  class 1  class 1  ...  none  none  none  ...      one batch
        |---- labelled · batch_size ----------|--- the rest ---------|

    Classes are drawn with chances proportional to the pairs they have left; each draw takes the
    class's next two items in a random order. Nothing is drawn twice in an epoch, which ends when
    either kind runs out. Where one kind cannot fill a single batch, the other fills it.

    Args:
        classes: dish class of each item (P,), 0 for none.
        batch_size: items a batch.
        labelled: share of the batch that comes in class pairs.
        generator: draws the order.

    Returns:
        rows of `classes`, by batch.

    Raises:
        ValueError: no class has two items.

    Source: the batches that AdaMine's semantic loss is trained on (Carvalho et al., SIGIR 2018).
    """
    paired = _class_pairs(classes, generator)
    rest = generator.permutation(np.flatnonzero(classes == 0))
    if not len(paired):
        raise ValueError("no dish class has two items")
    with_class = PER_CLASS * round(labelled * batch_size / PER_CLASS)
    without = batch_size - with_class
    if len(rest) < without or not with_class:
        with_class, without = min(batch_size, len(paired)) // PER_CLASS * PER_CLASS, 0
    count = len(paired) // max(with_class, 1)
    if without:
        count = min(count, len(rest) // without)
    if not count:  # fewer class pairs than a batch takes: use them all and fill up
        return [np.concatenate([paired, rest[: batch_size - len(paired)]])]
    return [
        np.concatenate(
            [
                paired[number * with_class : (number + 1) * with_class],
                rest[number * without : (number + 1) * without],
            ]
        )
        for number in range(count)
    ]


def _class_pairs(classes: Classes, generator: np.random.Generator) -> Positions:
    """Return items of every class two by two, in the order in which classes are drawn."""
    members: dict[int, Positions] = {
        int(label): generator.permutation(np.flatnonzero(classes == label))
        for label in np.unique(classes[classes > 0])
    }
    # Drawing classes by their remaining pairs is shuffling a bag that holds each pair once.
    draws = [label for label, items in members.items() for _ in range(len(items) // PER_CLASS)]
    used = dict.fromkeys(members, 0)
    order: list[int] = []
    for draw in generator.permutation(len(draws)):
        label = draws[draw]
        order.extend(members[label][used[label] : used[label] + PER_CLASS].tolist())
        used[label] += PER_CLASS
    return np.array(order, dtype=np.int64)


def epoch_generator(seed: int, epoch: int, purpose: int) -> np.random.Generator:
    """Return a generator for one purpose within one epoch; other purposes draw independently."""
    return np.random.default_rng([seed, epoch, purpose])
