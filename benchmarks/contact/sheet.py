"""What a contact sheet shows: queries of one direction with their answers."""

from __future__ import annotations

from dataclasses import dataclass


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
    score: float = 0.0
    """S, of an answer."""


@dataclass(frozen=True, kw_only=True)
class AnsweredQuery:
    """A query and its answers: a row of the sheet."""

    query: Card
    answers: tuple[Card, ...]
    own_rank: int | None
    """Where the item that belongs to the query stands, from 1; None behind all that was scored."""
    scored: int
    """Items scored."""
    searched: int
    """Items in the index."""

    @property
    def standing(self) -> str:
        """Where the query's own item stands, in words."""
        if self.own_rank is not None:
            return f"the right one: rank {self.own_rank:,}"
        if self.scored == self.searched:
            return "the right one: not in this index"
        return f"the right one: not among the best {self.scored:,}"

    @property
    def bars(self) -> list[float]:
        """How far each answer's score stands above the last one shown, 0.06 to 1, to be drawn."""
        scores = [card.score for card in self.answers]
        low, spread = scores[-1], scores[0] - scores[-1]
        return [0.06 + 0.94 * (score - low) / spread if spread else 1.0 for score in scores]


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Answered queries of one direction."""

    title: str
    rows: tuple[AnsweredQuery, ...]

    @property
    def summary(self) -> str:
        """Return how often the item that belongs to a query was among those shown, in words."""
        first, count = self.rows[0], len(self.rows)
        query, item = ("photo", "recipe") if first.query.photo is not None else ("recipe", "photo")
        hits = sum(any(card.own for card in row.answers) for row in self.rows)
        shown = f"among the {len(first.answers)} shown of {first.searched:,} {item}s"
        if count == 1:
            return f"the {query}'s own {item} is {'' if hits else 'not '}{shown}"
        return f"for {hits} of {count} {query}s, their own {item} is {shown}"
