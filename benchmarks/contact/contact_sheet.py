"""`hficma bench contact-sheet`: queries of both directions with their answers, to be looked at."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from PIL import Image as Images
from PIL import ImageOps

from hficma.data.dataset import Dataset, open_dataset, positions
from hficma.engine import Engine
from hficma.engine.engine import CANDIDATES
from hficma.errors import InputError
from hficma.printable import printable
from hficma.recipe import Recipe

from .contact_rows import Card, Row, Sheet

if TYPE_CHECKING:
    from PIL.Image import Image

    from hficma.engine import Answer, Hit

QUERIES = 10
SHOWN = 5
"""Answers a query."""
SIDE = 224
"""Pixels of a photo on the sheet, square."""
QUALITY = 80
"""Of its JPEG."""


def drawn_rows(dataset: Dataset, count: int, seed: int) -> list[int]:
    """Positions of `count` test items with photos; of others where the dataset has no test part.

    Raises:
        InputError: no item has a photo.
    """
    rows = positions(dataset, ("test",), with_photo=True)
    if not len(rows):
        rows = positions(dataset, with_photo=True)
    if not len(rows):
        raise InputError(f"{dataset.name}: has no photos to show; name another --data")
    chosen = np.random.default_rng(seed).permutation(rows)[:count]
    return [int(row) for row in chosen]


def photo_sheet(
    index: Path, dataset: Dataset, rows: Sequence[int], *, shown: int, threads: int | None = None
) -> Sheet:
    """Photos with the recipes that answer them.

    Args:
        index: of recipes.
        dataset: of the photos.
        rows: positions of the queries.
        shown: answers a query.
        threads: None takes all processors.
    """
    found = []
    with Engine.open(index, threads=threads) as engine:
        for row in rows:
            photo, recipe = dataset.photo(row), dataset.recipe(row)
            answer = engine.search(image=photo, k=max(shown, CANDIDATES))
            query = Card(title=recipe.title or recipe.id, photo=jpeg(photo))
            found.append(_answered(query, recipe.id, answer, shown, _recipe_card))
    return Sheet(title="Photo to recipes", rows=tuple(found))


def recipe_sheet(
    index: Path, dataset: Dataset, rows: Sequence[int], *, shown: int, threads: int | None = None
) -> Sheet:
    """Recipes with the photos that answer them.

    Args:
        index: of photos; those that the dataset lacks are shown as empty frames.
        dataset: of the recipes.
        rows: positions of the queries.
        shown: answers a query.
        threads: None takes all processors.
    """
    asked = [dataset.recipe(row) for row in rows]
    with Engine.open(index, threads=threads) as engine:
        answers = [engine.search(recipe=recipe, k=max(shown, CANDIDATES)) for recipe in asked]
    wanted = {hit.id for answer in answers for hit in answer.hits[:shown]}
    photos = {
        identity: jpeg(dataset.photo(row))
        for row in range(len(dataset))
        if (identity := dataset.recipe(row).id) in wanted
    }

    def card(hit: Hit) -> Card:
        return Card(title=hit.title or hit.id, photo=photos.get(hit.id))

    return Sheet(
        title="Recipe to photos",
        rows=tuple(
            _answered(_recipe_card(recipe), recipe.id, answer, shown, card)
            for recipe, answer in zip(asked, answers, strict=True)
        ),
    )


def jpeg(photo: Image) -> bytes:
    """A photo as a small square JPEG."""
    content = BytesIO()
    small = ImageOps.fit(photo, (SIDE, SIDE), Images.Resampling.LANCZOS)
    small.save(content, "jpeg", quality=QUALITY)
    return content.getvalue()


def main(
    recipes: Annotated[Path, typer.Option(help="An index of recipes, for photos as queries.")],
    images: Annotated[Path, typer.Option(help="An index of photos, for recipes as queries.")],
    data: Annotated[str, typer.Option(help="The dataset that queries and photos come from.")],
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("contact-sheet.html"),
    png: Annotated[Path | None, typer.Option(help="Write the sheet as a picture too.")] = None,
    queries: Annotated[int, typer.Option(min=1, help="Each way.")] = QUERIES,
    shown: Annotated[int, typer.Option(min=1, help="Answers a query.")] = SHOWN,
    seed: Annotated[int, typer.Option(help="Of the draw of queries.")] = 0,
    threads: Annotated[int, typer.Option(min=0, help="0 takes all processors.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answers as JSON.")] = False,
) -> None:
    """Ten photos with their recipes, ten recipes with their photos, on one page.

    Example: hficma bench contact-sheet --recipes workspace/indexes/recipes
    --images workspace/indexes/images --data recipes.jsonl
    """
    from .contact_page import write_page

    dataset = open_dataset(data)
    rows = drawn_rows(dataset, 2 * queries, seed)
    # Other dishes each way, where there are enough.
    mirrored = rows[queries:] if len(rows) == 2 * queries else rows
    sheets = (
        photo_sheet(recipes, dataset, rows[:queries], shown=shown, threads=threads or None),
        recipe_sheet(images, dataset, mirrored[:queries], shown=shown, threads=threads or None),
    )
    write_page(sheets, out)
    if png is not None:
        from .contact_picture import write_picture

        write_picture(sheets, png)
    if as_json:
        print(json.dumps([sheet.to_json() for sheet in sheets], indent=1))
        return
    for sheet in sheets:
        print(printable(f"{sheet.title}: {sheet.summary}"))
    print(printable(f"page: {out}"))


def _answered(
    query: Card,
    own: str,
    answer: Answer,
    shown: int,
    card: Callable[[Hit], Card],
) -> Row:
    """A query's row; every hit down to the last one scored tells where its own item stands."""
    ranks = {hit.id: hit.rank for hit in answer.hits}
    return Row(
        query=query,
        answers=tuple(
            replace(card(hit), own=hit.id == own, score=hit.score, local=hit.local_score)
            for hit in answer.hits[:shown]
        ),
        own_rank=ranks.get(own),
        scored=answer.scored,
        searched=answer.searched,
        certified=answer.certified,
        milliseconds=answer.milliseconds["total"],
    )


def _recipe_card(recipe: Recipe | Hit) -> Card:
    return Card(title=recipe.title or recipe.id, ingredients=recipe.ingredients)


if __name__ == "__main__":
    typer.run(main)
