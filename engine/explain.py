"""Why items answer a photo: one self-contained page.

The photo stands in the middle; pointing at an ingredient lights the regions that it looked at.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image as Images

from hficma.artifacts.manifest import write_atomically
from hficma.errors import InputError
from hficma.images import preprocess
from hficma.recipe import Recipe
from hficma.scores import ScoreWeights

from .bundle.bundle import Bundle
from .encoder import EncodedItems, encode_photos, encode_recipes, raise_level
from .index.item_encoding import Role
from .results import Answer, Hit

if TYPE_CHECKING:
    from PIL.Image import Image

GRID = 7
"""Regions a side."""
SHOWN = 5
"""Hits of an answer that are explained."""

Floats = npt.NDArray[np.float32]


class PairExplanation(NamedTuple):
    """Attention and gates of one pair; R regions are the 7 x 7 grid row by row."""

    ingredients: tuple[str, ...]
    """The T lines that the model read."""
    on_regions: Floats
    """(T, R): of each ingredient over the regions, averaged over the heads; rows sum to 1."""
    ingredient_gates: Floats
    """(T,) in (0, 1): how far each ingredient's attention was let through."""
    region_gates: Floats
    """(R,) in (0, 1)."""


def explain_pair(bundle: Bundle, photo: Image, recipe: Recipe) -> PairExplanation:
    """Attention A21 and the gates g1, g2 of one pair (`hficma.model.similarity`), in numpy.

    Args:
        bundle: of a model with a local part.
        photo: upright RGB.
        recipe: as written.

    Raises:
        InputError: the model has no attention to show.
    """
    if not bundle.has_local:
        raise InputError("this model compares whole vectors; it has no attention to explain")
    ids = bundle.tokenizer(recipe)
    # By position: of a line that stands there twice, one may be past the limit.
    read = [recipe.ingredients[position] for position in ids.lines]
    read += ["(end)"] * (len(ids.ingredients) - len(read))
    image = _projected(bundle, "image", encode_photos(bundle, preprocess(photo)[None]))
    text = _projected(bundle, "recipe", encode_recipes(bundle, [ids]))
    heads = bundle.facts.heads
    on_ingredients = _attention(image["query"], text["key"], heads)
    on_regions = _attention(text["query"], image["key"], heads)
    return PairExplanation(
        tuple(read),
        on_regions.mean(axis=0),
        _gate(on_regions, text["gate"], image["value"], text["gate_bias"]),
        _gate(on_ingredients, image["gate"], text["value"], image["gate_bias"]),
    )


def write_page(
    path: Path, bundle: Bundle, photo: Image, answer: Answer, *, shown: int = SHOWN
) -> Path:
    """Write the page that explains the first hits of an answer to a photo.

    Args:
        path: an HTML file.
        bundle: of the engine that answered.
        photo: the query, upright RGB.
        answer: of the engine.
        shown: hits to explain.
    """
    hits = answer.hits[:shown]
    weights = bundle.score_weights
    sections = [_section(hit, explain_pair(bundle, photo, hit.recipe), weights) for hit in hits]
    page = _PAGE.format(
        photo=_data_url(photo),
        style=_STYLE,
        script=_SCRIPT,
        summary=_summary(answer),
        sections="\n".join(sections),
    )
    try:
        write_atomically(path, page.encode())
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
    return path


def _projected(bundle: Bundle, role: Role, encoded: EncodedItems) -> dict[str, Floats]:
    """One item's projections, without the leading dimension."""
    assert encoded.encodings is not None
    side = raise_level(bundle, role, encoded.encodings, "projections")
    return {name: array[0] for name, array in side.arrays.items()}


def _split(rows: Floats, heads: int) -> Floats:
    """(n, d) -> (H, n, d_k)."""
    return rows.reshape(len(rows), heads, -1).transpose(1, 0, 2)


def _attention(query: Floats, key: Floats, heads: int) -> Floats:
    """softmax(query_h key_hᵀ / √d_k): (n, d) and (m, d) -> (H, n, m)."""
    left, right = _split(query, heads), _split(key, heads)
    logits = left @ right.transpose(0, 2, 1) / np.sqrt(np.float32(left.shape[-1]))
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    weights: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return weights


def _gate(attention: Floats, gate: Floats, value: Floats, bias: Floats) -> Floats:
    """σ(Σ_h Σ_j A_h[i, j] (p_h[i] · u_h[j]) + s[i]): (n,)."""
    heads = len(attention)
    products = _split(gate, heads) @ _split(value, heads).transpose(0, 2, 1)
    opened: Floats = 1.0 / (1.0 + np.exp(-((attention * products).sum(axis=(0, 2)) + bias)))
    return opened


def _data_url(photo: Image) -> str:
    """What the model sees of the photo, as a JPEG inside the page."""
    buffer = io.BytesIO()
    Images.fromarray(preprocess(photo)).save(buffer, "jpeg", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _summary(answer: Answer) -> str:
    return f"{answer.scored:,} of {answer.searched:,} items scored; {answer.proof}."


def _section(hit: Hit, explanation: PairExplanation, weights: ScoreWeights) -> str:
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


def _levels(attention: Sequence[float] | Floats) -> str:
    """Attention of the regions as shares of the strongest, in whole per cent."""
    shares = np.asarray(attention) / np.max(attention)
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
