"""Runs the graphs of a bundle one after the other, each fed by those before it.

From photos and ids to scores, as a search goes, but that everything is in one batch and every array
stays: that is how a bundle's reference is written, and how the whole way through a bundle is held
to it. Arrays are named as `array_name` names them, `image_tokens` or `recipe_query`.
"""

from __future__ import annotations

import numpy as np

from hficma.engine.bundle.bundle import Bundle
from hficma.engine.runtimes import Arrays
from hficma.engine.runtimes.reference import array_name, arrays_of
from hficma.types import Array, Floats, Positions

ITEM_ARRAYS = (
    "photos",
    "word_ids",
    "sentence_lengths",
    "sentence_rows",
    "ingredients",
    "ingredient_counts",
    "recipe_lengths",
    "sentence_counts",
    "title_counts",
    "text_word_ids",
    "text_lengths",
    "text_rows",
    "text_fields",
)
"""Arrays that describe the items themselves: no graph's output."""


def run_bundle(bundle: Bundle, items: Arrays) -> dict[str, Array]:
    """Run every graph of a bundle on B photos and M recipes.

    Args:
        bundle: whose graphs run.
        items: the arrays of `ITEM_ARRAYS`.

    Returns:
        the items and every output of a graph; `global` and `local` (B, M) are the scores.
    """
    arrays = dict(items)
    for name in bundle.facts.graphs:
        if name == "recipe":
            arrays |= batch_vectors(arrays)
        outputs = bundle.run(name, arrays_of(name, bundle.graph(name).inputs, arrays))
        for port, array in outputs.items():
            # Cross graphs have an axis of groups, of which there is one here.
            arrays[array_name(name, port)] = array[0] if name.startswith("cross") else array
    if not bundle.has_local:
        arrays["global"] = arrays["image_global"] @ arrays["recipe_global"].T
    return arrays


def batch_vectors(arrays: Arrays) -> dict[str, Array]:
    """Return the sentences and texts of each recipe, those that the model reads.

    Args:
        arrays: what the graphs `sentence` and `text` gave, and the rows of the items.
    """
    names = (("sentences", "sentence"), ("texts", "text"))
    return {
        name: batch_sentences(arrays[f"{graph}_vectors"], arrays[f"{graph}_rows"])
        for name, graph in names
        if f"{graph}_vectors" in arrays
    }


def batch_sentences(vectors: Floats, rows: Positions) -> Floats:
    """Look up the sentences of each recipe, as the graph `recipe` reads them.

    Args:
        vectors: (number of distinct sentences, D_s).
        rows: (M, S), positions in `vectors`; -1 is padding.

    Returns:
        (M, S, D_s), padded with zeros.
    """
    # -1 is the last row, which is made the padding's.
    with_padding = np.concatenate([vectors, np.zeros_like(vectors[:1])])
    sentences: Floats = with_padding[rows]
    return sentences
