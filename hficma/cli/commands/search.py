"""`hficma search`: photos or recipes in, answers out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ...artifacts.workspace import Workspace
from ...errors import ArtifactError, InputError
from ...images.photo_folder import photo_folder
from ...printable import json_text
from ...recipe import BadRecord, Recipe, read_jsonl_lines, read_recipe
from ...recipe.text_lists import parted
from ..console import note, print_answer, print_json, stdout

if TYPE_CHECKING:
    from hficma.engine import Answer, Engine, Failure, Filter


def search(
    image: Annotated[Path | None, typer.Option(help="A photo of a dish.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="A recipe as a JSON file.")] = None,
    ingredients: Annotated[
        str | None, typer.Option(help='Ingredients, such as "tomato, basil".')
    ] = None,
    images: Annotated[Path | None, typer.Option(help="A folder of photos; answers JSONL.")] = None,
    recipes: Annotated[Path | None, typer.Option(help="A JSONL of recipes; answers JSONL.")] = None,
    index: Annotated[
        Path | None, typer.Option(help="An index.", show_default="the newest that can answer")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="A bundle.", show_default="the index's own")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Answers wanted.")] = 10,
    candidates: Annotated[int, typer.Option(min=1, help="Items to re-rank.")] = 200,
    exact: Annotated[
        bool, typer.Option("--exact", help="Go on until the answer is proved.")
    ] = False,
    having: Annotated[
        list[str] | None, typer.Option("--with", help="Ingredient it must have.")
    ] = None,
    without: Annotated[list[str] | None, typer.Option(help="Ingredient it must not have.")] = None,
    category: Annotated[list[str] | None, typer.Option(help="Kind of dish.")] = None,
    partition: Annotated[list[str] | None, typer.Option(help="train, val or test.")] = None,
    runtime: Annotated[str, typer.Option(help="What runs the branches.")] = "auto",
    precision: Annotated[str, typer.Option(help="Of the branches that read queries.")] = "fp32",
    device: Annotated[str, typer.Option(help="cpu or cuda[:N].")] = "cpu",
    gpu_memory: Annotated[
        float | None,
        typer.Option(min=0, help="GiB of the GPU for the index.", show_default="half of the free"),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Queries worked on together.")] = 32,
    explain: Annotated[
        Path | None, typer.Option(help="Write a page that shows why the best answer is.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Find the recipe for a photo, or the photo for a recipe.

    Example: hficma search --image photo.jpg
    """
    given = [value for value in (image, recipe, ingredients, images, recipes) if value is not None]
    if len(given) != 1:
        raise InputError(
            "search takes one of --image, --recipe, --ingredients, --images, --recipes"
        )
    if explain is not None and image is None:
        raise InputError("--explain draws on a photo: it goes with --image")
    of: Literal["recipes", "images"] = "recipes" if image or images else "images"
    query: Path | Recipe | None = image
    if recipe is not None:
        query = read_recipe(recipe)
    elif ingredients is not None:
        query = _from_ingredients(ingredients)
    from hficma.engine import Engine, Filter

    wanted = Filter(
        having=_filter_names(having),
        without=_filter_names(without),
        categories=tuple(category or ()),
        partitions=tuple(partition or ()),
    )
    with Engine.open(
        index or _newest(of), bundle=bundle, runtime=runtime, precision=precision,
        device=device, gpu_memory=gpu_memory,
    ) as engine:  # fmt: skip
        if query is None:
            _search_many(engine, images, recipes, k, candidates, exact, wanted, batch)
            return
        answer = engine.search(
            image=query if isinstance(query, Path) else None,
            recipe=query if isinstance(query, Recipe) else None,
            k=k, candidates=candidates, exact=exact, filter=wanted,
        )  # fmt: skip
        if explain is not None:
            from hficma.engine import write_page

            from ...images import read_photo

            assert image is not None
            write_page(explain, engine.bundle, read_photo(image), answer)
            note(f"why: {explain}")
    if as_json:
        print_json(answer.to_json())
        return
    if not answer.hits:
        # An empty table would leave "certified" to be read of it.
        stdout.print_line(
            "nothing passes the filter" if wanted else "the index holds nothing to find"
        )
        for line in answer.notes:
            note(line)
        return
    print_answer(answer, asked=str(image or recipe or ingredients))
    note("more: --json gives instructions and links of every answer, --explain a page")


def _search_many(
    engine: Engine,
    images: Path | None,
    recipes: Path | None,
    k: int,
    candidates: int,
    exact: bool,
    wanted: Filter,
    batch: int,
) -> None:
    """Answers as JSONL in the order of the queries; a bad one is reported among them."""
    from hficma.engine import Answer, Failure

    folder = None if images is None else photo_folder(images)
    asked: list[str | BadRecord] = []
    failed = 0

    def queries() -> Iterator[Path | Recipe]:
        for query in folder.files if folder is not None else read_jsonl_lines(recipes or Path("-")):
            if isinstance(query, BadRecord):
                asked.append(query)
                continue
            asked.append(query.id if isinstance(query, Recipe) else str(query))
            yield query

    def printed(name: str, answer: Answer | Failure) -> None:
        print(json_text({"query": name, **answer.to_json()}))

    def bad_lines(place: int) -> int:
        """Name the bad lines that stand before the next query; return how many."""
        nonlocal failed
        start = place
        while place < len(asked) and isinstance(bad := asked[place], BadRecord):
            printed(bad.where, Failure(name=bad.where, error=str(bad)))
            failed += 1
            place += 1
        return place - start

    answers = engine.search_many(
        queries(), k=k, candidates=candidates, exact=exact, filter=wanted, batch=batch
    )
    place = 0
    for answer in answers:
        place += bad_lines(place)
        failed += not isinstance(answer, Answer)
        printed(str(asked[place]), answer)
        place += 1
    bad_lines(place)
    passed = f", {folder.hidden} hidden passed over" if folder is not None and folder.hidden else ""
    note(f"{len(asked) - failed} answered, {failed} could not be read{passed}")
    if failed == len(asked):
        raise InputError(
            f"{images or recipes}: holds no {'photo' if images else 'recipe'} that can be read"
        )


def _names(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the names in what was typed: "egg, milk" and "egg; milk" are two."""
    parts = (part.strip() for text in texts for part in parted(text, ",;\n"))
    return tuple(part for part in parts if part)


def _filter_names(texts: list[str] | None) -> tuple[str, ...]:
    """Return the names of a filter; what holds none stays, for the filter to refuse."""
    return tuple(name for text in texts or () for name in _names([text]) or (text,))


def _from_ingredients(text: str) -> Recipe:
    lines = _names([text])
    if not lines:
        raise InputError('--ingredients is empty; write names such as "tomato, basil"')
    return Recipe.parse({"id": text, "ingredients": list(lines)}, where="--ingredients")


def _newest(of: Literal["recipes", "images"]) -> Path:
    """The newest index that answers this kind of query."""
    from hficma.engine import index_info

    workspace = Workspace.default()
    for path in workspace.all("index"):
        if index_info(path)["of"] == of:
            return path
    raise ArtifactError(
        f"{workspace.home}: no index of {of} here yet; make one with `hficma index --of {of}`"
    )
