"""What a search gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hficma.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One item of an answer."""

    rank: int
    """From 1."""
    recipe: Recipe
    """The recipe, or the recipe whose photo this is, as its author wrote it."""
    score: float
    """S = w_g S_global + w_l S_local."""
    global_score: float
    """S_global."""
    local_score: float | None
    """S_local in [0, 1]; None for a model without a local part."""

    @property
    def id(self) -> str:
        """Of the recipe."""
        return self.recipe.id

    @property
    def title(self) -> str:
        """Of the recipe; may be empty."""
        return self.recipe.title

    @property
    def ingredients(self) -> tuple[str, ...]:
        """Lines of the recipe, as written."""
        return self.recipe.ingredients

    @property
    def instructions(self) -> tuple[str, ...]:
        """Steps of the recipe, as written."""
        return self.recipe.instructions

    @property
    def url(self) -> str | None:
        """Where the recipe was published."""
        return self.recipe.url

    @property
    def image(self) -> str | None:
        """The recipe's photo: its path as written in the dataset."""
        return self.recipe.image

    @property
    def category(self) -> str | None:
        """The dish's class."""
        return self.recipe.category

    @property
    def partition(self) -> str | None:
        """`train`, `val` or `test`."""
        return self.recipe.partition

    def to_json(self) -> dict[str, Any]:
        """Return the hit as JSON values; the recipe's fields stand beside the scores."""
        # Scripts read this: the names, and their order, stay as they are.
        return {
            "rank": self.rank,
            "id": self.id,
            "title": self.title,
            "score": self.score,
            "global_score": self.global_score,
            "local_score": self.local_score,
            "ingredients": list(self.ingredients),
            "instructions": list(self.instructions),
            "url": self.url,
            "image": self.image,
            "category": self.category,
            "partition": self.partition,
        }


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to one query."""

    hits: tuple[Hit, ...]
    """Best first; k of them where so many items pass the filter."""
    certified: int
    """The first ranks that are proved to be what scoring every item would give."""
    scored: int
    """Items that were scored with S."""
    searched: int
    """Items that could have answered: the index, less what was removed or filtered out."""
    milliseconds: Mapping[str, float]
    """Time a stage: decode, encode, prefilter, rerank (of which gather, summed over threads),
    records, total. In a batch, each query's share."""
    verified: bool = False
    """Whether all of the index that this answer was read from was compared with checksums."""
    notes: tuple[str, ...] = ()
    """What of the query was not used, and what of the filter no item has, in words."""

    @property
    def proof(self) -> str:
        """What is proved, in words that do not sound as if the answer were the right dish."""
        everything = f"the same as scoring all {self.searched:,}"
        if self.hits and self.certified >= len(self.hits):
            return everything
        first = f"first {self.certified} of {len(self.hits)} ranks" if self.certified else "no rank"
        return f"{first} proved {everything}"

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "hits": [hit.to_json() for hit in self.hits],
            "certified": self.certified,
            "scored": self.scored,
            "searched": self.searched,
            "verified": self.verified,
            "milliseconds": {name: round(ms, 3) for name, ms in self.milliseconds.items()},
            "notes": list(self.notes),
        }


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A query of a batch that could not be answered."""

    name: str
    """Of the query."""
    error: str
    """What is wrong with it, in one line."""

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)
