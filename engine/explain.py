"""Why recipes answer a photo: one self-contained page, drawn from the model's attention.

The photo stands in the middle; pointing at an ingredient lights the regions that it looked at.
"""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image as Images

from hficma.artifacts.manifest import write_atomically
from hficma.errors import InputError
from hficma.recipe import Recipe
from hficma.scores import ScoreWeights
from hficma.types import Array, Floats, Pixels

from .bundle.bundle import Bundle
from .encoder import EncodedQuery, encode_recipes, raise_level
from .results import Answer, Hit

GRID = 7
"""Regions a side: R = 49 of them lie row by row."""
EXPLAINED_HITS = 5
"""Hits of an answer that are explained where nothing else is said."""


class PairExplanation(NamedTuple):
    """Attention and gates of one photo and one recipe."""

    ingredients: tuple[str, ...]
    """The T lines that the model read."""
    on_regions: Floats
    """(T, R): of each ingredient over the regions, averaged over the heads; rows sum to 1."""
    ingredient_gates: Floats
    """(T,) in (0, 1): how far each ingredient's attention was let through."""
    region_gates: Floats
    """(R,) in (0, 1): how far each region's was."""


def explain_pairs(
    bundle: Bundle, photo: EncodedQuery, recipes: Sequence[Recipe]
) -> list[PairExplanation]:
    """Compute attention and gates of pairs: A_h and g of `hficma.model.similarity`, (2) and (a).

    The photo's projections are those that it was searched with. The recipes are encoded here, all
    in one run: an index need not keep what they take, and may keep it in fewer bits.

    Args:
        bundle: of a model with a local part.
        photo: as the engine encoded it.
        recipes: M of them, as written.

    Raises:
        InputError: the model has no attention to show.
    """
    if photo.encodings is None:
        raise InputError("this model compares whole vectors; it has no attention to explain")
    if not recipes:
        return []
    ids = [bundle.tokenizer(recipe) for recipe in recipes]
    tokens = encode_recipes(bundle, ids).encodings
    assert tokens is not None  # the photo has them too
    projections = raise_level(bundle, "recipe", tokens, "projections")
    image = {name: array[0] for name, array in photo.encodings.arrays.items()}
    explanations = []
    for number, (recipe, read) in enumerate(zip(recipes, ids, strict=True)):
        length = int(projections.lengths[number])
        text = {name: array[number][:length] for name, array in projections.arrays.items()}
        # By position: of a line that stands there twice, one may be past the limit.
        lines = [recipe.ingredients[position] for position in read.lines]
        lines += ["(end)"] * (length - len(lines))
        explanations.append(_explain(image, text, tuple(lines), bundle.facts.heads))
    return explanations


def write_page(
    path: str | os.PathLike[str], bundle: Bundle, answer: Answer, *, shown: int = EXPLAINED_HITS
) -> Path:
    """Write the page that explains the first hits of an answer to a photo.

    Args:
        path: of the HTML file.
        bundle: of the engine that answered.
        answer: to a photo, of a search with `keep_query=True`.
        shown: hits to explain.

    Raises:
        InputError: the answer lacks its query or is not to a photo, the model has no attention, or
            the file cannot be written.
    """
    query = answer.query
    if query is None:
        raise InputError("the answer has no query to explain it with; search with keep_query=True")
    if not isinstance(query.model_input, np.ndarray):
        raise InputError("a page explains answers to photos; this one answers a recipe")
    hits = answer.hits[:shown]
    explanations = explain_pairs(bundle, query, [hit.recipe for hit in hits])
    page = _PAGE.format(
        photo=_data_url(query.model_input),
        style=_STYLE,
        script=_SCRIPT,
        summary=f"{answer.scored:,} of {answer.searched:,} items scored; {answer.proof}.",
        sections="\n".join(
            _section(hit, explanation, bundle.score_weights)
            for hit, explanation in zip(hits, explanations, strict=True)
        ),
    )
    file = Path(path)
    try:
        write_atomically(file, page.encode())
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror})") from error
    return file


def _explain(
    image: dict[str, Array], text: dict[str, Array], lines: tuple[str, ...], heads: int
) -> PairExplanation:
    """Explain one pair from its projections (n, D), by name."""
    on_ingredients = _attention(image["query"], text["key"], heads)
    on_regions = _attention(text["query"], image["key"], heads)
    return PairExplanation(
        lines,
        on_regions.mean(axis=0),
        _gates(on_regions, text["gate"], image["value"], text["gate_bias"]),
        _gates(on_ingredients, image["gate"], text["value"], image["gate_bias"]),
    )


def _split_heads(rows: Floats, heads: int) -> Floats:
    """Part rows by head: (n, D) to (H, n, D / H)."""
    return rows.reshape(len(rows), heads, -1).transpose(1, 0, 2)


def _attention(query: Floats, key: Floats, heads: int) -> Floats:
    """Return softmax(query_h key_hᵀ / √(D / H)): (n, D) and (m, D) to (H, n, m)."""
    query_heads, key_heads = _split_heads(query, heads), _split_heads(key, heads)
    logits = query_heads @ key_heads.transpose(0, 2, 1)
    logits /= np.sqrt(np.float32(query_heads.shape[-1]))
    # The largest logit becomes 0: exp cannot overflow, and the quotient stays the same.
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    weights: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return weights


def _gates(attention: Floats, gate: Floats, value: Floats, bias: Floats) -> Floats:
    """Return σ(Σ_h Σ_j A_h[i, j] (p_h[i] · u_h[j]) + s[i]): (n,) for attention (H, n, m).

    It needs no output layer of the attention: see `hficma.model.similarity`, step (a).
    """
    heads = len(attention)
    products = _split_heads(gate, heads) @ _split_heads(value, heads).transpose(0, 2, 1)
    gates: Floats = 1.0 / (1.0 + np.exp(-((attention * products).sum(axis=(0, 2)) + bias)))
    return gates


def _data_url(pixels: Pixels) -> str:
    """Return what the model sees of the photo, as a JPEG inside the page."""
    buffer = io.BytesIO()
    Images.fromarray(pixels).save(buffer, "jpeg", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _section(hit: Hit, explanation: PairExplanation, weights: ScoreWeights) -> str:
    """Return what the page says of one hit."""
    local = hit.local_score or 0.0
    parts = (
        f"S {hit.score:.3f} = {weights.global_:g} x {hit.global_score:.3f} (global) "
        f"+ {weights.local:g} x {local:.3f} (local)"
    )
    rows = "\n".join(
        f'<li tabindex="0" data-regions="{_levels(attention)}">{html.escape(line)}'
        f'<span class="gate" style="width:{gate:.0%}" title="gate {gate:.2f}"></span></li>'
        for line, attention, gate in zip(
            explanation.ingredients, explanation.on_regions, explanation.ingredient_gates,
            strict=True,
        )
    )  # fmt: skip
    return (
        f"<section><h2>{hit.rank}. {html.escape(hit.title or hit.id)}</h2>"
        f"<p>{html.escape(parts)}</p><ul>{rows}</ul></section>"
    )


def _levels(attention: Floats) -> str:
    """Return the attention of the regions as shares of the strongest, in whole per cent."""
    shares = attention / np.max(attention)
    return ",".join(str(round(100 * float(share))) for share in shares)


_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;
display:grid;grid-template-columns:minmax(14rem,28rem) 1fr;gap:2rem;color:#222;background:#fff}
figure{position:sticky;top:1rem;margin:0;align-self:start}
.photo{position:relative}.photo img{width:100%;display:block;border-radius:6px}
.grid{position:absolute;inset:0;display:grid;grid-template:repeat(7,1fr)/repeat(7,1fr)}
.grid i{background:#000;opacity:0;transition:opacity .15s}
figcaption{color:#666;font-size:.9em}h2{margin:.2em 0 0;font-size:1.1em}p{margin:.2em 0;color:#555}
ul{list-style:none;padding:0}li{padding:.15em .5em;border-radius:4px;cursor:default}
li:hover,li:focus{background:#fde7b8;outline:none}
.gate{display:block;height:3px;background:#d98200;border-radius:2px}
@media(max-width:40rem){body{display:block}figure{position:static}}
"""

_SCRIPT = f"""
const grid=document.querySelector(".grid");
for(let i=0;i<{GRID * GRID};i++)grid.append(document.createElement("i"));
const light=levels=>[...grid.children].forEach((cell,i)=>
  cell.style.opacity=levels?0.75*(1-levels[i]/100):0);
for(const line of document.querySelectorAll("li")){{
  const levels=line.dataset.regions.split(",").map(Number);
  for(const on of ["mouseenter","focus"])line.addEventListener(on,()=>light(levels));
  for(const off of ["mouseleave","blur"])line.addEventListener(off,()=>light(null));
}}
"""

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Why these recipes</title><style>{style}</style>
<figure><div class="photo"><img src="{photo}" alt="the photo"><div class="grid"></div></div>
<figcaption>Point at an ingredient: the regions that it looked at stay bright. The bar below each
is its gate, how much of what it saw counted. {summary}</figcaption></figure>
<main>
{sections}
</main><script>{script}</script></html>
"""
