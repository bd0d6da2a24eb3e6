"""What a bundle's manifest must say before anything is computed with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hficma.artifact import MANIFEST
from hficma.errors import ArtifactError
from hficma.json_fields import Fields

LARGEST = 1 << 20
"""No width, number of heads or tokens is above this."""


def check_bundle_facts(path: Path, facts: Mapping[str, Any]) -> None:
    """Refuse facts that are not a bundle's.

    Certificates need weights of S that are finite and not negative; sizes decide how memory is
    read.

    Args:
        path: of the bundle, for messages.
        facts: of its manifest.

    Raises:
        ArtifactError: something is missing, of another type or out of its range.
    """
    try:
        record = Fields(dict(facts), "facts")
        record.text("model_id")
        has_local = record.flag("has_local")
        for name in ("global_dim", "width", "heads", "regions"):
            record.integer(name, 1, LARGEST)
        _check_model(record.object("model"), has_local)
        graphs = record.object("graphs")
        for name in graphs:
            _check_graph(graphs.object(name))
    except ValueError as error:
        raise ArtifactError(f"{path}: its {MANIFEST} is damaged ({error})") from error


def _check_model(model: Fields, has_local: bool) -> None:
    model.text("kind", ("hf-icma", "adamine"))
    if model.number("global_weight") == 0:
        raise ValueError("model.global_weight is 0: S would not know S_global")
    if has_local:
        model.number("local_weight")
    text = model.object("text")
    for name in ("max_ingredients", "max_sentences", "max_words"):
        text.integer(name, 1, LARGEST)


def _check_graph(graph: Fields) -> None:
    for side in ("inputs", "outputs"):
        ports = graph.object(side)
        for name in ports:
            port = ports.object(name)
            port.text("dtype")
            if not all(
                isinstance(size, str) or (type(size) is int and 0 < size <= LARGEST)
                for size in port.sequence("shape")
            ):
                raise ValueError(f"graphs: {name} has no shape")
    precisions = graph.object("precisions")
    for name in precisions:
        precisions.text(name)
