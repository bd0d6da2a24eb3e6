"""Run a bundle's branches: from photos and recipes to vectors, tokens, projections and tables.

What is computed of an item alone rises in levels (`hficma.engine.index.item_encoding`):

    photo   -> image branch  -> global vector, tokens -> projections -> tables
    recipe  -> recipe branch -> global vector, tokens -> projections -> tables

An index stores items at one of the levels; a query is always brought to the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from hficma.errors import ArtifactError
from hficma.images.crops import mean_over_crops
from hficma.text.batching import DistinctSentences, batches_by_length, pad_ids
from hficma.text.vocabulary import RecipeIds
from hficma.types import Array, Floats, Ids, Lengths, Pixels, Positions

from .index.item_encoding import LEVELS, BatchEncodings, Level, Role

if TYPE_CHECKING:
    from .bundle.bundle import Bundle

# Items of one run of a branch: what encoding any number of them takes of memory is bounded.
PHOTO_BATCH = 16
RECIPE_BATCH = 64
SENTENCE_BATCH = 256

GPU_PHOTO_BATCH = 128
"""Photos of one run on a GPU: enough to fill it, and a few gigabytes of features."""
QUERY_BATCH = 32
"""Queries that are projected and tabulated in one run: 50 MB of tables at D = 1024, H = 8."""

ModelInput: TypeAlias = Pixels | RecipeIds
"""What a branch reads of one item: a photo's pixels (s, s, 3), or those of several crops of it
(V, s, s, 3), the centre first; or the word ids of a recipe."""


def centre_pixels(pixels: Pixels) -> Pixels:
    """Return the pixels (s, s, 3) of a photo's centre crop, of a `ModelInput` of one or several."""
    return pixels[0] if pixels.ndim == 4 else pixels


class EncodedItems(NamedTuple):
    """N photos or recipes as the branches give them."""

    vectors: Floats
    """(N, D_g) global vectors: an inner product of two is S_global."""
    encodings: BatchEncodings | None
    """At level `tokens`; None for a model without a local part."""


class EncodedQuery(NamedTuple):
    """One photo or recipe with all that is computed of it alone, ready to be scored with items."""

    vector: Floats
    """(D_g,) global vector."""
    encodings: BatchEncodings | None
    """Of N = 1 item, at level `tables`; None for a model without a local part."""
    model_input: ModelInput | None = None
    """What the branches read of it; None where only the rest was kept."""


QueryEncoder: TypeAlias = Callable[[Role, Sequence[ModelInput]], Sequence[EncodedQuery]]
"""Encodes queries, all of one role, and brings them to `tables`."""


def encode(bundle: Bundle, inputs: Sequence[ModelInput]) -> EncodedItems:
    """Encode photos or recipes, all of one kind.

    Args:
        bundle: whose branches run.
        inputs: N of them, at least one: pixels, of as many crops each, or ids of the bundle's
            tokenizer.
    """
    photos = [one for one in inputs if isinstance(one, np.ndarray)]
    if photos:
        return encode_photos(bundle, joined(photos))
    return encode_recipes(bundle, [one for one in inputs if isinstance(one, RecipeIds)])


def encode_photos(bundle: Bundle, pixels: Pixels) -> EncodedItems:
    """Encode photos.

    Of several crops the global vectors are averaged, and the tokens are those of the centre: those
    of a corner would be of other places.

    Args:
        bundle: whose image branch runs.
        pixels: (B, s, s, 3) as `hficma.images.preprocess` gives them, B at least 1, or
            (B, V, s, s, 3) as `hficma.images.crops.crops` does.
    """
    if pixels.ndim == 5:
        photos, views = pixels.shape[:2]
        each = encode_photos(bundle, pixels.reshape(photos * views, *pixels.shape[2:]))
        model = bundle.facts.model
        vectors = mean_over_crops(
            each.vectors.reshape(photos, views, -1), unit=model.unit_vectors, members=model.members
        )
        if each.encodings is None:
            return EncodedItems(vectors, None)
        lengths, tokens = each.encodings.lengths, each.encodings.arrays["tokens"]
        return EncodedItems(vectors, BatchEncodings(lengths[::views], {"tokens": tokens[::views]}))
    size = photo_batch(bundle)
    outputs = [
        bundle.run("image", {"photos": pixels[start : start + size]})
        for start in range(0, len(pixels), size)
    ]
    vectors = np.concatenate([output["global"] for output in outputs])
    if not bundle.has_local:
        return EncodedItems(vectors, None)
    tokens = np.concatenate([output["tokens"] for output in outputs])
    lengths = np.full(len(tokens), tokens.shape[1], dtype=np.int64)
    return EncodedItems(vectors, BatchEncodings(lengths, {"tokens": tokens}))


def photo_memory(bundle: Bundle, count: int, views: int | None = None) -> list[Pixels]:
    """Return memory for a batch of photos, into which each is decoded where it belongs.

        row 0 | row 1 | row 2 | ...          one array, which `joined` gives back whole

    For a bundle on a GPU it is pinned: the GPU reads it itself, while the host goes on. It is
    freed with the last of its rows.

    Args:
        bundle: that shall encode them.
        count: N photos.
        views: V crops of each; None takes the centre alone, without an axis of crops.

    Returns:
        of each photo (V, s, s, 3), or (s, s, 3).
    """
    size = bundle.image_input.size
    shape = (count, *(() if views is None else (views,)), size, size, 3)
    if bundle.execution.device == "cpu":
        return list(np.empty(shape, np.uint8))
    import torch

    return list(torch.empty(shape, dtype=torch.uint8, pin_memory=True).numpy())


def joined(pixels: Sequence[Pixels]) -> Pixels:
    """Return photos as one array; without a copy where they are rows of one memory, in order.

    Args:
        pixels: N photos of one shape, at least one.
    """
    first = pixels[0]
    memory = first.base
    if memory is not None and isinstance(memory, np.ndarray) and memory.shape[1:] == first.shape:
        step, offset = first.nbytes, first.ctypes.data - memory.ctypes.data
        in_order = memory.flags.c_contiguous and offset % step == 0 and all(
            one.base is memory and one.ctypes.data == first.ctypes.data + number * step
            for number, one in enumerate(pixels)
        )  # fmt: skip
        if in_order:
            rows: Pixels = memory[offset // step : offset // step + len(pixels)]
            return rows
    return np.stack(pixels)


def photo_batch(bundle: Bundle) -> int:
    """Return how many photos a bundle's image branch runs at once."""
    return PHOTO_BATCH if bundle.execution.device == "cpu" else GPU_PHOTO_BATCH


def encode_recipes(bundle: Bundle, recipes: Sequence[RecipeIds]) -> EncodedItems:
    """Encode recipes; a sentence that several of them have is encoded once.

    Args:
        bundle: whose sentence, text and recipe branches run.
        recipes: M of them, at least one, as the bundle's tokenizer gives them.
    """
    graphs = bundle.facts.graphs
    sentences = texts = None
    if "sentence" in graphs:
        sentences = _Vectors(bundle, "sentence", [recipe.sentences for recipe in recipes])
    if "text" in graphs:
        texts = _Vectors(bundle, "text", [recipe.texts for recipe in recipes])
    # Recipes of like sizes share a batch, so that little of it is padding.
    first = sentences or texts
    assert first is not None  # a model reads words, or texts
    rows = first.rows
    order = sorted(range(len(recipes)), key=lambda i: (len(rows[i]), len(recipes[i].ingredients)))
    lengths = np.array([len(recipe.ingredients) for recipe in recipes], dtype=np.int64)
    vectors: Floats | None = None
    tokens: Floats | None = None
    for start in range(0, len(order), RECIPE_BATCH):
        batch = order[start : start + RECIPE_BATCH]
        ingredients, ingredient_counts = pad_ids([recipes[i].ingredients for i in batch])
        inputs: dict[str, Array] = {
            "ingredients": ingredients,
            "ingredient_counts": ingredient_counts,
            "title_counts": np.array([recipes[i].titles for i in batch], dtype=np.int64),
        }
        if sentences is not None:
            inputs["sentences"], inputs["sentence_counts"] = sentences.padded(batch)
        if texts is not None:
            inputs["texts"], _ = texts.padded(batch)
            inputs["text_fields"], _ = pad_ids([np.array(recipes[i].text_fields) for i in batch])
        output = bundle.run("recipe", inputs)
        # The widths are the outputs', known after the first run.
        if vectors is None:
            vectors = np.empty((len(recipes), output["global"].shape[1]), np.float32)
        vectors[batch] = output["global"]
        if bundle.has_local:
            if tokens is None:
                shape = (len(recipes), int(lengths.max()), output["tokens"].shape[2])
                tokens = np.zeros(shape, np.float32)
            tokens[batch, : ingredients.shape[1]] = output["tokens"]
    assert vectors is not None
    return EncodedItems(
        vectors, None if tokens is None else BatchEncodings(lengths, {"tokens": tokens})
    )


def encode_queries(bundle: Bundle, role: Role, inputs: Sequence[ModelInput]) -> list[EncodedQuery]:
    """Encode queries, all of one role, and bring them to `tables`.

    Args:
        bundle: whose branches run.
        role: of the queries.
        inputs: of each of them; at least one.

    Raises:
        ArtifactError: the model gives one of them a value that is not finite.
    """
    queries = prepare_queries(bundle, role, encode(bundle, inputs))
    return [query._replace(model_input=one) for query, one in zip(queries, inputs, strict=True)]


def raise_level(
    bundle: Bundle, role: Role, encodings: BatchEncodings, level: Level
) -> BatchEncodings:
    """Bring items to a level, computing what they lack; above it they stay as they are.

    Args:
        bundle: whose projecting and tabulating graphs run.
        role: of the items.
        encodings: N items at any level.
        level: that they shall have at least.
    """
    arrays: dict[str, Array] = dict(encodings.arrays)
    if level != "tokens" and "tokens" in arrays:
        inputs = {"tokens": arrays["tokens"]}
        if role == "recipe":
            inputs["lengths"] = encodings.lengths
        output = bundle.run(f"project_{role}", inputs)
        arrays = {name: output[name] for name in LEVELS["projections"]}
    if level == "tables" and "table" not in arrays:
        arrays["table"] = bundle.run(f"tabulate_{role}", {"value": arrays["value"]})["table"]
    return BatchEncodings(encodings.lengths, arrays)


def prepare_queries(bundle: Bundle, role: Role, items: EncodedItems) -> list[EncodedQuery]:
    """Bring photos or recipes to `tables` together, then part them into queries.

    One run of each graph for the whole batch fills the machine where a run for each query would
    wait for memory. What a query gets may differ from what it gets alone by float32 rounding, since
    runtimes order their sums by the size of a batch.

    Args:
        bundle: whose projecting and tabulating graphs run.
        role: of the queries.
        items: N of them.

    Raises:
        ArtifactError: the model gives one of them a value that is not finite.
    """
    if items.encodings is None:
        queries = [EncodedQuery(vector, None) for vector in items.vectors]
    else:
        queries = []
        lengths, tokens = items.encodings.lengths, items.encodings.arrays["tokens"]
        for start in range(0, len(lengths), QUERY_BATCH):
            batch = slice(start, start + QUERY_BATCH)
            longest = int(lengths[batch].max())
            encodings = BatchEncodings(
                lengths[batch], {"tokens": np.ascontiguousarray(tokens[batch, :longest])}
            )
            tables = raise_level(bundle, role, encodings, "tables")
            queries += [
                EncodedQuery(vector, _one_item(tables, number))
                for number, vector in enumerate(items.vectors[batch])
            ]
    for query in queries:
        _check_finite(query)
    return queries


def _one_item(encodings: BatchEncodings, number: int) -> BatchEncodings:
    """Cut one item out of a padded batch, without its padding."""
    length = int(encodings.lengths[number])
    arrays = {}
    for name, array in encodings.arrays.items():
        item = array[number : number + 1]
        # (1, D) has no tokens; (1, H, n, D) has them behind the heads; else (1, n, D) or (1, n).
        if name == "table":
            item = item[:, :, :length]
        elif name != "mean":
            item = item[:, :length]
        arrays[name] = np.ascontiguousarray(item)
    return BatchEncodings(encodings.lengths[number : number + 1], arrays)


def _check_finite(query: EncodedQuery) -> None:
    """Refuse a query that no score can be computed with: a NaN would sort anywhere."""
    arrays = [query.vector, *(query.encodings.arrays.values() if query.encodings else ())]
    if not all(np.isfinite(array).all() for array in arrays):
        raise not_finite()


def not_finite() -> ArtifactError:
    """Return the error of a query that no score can be computed with."""
    return ArtifactError(
        "the model gives this query a vector that is not finite: its weights are damaged, "
        "or the precision is too narrow; export the bundle again, or search in fp32"
    )


class _Vectors:
    """Vectors of the sentences, or texts, of recipes, each distinct one encoded once.

    Args:
        bundle: whose graph runs.
        graph: `sentence` or `text`.
        items: ids of each of the sentences (W,) of M recipes.

    Attributes:
        rows: of each recipe (S,): its sentences' rows in the table of vectors, from 1.
    """

    def __init__(self, bundle: Bundle, graph: str, items: Sequence[Sequence[Ids]]) -> None:
        distinct = DistinctSentences()
        self.rows: list[Positions] = [distinct.rows(item) for item in items]
        sentences = distinct.word_ids
        vectors: Floats | None = None
        for batch in batches_by_length(sentences, SENTENCE_BATCH):
            word_ids, lengths = pad_ids([sentences[i] for i in batch])
            output = bundle.run(graph, {"word_ids": word_ids, "lengths": lengths})["vectors"]
            if vectors is None:
                # Row 0 is zero: what a recipe with fewer sentences than its batch is padded with.
                vectors = np.zeros((len(sentences) + 1, output.shape[1]), np.float32)
            vectors[np.array(batch) + 1] = output
        assert vectors is not None
        self._vectors = vectors

    def padded(self, recipes: Sequence[int]) -> tuple[Floats, Lengths]:
        """Return the vectors of some recipes (M, S, D_s), padded with zeros, and counts (M,)."""
        rows, counts = pad_ids([self.rows[i] for i in recipes])
        padded: Floats = self._vectors[rows]
        return padded, counts
