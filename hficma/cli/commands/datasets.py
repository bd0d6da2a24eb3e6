"""`hficma data`: imports recipes and photos, and shows what is in a dataset."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...printable import json_text, printable, printable_lines
from ..console import Bars
from ..help_text import command_group
from ..quantities import counted

if TYPE_CHECKING:
    from ...data.summary import Summary

app = command_group("Bring recipes and photos in, and look at them.", no_args_is_help=True)

# An option of both commands.
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.command("import")
def import_command(
    source: Annotated[
        str,
        typer.Argument(
            help="Recipe1M's layers; im2recipe's or AdaMine's LMDBs; JSONL, JSON, CSV, saved web "
            "pages, recipe managers' exports, in a file, folder or ZIP; sample:N."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The dataset directory to write.")],
    workers: Annotated[int, typer.Option(min=1, help="Threads that decode photos.")] = 2,
    max_photos: Annotated[int, typer.Option(min=0, help="Photos kept of a recipe.")] = 5,
    photo_side: Annotated[
        int, typer.Option(help="Pixels that a kept photo's shorter side has at most.")
    ] = 256,
    classes: Annotated[
        bool, typer.Option(help="Make classes of titles where the source has none.")
    ] = False,
    class_names: Annotated[
        Path | None, typer.Option(help="More class names, one a line (Food-101's list).")
    ] = None,
    strict: Annotated[bool, typer.Option(help="Stop at the first bad record.")] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew where an unfinished import lies.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write any source as one dataset directory; a killed import goes on where it was.

    Example: hficma data import recipes.jsonl --out my-recipes
    """
    from ...data.sources import open_source
    from ...data.store.importing import import_dataset

    names = _class_names(class_names)
    with Bars() as bars:
        result = import_dataset(
            open_source(source),
            out,
            workers=workers,
            max_photos=max_photos,
            photo_side=photo_side,
            class_names=names if classes or names else None,
            strict=strict,
            restart=restart,
            on_bad=bars.bad,
            progress=bars.counting_stages("recipes", "photos"),
        )
    if as_json:
        typer.echo(json_text({"out": str(out), **asdict(result)}))
        return
    recipes, photos = counted(result.recipes, "recipe"), counted(result.photos, "photo")
    typer.echo(printable(f"{out}: {recipes}, {photos}"))
    if result.left_out:
        bad = counted(result.left_out, "bad record or photo", "bad records and photos")
        typer.echo(printable(f"{bad} left out, see {out / 'left_out.txt'}"))


@app.command("show")
def show_command(
    dataset: Annotated[str, typer.Argument(help="A dataset directory, JSONL file or sample:N.")],
    sheet: Annotated[
        Path | None, typer.Option(help="Write 24 random photos with titles there (PNG).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Which photos and recipes are looked at.")] = 0,
    as_json: Json = False,
) -> None:
    """Count recipes, partitions and lengths, list frequent ingredients and classes.

    Example: hficma data show my-recipes --sheet photos.png
    """
    from ...data import open_dataset
    from ...data.summary import contact_sheet, summarise

    with Bars() as bars:
        recipes = open_dataset(dataset, on_bad=bars.bad)
        bars.stage("counting")
        summary = summarise(recipes, seed=seed)
        if sheet is not None:
            bars.stage("drawing")
            contact_sheet(recipes, seed=seed).save(sheet)
    typer.echo(json_text(asdict(summary)) if as_json else printable_lines(_text(summary)))


def _class_names(path: Path | None) -> list[str]:
    """Return the lines of a file of class names."""
    from ...errors import InputError

    if path is None:
        return []
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error})") from error


def _text(summary: Summary) -> str:
    """Return a summary as a person reads it."""
    parts = ", ".join(f"{part} {count}" for part, count in summary.partitions.items())
    lines = [
        printable(summary.name),
        f"{summary.recipes} recipes ({parts}), {summary.with_photo} with a photo",
        *(
            f"{name}: median {spread['median']:g}, 90 % have at most {spread['90 %']:g}, "
            f"most {spread['most']:g}"
            for name, spread in summary.lengths.items()
        ),
        "most frequent ingredients: " + _counts(summary.ingredients),
        "most frequent classes: " + (_counts(summary.classes) or "none"),
    ]
    if summary.counted_on < summary.recipes:
        lines.append(f"lengths and names counted on {summary.counted_on} random recipes")
    return "\n".join(lines)


def _counts(pairs: list[tuple[str, int]]) -> str:
    return ", ".join(f"{printable(name)} {count}" for name, count in pairs)
