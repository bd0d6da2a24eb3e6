"""What a search gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One item of an answer."""

    rank: int
    """From 1."""
    id: str
    """Of the recipe, or of the recipe whose photo this is."""
    title: str
    """May be empty."""
    score: float
    """S = w_g S_global + w_l S_local."""
    global_score: float
    """S_global."""
    local_score: float | None
    """S_local in [0, 1]; None for a model without a local part."""
    ingredients: tuple[str, ...]
    """Lines as written."""
    instructions: tuple[str, ...]
    """Steps as written."""
    url: str | None
    """Where it was published."""
    image: str | None
    """Photo path as written in the dataset."""
    category: str | None
    """The dish's class."""
    partition: str | None
    """`train`, `val` or `test`."""

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


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
