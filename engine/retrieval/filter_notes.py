"""What to tell of a filter: words and classes that no recipe has, and why nothing passes.

A misspelt word is not an error: an index may well hold no jalapeno. But a filter that does nothing,
or leaves nothing, is said, and the nearest that the index holds is offered.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from hficma.text.inflection import folded_label, terms

from ..index.filters import Filter
from ..index.records import Label, Positions, Records

if TYPE_CHECKING:
    from ..index.index import Index

OFFERED = 3
"""Nearest words or classes that are named."""
CUTOFF = 0.75
"""How like a word is to be offered, as `difflib` counts."""

Mask = npt.NDArray[np.bool_]


class _Clause(NamedTuple):
    """One thing that a filter asks."""

    text: str
    """As a user reads it: `with 'egg'`."""
    passes: Mask
    """(N,) which items it lets pass."""
    unknown: str
    """What to say where no item has what it names; else empty."""


def filter_notes(wanted: Filter, index: Index) -> tuple[str, ...]:
    """What a user should know of a filter on this index; nothing where all is as it seems.

    Args:
        wanted: the filter.
        index: that it is used on.
    """
    live = np.concatenate(
        [np.zeros(0, dtype=bool)]
        + [
            np.ones(shard.count, dtype=bool) if kept is None else kept
            for shard, kept in zip(index.shards, index.filter_masks(None), strict=True)
        ]
    )
    if not live.any():
        return ("the index holds no item",)
    clauses = list(_clauses(wanted, index, live))
    notes = [clause.unknown for clause in clauses if clause.unknown]
    if not np.logical_and.reduce([live, *(clause.passes for clause in clauses)]).any():
        # A word that nothing has says already why nothing passes: others are no news then.
        needed = _conflict(clauses, live)
        if not any(clause.unknown for clause in needed):
            notes.append(f"no recipe of the index passes {' and '.join(c.text for c in needed)}")
    return tuple(dict.fromkeys(notes))


def _clauses(wanted: Filter, index: Index, live: Mask) -> Iterator[_Clause]:
    for words, with_it in ((wanted.having, True), (wanted.without, False)):
        for word in words:
            found = live & _mask(index, [s.records.with_ingredient(word) for s in index.shards])
            unknown = "" if found.any() else f"{word!r}{_nearest_ingredients(word, index)}"
            yield _clause(f"{word!r}", found, live, with_it, unknown)
    asked: list[tuple[Label, tuple[str, ...], bool]] = [
        ("category", wanted.categories, True),
        ("category", wanted.without_categories, False),
        ("partition", wanted.partitions, True),
        ("partition", wanted.without_partitions, False),
    ]
    for column, labels, with_it in asked:
        if labels:
            yield _label_clause(column, labels, with_it, index, live)
    for ids, with_it in ((wanted.ids, True), (wanted.without_ids, False)):
        if ids:
            found = live & _mask(index, [_of_ids(s.records, ids) for s in index.shards])
            text = f"one of {len(ids)} ids" if len(ids) > 1 else f"the id {ids[0]!r}"
            yield _clause(text, found, live, with_it, "" if found.any() else text)


def _label_clause(
    column: Label, labels: Sequence[str], with_it: bool, index: Index, live: Mask
) -> _Clause:
    unknown = []
    some = np.zeros_like(live)
    for label in labels:
        found = live & _mask(index, [s.records.with_label(column, [label]) for s in index.shards])
        some |= found
        if not found.any():
            unknown.append(f"the {column} {label!r}{_nearest_labels(column, label, index)}")
    text = f"{column} {' or '.join(map(repr, labels))}"
    return _clause(text, some, live, with_it, "; or ".join(unknown))


def _clause(text: str, found: Mask, live: Mask, with_it: bool, unknown: str) -> _Clause:
    return _Clause(
        f"{'with' if with_it else 'without'} {text}",
        found if with_it else live & ~found,
        f"no recipe of the index has {unknown}" if unknown else "",
    )


def _of_ids(records: Records, ids: Sequence[str]) -> Positions:
    return np.array(list(records.with_ids(ids).values()), dtype=np.int64)


def _mask(index: Index, found: Sequence[Positions]) -> Mask:
    """(N,) over all shards, from the positions in each."""
    mask = np.zeros(index.count, dtype=bool)
    for start, positions in zip(index.shard_offsets[:-1], found, strict=True):
        mask[start + positions] = True
    return mask


def _conflict(clauses: Sequence[_Clause], live: Mask) -> list[_Clause]:
    """A smallest part of the clauses that lets nothing pass: without any one of it, some would."""
    needed = list(clauses)
    for clause in clauses:
        rest = [other for other in needed if other is not clause]
        if not np.logical_and.reduce([live, *(other.passes for other in rest)]).any():
            needed = rest
    return needed


def _nearest_ingredients(ingredient: str, index: Index) -> str:
    counts: Counter[str] = Counter()
    for shard in index.shards:
        counts.update(shard.records.word_counts())
    asked = terms(ingredient)
    unknown = [word for word in asked if word not in counts]
    if not unknown:
        return " in one line, its words side by side"
    near = {word: _near(word, counts, lambda other: counts[other]) for word in unknown}
    if len(unknown) > 1:  # one suggestion for all of them, not every combination
        near = {word: found[:1] for word, found in near.items()}
    offered = [
        " ".join(near[word][place] if word in near else word for word in asked)
        for place in range(min(len(found) for found in near.values()))
    ]
    return _offer(
        phrase for phrase in offered
        if any(len(shard.records.with_ingredient(phrase)) for shard in index.shards)
    )  # fmt: skip


def _nearest_labels(column: Label, label: str, index: Index) -> str:
    labels = {
        folded_label(other): other
        for shard in index.shards
        for other in shard.records.labels(column)
    }
    near = _near(folded_label(label), labels, lambda other: 0)
    return _offer(labels[other] for other in near)


def _near(word: str, words: Iterable[str], count: Callable[[str], int]) -> list[str]:
    """The likest words; of those like enough the frequent first, or other misspellings win."""
    close = difflib.get_close_matches(word, words, n=2 * OFFERED, cutoff=CUTOFF)
    return sorted(close, key=count, reverse=True)[:OFFERED]


def _offer(near: Iterable[str]) -> str:
    shown = ", ".join(near)
    return f"; nearest: {shown}" if shown else ""
