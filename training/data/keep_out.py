"""Keeps pairs out of training where a dataset names none: by seed, and whole dishes at a time.

A dish that is both trained on and tested with, because its recipe was published twice or has a
second photo, is known by heart: the figure that it gives says nothing of new dishes. So pairs that
may be one dish stay together: those of one title, photo or text, nearly or wholly.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xxhash

from hficma.data.dataset import Dataset, positions
from hficma.data.directory import DatasetDirectory
from hficma.data.photo_origin import photo_origins
from hficma.errors import InputError
from hficma.recipe import Recipe
from hficma.types import Positions

VALIDATION_SHARE = 0.05
"""Of the training pairs, kept for validation where the dataset names none."""
LEAST = 2
"""Pairs in a partition, or nothing can be ranked."""
FILLERS = frozenset(
    "a an and best classic easy favorite favourite homemade ii iii in iv my of or our quick recipe"
    " recipes simple style super the ultimate with your".split()
)
"""Words of a title that do not tell dishes apart."""
SHINGLE = 3
"""Words of text that are compared together."""
BANDS, ROWS = 6, 4
"""Minima of a text's hashed shingles, (BANDS, ROWS): texts alike in a whole band are compared.
Nearly all that share 80 % of their shingles are, and few of those that share half."""
ALIKE = 0.7
"""Share of equal minima, an estimate of that of equal shingles, from which texts are one dish's."""
LEAST_WORDS = 20
"""Shorter texts ("mix and bake") are alike by chance."""


@dataclass(frozen=True)
class HoldOut:
    """How many pairs to keep out."""

    text: str
    """As the user wrote it."""
    share: float | None = None
    """Of the pairs, or None ..."""
    count: int | None = None
    """... where it is a number of pairs."""

    @classmethod
    def parse(cls, text: str) -> HoldOut:
        """Read `10%` or `50`.

        Raises:
            InputError: it is neither, nothing, or everything.
        """
        match = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*(%?)\s*", text)
        if match is not None:
            number = float(match[1])
            if match[2] and 0 < number < 100:
                return cls(text.strip(), share=number / 100)
            if not match[2] and number >= LEAST and number == int(number):
                return cls(text.strip(), count=int(number))
        raise InputError(
            f"hold_out {text}: give a share of the pairs, such as 10%, or their number, "
            f"{LEAST} at least"
        )

    def of(self, pairs: int) -> int:
        """Return how many of so many pairs are kept out."""
        if self.count is not None:
            return self.count
        assert self.share is not None
        return max(LEAST, round(self.share * pairs))


def keep_out(
    dataset: Dataset,
    hold_out: HoldOut | None,
    seed: int,
    note: Callable[[str], None],
    *,
    cache: Path,
    validate: bool,
) -> dict[str, str]:
    """Choose test pairs, if a hold-out says how many, and validation pairs, if there are none.

    Args:
        dataset: in its own partitions.
        hold_out: how many test pairs; None keeps none out.
        seed: draws the dishes.
        note: hears what is kept out, or that nothing is left to measure with.
        cache: the workspace's cache folder.
        validate: whether the run validates.

    Returns:
        partition by recipe id, of what is kept out.

    Raises:
        InputError: there are test pairs already, or too few pairs or dishes to keep test pairs out.
    """
    tests = positions(dataset, ("test",), with_photo=True)
    if hold_out is not None and len(tests):
        raise InputError(
            f"{dataset.name}: names {len(tests)} test pairs itself; hold_out is for data that "
            "name none"
        )
    needs_validation = validate and not len(positions(dataset, ("val",), with_photo=True))
    if hold_out is None and not len(tests):
        note(
            f"{dataset.name} names no test pairs, so nothing is left to measure the run with; "
            "hold_out=10% keeps a tenth of the pairs out of training"
        )
    if hold_out is None and not needs_validation:
        return {}
    train = positions(dataset, ("train",), with_photo=True)
    recipes = [dataset.recipe(int(position)) for position in train]
    dishes = dish_groups(recipes, photo_names(dataset, train, cache))
    np.random.default_rng(seed).shuffle(dishes)
    partitions: dict[str, str] = {}
    notes = []
    for partition, size in (
        ("test", 0 if hold_out is None else hold_out.of(len(train))),
        ("val", max(LEAST, round(VALIDATION_SHARE * len(train))) if needs_validation else 0),
    ):
        if not size:
            continue
        if size > sum(map(len, dishes)) - LEAST:
            raise InputError(
                f"{dataset.name}: {len(train)} training pairs are too few to keep {size} out as "
                f"{partition}; training takes recipes with photos (field image), a few hundred at "
                "least"
            )
        groups, dishes = first_that_fit(dishes, size)
        count = sum(map(len, groups))
        if count >= LEAST:
            notes.append(f"{count} {partition} pairs ({len(groups)} whole dishes)")
        else:
            few = (
                f"{dataset.name}: its {len(train)} training pairs are {len(groups) + len(dishes)} "
                f"dishes by title, photo and text: too few to keep {size} pairs out as {partition}"
            )
            if partition == "test":
                raise InputError(f"{few}; a dish is never both trained on and tested with")
            # The user named no number of validation pairs, and without any the run has no best
            # checkpoint: better single pairs of dishes that are trained on than none.
            note(f"{few} by whole dishes; those kept out show dishes that it is trained on")
            rows = sorted(row for group in (*groups, *dishes) for row in group)
            order = np.random.default_rng(seed).permutation(rows)
            groups = [[int(row)] for row in order[:size]]
            notes.append(f"{size} {partition} pairs")
        partitions |= {recipes[row].id: partition for group in groups for row in group}
    note(
        f"kept out of training, by seed {seed}: {' and '.join(notes)} of {len(train)}; the run "
        "remembers them"
    )
    return partitions


def first_that_fit(
    groups: Sequence[list[int]], size: int
) -> tuple[list[list[int]], list[list[int]]]:
    """Return the first groups that fit into so many items together, and the others."""
    members, others = [], []
    room = size
    for group in groups:
        if len(group) <= room:
            members.append(group)
            room -= len(group)
        else:
            others.append(group)
    return members, others


def photo_names(dataset: Dataset, rows: Positions, cache: Path) -> list[str]:
    """Return a text for each photo: the same for the same bytes."""
    if isinstance(dataset, DatasetDirectory):  # all photos are in one file
        return [hashlib.sha256(dataset.jpeg(int(row))).hexdigest() for row in rows]
    return photo_origins(dataset, rows.tolist(), cache)


def dish_groups(recipes: Sequence[Recipe], photos: Sequence[str]) -> list[list[int]]:
    """Group rows that may be the same dish; groups stand in the order of their first rows.

    Two recipes are one dish where they share an id, a photo, a title (see `title_key`) or nearly
    all of their text; and so are all that are linked by such pairs.

    Args:
        recipes: of the pairs.
        photos: of the pairs; see `photo_names`.
    """
    # Union-find: each row points to another of its group, the group's first row to itself.
    parents = list(range(len(recipes)))

    def root(row: int) -> int:
        while parents[row] != row:
            parents[row] = parents[parents[row]]  # halves the path for the next look-up
            row = parents[row]
        return row

    def join(first: int, second: int) -> None:
        low, high = sorted((root(first), root(second)))
        parents[high] = low

    first_rows: dict[tuple[str, str], int] = {}
    for row, (recipe, photo) in enumerate(zip(recipes, photos, strict=True)):
        for key in _keys(recipe, photo):
            join(row, first_rows.setdefault(key, row))
    for first, second in _similar_texts(recipes):
        join(first, second)
    groups: dict[int, list[int]] = {}
    for row in range(len(recipes)):
        groups.setdefault(root(row), []).append(row)
    return list(groups.values())


def title_key(title: str) -> str:
    """Return a title's words without accents, case, order, plurals and fillers."""
    words = [word for word in _words(title) if word not in FILLERS] or _words(title)
    singular = {word[:-1] if len(word) > 3 and word.endswith("s") else word for word in words}
    return " ".join(sorted(singular))


def _keys(recipe: Recipe, photo: str) -> Iterator[tuple[str, str]]:
    """Yield what recipes of one dish have in common."""
    yield "id", recipe.id
    yield "photo", photo
    if title := title_key(recipe.title):
        yield "title", title


def _words(text: str) -> list[str]:
    plain = unicodedata.normalize("NFKD", text.casefold())
    return re.findall(r"\w+", "".join(one for one in plain if not unicodedata.combining(one)))


def _similar_texts(recipes: Iterable[Recipe]) -> Iterator[tuple[int, int]]:
    """Yield pairs of rows whose texts are nearly the same, by MinHash in bands.

    Two sets of shingles have the same minimum under a random hash with a chance that equals the
    share of shingles that they have in common. So BANDS · ROWS minima stand for a text: those
    that agree estimate that share. To compare all texts with all would take too long; only those
    are compared that agree in all ROWS minima of one of the BANDS, which a look-up finds.

        signature   | 7 3 9 1 | 4 4 8 2 | ... |        minima (BANDS, ROWS)
                      band 0    band 1

    Source: Broder 1997, "On the resemblance and containment of documents".
    """
    random = np.random.default_rng(0)
    count = BANDS * ROWS
    factors = random.integers(2**63, size=count, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    offsets = random.integers(2**63, size=count, dtype=np.uint64)
    signatures: list[npt.NDArray[np.uint64] | None] = []
    first_rows: dict[bytes, int] = {}
    for row, recipe in enumerate(recipes):
        words = _words(" ".join((*recipe.ingredients, *recipe.instructions)))
        signatures.append(None)
        if len(words) < LEAST_WORDS:
            continue
        shingles = {
            xxhash.xxh3_64_intdigest(" ".join(words[at : at + SHINGLE]).encode())
            for at in range(len(words) - SHINGLE + 1)
        }
        hashed = np.fromiter(shingles, dtype=np.uint64, count=len(shingles))
        # One odd factor and offset a hash function. Multiplication overflows on purpose; the high
        # bits are the well-mixed ones.
        minima = ((hashed[:, None] * factors + offsets) >> np.uint64(16)).min(axis=0)  # (count,)
        signatures[row] = minima
        for band in range(BANDS):
            key = bytes([band]) + minima[band * ROWS : (band + 1) * ROWS].tobytes()
            other = first_rows.setdefault(key, row)
            others_minima = signatures[other]
            if other == row or others_minima is None:
                continue
            if (others_minima == minima).mean() >= ALIKE:
                yield other, row
