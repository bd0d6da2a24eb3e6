"""The README of a bundle: what is in it, what the graphs read and give, how equal they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hficma.engine.reference import Difference

from .parity import RankChange

_LETTERS = {
    "B": "photos",
    "M": "recipes",
    "T": "ingredients",
    "S": "sentences in a batch",
    "W": "words of a sentence",
    "N": "sentences of a recipe",
    "G": "groups, each B x M pairs",
}


def write_card(
    directory: Path,
    facts: dict[str, Any],
    found: Sequence[Difference],
    changes: Sequence[RankChange],
) -> None:
    """Write README.md into a bundle.

    Args:
        directory: of the bundle, all other files written.
        facts: of its manifest.
        found: differences from the torch model.
        changes: what each precision does to ranks; empty where none was measured.
    """
    lines = [*_opening(facts), *_graphs(directory, facts), *_parity(found, changes)]
    (directory / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _opening(facts: dict[str, Any]) -> Iterator[str]:
    model = facts["model"]
    origin = f"run `{facts['run']}`" if facts["run"] else "weights that no run trained"
    yield f"# {model['kind']}, width {facts['width']}, from {origin}"
    yield ""
    yield f"Model `{facts['model_id']}`, ONNX opset {facts['opset']}."
    if model["kind"] == "hf-icma":
        yield (
            f"S = {model['global_weight']} S_global + {model['local_weight']} S_local; "
            f"S_global is the inner product of two global vectors of {facts['global_dim']}."
        )
    yield ""
    yield (
        "Photos: RGB, shorter side 256 (bilinear, antialiased), centre crop 224, uint8; "
        "normalisation is in the graph. Recipes: `vocabulary.json`, word i has id i + 2."
    )
    yield ""


def _graphs(directory: Path, facts: dict[str, Any]) -> Iterator[str]:
    yield "## Graphs"
    yield ""
    used = {
        size
        for graph in facts["graphs"].values()
        for port in graph["inputs"].values()
        for size in port["shape"]
        if isinstance(size, str)
    }
    yield "Dynamic sizes: " + ", ".join(f"{k} {v}" for k, v in _LETTERS.items() if k in used) + "."
    yield ""
    yield from _table(
        ("graph", "reads", "gives", "files"),
        (
            (
                f"`{name}`",
                _ports(graph["inputs"]),
                _ports(graph["outputs"]),
                "<br>".join(
                    f"`{file}` {(directory / file).stat().st_size / 1e6:.1f} MB"
                    for file in graph["precisions"].values()
                ),
            )
            for name, graph in facts["graphs"].items()
        ),
    )
    wide = facts.get("int8_kept_wide")
    if wide is not None:
        yield f"int8: `image` only; layers kept in fp32: {', '.join(wide) or 'none'}."
        yield ""


def _parity(found: Sequence[Difference], changes: Sequence[RankChange]) -> Iterator[str]:
    yield "## Against the torch model in float32"
    yield ""
    yield (
        "Largest difference of scores on the items in `reference.npz`, S_local as it is, S_global "
        "relative to its spread; every graph's own figures are in `parity.json`."
    )
    yield ""
    yield from _table(
        ("runtime", "precision", "score", "max", "mean", "cosine"),
        (
            (one.runtime, one.precision, f"S_{one.output}", f"{one.error:.1e}",
             f"{one.mean:.1e}", f"{one.cosine:.6f}")
            for one in found
            if one.graph == "scores"
        ),
    )  # fmt: skip
    if changes:
        yield from _table(
            ("runtime", "precision", "queries", "top 10 kept", "R@1", "R@10", "torch R@10"),
            (
                (one.runtime, one.precision, str(one.queries), f"{100 * one.overlap:.2f} %",
                 f"{one.recall[1]:.1f}", f"{one.recall[10]:.1f}",
                 f"{one.reference_recall[10]:.1f}")
                for one in changes
            ),
        )  # fmt: skip


def _ports(ports: dict[str, Any]) -> str:
    return "<br>".join(
        f"{name} {port['dtype']} ({', '.join(map(str, port['shape']))})"
        for name, port in ports.items()
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "| " + " | ".join("---" for _ in head) + " |"
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""
