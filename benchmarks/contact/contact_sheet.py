"""`hficma bench contact-sheet`: queries of both directions with their answers, to be looked at."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from PIL import Image as Images
from PIL import ImageOps

from hficma.data.dataset import Dataset, open_dataset
from hficma.engine import Engine
from hficma.engine.engine import CANDIDATES
from hficma.images import decode_photo
from hficma.terminal import TextConsole

from ..common.page import write_page
from ..common.workload import query_positions
from .sheet import AnsweredQuery, Card, Sheet

if TYPE_CHECKING:
    from PIL.Image import Image

    from hficma.engine import Hit
    from hficma.recipe import Recipe

PIXELS = 224
"""Of a photo on the sheet, square."""
QUALITY = 80
"""Of its JPEG."""
LINES = 8
"""Ingredients of a recipe that are shown."""


def answer_sheet(
    index: Path, dataset: Dataset, positions: Sequence[int], *, shown: int, threads: int | None
) -> Sheet:
    """Ask an index for items of a dataset: photos where it holds recipes, recipes where photos.

    Args:
        index: answers.
        dataset: of the queries, and of the photos that answer where the index does not know them;
            those that it lacks too are shown as empty frames.
        positions: of the queries.
        shown: answers a query.
        threads: None takes all processors.
    """
    recipes = [dataset.recipe(position) for position in positions]
    k = max(shown, CANDIDATES)
    with Engine.open(index, threads=threads) as engine:
        by_photo = engine.query_role == "image"
        if by_photo:
            photos = [dataset.photo(position) for position in positions]
            answers = [engine.search(image=photo, k=k) for photo in photos]
            queries = [
                Card(title=recipe.title or recipe.id, photo=_jpeg(photo))
                for recipe, photo in zip(recipes, photos, strict=True)
            ]
        else:
            answers = [engine.search(recipe=recipe, k=k) for recipe in recipes]
            queries = [_recipe_card(recipe) for recipe in recipes]
        shown_hits = [hit for answer in answers for hit in answer.hits[:shown]]
        pictures = {
            hit.id: _jpeg(decode_photo(photo, name=hit.id))
            for hit in shown_hits
            if (photo := hit.photo) is not None
        }
    # An index of an older version knows no photo; the dataset may hold it.
    missing = {hit.id for hit in shown_hits} - pictures.keys()
    for position in range(0 if by_photo or not missing else len(dataset)):
        if (name := dataset.recipe(position).id) in missing:
            pictures[name] = _jpeg(dataset.photo(position))

    def card(hit: Hit, own: bool) -> Card:
        one = _recipe_card(hit.recipe) if by_photo else Card(title=hit.title or hit.id)
        return replace(one, photo=pictures.get(hit.id), own=own, score=hit.score)

    rows = [
        AnsweredQuery(
            query=query,
            answers=tuple(card(hit, hit.id == recipe.id) for hit in answer.hits[:shown]),
            # Hits down to the last item scored tell where the query's own stands.
            own_rank=next((hit.rank for hit in answer.hits if hit.id == recipe.id), None),
            scored=answer.scored,
            searched=answer.searched,
        )
        for query, recipe, answer in zip(queries, recipes, answers, strict=True)
    ]
    return Sheet(title="Photo to recipes" if by_photo else "Recipe to photos", rows=tuple(rows))


def main(
    recipes: Annotated[Path, typer.Option(help="An index of recipes, for photos as queries.")],
    images: Annotated[Path, typer.Option(help="An index of photos, for recipes as queries.")],
    data: Annotated[str, typer.Option(help="The dataset that queries and photos come from.")],
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("contact-sheet.html"),
    png: Annotated[Path | None, typer.Option(help="Write the sheet as a picture too.")] = None,
    queries: Annotated[int, typer.Option(min=1, help="Each way.")] = 10,
    shown: Annotated[int, typer.Option(min=1, help="Answers a query.")] = 5,
    seed: Annotated[int, typer.Option(help="Of the draw of queries.")] = 0,
    threads: Annotated[int, typer.Option(min=0, help="0 takes all processors.")] = 0,
) -> None:
    """Ten photos with their recipes, ten recipes with their photos, on one page.

    Example: hficma bench contact-sheet --recipes workspace/indexes/recipes
    --images workspace/indexes/images --data recipes.jsonl
    """
    dataset = open_dataset(data)
    positions = query_positions(dataset, 2 * queries, seed)
    # Other dishes each way, where there are enough.
    others = positions[queries:] if len(positions) == 2 * queries else positions
    sheets = [
        answer_sheet(index, dataset, drawn[:queries], shown=shown, threads=threads or None)
        for index, drawn in ((recipes, positions), (images, others))
    ]
    write_page(
        out, "contact_sheet.html.j2",
        sheets=sheets, lines=LINES, base64=lambda content: base64.b64encode(content).decode(),
    )  # fmt: skip
    if png is not None:
        from .picture import write_picture

        write_picture(sheets, png)
    console = TextConsole()
    for sheet in sheets:
        console.print_prose(f"{sheet.title}: {sheet.summary}")
    console.print_line(f"page: {out}")


def _recipe_card(recipe: Recipe) -> Card:
    return Card(title=recipe.title or recipe.id, ingredients=recipe.ingredients)


def _jpeg(photo: Image) -> bytes:
    """Encode a photo as a small square JPEG."""
    content = BytesIO()
    small = ImageOps.fit(photo, (PIXELS, PIXELS), Images.Resampling.LANCZOS)
    small.save(content, "jpeg", quality=QUALITY)
    return content.getvalue()


if __name__ == "__main__":
    typer.run(main)
