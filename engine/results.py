"""What a search gives back: for a program, a terminal, a notebook and a script."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from hficma.printable import printable
from hficma.recipe import Recipe

if TYPE_CHECKING:
    from rich.table import Table

    from hficma.sureness import Sureness

    from .encoder import EncodedQuery

ROOM_FOR_PARTS = 100
"""Columns of characters from which on a table shows the parts of a score beside it."""
TEXT_WIDTH = 80
"""Columns of an answer as text."""


PhotoReader: TypeAlias = Callable[[int], bytes | None]
"""Reads the small JPEG of an item's photo by its number; None where there is none."""


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One item of an answer."""

    rank: int
    """From 1."""
    recipe: Recipe
    """The recipe, or the recipe whose photo this is, as its author wrote it."""
    score: float
    """S = w_g S_global + w_l S_local (`hficma.scores`)."""
    global_score: float
    """S_global."""
    local_score: float | None
    """S_local in [0, 1]; None for a model without a local part."""
    number: int | None = None
    """The item's own in its index, as `Index.photo` takes it."""
    photo_reader: PhotoReader | None = field(default=None, repr=False, compare=False)
    """Reads photos of the index by number."""

    @property
    def id(self) -> str:
        """Return the recipe's id."""
        return self.recipe.id

    @property
    def title(self) -> str:
        """Return the recipe's title, which may be empty."""
        return self.recipe.title

    @property
    def ingredients(self) -> tuple[str, ...]:
        """Return the recipe's ingredient lines, as written."""
        return self.recipe.ingredients

    @property
    def instructions(self) -> tuple[str, ...]:
        """Return the recipe's steps, as written."""
        return self.recipe.instructions

    @property
    def url(self) -> str | None:
        """Return where the recipe was published."""
        return self.recipe.url

    @property
    def image(self) -> str | None:
        """Return the path of the recipe's photo, as written in the dataset."""
        return self.recipe.image

    @property
    def photo(self) -> bytes | None:
        """Return the recipe's photo as a small JPEG, read now; see `Index.photo`.

        None where the index knows none, or it cannot be read any more.

        Raises:
            ArtifactError: what is kept of it is damaged, or the engine was closed.
        """
        if self.photo_reader is None or self.number is None:
            return None
        return self.photo_reader(self.number)

    @property
    def category(self) -> str | None:
        """Return the dish's class."""
        return self.recipe.category

    @property
    def partition(self) -> str | None:
        """Return the recipe's partition: `train`, `val` or `test`."""
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


HitCell: TypeAlias = Callable[[Hit], str]
"""Gives what stands of a hit in one column of a table."""


NarrowPrecision: TypeAlias = Literal["fp16", "bf16"]
"""Of 16 bits, in which candidates may be screened."""


@dataclass(frozen=True, kw_only=True)
class ErrorBound:
    """How far a computed S_local may be off, as a certificate counts on it, and how it is known.

    Of `fp32`: how far a pair's score may move with what is scored beside it. Of `fp16` and `bf16`:
    how far a screened score may be from the float32 score; items whose screened score leaves open
    whether they belong to the answer were scored again in float32.
    """

    precision: Literal["fp32"] | NarrowPrecision
    """Of the scores."""
    epsilon: float
    """ε, in units of S_local."""
    pairs: int
    """Pairs that were compared, real ones and ones made to be hard: ε is at least four times the
    largest difference among them, scaled to this model."""

    def to_json(self) -> dict[str, Any]:
        """Return the bound as JSON values."""
        return {**asdict(self), "known_by": "measurement"}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to one query.

    `print(answer)` gives a table, and a notebook shows one.
    """

    hits: tuple[Hit, ...]
    """Best first; k of them where so many items pass the filter."""
    certified: int
    """How many of the first ranks are proved to be what scoring every item would give."""
    scored: int
    """Items that were scored with S."""
    searched: int
    """Items that could have answered: the index, less what was removed or filtered out."""
    milliseconds: Mapping[str, float]
    """Time of each stage: decode, encode, prefilter, rerank (of which gather, summed over threads),
    records, total. In a batch, each query's share."""
    verified: bool = False
    """Whether all of the index that this answer was read from was compared with checksums."""
    of: Literal["recipes", "images"] = "recipes"
    """What the index holds, and so what hits are."""
    notes: tuple[str, ...] = ()
    """What of the query was not used, and what of the filter no item has, in words."""
    sureness: Sureness | None = None
    """How likely the first ranks are right, and that the right item is not among those searched;
    None for a model that was not calibrated."""
    share: float = 1.0
    """Share of the index's items that could be searched: less than 1 while machines of a cluster do
    not answer, and then no rank is proved."""
    stored_precision: str | None = None
    """Of the encodings that the items were scored by, for which `certified` ranks are proved; None
    for a model without a local part."""
    error_bounds: tuple[ErrorBound, ...] = ()
    """What the proof allows for in computed scores: rounding in float32, and behind it the screen
    in 16 bits that candidates went through first, if there was one; none for a model without a
    local part, whose scores are sums in float64."""
    query: EncodedQuery | None = field(default=None, repr=False, compare=False)
    """What was computed of the query, where the search was told to keep it."""

    @property
    def proof(self) -> str:
        """Say what is proved, in words that do not sound as if the answer were the right dish."""
        everything = f"the same as scoring all {self.searched:,}"
        if self.certified and self.stored_precision not in (None, "fp32"):
            everything += f", certified for the stored precision ({self.stored_precision})"
        if self.hits and self.certified >= len(self.hits):
            return everything
        first = f"first {self.certified} of {len(self.hits)} ranks" if self.certified else "no rank"
        return f"{first} proved {everything}"

    @property
    def summary(self) -> str:
        """Say in one line how the search went."""
        return (
            f"{self.scored:,} of {self.searched:,} items scored; {self.proof}; "
            f"{self.milliseconds.get('total', 0):.0f} ms"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the answer as JSON values.

        `sureness` is there only for a calibrated model, `share` only where it is less than 1.
        """
        record: dict[str, Any] = {
            "hits": [hit.to_json() for hit in self.hits],
            "certified": self.certified,
            "scored": self.scored,
            "searched": self.searched,
            "verified": self.verified,
            "milliseconds": {name: round(ms, 3) for name, ms in self.milliseconds.items()},
            "notes": list(self.notes),
        }
        if self.share < 1.0:
            record["share"] = self.share
        if self.stored_precision is not None:
            record["stored_precision"] = self.stored_precision
        if self.error_bounds:
            record["error_bounds"] = [bound.to_json() for bound in self.error_bounds]
        if self.sureness is not None:
            record["sureness"] = self.sureness.to_json()
        return record

    @property
    def lines(self) -> tuple[str, ...]:
        """Return what stands below a table of the hits: how sure it is, and how the search went."""
        sure = () if self.sureness is None else (self.sureness.text,)
        return (*sure, self.summary)

    def __str__(self) -> str:
        """Return the hits as a table of plain text, and how the search went, 80 columns wide."""
        from rich.table import Table

        from hficma.terminal import TextConsole

        console = TextConsole(file=io.StringIO(), width=TEXT_WIDTH)
        with console.capture() as capture:
            if self.hits:
                table = Table(box=None, expand=True, pad_edge=False)
                add_hits(table, self, width=TEXT_WIDTH)
                console.print(table)
            for text in (*self.lines, *self.notes):
                console.print(printable(text))
        return "\n".join(line.rstrip() for line in capture.get().splitlines())

    def _repr_html_(self) -> str:
        """Return the table for a notebook; whatever recipes hold is shown as text."""
        columns = hit_columns(self.of, parts=True)
        photos = [_html_photo(hit) for hit in self.hits]
        head = _html_row("th", (*columns, *("photo",) * any(photos)))
        rows = "".join(
            _html_row("td", (cell(hit) for cell in columns.values()), photo)
            for hit, photo in zip(self.hits, photos, strict=True)
        )
        text = "<br>".join(html.escape(printable(line)) for line in (*self.lines, *self.notes))
        return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table><p>{text}</p>"


def hit_columns(of: Literal["recipes", "images"], *, parts: bool) -> dict[str, HitCell]:
    """Return what a table shows of a hit: each column's name, and what stands in it.

    Args:
        of: what the index holds: recipes are told by their ingredients, photos by their files.
        parts: whether S_global and S_local have room beside S.
    """
    columns: dict[str, HitCell] = {
        "#": lambda hit: str(hit.rank),
        "title": lambda hit: hit.title or hit.id,
        "S": lambda hit: f"{hit.score:.3f}",
    }
    if parts:
        columns["global"] = lambda hit: f"{hit.global_score:.3f}"
        columns["local"] = lambda hit: "" if hit.local_score is None else f"{hit.local_score:.3f}"
    if of == "images":
        columns["photo"] = lambda hit: hit.image or hit.id
    else:
        columns["ingredients"] = lambda hit: ", ".join(hit.ingredients)
    return columns


def add_hits(table: Table, answer: Answer, *, width: int) -> None:
    """Fill an empty table of rich's with an answer's hits, a row each, that stays one line high.

    Args:
        table: as wide as where it is shown.
        answer: whose hits.
        width: columns of characters; of fewer than `ROOM_FOR_PARTS`, titles get those of the parts
            of the score.
    """
    columns = hit_columns(answer.of, parts=width >= ROOM_FOR_PARTS)
    for name in columns:
        if name in ("#", "S", "global", "local"):
            table.add_column(name, justify="right", no_wrap=True, min_width=2 if name == "#" else 6)
        else:
            table.add_column(name, ratio=1, overflow="ellipsis", no_wrap=True)
    for hit in answer.hits:
        table.add_row(*(printable(cell(hit)) for cell in columns.values()))


def _html_row(tag: str, cells: Iterable[str], last: str = "") -> str:
    """Return a row of an HTML table, its cells shown as the text that they are.

    Args:
        tag: of a cell.
        cells: their texts.
        last: a cell of HTML behind them.
    """
    row = "".join(f"<{tag}>{html.escape(printable(cell))}</{tag}>" for cell in cells)
    return f"<tr>{row}{last}</tr>"


def _html_photo(hit: Hit) -> str:
    """Return the cell of a hit's photo; empty where its index knows none."""
    photo = hit.photo
    if photo is None:
        return ""
    url = "data:image/jpeg;base64," + base64.b64encode(photo).decode()
    return f'<td><img src="{url}" height="96"></td>'


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A query of a batch that could not be answered."""

    name: str
    """Of the query: a recipe's id, a file's path, or its number."""
    error: str
    """What is wrong with it, in one line."""

    def to_json(self) -> dict[str, Any]:
        """Return the failure as JSON values."""
        return asdict(self)
