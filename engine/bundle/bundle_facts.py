"""What a bundle's manifest must say before anything is computed with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hficma.artifacts.json_fields import LARGEST_SIZE, Fields
from hficma.artifacts.manifest import MANIFEST
from hficma.errors import ArtifactError

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
_MODEL_ID = re.compile("[0-9a-f]{64}")
_PROJECTIONS = ("query", "key", "value", "gate", "fuse")
Ports = dict[str, tuple[str, tuple[int | str, ...]]]
"""Type and shape by name; dynamic sizes by letter."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What the ports of a model's graphs follow from."""

    width: int
    """D, of tokens."""
    heads: int
    """H, divides the width."""
    regions: int
    """R of a photo."""
    global_dim: int
    """D_g, of global vectors."""
    sentence_dim: int
    """D_s, of a sentence vector."""
    has_local: bool
    """Whether there is a cross-attention."""
    reads_lengths: bool
    """Whether the sentence encoder does; a mean does not."""


def check_bundle_facts(path: Path, facts: Mapping[str, Any]) -> None:
    """Refuse facts that are not a bundle's.

    Certificates need weights of S that are finite and not negative; sizes decide how memory is
    read; every graph has the ports that a model of these sizes has, so that whoever feeds one
    need not look.

    Args:
        path: of the bundle, for messages.
        facts: of its manifest.

    Raises:
        ArtifactError: something is missing, of another type or out of its range.
    """
    try:
        record = Fields(dict(facts), "facts")
        # It names a folder of the cache.
        if not _MODEL_ID.fullmatch(record.text("model_id")):
            raise ValueError("facts.model_id is no SHA-256")
        model = record.object("model")
        kind = model.text("kind", ("hf-icma", "adamine"))
        sizes = Sizes(
            width=record.integer("width", 1, LARGEST_SIZE),
            heads=record.integer("heads", 1, LARGEST_SIZE),
            regions=record.integer("regions", 1, LARGEST_SIZE),
            global_dim=record.integer("global_dim", 1, LARGEST_SIZE),
            sentence_dim=record.integer("sentence_dim", 1, LARGEST_SIZE),
            has_local=record.flag("has_local"),
            reads_lengths=model.text("sentence", ("mean", "gru")) == "gru",
        )
        if sizes.has_local != (kind == "hf-icma"):
            raise ValueError(f"facts.has_local is {sizes.has_local}, the model is {kind}")
        if sizes.width % sizes.heads:
            raise ValueError(f"facts.width {sizes.width} is not divisible by {sizes.heads} heads")
        _check_model(model)
        expected = graph_ports(sizes)
        graphs = record.object("graphs", expected)
        for name, (inputs, outputs) in expected.items():
            graph = graphs.object(name, ("inputs", "outputs", "precisions"))
            _check_ports(graph.object("inputs"), inputs, name)
            _check_ports(graph.object("outputs"), outputs, name)
            _check_files(graph.object("precisions", PRECISIONS), name)
    except ValueError as error:
        raise ArtifactError(f"{path}: its {MANIFEST} is damaged ({error})") from error


def graph_ports(sizes: Sizes) -> dict[str, tuple[Ports, Ports]]:
    """Return what the graphs of a model read and give, by name.

    The letters: B photos, M recipes, T ingredients, S sentences of W words, N sentences of a
    recipe, G groups.

    Args:
        sizes: of the model.
    """
    d, h, r = sizes.width, sizes.heads, sizes.regions
    graphs: dict[str, tuple[Ports, Ports]] = {
        "image": (
            {"photos": ("uint8", ("B", 224, 224, 3))},
            _floats({"global": ("B", sizes.global_dim)}),
        ),
        "sentence": (
            {"word_ids": ("int64", ("S", "W"))},
            _floats({"vectors": ("S", sizes.sentence_dim)}),
        ),
        "recipe": (
            {
                "ingredients": ("int64", ("M", "T")),
                "ingredient_counts": ("int64", ("M",)),
                "sentences": ("float32", ("M", "N", sizes.sentence_dim)),
                "sentence_counts": ("int64", ("M",)),
            },
            _floats({"global": ("M", sizes.global_dim)}),
        ),
    }
    if sizes.reads_lengths:
        graphs["sentence"][0]["lengths"] = ("int64", ("S",))
    if not sizes.has_local:
        return graphs
    both: tuple[tuple[str, str, int | str], ...] = (("image", "B", r), ("recipe", "M", "T"))
    for side, count, tokens in both:
        graphs[side][1]["tokens"] = ("float32", (count, tokens, d))
        inputs: Ports = {"tokens": ("float32", (count, tokens, d))}
        if side == "recipe":
            inputs["lengths"] = ("int64", (count,))
        graphs[f"project_{side}"] = (inputs, _floats(_projections(count, tokens, d)))
        graphs[f"tabulate_{side}"] = (
            _floats({"value": (count, tokens, d)}),
            _floats({"table": (count, h, tokens, d)}),
        )
    for name, tabulated in (
        ("cross_tables", ("image", "recipe")),
        ("cross_recipe_projections", ("image",)),
        ("cross_image_projections", ("recipe",)),
    ):
        inputs = {"recipe_lengths": ("int64", ("G", "M"))}
        for side, count, tokens in both:
            arrays = _projections(count, tokens, d) | {"global": (count, sizes.global_dim)}
            if side in tabulated:
                arrays["table"] = (count, h, tokens, d)
            inputs |= _floats({f"{side}_{port}": ("G", *shape) for port, shape in arrays.items()})
        graphs[name] = (
            inputs,
            _floats(dict.fromkeys(("score", "global", "local"), ("G", "B", "M"))),
        )
    return graphs


def _projections(count: str, tokens: int | str, width: int) -> dict[str, tuple[int | str, ...]]:
    shapes: dict[str, tuple[int | str, ...]] = dict.fromkeys(_PROJECTIONS, (count, tokens, width))
    return shapes | {"gate_bias": (count, tokens), "mean": (count, width)}


def _floats(shapes: Mapping[str, tuple[int | str, ...]]) -> Ports:
    return {name: ("float32", shape) for name, shape in shapes.items()}


def _check_model(model: Fields) -> None:
    if model.number("global_weight") == 0:
        raise ValueError("model.global_weight is 0: S would not know S_global")
    model.number("local_weight")
    model.text("global_similarity", ("dot", "cosine"))
    text = model.object("text")
    for name in ("max_ingredients", "max_sentences", "max_words"):
        text.integer(name, 1, LARGEST_SIZE)


def _check_ports(ports: Fields, expected: Ports, graph: str) -> None:
    if set(ports) != expected.keys():
        raise ValueError(f"graphs.{graph} reads or gives other arrays than its model")
    for name, (dtype, shape) in expected.items():
        port = ports.object(name, ("dtype", "shape"))
        port.text("dtype", (dtype,))
        given = port.sequence("shape")
        # A flag equals 1, and 1.0 does too.
        if given != list(shape) or any(type(size) not in (int, str) for size in given):
            raise ValueError(f"graphs.{graph}.{name} has the shape {str(given)[:80]}")


def _check_files(precisions: Fields, graph: str) -> None:
    if "fp32" not in precisions:
        raise ValueError(f"graphs.{graph} has no fp32")
    for name in precisions:
        if precisions.text(name) != f"onnx/{graph}.{name}.onnx":
            raise ValueError(f"graphs.{graph}.precisions.{name} names another file")
