"""Say what a user should know of a filter: words that no recipe has, and why nothing passes.

A misspelt word is not an error: an index may well hold no jalapeno. But a filter that does nothing,
or leaves nothing, is said, and the nearest that the index holds is offered.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from hficma.text.inflection import folded_label, terms
from hficma.types import Mask, Positions

from ..index.filters import Filter
from ..index.index import IndexRecords
from ..index.records import Label, Records

Key = TypeVar("Key")

SUGGESTIONS = 3
"""Nearest words or classes that are named."""
LIKENESS = 0.75
"""How like a word must be to be named, as `difflib` counts: 1 is the word itself."""


class _Condition(NamedTuple):
    """One thing that a filter demands."""

    text: str
    """As a user reads it: `with 'egg'`."""
    passing: Mask
    """(N,) which items of the index pass it."""
    unknown: str
    """What to say where no item has what it names; else empty."""


def filter_notes(filter: Filter, index: IndexRecords) -> tuple[str, ...]:
    """Return what a user should know of a filter on this index; nothing where all is as it seems.

    Args:
        filter: that is used.
        index: that it is used on.
    """
    present = _present(index)
    if not present.any():
        return ("the index holds no item",)
    conditions = list(_conditions(filter, index, present))
    notes = [condition.unknown for condition in conditions if condition.unknown]
    if not _passing(conditions, present).any():
        # A word that nothing has says already why nothing passes: others are no news then.
        conflict = _conflict(conditions, present)
        if not any(condition.unknown for condition in conflict):
            texts = " and ".join(condition.text for condition in conflict)
            notes.append(f"no recipe of the index passes {texts}")
    return tuple(dict.fromkeys(notes))


def _present(index: IndexRecords) -> Mask:
    """Return which items of the index were not removed, (N,)."""
    masks = [
        np.ones(shard.count, dtype=bool) if mask is None else mask
        for shard, mask in zip(index.shards, index.filter_masks(None), strict=True)
    ]
    return np.concatenate([np.zeros(0, dtype=bool), *masks])


def _conditions(filter: Filter, index: IndexRecords, present: Mask) -> Iterator[_Condition]:
    """Yield what a filter demands, one condition after the other."""
    for words, required in ((filter.having, True), (filter.without, False)):
        for word in words:
            having = present & _items(index, Records.with_ingredient, word)
            unknown = "" if having.any() else f"{word!r}{_nearest_ingredients(word, index)}"
            yield _condition(f"{word!r}", having, present, required, unknown)
    by_label: list[tuple[Label, tuple[str, ...], bool]] = [
        ("category", filter.categories, True),
        ("category", filter.without_categories, False),
        ("partition", filter.partitions, True),
        ("partition", filter.without_partitions, False),
    ]
    for column, labels, required in by_label:
        if labels:
            yield _label_condition(column, labels, required, index, present)
    for ids, required in ((filter.ids, True), (filter.without_ids, False)):
        if ids:
            having = present & _items(index, _of_ids, ids)
            text = f"one of {len(ids)} ids" if len(ids) > 1 else f"the id {ids[0]!r}"
            yield _condition(text, having, present, required, "" if having.any() else text)


def _label_condition(
    column: Label, labels: Sequence[str], required: bool, index: IndexRecords, present: Mask
) -> _Condition:
    """Return the condition that an item has one of some labels, each unknown one named."""
    unknown = []
    having = np.zeros_like(present)
    for label in labels:
        of_label = present & _items(index, _of_label, (column, label))
        having |= of_label
        if not of_label.any():
            unknown.append(f"the {column} {label!r}{_nearest_labels(column, label, index)}")
    text = f"{column} {' or '.join(map(repr, labels))}"
    return _condition(text, having, present, required, "; or ".join(unknown))


def _condition(text: str, having: Mask, present: Mask, required: bool, unknown: str) -> _Condition:
    """Return the condition that items have something, or that they do not.

    Args:
        text: names it.
        having: (N,) items that have it.
        present: (N,) items that were not removed.
        required: whether they shall have it.
        unknown: names what no item has.
    """
    return _Condition(
        f"{'with' if required else 'without'} {text}",
        having if required else present & ~having,
        f"no recipe of the index has {unknown}" if unknown else "",
    )


def _of_ids(records: Records, ids: Sequence[str]) -> Positions:
    """Return the items of a shard with some ids."""
    return np.array(list(records.with_ids(ids).values()), dtype=np.int64)


def _of_label(records: Records, labelled: tuple[Label, str]) -> Positions:
    """Return the items of a shard with a label, given its column and its text."""
    column, label = labelled
    return records.with_label(column, [label])


def _items(index: IndexRecords, lookup: Callable[[Records, Key], Positions], key: Key) -> Mask:
    """Return which items of the index (N,) have something.

    Args:
        index: of whose shards the records are asked.
        lookup: gives the positions of the items in a shard that have it.
        key: what they have.
    """
    mask = np.zeros(index.count, dtype=bool)
    for shard, offset in zip(index.shards, index.shard_offsets[:-1], strict=True):
        mask[offset + lookup(shard.records, key)] = True
    return mask


def _passing(conditions: Iterable[_Condition], present: Mask) -> Mask:
    """Return which items pass all of some conditions, (N,)."""
    passing: Mask = np.logical_and.reduce(
        [present, *(condition.passing for condition in conditions)]
    )
    return passing


def _conflict(conditions: Sequence[_Condition], present: Mask) -> list[_Condition]:
    """Return a smallest part of the conditions that nothing passes: less of it, and some would.

    One is left out after the other; whatever still lets nothing pass without it is not needed.
    """
    needed = list(conditions)
    for condition in conditions:
        others = [other for other in needed if other is not condition]
        if not _passing(others, present).any():
            needed = others
    return needed


def _nearest_ingredients(ingredient: str, index: IndexRecords) -> str:
    """Return what to offer instead of an ingredient that no recipe has."""
    counts: Counter[str] = Counter()
    for shard in index.shards:
        counts.update(shard.records.word_counts())
    words = terms(ingredient)
    unknown = [word for word in words if word not in counts]
    if not unknown:
        return " in one line, its words side by side"
    near = {word: _nearest(word, counts, lambda other: counts[other]) for word in unknown}
    if len(unknown) > 1:  # one suggestion for all of them, not every combination
        near = {word: suggestions[:1] for word, suggestions in near.items()}
    phrases = [
        " ".join(near[word][place] if word in near else word for word in words)
        for place in range(min(len(suggestions) for suggestions in near.values()))
    ]
    # Words that the index holds need not stand in one line of it.
    return _offer(
        phrase for phrase in phrases
        if any(len(shard.records.with_ingredient(phrase)) for shard in index.shards)
    )  # fmt: skip


def _nearest_labels(column: Label, label: str, index: IndexRecords) -> str:
    """Return what to offer instead of a category or partition that no recipe has."""
    labels = {
        folded_label(other): other
        for shard in index.shards
        for other in shard.records.labels(column)
    }
    near = _nearest(folded_label(label), labels, lambda other: 0)
    return _offer(labels[other] for other in near)


def _nearest(word: str, words: Iterable[str], count: Callable[[str], int]) -> list[str]:
    """Return the likest words; of those like enough the frequent first: rare ones are misspelt."""
    close = difflib.get_close_matches(word, words, n=2 * SUGGESTIONS, cutoff=LIKENESS)
    return sorted(close, key=count, reverse=True)[:SUGGESTIONS]


def _offer(near: Iterable[str]) -> str:
    """Return the end of a note, which names what is near; nothing where nothing is."""
    names = ", ".join(near)
    return f"; nearest: {names}" if names else ""
