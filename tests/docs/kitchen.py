"""A folder as a user has it: a few recipes and photos, and a workspace with a trained model."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from hficma.artifacts.workspace import Workspace
from hficma.data import open_dataset
from hficma.engine import build_index
from hficma.export import export_run
from hficma.pretrained import pretrained_path
from hficma.recipe import Recipe
from hficma.training import train
from tests.docs.runner import SMALL

PAIRS = 48
SPLIT = ("train", "train", "train", "train", "val", "test")


def make_kitchen(folder: Path) -> Path:
    """Write recipes, photos, weights and a trained workspace below `folder`; return it."""
    sample = open_dataset("sample:100")
    (folder / "photos").mkdir(parents=True)
    recipes = [sample.recipe(place) for place in range(PAIRS + 4)]
    for place, recipe in enumerate(recipes):
        sample.photo(place).resize((128, 128)).save(folder / "photos" / f"{recipe.id}.jpg")
    _write(folder / "recipes.jsonl", _records(recipes[:PAIRS], split=True))
    _write(folder / "unsplit.jsonl", _records(recipes[:PAIRS], split=False))
    more = list(_records(recipes[PAIRS:], split=False))
    for number, record in enumerate(more, start=1):
        record["id"] = f"more-{number}"
    _write(folder / "more.jsonl", more)
    (folder / "recipe.json").write_text(json.dumps(more[0]))
    lines = "\n".join(json.dumps(record) for record in _records(recipes[:PAIRS], split=False))
    (folder / "recipes-text.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    shutil.copy(folder / "photos" / f"{recipes[0].id}.jpg", folder / "photo.jpg")
    _write_recipe1m(folder / "recipe1M", recipes[:PAIRS], folder / "photos")
    space = Workspace(folder / "workspace")
    sizes = [*SMALL.split(), "trainer.validation_pairs=0", "trainer.keep=last"]
    before = Path.cwd()
    os.chdir(folder)
    try:
        run = train("demo", sizes, data="sample:100", run=space.home / "runs/demo", workspace=space)
        bundle = export_run(run, space.home / "bundles/demo", runtimes=("onnxruntime",), queries=0)
        for of, name in (("recipes", "recipes"), ("images", "photos")):
            build_index(bundle, open_dataset("recipes.jsonl"), space.home / "indexes" / name, of=of)  # type: ignore[arg-type]
        _bring(folder / "brought", bundle)
        sample.photo(7).save(space.home / "demo-photo.png")
    finally:
        os.chdir(before)
    return folder


def _write_recipe1m(folder: Path, recipes: list[Recipe], photos: Path) -> None:
    """Write recipes as Recipe1M's authors publish theirs: layers, and photos in a tree."""
    layer1, layer2 = [], []
    for place, recipe in enumerate(recipes):
        name, part = f"{place * 7919:010x}", SPLIT[place % len(SPLIT)]
        texts = {"ingredients": recipe.ingredients, "instructions": recipe.instructions}
        lines = {key: [{"text": line} for line in value] for key, value in texts.items()}
        layer1.append({"id": name, "title": recipe.title, "partition": part, "url": "", **lines})
        layer2.append({"id": name, "images": [{"id": f"{name}.jpg", "url": ""}]})
        target = folder / "images" / part / "/".join(name[:4]) / f"{name}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / f"{recipe.id}.jpg", target)
    (folder / "layer1.json").write_text(json.dumps(layer1))
    (folder / "layer2.json").write_text(json.dumps(layer2))


def _bring(folder: Path, bundle: Path) -> None:
    """Write what a released package brings, with the kitchen's model in the place of its own."""
    shutil.copytree(bundle, folder / "bundle")
    shutil.copy(pretrained_path("cookbook"), folder)
    build_index(folder / "bundle", open_dataset("cookbook"), folder / "index")


def _records(recipes: list[Recipe], *, split: bool) -> Iterator[dict[str, object]]:
    for place, recipe in enumerate(recipes):
        record = recipe.to_json() | {"image": f"photos/{recipe.id}.jpg"}
        record["partition"] = SPLIT[place % len(SPLIT)] if split else None
        yield {key: value for key, value in record.items() if value}


def _write(path: Path, records: object) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))  # type: ignore[attr-defined]
