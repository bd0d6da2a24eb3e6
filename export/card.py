"""The README of a bundle: what is in it, what the graphs read and give, how equal they are.

It goes where the bundle goes, so it names no path. Recall is that of test pairs alone, which
training never saw, with its interval, or it is left out and the card says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from hficma.engine.bundle.bundle_facts import BundleFacts
from hficma.engine.runtimes.reference import Difference
from hficma.images import ImageInput
from hficma.metrics import figure_text, recall_interval
from hficma.types import ArraySpecs

from .rank_changes import RankChange

CARD = "README.md"
"""The card's name in a bundle."""
_AXES = {
    "B": "photos",
    "M": "recipes",
    "T": "ingredients",
    "S": "sentences in a batch",
    "W": "words of a sentence",
    "N": "sentences of a recipe",
    "P": "texts of a recipe",
    "G": "groups, each B x M pairs",
}
"""Dynamic axes of the graphs, as their files name them."""
_MOST_NAMES = 30
"""Layers that are named; of a network that computes in float32 there are seventy."""


def write_card(
    directory: Path,
    facts: BundleFacts,
    differences: Sequence[Difference],
    changes: Sequence[RankChange],
) -> None:
    """Write README.md into a bundle.

    Args:
        directory: of the bundle, all other files written.
        facts: of its manifest.
        differences: of every graph and precision from the torch model.
        changes: what each precision does to ranks; empty where none was measured.
    """
    lines = [*_opening(facts), *_graphs(directory, facts), *_parity(facts, differences, changes)]
    (directory / CARD).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _opening(facts: BundleFacts) -> Iterator[str]:
    """Yield the lines that say what the bundle is."""
    model = facts.model
    origin = f"run `{facts.run}`" if facts.run else "weights that no run trained"
    yield f"# {model.kind}, width {facts.width}, from {origin}"
    yield ""
    yield f"Model `{facts.model_id}`, ONNX opset {facts.opset}."
    if model.kind == "hf-icma":
        yield (
            f"S = {model.score_weights}; "
            f"S_global is the inner product of two global vectors of {facts.global_dim}."
        )
    yield ""
    if facts.slim:
        yield (
            "A slim bundle: what a search runs, one precision a graph. Torch weights (the runtime "
            "torch, training further) and the reference are in the bundle that it was made from."
        )
        yield ""
    yield (
        f"Photos: RGB, {_scaled(model.image_input)}, uint8; "
        "normalisation is in the graph. Recipes: `vocabulary.json`, word i has id i + 2."
    )
    yield ""


def _scaled(image_input: ImageInput) -> str:
    """Return in words how a photo is brought to the pixels that are read."""
    how, size = f"({image_input.interpolation}, antialiased)", image_input.size
    if image_input.resize == "shorter":
        return f"shorter side {image_input.short_side} {how}, centre crop {size}"
    whole = f"squashed to {image_input.short_side} x {image_input.short_side} {how}"
    return whole if size == image_input.short_side else f"{whole}, centre crop {size}"


def _graphs(directory: Path, facts: BundleFacts) -> Iterator[str]:
    """Yield the table of graphs."""
    yield "## Graphs"
    yield ""
    axes = {
        size
        for graph in facts.graphs.values()
        for port in graph.inputs.values()
        for size in port.shape
        if isinstance(size, str)
    }
    yield "Dynamic sizes: " + ", ".join(f"{k} {v}" for k, v in _AXES.items() if k in axes) + "."
    yield ""
    yield from _table(
        ("graph", "reads", "gives", "files"),
        (
            (
                f"`{name}`",
                _ports(graph.inputs),
                _ports(graph.outputs),
                "<br>".join(
                    f"`{file}` {(directory / file).stat().st_size / 1e6:.1f} MB"
                    for file in graph.files.values()
                ),
            )
            for name, graph in facts.graphs.items()
        ),
    )
    wide = facts.int8_kept_wide
    if wide is not None:
        layers = ", ".join(wide) if len(wide) <= _MOST_NAMES else f"{len(wide)} of them"
        yield (
            "int8: encoders of photos and texts compute in it, but for layers kept in fp32: "
            f"{layers or 'none'}; their filters are stored in fp16. Other graphs store tables and "
            "layers in int8."
        )
        yield ""


def _parity(
    facts: BundleFacts, differences: Sequence[Difference], changes: Sequence[RankChange]
) -> Iterator[str]:
    """Yield the tables of differences and of answers."""
    yield "## Against the torch model in float32"
    yield ""
    where = (
        "`reference.npz` of the whole bundle, before this was made,"
        if facts.slim
        else ("`reference.npz`,")
    )
    yield (
        f"Largest difference of scores on the items in {where} S_local as it is, S_global "
        "relative to its spread; every graph's own figures are in `parity.json`."
    )
    yield ""
    yield from _table(
        ("runtime", "precision", "score", "max", "mean", "cosine"),
        (
            (one.runtime, one.precision, f"S_{one.output}", f"{one.error:.1e}",
             f"{one.mean:.1e}", f"{one.cosine:.6f}")
            for one in differences
            if one.graph == "scores"
        ),
    )  # fmt: skip
    if not changes:
        return
    first = changes[0]
    # Only test pairs of the dataset that the model was trained on are known to be new to it.
    with_recall = first.tests > 0 and facts.dataset == facts.trained_on
    yield _queries(facts, first, with_recall=with_recall)
    yield ""
    head = ("runtime", "precision", "queries", "top 10 kept")
    yield from _table(
        (*head, "R@1", "R@10", "torch R@10") if with_recall else head,
        (
            (
                one.runtime,
                one.precision,
                str(one.queries),
                f"{100 * one.overlap:.2f} %",
                *(_recalls(one) if with_recall else ()),
            )
            for one in changes
        ),
    )


def _queries(facts: BundleFacts, change: RankChange, *, with_recall: bool) -> str:
    """Return what was searched for, and what may be said of it."""
    assert facts.dataset is not None  # without one no ranks are compared
    name = Path(facts.dataset).name
    search = f"{change.queries} photos of `{name}` look for their recipes among as many."
    if with_recall:
        return (
            f"{search} R@1 and R@10 are of the n = {change.tests} test pairs alone, which training "
            "never saw; in brackets their 95 % intervals over queries."
        )
    if facts.trained_on is None or facts.dataset != facts.trained_on:
        return (
            f"{search} Whether training saw these pairs is not known here, so their recall is left "
            "out: it could be that of pairs known by heart."
        )
    return (
        f"{search} The model was trained on these pairs, or chosen by them: there are no test "
        "pairs, so no recall is given."
    )


def _recalls(change: RankChange) -> tuple[str, str, str]:
    """Return R@1 and R@10 of the test pairs, and the torch model's R@10, with their intervals."""
    recall, reference = change.test_recall, change.test_reference_recall
    assert recall is not None
    assert reference is not None
    first, tenth, torch = (
        figure_text(value, recall_interval(value, change.tests))
        for value in (recall[1], recall[10], reference[10])
    )
    return first, tenth, torch


def _ports(ports: ArraySpecs) -> str:
    """Return inputs or outputs as a cell of a table."""
    return "<br>".join(
        f"{name} {port.dtype} ({', '.join(map(str, port.shape))})" for name, port in ports.items()
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table in Markdown."""
    yield "| " + " | ".join(head) + " |"
    yield "| " + " | ".join("---" for _ in head) + " |"
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""
