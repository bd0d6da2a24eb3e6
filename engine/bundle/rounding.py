r"""How far 16-bit products may move S_local of a model: a scale that its weights give.

*What moves.* A number rounded to a precision is wrong by at most u of itself, 2^-11 in float16 and
2^-8 in bfloat16. In the matching MLP, logit = o · ReLU(W x + b) + b_o with unit vectors in both
halves of x, so rounding W alone moves a logit by Σ_j o_j Σ_i w_ji x_i δ_ji, |δ_ji| <= u. Those δ
are as good as independent, and x_i² is 1/D on average, which makes a standard deviation of about
u |diag(o) W| / √D (Frobenius); S_local moves by a quarter of it at most. What was rounded before
the MLP reaches it through the same weights. There a softmax turns the error u q·k of a logit q·k
into a relative one of its share, so that the more an attention's logits are, the more they tell:
by about a, the root mean square of q·k / √(D/H) over random unit tokens, of the head that has most.

    scale = (1 + a) |diag(o) W| / √D          a = max over heads of |W_q,h W_k,hᵀ| / (D √(D/H))

*What it is good for.* It is a scale and no bound: a bound of every rounding in its worst case would
be thousands of times what is seen. But differences of models of any size, width and sharpness,
divided by u times it, are alike, so what `hficma bench screening` measures over many of them holds
for one that it did not see: `hficma.engine.retrieval.screening` does so.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hficma.types import Floats

from ..runtimes.native_backend import graph_constants
from .bundle import Bundle


class RoundedWeights(NamedTuple):
    """The weights of a model that tell how far 16 bits move its scores."""

    heads: int
    """H."""
    image_projection: Floats
    """(D, 5 D): a photo's tokens times it are its query, key and three more rows."""
    recipe_projection: Floats
    """(D, 5 D)."""
    match_hidden: Floats
    """W (2 D, D), the axis that is summed first."""
    match_output: Floats
    """o (D,)."""


def bundle_rounding_scale(bundle: Bundle) -> float:
    """Return the scale of a bundle's model, from the weights of its graphs in fp32.

    Args:
        bundle: of a model with a local part.

    Raises:
        ArtifactError: a graph is missing or damaged.
    """
    projections = []
    for role in ("image", "recipe"):
        products, _ = graph_constants(bundle.graph(f"project_{role}", "fp32"), "MatMul", "Add")
        projections.append(products[0])
    products, _ = graph_constants(bundle.graph("cross_tables", "fp32"), "MatMul", "Add")
    hidden, output = products[-2:]
    image, recipe = projections
    return rounding_scale(RoundedWeights(bundle.facts.heads, image, recipe, hidden, output[:, 0]))


def rounding_scale(weights: RoundedWeights) -> float:
    """Return (1 + a) |diag(o) W| / √D, in units of S_local a unit roundoff.

    Args:
        weights: of the model.
    """
    width = len(weights.match_output)
    hidden = np.linalg.norm(weights.match_hidden * weights.match_output)
    sharpness = max(
        _logit_scale(weights.image_projection, weights.recipe_projection, weights.heads),
        _logit_scale(weights.recipe_projection, weights.image_projection, weights.heads),
    )
    return float((1.0 + sharpness) * hidden / width**0.5)


def _logit_scale(reader: Floats, source: Floats, heads: int) -> float:
    """Return the root mean square of attention logits over random unit tokens, of the largest head.

    Args:
        reader: (D, 5 D), whose first D columns make queries.
        source: (D, 5 D), whose second D columns make keys.
        heads: H.
    """
    width = len(reader)
    head = width // heads
    largest = 0.0
    for start in range(0, width, head):
        query = reader[:, start : start + head]
        key = source[:, width + start : width + start + head]
        # |A Bᵀ|² = trace(AᵀA BᵀB): products of (D/H, D/H), where A Bᵀ is (D, D).
        square = float(np.vdot(query.T @ query, key.T @ key))
        largest = max(largest, square)
    return float(largest**0.5 / (width * head**0.5))
