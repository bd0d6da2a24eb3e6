"""`hficma demo`: on the synthetic sample from training to an answer, or an answer to a photo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...artifacts.workspace import Workspace
from ...errors import InputError
from ..console import Bars, hint, note, print_answer, stdout
from ..defaults import cookbook_index
from ..process_settings import quiet_exporter

PRESET = "demo"
"""The preset that is trained."""
TRAINING = "sample:3000"
"""The recipes that it is trained on."""
SEARCHED = "sample:1000:1"
"""The recipes of the index: of another seed, so none of them was seen in training."""
PHOTO = 7
"""Position in `SEARCHED` of the dish whose photo is the query."""


def demo(
    workspace: Annotated[
        Path | None, typer.Option(help="Where the demo's directories go.", show_default="workspace")
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(help="A photo of a dish: ask hficma's pretrained model, and train nothing."),
    ] = None,
) -> None:
    """From nothing to an answer, on synthetic dishes: train, export, index, search.

    Example: hficma demo
    """
    if image is not None:
        if workspace is not None:
            raise InputError("demo --image makes no directories: leave --workspace out")
        _ask_cookbook(image)
        return
    from hficma.engine import Engine, build_index
    from hficma.export import export_run
    from hficma.training import train

    from ...data.dataset import open_dataset

    space = Workspace(workspace) if workspace is not None else Workspace.default()
    note("The demo's photos and recipes are synthetic: drawn by a program, to learn from quickly.")
    with Bars() as bars, quiet_exporter():
        run = train(PRESET, data=TRAINING, run=space.new("run", PRESET), workspace=space,
                    progress=bars)  # fmt: skip
        bars.stage("compiling the branches and proving them equal")
        bundle = export_run(run, space.new("bundle", PRESET), runtimes=("onnxruntime",), queries=0)
        dataset = open_dataset(SEARCHED)
        index = build_index(
            bundle, dataset, space.new("index", PRESET), progress=bars.counting("indexing recipes")
        )
    photo = space.home / "demo-photo.png"
    dataset.photo(PHOTO).save(photo)
    recipe = dataset.recipe(PHOTO)
    with Engine.open(index) as engine:
        answer = engine.search(image=photo, k=10)
    print_answer(answer, title=f"{photo} among {len(dataset)} recipes it never saw in training")
    rank = next((hit.rank for hit in answer.hits if hit.id == recipe.id), None)
    standing = f"rank {rank}" if rank is not None else "not among the first 10"
    stdout.print_line(f'the dish in the photo is "{recipe.title}": {standing}')
    hint("again:   ", f"search --image {photo}")
    hint("figures: ", "eval")
    hint(
        "your own:",
        "train --preset best --data recipes.jsonl --hold-out 10% trunk.weights=torchvision",
    )


def _ask_cookbook(image: Path) -> None:
    """Answer a photo from the package's cookbook, whatever the workspace holds."""
    from hficma.engine import Engine

    with Engine.open(cookbook_index()) as engine:
        answer = engine.search(image=image, k=10)
    print_answer(answer, title=str(image))
