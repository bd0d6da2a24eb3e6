"""`hficma bench sureness`: do chances come true, and do the words keep what they promise?

Either over all pairs that a calibrated run learnt from, each scored by a model that had not seen it
and judged by a calibration that was fitted on the other folds:

    hficma bench sureness --run best

or over the test pairs of a dataset, as a bundle's index answers them, with the bundle's own
calibration:

    hficma bench sureness --bundle bundles/best --data recipes.jsonl

For each direction and size of pool it prints the share that is right and three judgements of the
chances told: the expected calibration error in points, over ten bins of as many answers each; the
Brier score, the mean square of chance less truth; and that of telling every answer the share that
is right (base), which knows the model and nothing of the query.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from hficma.artifacts.workspace import Workspace
from hficma.data.dataset import open_dataset, positions
from hficma.data.subset import Subset
from hficma.engine import Engine, build_index
from hficma.engine.bundle.bundle import Bundle
from hficma.engine.index.index_facts import ItemKind
from hficma.errors import ArtifactError, InputError
from hficma.sureness import TEN, ScoreCalibration, SurenessFacts
from hficma.training.sureness.calibrate import read_scores
from hficma.training.sureness.fitting import fit_calibration
from hficma.training.sureness.pools import POOLS, Chances, CrossFitScores, Pools
from hficma.types import AnyFloats, Floats64, Mask

from ..common.arguments import JsonFile
from ..common.report import markdown_table, write_json

BINS = 10
SEED = 77
"""Draws pools that no calibration was fitted on."""
DIRECTIONS = {"image": "photo to recipe", "recipe": "recipe to photo"}
_COLUMNS = (
    "pool", "medR", "first", "error", "Brier (base)", "first ten", "error", "Brier (base)",
    "absence: error", "sure (right)", "without",
)  # fmt: skip
_LEGEND = """\
error: expected calibration error, in points; base: Brier score of telling every answer the share
that is right; sure: answers called so, and how many of them have the right item first; without:
answers called sure where the right item was taken out"""


def main(
    run: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="A calibrated run.", show_default="the newest"),
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="A calibrated bundle instead.")] = None,
    data: Annotated[str | None, typer.Option(help="Its test pairs, for the bundle.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Whether chances come true: calibration errors and Brier scores by size of pool.

    Example: hficma bench sureness --run best
    """
    if (bundle is None) != (data is None):
        raise InputError("a bundle is judged by the test pairs of a dataset: give both, or a run")
    if bundle is not None and data is not None:
        with Bundle.open(bundle) as opened:
            facts = opened.sureness
        if facts is None:
            raise ArtifactError(f"{bundle}: was not calibrated: no answer says how sure it is")
        rows = {role: judge_bundle(bundle, data, role, facts) for role in DIRECTIONS}
    else:
        workspace = Workspace.default()
        scores = read_scores(
            workspace.newest("run") if run is None else workspace.resolve("run", run)
        )
        rows = {
            "image": judge_cross_fit(scores.queries(scores.image)),
            "recipe": judge_cross_fit(scores.queries(scores.recipe)),
        }
    for role, records in rows.items():
        print(f"{DIRECTIONS[role]}, {records[0]['queries']} queries")
        print("\n".join(markdown_table(_COLUMNS, [_cells(record) for record in records])))
        print()
    print(_LEGEND)
    write_json(json_file, {"directions": rows})


def judge_cross_fit(scores: CrossFitScores) -> list[dict[str, Any]]:
    """Return figures by size of pool; each fold is judged by what was fitted on the others."""
    folds = np.unique(scores.folds)
    fitted = {fold: fit_calibration(scores.select(scores.folds != fold)) for fold in folds}
    calibrations = [fitted[fold] for fold in scores.folds]
    return [_figures(pools, calibrations) for pools in _pools(scores)]


def judge_bundle(bundle: Path, data: str, role: str, facts: SurenessFacts) -> list[dict[str, Any]]:
    """Return figures by size of pool of the test pairs of a dataset, as an index answers them.

    Args:
        bundle: indexes the pairs.
        data: names the dataset.
        role: of the queries.
        facts: the bundle's calibration.
    """
    dataset = open_dataset(data)
    rows = positions(dataset, ("test",), with_photo=True)
    if len(rows) < 2 * TEN:
        raise InputError(f"{data}: has {len(rows)} test pairs; chances are judged by many")
    pairs = Subset(dataset, rows)
    of: ItemKind = "recipes" if role == "image" else "images"
    ids = {pairs.recipe(place).id: place for place in range(len(pairs))}
    scores = np.full((len(pairs), len(pairs)), np.nan)
    with tempfile.TemporaryDirectory() as folder:
        index = build_index(bundle, pairs, Path(folder) / "index", of=of)
        with Engine.open(index, bundle=bundle) as engine:
            for place in range(len(pairs)):
                query: dict[str, Any] = (
                    {"image": pairs.photo(place)}
                    if role == "image"
                    else {"recipe": pairs.recipe(place)}
                )
                hits = engine.search(**query, k=len(pairs), candidates=len(pairs)).hits
                for hit in hits:
                    scores[place, ids[hit.id]] = hit.score
    scored = ~np.isnan(scores).all(axis=0)  # items whose photo or recipe can be read
    table = scores[np.ix_(scored, scored)]
    crossfit = CrossFitScores(table, np.arange(len(table)), np.zeros(len(table), np.int64))
    calibration = facts.image if role == "image" else facts.recipe
    return [_figures(pools, [calibration] * len(table)) for pools in _pools(crossfit)]


def calibration_error(chance: AnyFloats, truth: Mask) -> float:
    """Return the expected calibration error over `BINS` bins of equal mass, in points.

    Naeini et al., "Obtaining well calibrated probabilities using Bayesian binning" (AAAI 2015),
    with bins of as many answers each.

    Args:
        chance: (Q,) as told.
        truth: (Q,) what came of it.
    """
    bins = np.array_split(np.argsort(chance, kind="stable"), BINS)
    gaps = [abs(float(chance[one].mean() - truth[one].mean())) for one in bins]
    return 100 * float(np.average(gaps, weights=[len(one) for one in bins]))


def brier(chance: AnyFloats, truth: Mask) -> float:
    """Return the mean square of chances less what came of them (Brier 1950)."""
    return float(((chance - truth) ** 2).mean())


def _pools(scores: CrossFitScores) -> Iterator[Pools]:
    """Yield pools of each size, up to one of all items."""
    largest = scores.scores.shape[1] - 1
    for size in sorted({min(size, largest) for size in POOLS}):
        yield Pools.draw(scores, size, SEED + size)


def _figures(pools: Pools, calibrations: Sequence[ScoreCalibration]) -> dict[str, Any]:
    """Return the figures of pools of one size, each query judged by its own calibration."""
    present, absent = _chances(pools.present, calibrations), _chances(pools.absent, calibrations)
    first, first_ten = pools.ranks == 1, pools.ranks <= TEN
    without = np.concatenate([present.absent, absent.absent])
    removed = np.arange(len(without)) >= len(pools.ranks)
    threshold = np.array([one.sure for one in calibrations])
    sure, sure_without = (one.first_in_all >= threshold for one in (present, absent))
    return {
        "queries": len(pools.ranks),
        "pool": pools.size,
        "median_rank": float(np.median(pools.ranks)),
        "first": _judged(present.first, first),
        "first_ten": _judged(present.first_ten, first_ten),
        "absent": _judged(without, removed),
        "sure": float(sure.mean()),
        "sure_right": float(first[sure].mean()) if sure.any() else None,
        "sure_without": float(sure_without.mean()),
    }


def _judged(chance: Floats64, truth: Mask) -> dict[str, float]:
    """Return how chances compare with what came of them."""
    return {
        "share": float(truth.mean()),
        "error": calibration_error(chance, truth),
        "brier": brier(chance, truth),
        "base": float(truth.var()),
    }


def _chances(scores: AnyFloats, calibrations: Sequence[ScoreCalibration]) -> Chances:
    """Return the chances of rows of scores (Q, N), each by its own calibration."""
    one_by_one = [
        Chances.of(row[None], calibration)
        for row, calibration in zip(scores, calibrations, strict=True)
    ]
    return Chances(*(np.concatenate(column) for column in zip(*one_by_one, strict=True)))


def _cells(record: dict[str, Any]) -> list[str]:
    """Return a row of the table."""
    cells = [f"{record['pool']:,}", f"{record['median_rank']:.1f}"]
    for key in ("first", "first_ten"):
        one = record[key]
        cells += [f"{100 * one['share']:.1f} %", f"{one['error']:.1f}"]
        cells.append(f"{one['brier']:.3f} ({one['base']:.3f})")
    right = record["sure_right"]
    return [
        *cells,
        f"{record['absent']['error']:.1f}",
        f"{100 * record['sure']:.1f} %" + ("" if right is None else f" ({100 * right:.0f} %)"),
        f"{100 * record['sure_without']:.1f} %",
    ]


if __name__ == "__main__":
    typer.run(main)
