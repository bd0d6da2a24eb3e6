"""`hficma bench certificate`: how many candidates prove an answer, and what would make them fewer.

A rank is proved once S beats w_g b + w_l c for the largest g left, b, where c bounds S_local. The
page asks two things of a trained model, over pairs that it has not seen:

* What does a limit on S_local (`model.local_limit`) make of it? The largest S_local of some photos
  and all recipes is taken for c, and tried on other photos: how many of the first ten ranks are
  proved, how many are those of scoring everything without a limit, how often the own recipe is
  there.
* What could a bound be, at best, that is worked out from the weights? S_local is an MLP of two unit
  vectors without negative entries, e_1 and e_2. A bound covers all that are possible for what it
  knows, so it is no less than the MLP's largest value over them. Gradient ascent finds that from
  below: over all vectors, and with e_1 as it is on average for the photo that asks, which is more
  than anything cheap can know.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor

from hficma.artifacts.manifest import read_manifest
from hficma.errors import InputError
from hficma.model import Tokens, load_model
from hficma.model.hf_icma import HFICMA
from hficma.model.numerics import unit_rows
from hficma.model.similarity import FoldedWeights, fused_means, tabulate
from hficma.model.tiling import pair_scores
from hficma.scores import ScoreWeights
from hficma.types import Floats64

from ..common.arguments import JsonFile
from ..common.report import markdown_table, write_json
from ..common.timing import environment
from ..common.workload import bag_of

RANKS = 10
CANDIDATES = (50, 100, 200, 500)
SEED = 1
STARTS = 64
"""Points that gradient ascent begins from; the best of them counts."""
STEPS = 400
PHOTOS_OF_BOUND = 8
"""Photos whose e_1 is held: the ascent takes a second each."""
RECIPES_OF_BOUND = 128
_COLUMNS = ("S_local at most", "candidates", "certified %", "agree %", "R@10 %")
_LEGEND = """\
certified: of the first ten ranks, how many are proved; agree: how many are those of scoring all
recipes without a limit"""


def main(
    run: Annotated[Path, typer.Option(help="A trained run of HF-ICMA, or its bundle.")],
    data: Annotated[
        str | None, typer.Option(help="Pairs.", show_default="like the training data, unseen")
    ] = None,
    recipes: Annotated[int, typer.Option(min=20, help="Recipes that are searched.")] = 1000,
    photos: Annotated[int, typer.Option(min=4, help="Photos: half set the limit.")] = 200,
    json_file: JsonFile = None,
) -> None:
    """Certified share by candidates and by the limit on S_local, and what a bound could be.

    Example: hficma bench certificate --run workspace/runs/mine
    """
    record = measure(run, data, recipes=recipes, photos=photos)
    rows = [
        [
            f"{row['limit']:.3f} ({row['source']})",
            str(row["candidates"]),
            *(f"{row[name]:.1f}" for name in ("certified", "agree", "r10")),
        ]
        for row in record["rows"]
    ]
    print("\n".join(markdown_table(_COLUMNS, rows)))
    print(
        f"\n{_LEGEND}\n{record['photos']} photos, {record['recipes']} recipes of {record['data']}"
    )
    write_json(json_file, record)


def measure(run: Path, data: str | None, *, recipes: int, photos: int) -> dict[str, Any]:
    """Return what `main` prints.

    Args:
        run: of a model with a local part.
        data: a dataset; None takes unseen items like those it was trained on.
        recipes: N that are searched.
        photos: P that ask; the first half sets the limit, the other half is judged by it.

    Raises:
        InputError: the model has no local part, or the data too few items.
    """
    model = load_model(run)
    if not isinstance(model, HFICMA):
        raise InputError(f"{run}: {model.config.kind} has no local part, so nothing bounds it")
    kind = "bundle" if (run / "onnx").exists() else "run"
    facts = read_manifest(run, kind=kind).facts
    bag, _ = bag_of(data, facts.get("dataset"), recipes)
    asked = np.random.default_rng(SEED).permutation(len(bag))[:photos]
    image = model.encode_images([bag.photo(int(i)) for i in asked])
    recipe = model.encode_recipes([bag.recipe(i) for i in range(len(bag))])
    with torch.inference_mode():
        weights = model.fold()
        encoded = model.project_image(image), model.project_recipe(recipe)
        local: Floats64 = pair_scores(*encoded, weights).double().numpy()
    global_: Floats64 = (image.global_.double() @ recipe.global_.double().T).numpy()
    half = len(asked) // 2
    seen, unseen = slice(half), slice(half, None)
    anything, known_photo = _reachable(model, image, recipe)
    limits = {
        "no limit": 1.0,
        "reached by some e_1, e_2": anything,
        "reached by some e_2": known_photo,
        "largest seen": float(local[seen].max()),
        "99.9 % of those seen": float(np.quantile(local[seen], 0.999)),
    }
    rows = []
    for source, limit in limits.items():
        # What a bound could be would change no score: S is limited in the last two alone.
        changes = source in ("largest seen", "99.9 % of those seen")
        rows += [
            {"limit": limit, "source": source, "candidates": count}
            | _judge(
                global_[unseen], local[unseen], asked[unseen], count,
                plain=model.config.score_weights._replace(limit=1.0), bound=limit,
                limit=limit if changes else 1.0,
            )
            for count in CANDIDATES
            if count < len(bag)
        ]  # fmt: skip
    return {
        "environment": environment(), "data": Path(bag.name).name, "recipes": len(bag),
        "photos": len(asked) - half, "model_id": model.model_id, "rows": rows,
    }  # fmt: skip


def _judge(
    global_: Floats64,
    local: Floats64,
    own: np.ndarray,
    count: int,
    *,
    plain: ScoreWeights,
    bound: float,
    limit: float,
) -> dict[str, float]:
    """Return shares, in percent, over P photos whose `count` candidates by g are ranked.

    Args:
        global_: (P, N) S_global.
        local: (P, N) S_local.
        own: (P,) each photo's recipe.
        count: candidates.
        plain: w_g and w_l, without a limit.
        bound: c of the certificate.
        limit: c of S.
    """
    scores = plain._replace(limit=limit).total(global_, local)
    truth = _best(plain.total(global_, local))
    order = np.argsort(-global_, axis=1, kind="stable")
    unscored = np.take_along_axis(global_, order[:, count : count + 1], axis=1)
    candidates = np.full_like(scores, -np.inf)
    np.put_along_axis(
        candidates, order[:, :count], np.take_along_axis(scores, order[:, :count], 1), axis=1
    )
    best = _best(candidates)
    reached = np.take_along_axis(scores, best, axis=1)
    least = plain.total(unscored, np.full_like(unscored, bound))
    agree = [len(set(a) & set(b)) / RANKS for a, b in zip(best, truth, strict=True)]
    return {
        "certified": 100 * float((reached > least).mean()),
        "agree": 100 * float(np.mean(agree)),
        "r10": 100 * float((best == own[:, None]).any(axis=1).mean()),
    }


def _best(scores: Floats64) -> np.ndarray:
    """Return the places of the ten best of each row, best first."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :RANKS]


def _reachable(model: HFICMA, image: Tokens, recipe: Tokens) -> tuple[float, float]:
    """Return the largest S_local found over all e_1 and e_2, and with e_1 as photos have it."""
    weights = FoldedWeights(*(_detached(part) for part in model.fold()))
    few = torch.arange(min(RECIPES_OF_BOUND, len(recipe.lengths)))
    photos = torch.arange(min(PHOTOS_OF_BOUND, len(image.lengths)))
    with torch.no_grad():
        of_photos = tabulate(model.project_image(image.select(photos)), weights.image)
        of_recipes = tabulate(model.project_recipe(recipe.select(few)), weights.recipe)
        means, _ = fused_means(
            of_photos.grouped((1, len(photos))), of_recipes.grouped((1, len(few))), weights
        )
        held = unit_rows(unit_rows(means[0]).mean(dim=1))  # (photos, D): over the recipes
    each = [_ascend(weights, e_1) for e_1 in held]
    return _ascend(weights, None), float(np.mean(each))


def _detached(part: Any) -> Any:
    """Return folded weights without their gradients."""
    if isinstance(part, Tensor):
        return part.detach()
    return type(part)(*(tensor.detach() for tensor in part))


def _ascend(weights: FoldedWeights, e_1: Tensor | None) -> float:
    """Return the largest S_local that gradient ascent finds, from `STARTS` random points.

    Args:
        weights: of the model, without gradients.
        e_1: (D,) held where it is; None lets it move too.
    """
    width = weights.match_hidden.shape[0]
    generator = torch.Generator().manual_seed(SEED)
    points = torch.rand(2, STARTS, width, generator=generator).requires_grad_()
    optimizer = torch.optim.Adam([points], lr=0.05)
    logits = torch.zeros(STARTS)
    for _ in range(STEPS):
        # Means of a ReLU and of tokens, which are none below zero, brought to length 1.
        moving = unit_rows(points.relu() + 1e-9)
        first = moving[0] if e_1 is None else e_1.expand(STARTS, width)
        joined = torch.cat([first, moving[1]], dim=-1)
        hidden = (joined @ weights.match_hidden.T + weights.match_hidden_bias).relu()
        logits = hidden @ weights.match_output[0] + weights.match_output_bias
        optimizer.zero_grad()
        torch.neg(logits.sum()).backward()
        optimizer.step()
    return float(logits.detach().max().sigmoid())
