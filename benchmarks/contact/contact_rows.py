"""What a contact sheet shows: rows of a query and its answers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Card:
    """A photo or a recipe on the sheet."""

    title: str
    """Of the dish."""
    ingredients: tuple[str, ...] = ()
    """Lines as written, of a recipe."""
    photo: bytes | None = None
    """JPEG, of a photo that could be read."""
    own: bool = False
    """Whether it belongs to the query."""
    score: float | None = None
    """S, of an answer."""
    local: float | None = None
    """S_local, of an answer of a model that has it."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A query and its answers."""

    query: Card
    answers: tuple[Card, ...]
    own_rank: int | None
    """Where the item that belongs to the query stands, from 1; None behind all that was scored."""
    scored: int
    """Items scored."""
    searched: int
    """Items in the index."""
    certified: int
    """Ranks that are proved."""
    milliseconds: float
    """The whole search."""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Rows of one direction."""

    title: str
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON values, without the photos."""
        record = asdict(self)
        for row in record["rows"]:
            for card in (row["query"], *row["answers"]):
                del card["photo"]
        return record

    @property
    def summary(self) -> str:
        """How often the own item was among those shown."""
        first = self.rows[0]
        found = sum(any(card.own for card in row.answers) for row in self.rows)
        return (
            f"{len(self.rows)} queries over {first.searched:,} items; the one that belongs to the "
            f"query is among the {len(first.answers)} shown for {found}"
        )
