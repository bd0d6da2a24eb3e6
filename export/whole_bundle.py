"""Runs a whole bundle on the reference's items, graph after graph, and compares what comes out."""

from __future__ import annotations

import numpy as np

from hficma.engine.bundle.bundle import Bundle
from hficma.engine.runtimes import Arrays
from hficma.engine.runtimes.reference import (
    Difference,
    array_name,
    arrays_of,
    difference,
    graph_differences,
)
from hficma.types import Array

GIVEN = (
    "photos",
    "word_ids",
    "sentence_lengths",
    "sentence_rows",
    "ingredients",
    "ingredient_counts",
    "recipe_lengths",
    "sentence_counts",
)
"""Arrays of a reference that are no graph's output."""


def bundle_differences(bundle: Bundle, reference: Arrays) -> list[Difference]:
    """Every graph of a bundle on the reference's inputs, and the whole way through them."""
    found: list[Difference] = []
    for name in bundle.facts.graphs:
        found += graph_differences(bundle.graph(name), bundle.runtime(name), reference)
    runtime = found[0].runtime
    through = run_through(bundle, {name: reference[name] for name in GIVEN})
    for output in ("global", "local"):
        if output in reference:
            precision = bundle.execution.precision
            found.append(
                difference(through[output], reference[output], "scores", output, precision, runtime)
            )
    return found


def run_through(bundle: Bundle, items: Arrays) -> dict[str, Array]:
    """Run every graph of a bundle, each fed by those before it.

    Args:
        bundle: whose graphs run.
        items: `photos`, ids and lengths by `array_name`; `sentence_rows` (M, N) says which
            sentence stands where, -1 for padding.

    Returns:
        the items and every array made on the way; `global` and `local` (B, M) are the scores.
    """
    have = dict(items)
    for name in bundle.facts.graphs:
        if name == "recipe":
            have["sentences"] = placed_sentences(have["sentence_vectors"], have["sentence_rows"])
        given = bundle.run(name, arrays_of(name, bundle.graph(name).inputs, have))
        for port, array in given.items():
            have[array_name(name, port)] = array[0] if name.startswith("cross") else array
    if not bundle.has_local:
        have["global"] = have["image_global"] @ have["recipe_global"].T
    return have


def placed_sentences(vectors: Array, rows: Array) -> Array:
    """Sentence vectors (S, D_s) at rows (M, N) -> (M, N, D_s); row -1 is padding, zero."""
    padded = np.concatenate([vectors, np.zeros_like(vectors[:1])])
    placed: Array = padded[rows]
    return placed
