"""`hficma search`: answers photos with recipes, and recipes with photos."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ...errors import InputError
from ...images.photo_folder import photo_folder
from ...limits import printable_path
from ...printable import json_text
from ...recipe import BadRecord, Recipe, read_jsonl_lines, read_recipe
from ...recipe.text_lists import parted
from ..cluster_options import Ray, RayActors, RayGpus, Replicas, cluster_options
from ..console import note, print_answer, print_json, stdout
from ..defaults import default_index
from ..engine_options import PANEL as ENGINE
from ..engine_options import Crops, Device, GpuMemory, Precision, Runtime

if TYPE_CHECKING:
    from hficma.engine import Answer, Engine, Failure, Filter


QUERY, FILTER, ANSWER = "Query (one of)", "Filter", "Answer"
"""Headings of the options in `--help`."""


def search(
    image: Annotated[
        Path | None, typer.Option(help="A photo of a dish.", rich_help_panel=QUERY)
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="A recipe as a JSON file.", rich_help_panel=QUERY)
    ] = None,
    ingredients: Annotated[
        str | None,
        typer.Option(help='Ingredients, such as "tomato, basil".', rich_help_panel=QUERY),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="A folder of photos; answers JSONL.", rich_help_panel=QUERY),
    ] = None,
    recipes: Annotated[
        Path | None,
        typer.Option(help="A JSONL of recipes; answers JSONL.", rich_help_panel=QUERY),
    ] = None,
    having: Annotated[
        list[str] | None,
        typer.Option("--with", help="Ingredient it must have.", rich_help_panel=FILTER),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(help="Ingredient it must not have.", rich_help_panel=FILTER),
    ] = None,
    category: Annotated[
        list[str] | None, typer.Option(help="Kind of dish.", rich_help_panel=FILTER)
    ] = None,
    partition: Annotated[
        list[str] | None, typer.Option(help="train, val or test.", rich_help_panel=FILTER)
    ] = None,
    k: Annotated[
        int, typer.Option("-k", min=1, help="Hits to return.", rich_help_panel=ANSWER)
    ] = 10,
    candidates: Annotated[
        int, typer.Option(min=1, help="Items to re-rank.", rich_help_panel=ANSWER)
    ] = 200,
    exact: Annotated[
        bool,
        typer.Option("--exact", help="Go on until the answer is proved.", rich_help_panel=ANSWER),
    ] = False,
    exact_precision: Annotated[
        bool,
        typer.Option(
            "--exact-precision",
            help="Score the best again by the exact tokens that the index stores.",
            rich_help_panel=ANSWER,
        ),
    ] = False,
    explain: Annotated[
        Path | None,
        typer.Option(
            help="Write a page that shows why the best hit is the best.", rich_help_panel=ANSWER
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the answer as JSON.", rich_help_panel=ANSWER)
    ] = False,
    index: Annotated[
        Path | None,
        typer.Option(
            help="The index to search.",
            show_default="the newest that can answer, else hficma's cookbook",
            rich_help_panel=ENGINE,
        ),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            help="The bundle that reads queries.",
            show_default="the index's own",
            rich_help_panel=ENGINE,
        ),
    ] = None,
    runtime: Runtime = "auto",
    precision: Precision = "fp32",
    device: Device = "cpu",
    gpu_memory: GpuMemory = None,
    crops: Crops = None,
    batch: Annotated[
        int,
        typer.Option(min=1, help="Queries encoded and scored together.", rich_help_panel=ENGINE),
    ] = 32,
    ray: Ray = None,
    ray_actors: RayActors = None,
    ray_gpus: RayGpus = None,
    replicas: Replicas = None,
) -> None:
    """Find the recipe for a photo, or the photo for a recipe.

    Example: hficma search --image photo.jpg
    """
    queries = [
        value for value in (image, recipe, ingredients, images, recipes) if value is not None
    ]
    if len(queries) != 1:
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

    filter_ = Filter(
        having=_filter_names(having),
        without=_filter_names(without),
        categories=tuple(category or ()),
        partitions=tuple(partition or ()),
    )
    cluster = cluster_options(ray, ray_actors, ray_gpus, replicas)
    open_engine: Callable[..., Engine] = Engine.open
    if cluster is not None:
        from hficma.engine.cluster.engine import ClusterEngine

        open_engine = functools.partial(ClusterEngine.open_on, cluster=cluster)
    with open_engine(
        index or default_index(of), bundle=bundle, runtime=runtime, precision=precision,
        device=device, gpu_memory=gpu_memory, crops=crops,
    ) as engine:  # fmt: skip
        if query is None:
            _search_many(
                engine, images, recipes, k, candidates, exact, filter_, batch, exact_precision
            )
            return
        answer = engine.search(
            image=query if isinstance(query, Path) else None,
            recipe=query if isinstance(query, Recipe) else None,
            k=k, candidates=candidates, exact=exact, filter=filter_,
            keep_query=explain is not None, exact_precision=exact_precision,
        )  # fmt: skip
        if explain is not None:
            from hficma.engine import write_page

            assert image is not None  # or it was refused above
            write_page(explain, engine.bundle, answer, name=printable_path(image.name))
            note(f"why: {explain}")
    if as_json:
        print_json(answer.to_json())
        return
    if not answer.hits:
        # An empty table would leave "certified" to be read of it.
        stdout.print_line(
            "nothing passes the filter" if filter_ else "the index holds nothing to find"
        )
        for line in answer.notes:
            note(line)
        return
    print_answer(answer, title=str(image or recipe or ingredients))
    _note_options(answer, explained=explain is not None, over_recipes=of == "recipes")


def _note_options(answer: Answer, *, explained: bool, over_recipes: bool) -> None:
    """Print the options that would tell more of this answer and were not used."""
    options = ["--json (instructions, links)"]
    if answer.certified < len(answer.hits):
        options.append("--exact (proof)")
    if over_recipes and not explained and answer.hits[0].local_score is not None:
        options.append("--explain PAGE (why)")
    note(f"more: {', '.join(options)}")


def _search_many(
    engine: Engine,
    images: Path | None,
    recipes: Path | None,
    k: int,
    candidates: int,
    exact: bool,
    filter_: Filter,
    batch: int,
    exact_precision: bool,
) -> None:
    """Print answers as JSONL in the order of the queries; a bad query is a line with its error."""
    from hficma.engine import Answer, Failure

    folder = None if images is None else photo_folder(images)
    # The engine pulls queries a batch ahead of the answers it returns, and never sees a bad line.
    # So every query leaves its name here, and every bad line itself, from which the output is put
    # together in order again.
    names: list[str | BadRecord] = []
    failed = 0

    def queries() -> Iterator[Path | Recipe]:
        for query in folder.files if folder is not None else read_jsonl_lines(recipes or Path("-")):
            if isinstance(query, BadRecord):
                names.append(query)
                continue
            names.append(query.id if isinstance(query, Recipe) else str(query))
            yield query

    def report(name: str, answer: Answer | Failure) -> None:
        print(json_text({"query": name, **answer.to_json()}))

    def bad_lines(place: int) -> int:
        """Print the bad lines before the next query, and return their number."""
        nonlocal failed
        start = place
        while place < len(names) and isinstance(bad := names[place], BadRecord):
            report(bad.where, Failure(name=bad.where, error=str(bad)))
            failed += 1
            place += 1
        return place - start

    answers = engine.search_many(
        queries(), k=k, candidates=candidates, exact=exact, filter=filter_, batch=batch,
        exact_precision=exact_precision,
    )  # fmt: skip
    place = 0
    for answer in answers:
        place += bad_lines(place)
        failed += not isinstance(answer, Answer)
        report(str(names[place]), answer)
        place += 1
    bad_lines(place)
    hidden_count = folder.hidden if folder is not None else 0
    hidden = f", {hidden_count} hidden passed over" if hidden_count else ""
    note(f"{len(names) - failed} answered, {failed} could not be read{hidden}")
    if failed == len(names):
        raise InputError(
            f"{images or recipes}: holds no {'photo' if images else 'recipe'} that can be read"
        )


def _names(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the names in texts of the command line: "egg, milk" and "egg; milk" are two."""
    parts = (part.strip() for text in texts for part in parted(text, ",;\n"))
    return tuple(part for part in parts if part)


def _filter_names(texts: list[str] | None) -> tuple[str, ...]:
    """Return the names of a filter; a text without any stays as it is, for the filter to refuse."""
    return tuple(name for text in texts or () for name in _names([text]) or (text,))


def _from_ingredients(text: str) -> Recipe:
    """Return a recipe of nothing but ingredients."""
    lines = _names([text])
    if not lines:
        raise InputError('--ingredients is empty; write names such as "tomato, basil"')
    return Recipe.parse({"id": text, "ingredients": list(lines)}, where="--ingredients")
