"""What requests and answers look like: what the OpenAPI document says, and requests are held to."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from hficma.recipe import Recipe
from hficma.recipe.text_lists import parted

from ...index.filters import Filter
from ...retrieval.search import SearchOptions
from ..engine_work import Query
from ..options import MOST_CANDIDATES, MOST_FILTER_NAMES, MOST_HITS, MOST_QUERIES
from ..refusals import Unusable

NAME_CHARACTERS = 200
"""Characters of a name in a filter, of an index and of an id."""


def _listed(value: Any) -> Any:
    """Return a text as the list that it holds: "egg, milk" is two; anything else as it is."""
    return _names([value]) if isinstance(value, str) else value


def _as_list(value: Any) -> Any:
    """Return a text as a list of itself; anything else as it is."""
    return [value] if isinstance(value, str) else value


def _names(texts: Iterable[str]) -> list[str]:
    """Return the names in some texts, without empty ones."""
    parts = (part.strip() for text in texts for part in parted(text, ",;\n"))
    return [part for part in parts if part]


Name = Annotated[str, Field(min_length=1, max_length=NAME_CHARACTERS)]
Names = Annotated[list[Name], Field(max_length=MOST_FILTER_NAMES), BeforeValidator(_listed)]


class IndexChoice(BaseModel):
    """Which index answers, and by when."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    index: Name | None = Field(default=None, description="Name of an index; the first by default.")
    timeout: float | None = Field(
        default=None, gt=0, le=600, description="Seconds to answer in; the service's own at most."
    )


class SearchFields(IndexChoice):
    """How to search."""

    k: int = Field(default=10, ge=1, le=MOST_HITS, description="Items to return.")
    candidates: int = Field(default=200, ge=1, le=MOST_CANDIDATES, description="Items to re-rank.")
    exact: bool = Field(default=False, description="Go on until every rank is proved.")
    with_: Names = Field(default=[], alias="with", description="Ingredients that it must have.")
    without: Names = Field(default=[], description="Ingredients that it must not have.")
    category: Names = Field(default=[], description="Kinds of dish, one of which it must be.")
    partition: Names = Field(default=[], description="train, val or test.")

    def search_options(self) -> SearchOptions:
        """Return what the engine takes.

        Raises:
            InputError: a name of the filter holds no word.
        """
        chosen = Filter(
            having=tuple(self.with_),
            without=tuple(self.without),
            categories=tuple(self.category),
            partitions=tuple(self.partition),
        )
        return SearchOptions(self.k, self.candidates, self.exact, chosen or None).checked()


class QueryBody(BaseModel):
    """A query: a photo, a recipe, or ingredients alone."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    photo: str | None = Field(default=None, description="A photo's file in base64.")
    recipe: dict[str, Any] | None = Field(
        default=None,
        description="A recipe: `ingredients`, perhaps `title`, `instructions`, ...",
    )
    ingredients: Names | None = Field(default=None, description='Such as ["tomato", "basil"].')

    def query(self, name: str) -> Query:
        """Return the photo's file, or the recipe.

        Args:
            name: how to name the query in an error.

        Raises:
            InputError: the recipe is none.
            Unusable: not one of the three is there, or the photo is no base64.
        """
        values = (self.photo, self.recipe, self.ingredients)
        if sum(value is not None for value in values) != 1:
            raise Unusable(f"{name}: give one of photo, recipe and ingredients")
        if self.photo is not None:
            try:
                return base64.b64decode(self.photo, validate=True)
            except (binascii.Error, ValueError) as error:
                raise Unusable(f"{name}: photo is not base64") from error
        if self.recipe is not None:
            return Recipe.parse(self.recipe, where=name, default_id=name)
        if not self.ingredients:
            raise Unusable(f'{name}: ingredients is empty; write names such as "tomato, basil"')
        record = {"id": ", ".join(self.ingredients), "ingredients": list(self.ingredients)}
        return Recipe.parse(record, where=name)


class SearchBody(SearchFields, QueryBody):
    """One query and how to search with it."""


class BatchBody(SearchFields):
    """Many queries of one kind and how to search with them."""

    queries: list[QueryBody] = Field(min_length=1, max_length=MOST_QUERIES)


class EmbedBody(IndexChoice):
    """Photos and recipes to encode."""

    queries: list[QueryBody] = Field(min_length=1, max_length=MOST_QUERIES)


class ExplainBody(IndexChoice):
    """A photo, and the recipes whose answer to it is explained."""

    photo: str = Field(description="A photo's file in base64.")
    # A form's field that may stand there several times comes as a text where it stands there once.
    ids: Annotated[list[str], BeforeValidator(_as_list)] = Field(
        min_length=1, max_length=MOST_QUERIES, description="Ids of recipes in the index."
    )


class HitModel(BaseModel):
    """One item of an answer."""

    rank: int
    id: str
    title: str
    score: float
    global_score: float
    local_score: float | None
    ingredients: list[str]
    instructions: list[str]
    url: str | None
    image: str | None
    category: str | None
    partition: str | None


class SurenessModel(BaseModel):
    """How sure an answer is."""

    first: float = Field(description="Chance that the first is right, if the right one is here.")
    first_ten: float = Field(description="Chance that it is among the first ten.")
    absent: float = Field(description="Chance that it is not here, of even odds.")
    word: str = Field(description="sure, perhaps or a guess.")


class ErrorBoundModel(BaseModel):
    """How far computed scores may be off, as the proof counts on it."""

    precision: Literal["fp32", "fp16", "bf16"] = Field(
        description="Of the scores; in 16 bits candidates are screened."
    )
    epsilon: float = Field(description="In units of the local score.")
    pairs: int = Field(description="Compared; epsilon is four times the largest difference.")
    known_by: Literal["measurement"]


class AnswerModel(BaseModel):
    """An answer, as `hficma search --json` prints it."""

    hits: list[HitModel]
    certified: int = Field(description="First ranks that are proved.")
    scored: int
    searched: int
    verified: bool
    milliseconds: dict[str, float] = Field(description="By stage; in a batch, the query's share.")
    notes: list[str]
    share: float | None = Field(
        None, description="Of the index, what was searched, while machines do not answer."
    )
    stored_precision: str | None = Field(
        None, description="Of the encodings that ranks are proved for."
    )
    error_bounds: list[ErrorBoundModel] | None = None
    sureness: SurenessModel | None = None


class FailureModel(BaseModel):
    """A query of a batch that could not be answered."""

    name: str
    error: str


class BatchAnswer(BaseModel):
    """Answers in the order of the queries."""

    answers: list[AnswerModel | FailureModel]


class EmbedItem(BaseModel):
    """A vector, or what is wrong with the query."""

    vector: list[float] | None = None
    error: str | None = None


class EmbedAnswer(BaseModel):
    """Global vectors in the order of the queries; inner products of them are S_global."""

    model_id: str
    items: list[EmbedItem]


class ExplainedIngredient(BaseModel):
    """Where in the photo an ingredient looks."""

    text: str
    gate: float = Field(description="How much of what it saw counted, 0 to 1.")
    weights: list[float] = Field(description="Of each region, row by row; they sum to 1.")
    shades: list[float] = Field(description="Share above even, 0 to 1; all 0 where it is flat.")


class ExplainedItem(BaseModel):
    """Attention of a photo and one recipe."""

    id: str
    title: str
    flat: bool = Field(description="Whether it looks at all regions nearly alike.")
    ingredients: list[ExplainedIngredient]
    region_gates: list[float]
    region_weights: list[list[float]] = Field(
        description="Of each region over the ingredients; rows sum to 1."
    )


class SeenPart(BaseModel):
    """Which part of a photo the model sees."""

    shape: Literal["square", "all"] = Field(
        description="A square in the photo's centre, or all of it, pressed to a square."
    )
    share: float = Field(description="Side of what is seen, of the photo's shorter side.")


class ExplainAnswer(BaseModel):
    """Attention of a photo and some recipes, over the regions of what the model sees of it."""

    rows: int
    columns: int
    seen: SeenPart
    photo: str = Field(description="What the model sees, as the address of a JPEG.")
    items: list[ExplainedItem]


class ErrorModel(BaseModel):
    """Why a request was not answered."""

    error: str = Field(description="One line: what is wrong, and what to do.")
    kind: str
    request_id: str


class ChangeAnswer(BaseModel):
    """What a change did."""

    changed: int = Field(description="Items added or removed.")
    items: int = Field(description="Items in the index now.")
    notes: list[str] = []


class ClusterInfo(BaseModel):
    """The actors that hold an index."""

    actors: int
    ready: int = Field(description="Those that answer now.")
    share: float = Field(description="Share of the index's items that a search sees now.")


class IndexInfo(BaseModel):
    """An index that is served."""

    cluster: ClusterInfo | None = None

    name: str
    of: Literal["recipes", "images"]
    items: int
    version: int
    model_id: str
    has_local: bool
    photos: bool
    certifies: bool


class InfoAnswer(BaseModel):
    """What is served, and the limits."""

    version: str
    indexes: list[IndexInfo]
    writable: bool
    limits: dict[str, float]
