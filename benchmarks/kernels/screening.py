"""`hficma bench screening`: how far scores in 16 bits are from float32, over pairs of many kinds.

A GPU screens candidates in 16 bits, and scores again in float32 what may be an answer
(`hficma.engine.retrieval.screening`). How much that is hangs on the largest difference between the
two. It is measured here over real pairs of a run, every photo with every recipe, and over pairs
that are made to be hard: sharp attention, tokens that are equal, opposite or alone. Needs no GPU:
plain torch rounds where the kernels do.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hficma.artifacts.workspace import Workspace

from ..common.arguments import JsonFile
from ..common.report import markdown_table, print_markdown, write_json
from ..common.timing import environment

if TYPE_CHECKING:
    from torch import Tensor

    from hficma.model.similarity import FoldedWeights

WIDTH, HEADS, REGIONS = 1024, 8, 49
"""The published sizes."""
KINDS = (
    ("random", 1.0), ("random", 10.0), ("opposite", 1.0), ("opposite", 10.0), ("equal", 1.0),
    ("alone", 1.0),
)  # fmt: skip
"""Tokens of pairs that are made, and the scale of their attention's logits."""
PHOTOS, RECIPES = 32, 32
"""Items of a kind that is made."""


def adversarial_pairs(sharpness: float, kind: str, seed: int) -> tuple[Tensor, Tensor]:
    """Score pairs of a random model of the published size in 16 bits and in float32.

    Args:
        sharpness: scale of the attention's logits.
        kind: of tokens: `random`, `equal`, `opposite` (each beside its negative, so that means
            vanish), or `alone` (one each).
        seed: of everything random.

    Returns:
        S_local in 16 bits and in float32, each (B, M).
    """
    import torch

    from hficma.engine.gpu.kernels.packed_items import pack_items
    from hficma.engine.gpu.kernels.pair_scores import kernel_weights, score_groups
    from hficma.model.similarity import project, tabulate

    random = torch.Generator().manual_seed(seed)
    weights = _random_weights(sharpness, random)
    sides = []
    for item_weights, count, longest in (
        (weights.image, PHOTOS, REGIONS), (weights.recipe, RECIPES, 20),
    ):  # fmt: skip
        tokens, lengths = _tokens(kind, count, longest, random)
        encodings = tabulate(project(tokens, lengths, item_weights), item_weights)
        sides.append(encodings)
    photos, recipes = torch.arange(PHOTOS)[None], torch.arange(RECIPES)[None]
    scores = []
    for dtype in (torch.float16, torch.float32):
        image, recipe = (pack_items(side, dtype, heads=HEADS, uniform=False) for side in sides)
        block = score_groups(image, recipe, photos, recipes, kernel_weights(weights, dtype))
        scores.append(block[0])
    return scores[0], scores[1]


def _tokens(kind: str, count: int, longest: int, random: Any) -> tuple[Tensor, Tensor]:
    """Draw unit rows (N, L, D), zero where an item is shorter, and lengths (N,)."""
    import torch

    from hficma.model.numerics import unit_rows

    lengths = torch.randint(1, longest + 1, (count,), generator=random)
    tokens = unit_rows(torch.randn(count, longest, WIDTH, generator=random))
    if kind == "equal":
        tokens = tokens[:, :1].expand_as(tokens).clone()
    elif kind == "opposite":
        lengths = (lengths // 2 * 2).clamp(min=2)
        tokens[:, 1::2] = -tokens[:, : longest // 2 * 2 : 2]
    elif kind == "alone":
        lengths = torch.ones_like(lengths)
    valid = torch.arange(longest) < lengths[:, None]
    return tokens * valid[..., None], lengths


def _random_weights(sharpness: float, random: Any) -> FoldedWeights:
    """Draw weights whose attention logits are about as large as `sharpness`."""
    import torch

    from hficma.model.similarity import FoldedItemWeights, FoldedWeights

    head = WIDTH // HEADS

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(*shape, generator=random) * scale

    def item() -> FoldedItemWeights:
        # Of unit rows a head's logits are then about `sharpness`, half of it by query and by key.
        projection = normal(5 * WIDTH, WIDTH)
        projection[: 2 * WIDTH] *= sharpness**0.5
        return FoldedItemWeights(
            projection=projection,
            projection_bias=normal(5 * WIDTH, scale=0.1),
            gate_bias=normal(WIDTH),
            table=normal(HEADS, head, WIDTH, scale=WIDTH**-0.5),
            fuse_bias=normal(WIDTH, scale=0.1),
        )

    return FoldedWeights(
        image=item(),
        recipe=item(),
        match_hidden=normal(WIDTH, 2 * WIDTH),
        match_hidden_bias=normal(WIDTH, scale=0.1),
        match_output=normal(1, WIDTH, scale=4 * WIDTH**-0.5),
        match_output_bias=normal(1),
    )


def real_pairs(run: Path, data: str | None, most: int) -> tuple[Tensor, Tensor]:
    """Score every photo of a run's dataset with every recipe, in 16 bits and in float32.

    Args:
        run: of a model with a local part.
        data: a dataset; None takes the run's own.
        most: pairs of the dataset to read.

    Returns:
        S_local in 16 bits and in float32, each (N, N).
    """
    import torch

    from hficma.data.dataset import positions
    from hficma.engine.gpu.exhaustive import kernel_block_scores
    from hficma.model import load_model
    from hficma.progress import Progress
    from hficma.training.encoding import encode_positions
    from hficma.training.evaluation import dataset_of
    from hficma.training.runs.run import RunDirectory
    from hficma.training.scoring import block_scores, score_tables

    progress = Progress()
    dataset = dataset_of(RunDirectory.open(run), data, progress)
    model = load_model(run)
    rows = positions(dataset, ("train", "val", "test"), with_photo=True)[:most]
    encoded = encode_positions(model, dataset, rows, progress)
    tables = [
        score_tables(model, encoded.image, encoded.recipe, scorer=scorer).local
        for scorer in (kernel_block_scores, block_scores)
    ]
    assert tables[0] is not None
    assert tables[1] is not None
    return torch.from_numpy(tables[0]), torch.from_numpy(tables[1])


def difference(name: str, screened: Tensor, exact: Tensor) -> dict[str, Any]:
    """Return how far scores in 16 bits are from float32.

    Args:
        name: of the pairs.
        screened: S_local in 16 bits.
        exact: of the same pairs in float32.
    """
    error = (screened.double() - exact.double()).abs().flatten()
    return {
        "pairs": name,
        "count": error.numel(),
        "from": float(exact.min()),
        "to": float(exact.max()),
        "mean": float(error.mean()),
        "largest": float(error.max()),
    }


def measure(run: Path | None, data: str | None, most: int) -> list[dict[str, Any]]:
    """Measure all kinds of pairs.

    Args:
        run: whose pairs are the real ones; None leaves them out.
        data: a dataset; None takes the run's own.
        most: real pairs to read, of which every photo meets every recipe.
    """
    rows = [
        difference(
            f"{kind} tokens, logits x {sharpness:g}", *adversarial_pairs(sharpness, kind, seed)
        )
        for seed, (kind, sharpness) in enumerate(KINDS)
    ]
    if run is not None:
        rows.append(difference("of a run", *real_pairs(run, data, most)))
    return rows


def main(
    run: Annotated[str | None, typer.Option(help="A run, whose pairs are the real ones.")] = None,
    data: Annotated[str | None, typer.Option(help="Pairs.", show_default="the run's")] = None,
    most: Annotated[int, typer.Option(help="Pairs of a photo and its recipe to read.")] = 300,
    json_file: JsonFile = None,
) -> None:
    """How far a GPU's scores in 16 bits are from float32; needs no GPU.

    Example: hficma bench screening --run real
    """
    path = None if run is None else Workspace.default().resolve("run", run)
    rows = measure(path, data, most)
    print_markdown(
        "\n".join(
            markdown_table(
                ("pairs", "number", "S_local from", "to", "mean difference", "largest"),
                [
                    (
                        row["pairs"], f"{row['count']:,}", f"{row['from']:.3f}",
                        f"{row['to']:.3f}", f"{row['mean']:.1e}", f"{row['largest']:.1e}",
                    )
                    for row in rows
                ],
            )
        )
    )  # fmt: skip
    write_json(json_file, {"environment": environment(), "rows": rows})


if __name__ == "__main__":
    typer.run(main)
