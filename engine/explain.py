"""Why recipes answer a photo: one self-contained page, drawn from the model's attention.

The photo stands beside the answers; the regions that an ingredient looked at more than at others
are shaded. The line that looks most sharply is shown first; pointing at another shows that one.
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
from .encoder import EncodedQuery, centre_pixels, encode_recipes, raise_level
from .results import Answer, Hit

EXPLAINED_HITS = 5
"""Hits of an answer that are explained where nothing else is said."""
FLAT = 0.2
"""Attention is flat where no region gets more than so much above its even share, 1 / R: the regions
then differ by a few per cent on average. Scaled to the largest weight, such noise would be shaded
as if it were a place that was looked at."""
NO_ATTENTION = (
    "this model compares photo and recipe as wholes, so there is no attention to show; "
    "one of kind hf-icma has it"
)


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
    on_ingredients: Floats
    """(R, T): of each region over the ingredients, averaged over the heads; rows sum to 1."""


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
        raise InputError(NO_ATTENTION)
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
    path: str | os.PathLike[str],
    bundle: Bundle,
    answer: Answer,
    *,
    shown: int = EXPLAINED_HITS,
    name: str = "",
) -> Path:
    """Write the page that explains the first hits of an answer to a photo.

    Args:
        path: of the HTML file.
        bundle: of the engine that answered.
        answer: to a photo, of a search with `keep_query=True`.
        shown: hits to explain.
        name: of the photo, such as its file's.

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
    first = _sharpest(explanations)
    page = _PAGE.format(
        name=html.escape(name or "this photo"),
        photo=pixels_url(centre_pixels(query.model_input)),
        style=_STYLE,
        script=_SCRIPT,
        weights=_weights(bundle.score_weights),
        grid=bundle.facts.grid,
        cells=_cells(
            bundle.facts.regions,
            None if first is None else explanations[first[0]].on_regions[first[1]],
        ),
        flat=_FLAT_PAGE if first is None else "",
        caption=_FLAT_CAPTION if first is None else _CAPTION,
        summary=f"{answer.scored:,} of {answer.searched:,} items scored; {answer.proof}.",
        sections="\n".join(
            _section(hit, explanation, bundle.score_weights, first=first)
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
        on_ingredients.mean(axis=0),
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


def pixels_url(pixels: Pixels) -> str:
    """Return what the model sees of the photo, as a JPEG inside the page."""
    buffer = io.BytesIO()
    Images.fromarray(pixels).save(buffer, "jpeg", quality=90)
    return _jpeg_url(buffer.getvalue())


def _jpeg_url(content: bytes) -> str:
    """Return a JPEG as an address inside the page."""
    return "data:image/jpeg;base64," + base64.b64encode(content).decode()


def above_even(attention: Floats) -> Floats:
    """Return how far each region's share is above the even one: 0 at 1 / R, 1 at twice that.

    Args:
        attention: (..., R), rows sum to 1.

    Returns:
        the same shape; below 0 where a region got less than its even share.
    """
    excess: Floats = attention * attention.shape[-1] - 1.0
    return excess


def shades(attention: Floats) -> Floats:
    """Return how strongly each region is shaded, 0 to 1: in proportion to its share above even.

    Twice the even share or the line's largest, if that is more, is shaded in full, so that weak
    attention looks weak. Flat attention is not shaded at all.

    Args:
        attention: (R,), sums to 1.
    """
    excess = above_even(attention)
    if excess.max() <= FLAT:
        return np.zeros_like(excess)
    shaded: Floats = np.clip(excess / max(1.0, float(excess.max())), 0.0, 1.0)
    return shaded


def _sharpest(explanations: Sequence[PairExplanation]) -> tuple[int, int] | None:
    """Return hit and line, from 0, of the first hit with a line that is not flat: its sharpest."""
    for number, explanation in enumerate(explanations):
        peaks = above_even(explanation.on_regions).max(axis=1)
        if peaks.max(initial=0.0) > FLAT:
            return number, int(peaks.argmax())
    return None


def _weights(weights: ScoreWeights) -> str:
    """Return how the two parts of S are added up."""
    local = "S_local" if weights.limit == 1.0 else f"min(S_local, {weights.limit:g})"
    return f"S = {weights.global_:g} × S_global + {weights.local:g} × {local}"


def _cells(regions: int, attention: Floats | None) -> str:
    """Return R regions over the photo, shaded as a line looked at them; None shades nothing."""
    shaded = np.zeros(regions) if attention is None else shades(attention)
    return "".join(f'<i style="opacity:{MOST_SHADE * shade:.2f}"></i>' for shade in shaded)


def _section(
    hit: Hit, explanation: PairExplanation, weights: ScoreWeights, *, first: tuple[int, int] | None
) -> str:
    """Return what the page says of one hit.

    Args:
        hit: of the answer.
        explanation: of the photo and the hit's recipe.
        weights: of the two parts of S.
        first: hit and line, from 0, that is shown before any is pointed at.
    """
    local = hit.local_score or 0.0
    parts = (
        f"S {hit.score:.3f} = {weights.global_:g} × {hit.global_score:.3f} (the whole) "
        f"+ {weights.local:g} × {local:.3f} (the parts)"
    )
    peaks = above_even(explanation.on_regions).max(axis=1)
    flat = peaks.max(initial=0.0) <= FLAT
    rows = "\n".join(
        f'<li tabindex="0" data-shades="{_percents(shades(attention))}"'
        f"{' class=shown' if first == (hit.rank - 1, number) else ''}>"
        f"<span>{html.escape(line)}</span> <small>{'' if flat else _sharpness(float(peak))}</small>"
        f'<span class="gate" style="width:{gate:.0%}" title="gate {gate:.2f}"></span></li>'
        for number, (line, attention, gate, peak) in enumerate(
            zip(
                explanation.ingredients, explanation.on_regions, explanation.ingredient_gates,
                peaks, strict=True,
            )
        )
    )  # fmt: skip
    return (
        f"<section>{_dish(hit)}<h2>{hit.rank}. {html.escape(hit.title or hit.id)}</h2>"
        f"<p>{html.escape(parts)}</p>{_FLAT_HIT if flat and first else ''}<ul>{rows}</ul></section>"
    )


def _dish(hit: Hit) -> str:
    """Return the recipe's own photo; nothing where its index knows none."""
    photo = hit.photo
    if photo is None:
        return ""
    return f'<img class="dish" src="{_jpeg_url(photo)}" alt="{html.escape(hit.title or hit.id)}">'


def _sharpness(peak: float) -> str:
    """Return in words how much more than its even share the most looked-at region gets."""
    return "looks everywhere alike" if peak <= FLAT else f"up to {1 + peak:.1f} × even"


def _percents(shaded: Floats) -> str:
    """Return shades in whole per cent, region by region."""
    return ",".join(str(round(100 * float(shade))) for shade in shaded)


MOST_SHADE = 0.72
"""Opacity of a region that is shaded in full: the photo can still be seen below."""

_FLAT_PAGE = f"""<p class="flat"><b>The model has not learnt to look.</b> No ingredient looks at any
region more than {1 + FLAT:g} times as much as an even look would, so nothing is shaded: which part
of the photo an ingredient is in hardly plays a role in these answers.</p>"""

_FLAT_CAPTION = "What the model sees of the photo: it looks at all of it alike."

_CAPTION = """Shown: <b></b>. Point at an ingredient or tap it: shaded are the regions that get more
than an even share of its look, the darker the more."""

_FLAT_HIT = """<p class="flat">Its ingredients look at all regions almost alike, so nothing is
shaded: for this recipe the model has not learnt to look.</p>"""

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;margin:1.5rem auto;max-width:62rem;padding:0 1rem;
color:#222;background:#fff}
h1{font-size:1.5rem;line-height:1.25;margin:0 0 .5rem;overflow-wrap:anywhere}
h2{margin:1.2rem 0 0;font-size:1.1rem;line-height:1.3;overflow-wrap:anywhere}
section:first-of-type h2{margin-top:0}
section{display:flow-root}.dish{float:right;width:6rem;height:6rem;object-fit:cover;
border-radius:6px;margin:1.2rem 0 .5rem 1rem}section:first-of-type .dish{margin-top:0}
p{margin:.3em 0;color:#444}
.columns{display:grid;grid-template-columns:minmax(14rem,26rem) 1fr;gap:2rem;margin-top:1rem}
figure{position:sticky;top:1rem;margin:0;align-self:start;background:#fff}
.photo{position:relative}.photo img{width:100%;display:block;border-radius:6px;
filter:saturate(.45)}
.grid{position:absolute;inset:0;display:grid;
grid-template:repeat(var(--grid),1fr)/repeat(var(--grid),1fr)}
.grid i{background:#5b2be0;transition:opacity .15s}
figcaption{font-size:.9rem;margin-top:.4rem}
ul{list-style:none;padding:0;margin:.4rem 0}
li{padding:.2em .5em;border-radius:4px;cursor:pointer;overflow-wrap:anywhere}
li.shown,li:focus{background:#e9e2fd;outline:none}
small{color:#666;white-space:nowrap}
.gate{display:block;height:3px;background:#5b2be0;border-radius:2px}
.flat{background:#fff3d6;border-left:4px solid #d98200;padding:.5em .8em}
footer{color:#666;font-size:.9rem;margin-top:1.5rem}
@media(max-width:40rem){.columns{display:block}figure{top:0;padding:.5rem 0;z-index:1;
display:grid;grid-template-columns:11rem 1fr;gap:.8rem;align-items:end;margin-bottom:1rem;
border-bottom:1px solid #ddd}}
"""

_SCRIPT = f"""
const cells=document.querySelectorAll(".grid i"),said=document.querySelector("figcaption b");
const show=line=>{{
  const shades=line.dataset.shades.split(",");
  cells.forEach((cell,i)=>cell.style.opacity={MOST_SHADE}*shades[i]/100);
  document.querySelector("li.shown")?.classList.remove("shown");
  line.classList.add("shown");
  if(said)said.textContent=line.firstElementChild.textContent;
}};
for(const line of document.querySelectorAll("li"))
  for(const on of ["mouseenter","focus","click"])line.addEventListener(on,()=>show(line));
const first=document.querySelector("li.shown");
if(first)show(first);
"""

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Why these recipes for {name}</title><style>{style}</style>
<h1>Why these recipes for {name}</h1>
<p>Recipes are ranked by S, how well photo and recipe fit: {weights}. S_global compares the photo
and the recipe as wholes; S_local compares regions of the photo with the
ingredients. Each is higher the better they fit.</p>
{flat}
<div class="columns">
<figure><div class="photo"><img src="{photo}" alt="{name}">
<div class="grid" style="--grid:{grid}">{cells}</div></div>
<figcaption>{caption}</figcaption></figure>
<main>
{sections}
</main></div>
<footer><p>The bar below an ingredient is its gate: how much of what it saw counted. "(end)" is the
mark that closes the list, which the model reads too. {summary}</p></footer>
<script>{script}</script></html>
"""
