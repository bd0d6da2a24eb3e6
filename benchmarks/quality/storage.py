"""`hficma bench storage`: what each precision in which tokens are stored takes, and what it loses.

The recipes' tokens of a trained model are stored and read back in each precision, and S of every
photo with every recipe is computed from what was read. Compared with float32: the bytes of a recipe
(tokens and scales; global vectors and records besides), how much of the first ten stays, and how
often the own recipe is among them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from hficma.artifacts.manifest import read_manifest
from hficma.engine.index.item_encoding import (
    ENCODING_PRECISIONS,
    bytes_per_token,
    dequantise,
    quantise,
)
from hficma.errors import InputError
from hficma.model import Tokens, load_model
from hficma.training.scoring import score_tables

from ..common.arguments import JsonFile
from ..common.report import markdown_table, write_json
from ..common.timing import environment
from ..common.workload import bag_of

RANKS = 10
TOKENS = 9
"""Ingredients of a recipe, for which bytes are told: as many as Recipe1M's have on average."""
WIDTHS = (256, 1024)
SEED = 1
_COLUMNS = (
    "tokens in", *(f"bytes, d = {width}" for width in WIDTHS), "moved by %", "agree %", "R@10 %",
)  # fmt: skip


def main(
    run: Annotated[Path, typer.Option(help="A trained run of HF-ICMA, or its bundle.")],
    data: Annotated[
        str | None, typer.Option(help="Pairs.", show_default="like the training data, unseen")
    ] = None,
    recipes: Annotated[int, typer.Option(min=20, help="Recipes that are searched.")] = 1000,
    photos: Annotated[int, typer.Option(min=2, help="Photos that ask.")] = 150,
    json_file: JsonFile = None,
) -> None:
    """Bytes a recipe, and what is lost, for each precision of stored tokens.

    Example: hficma bench storage --run workspace/runs/mine
    """
    record = measure(run, data, recipes=recipes, photos=photos)
    rows = [
        [
            row["precision"], *(f"{row['bytes'][width]:,}" for width in map(str, WIDTHS)),
            f"{row['moved']:.2f}", f"{row['agree']:.1f}", f"{row['r10']:.1f}",
        ]
        for row in record["rows"]
    ]  # fmt: skip
    print("\n".join(markdown_table(_COLUMNS, rows)))
    print(f"\n{TOKENS} tokens; {record['photos']} photos, {record['recipes']} recipes")
    print(record["data"])
    write_json(json_file, record)


def measure(run: Path, data: str | None, *, recipes: int, photos: int) -> dict[str, Any]:
    """Return what `main` prints.

    Args:
        run: of a model with a local part.
        data: a dataset; None takes unseen items like those it was trained on.
        recipes: N that are searched, fewer where there are fewer.
        photos: P that ask, of the same items.

    Raises:
        InputError: the model has no local part, or the data too few items.
    """
    model = load_model(run)
    if not model.has_local:
        raise InputError(f"{run}: {model.config.kind} has no local part, so stores no tokens")
    kind = "bundle" if (run / "onnx").exists() else "run"
    bag, _ = bag_of(data, read_manifest(run, kind=kind).facts.get("dataset"), recipes)
    own = np.random.default_rng(SEED).permutation(len(bag))[:photos]
    image = model.encode_images([bag.photo(int(place)) for place in own])
    recipe = model.encode_recipes([bag.recipe(place) for place in range(len(bag))])
    assert recipe.tokens is not None
    exact = recipe.tokens.numpy()
    flat = exact.reshape(-1, exact.shape[-1])
    truth: np.ndarray[Any, Any] | None = None
    rows = []
    for precision in ENCODING_PRECISIONS:
        stored, scales, error = quantise(flat, precision)
        tokens = torch.from_numpy(dequantise(stored, scales).reshape(exact.shape))
        total = score_tables(model, image, Tokens(recipe.global_, tokens, recipe.lengths)).total
        best = np.argsort(-total, axis=1, kind="stable")[:, :RANKS]
        truth = best if truth is None else truth
        agree = [len(set(a) & set(b)) / RANKS for a, b in zip(best, truth, strict=True)]
        rows.append(
            {
                "precision": precision,
                "bytes": {
                    str(width): TOKENS * bytes_per_token("tokens", precision, width, 1)
                    for width in WIDTHS
                },
                "moved": 100 * error.relative,
                "agree": 100 * float(np.mean(agree)),
                "r10": 100 * float((best == own[:, None]).any(axis=1).mean()),
            }
        )
    return {
        "environment": environment(), "data": bag.name, "recipes": len(bag), "photos": len(own),
        "model_id": model.model_id, "rows": rows,
    }  # fmt: skip
