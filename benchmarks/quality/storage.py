"""`hficma bench storage`: what each precision in which tokens are stored takes, loses and costs.

The recipes' tokens of a trained model are stored and read back in each precision, and S of every
photo with every recipe is computed from what was read. Compared with float32: the bytes of a recipe
(tokens and scales; global vectors and records besides), how much of the first ten stays, and how
often the own recipe is among them. Forms that no index stores are judged beside them.

How long re-ranking takes depends on widths alone, so it is measured where it takes longest: at
d = 1024, with random weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor

from hficma.artifacts.manifest import read_manifest
from hficma.artifacts.workspace import Workspace
from hficma.engine.index.item_encoding import (
    ENCODING_PRECISIONS,
    EncodingPrecision,
    bytes_per_token,
    dequantise,
    quantise,
)
from hficma.engine.runtimes.options import processors
from hficma.errors import InputError
from hficma.model import Tokens, load_model
from hficma.training.scoring import score_tables
from hficma.types import Floats

from ..common.arguments import JsonFile, Threads
from ..common.synthetic_index import random_bundle, synthetic_index
from ..common.timing import Recorder, environment, torch_threads
from ..common.workload import bag_of
from ..pages.parts import publish
from ..search.encoded_searches import EncodedSearches
from .token_forms import token_forms

RANKS = 10
TOKENS = 9
"""Ingredients of a recipe, for which bytes are told: as many as Recipe1M's have on average."""
WIDTHS = (256, 1024)
SEED = 1
CANDIDATES = 200
TIMED_RECIPES = 4096
TIMED_PHOTOS = 20


def main(
    run: Annotated[Path, typer.Option(help="A trained run of HF-ICMA, or its bundle.")],
    data: Annotated[
        str | None, typer.Option(help="Pairs.", show_default="like the training data, unseen")
    ] = None,
    recipes: Annotated[int, typer.Option(min=20, help="Recipes that are searched.")] = 1000,
    photos: Annotated[int, typer.Option(min=2, help="Photos that ask.")] = 150,
    timed_width: Annotated[int, typer.Option(min=8, help="D of the timed indexes.")] = 1024,
    threads: Threads = 0,
    json_file: JsonFile = None,
) -> None:
    """Bytes a recipe, what is lost and how long re-ranking takes, by precision of stored tokens.

    Example: hficma bench storage --run workspace/runs/mine
    """
    threads = threads or processors()
    record = measure(run, data, recipes=recipes, photos=photos)
    record["environment"] = environment(threads=threads)
    record["timed_width"] = timed_width
    workspace = Workspace.default()
    bundle = random_bundle(workspace, timed_width, min(timed_width, 256))
    with torch_threads(threads):
        for row in record["rows"]:
            row |= rerank_time(bundle, workspace.cache / "bench", row["precision"], threads)
    publish("storage", record, json_file, [row["spread"] for row in record["rows"]])


def rerank_time(
    bundle: Path,
    folder: Path,
    precision: EncodingPrecision,
    threads: int,
    *,
    recipes: int = TIMED_RECIPES,
    photos: int = TIMED_PHOTOS,
) -> dict[str, float]:
    """Return the median ms of re-ranking `CANDIDATES` from stored tokens, and its spread.

    Args:
        bundle: random weights do.
        folder: where the synthetic index lies between runs.
        precision: of the tokens.
        threads: of the engine.
        recipes: of the index, few enough that it lies in memory.
        photos: that are timed.
    """
    index = synthetic_index(
        bundle, folder / f"storage-{recipes}-{precision}-{bundle.name}", recipes,
        level="tokens", precision=precision, prefilter="Flat",
    )  # fmt: skip
    recorder = Recorder()
    recorder.new_round()
    with EncodedSearches(index, bundle, candidates=CANDIDATES, threads=threads) as searches:
        for photo in searches.warmed_up(photos):
            searches.search(photo)  # reads its candidates, and compares them with checksums
            recorder.add("rerank", searches.search(photo).milliseconds["rerank"] / 1000)
    return {"rerank_ms": 1000 * recorder.median("rerank"), "spread": recorder.spread("rerank")}


def measure(run: Path, data: str | None, *, recipes: int, photos: int) -> dict[str, Any]:
    """Return what `main` prints, but for times.

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
    totals = score_tables(model, image, recipe).total
    truth = np.argsort(-totals, axis=1, kind="stable")[:, :RANKS]

    def loss(tokens: Floats, lengths: Tensor) -> dict[str, float]:
        """Return what of the first ten stays, and R@10, by these tokens: in percent."""
        form = Tokens(recipe.global_, torch.from_numpy(tokens), lengths)
        total = score_tables(model, image, form).total
        best = np.argsort(-total, axis=1, kind="stable")[:, :RANKS]
        agree = [len(set(a) & set(b)) / RANKS for a, b in zip(best, truth, strict=True)]
        return {
            "agree": 100 * float(np.mean(agree)),
            "r10": 100 * float((best == own[:, None]).any(axis=1).mean()),
        }

    rows = []
    for precision in ENCODING_PRECISIONS:
        stored, scales, error = quantise(flat, precision)
        sizes = {w: TOKENS * bytes_per_token("tokens", precision, w, 1) for w in WIDTHS}
        rows.append(
            {"precision": precision, "bytes": _by_text(sizes), "moved": 100 * error.relative}
            | loss(dequantise(stored, scales).reshape(exact.shape), recipe.lengths)
        )
    forms = [
        {"form": form.name, "bytes": _by_text(form.bytes)}
        | loss(form.tokens, torch.from_numpy(form.lengths))
        for form in token_forms(exact, recipe.lengths.numpy(), WIDTHS, TOKENS)
    ]
    return {
        "data": Path(bag.name).name, "recipes": len(bag), "photos": len(own),
        "model_id": model.model_id, "rows": rows, "forms": forms,
    }  # fmt: skip


def _by_text(sizes: Mapping[int, float]) -> dict[str, float]:
    """Return bytes by width as JSON has them."""
    return {str(width): size for width, size in sizes.items()}
