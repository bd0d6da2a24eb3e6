"""The model cut into the graphs that export compiles and runtimes execute, by name.

    photos ──▶ image ──▶ tokens ──▶ project_image ──▶ value ──▶ tabulate_image ──▶ table
    word_ids ──▶ sentence, text ──▶ vectors ─┐
    ingredients ─────────────────────────────┴▶ recipe ──▶ tokens ──▶ project_recipe ──▶ ...
    both items' encodings ──▶ cross_tables, cross_recipe_projections, cross_image_projections
                                        ──▶ score, global, local

The three cross graphs compute the same scores and differ in whose table they read and whose they
make on the way: an index stores tables or, in less room, projections. A model without a local part
has the graphs image, sentence, text and recipe alone; `sentence` reads the ids of our own words and
`text` those of a pretrained text encoder, and a model has one of the two, or both.

A graph reads and gives named arrays: ids as int64, photos as uint8, everything else float32
in every precision, so that whoever feeds one need not know what it computes in. The names of graphs
and arrays, and the letters of their dynamic axes, are part of the bundle's format.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from ..types import ArraySpec, ArraySpecs
from .base import Model
from .encoders.batches import RecipeBatch, Tokens, texts_as_sentences
from .encoders.sentence_encoder import MeanSentences
from .encoders.text_encoder import TextEncoder
from .hf_icma import HFICMA
from .similarity import FoldedItemWeights, FoldedWeights, PaddedEncodings, pair_block, project

PROJECTIONS = ("query", "key", "value", "gate", "fuse")
"""Arrays of the level `projections` that have a row of D numbers a token."""
ROLES = ("image", "recipe")


class Branch(nn.Module):
    """One graph: arrays in the order of `inputs` to a tuple in the order of `outputs`.

    Args:
        inputs: by name, in the order of the arguments.
        outputs: by name, in the order of the results.
        dtype: what the graph computes in.
    """

    def __init__(self, inputs: ArraySpecs, outputs: ArraySpecs, dtype: torch.dtype) -> None:
        super().__init__()
        self.inputs = inputs
        self.outputs = outputs
        self.dtype = dtype

    @abstractmethod
    def compute(self, arrays: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """Compute the outputs, in order, in `dtype` except for what is widened on purpose.

        Args:
            arrays: the inputs by name.
        """

    def forward(self, *arrays: Tensor) -> tuple[Tensor, ...]:
        """Run on arrays in the order of `inputs`; the results are float32."""
        by_name = dict(zip(self.inputs, arrays, strict=True))
        return tuple(result.float() for result in self.compute(by_name))


class ImageBranch(Branch):
    """Photos to global vectors and, with a local part, tokens."""

    def __init__(self, model: Model, global_dim: int, dtype: torch.dtype) -> None:
        outputs = {"global": _floats("B", global_dim)}
        if model.has_local:
            outputs["tokens"] = _floats("B", model.region_count, model.config.width)
        size = model.image_input.size
        super().__init__({"photos": ArraySpec("uint8", ("B", size, size, 3))}, outputs, dtype)
        # The graph needs the image encoder and two or three layers; the rest is left out of its
        # weights.
        self.model = _without(model, "sentence_encoder", "text_encoder", "ingredient_words")

    def compute(self, arrays: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """See `Branch.compute`."""
        return _present(self.model.image_tokens(self.model.image_features(arrays["photos"])))


class SentenceBranch(Branch):
    """Word ids to sentence vectors."""

    def __init__(self, model: Model, dtype: torch.dtype) -> None:
        inputs = {"word_ids": ArraySpec("int64", ("S", "W"))}
        if not isinstance(model.sentence_encoder, MeanSentences):
            inputs["lengths"] = ArraySpec("int64", ("S",))  # a mean does not read them
        super().__init__(inputs, {"vectors": _floats("S", model.sentence_width)}, dtype)
        self.encoder = model.sentence_encoder

    def compute(self, arrays: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """See `Branch.compute`."""
        word_ids = arrays["word_ids"]
        assert self.encoder is not None
        return (self.encoder(word_ids, arrays.get("lengths", word_ids)),)


class TextBranch(Branch):
    """Token ids of texts to the vectors of a pretrained text encoder."""

    def __init__(self, encoder: TextEncoder, dtype: torch.dtype) -> None:
        inputs = {"word_ids": ArraySpec("int64", ("S", "W"))}
        if encoder.reads_lengths:
            inputs["lengths"] = ArraySpec("int64", ("S",))
        super().__init__(inputs, {"vectors": _floats("S", encoder.width)}, dtype)
        self.encoder = encoder

    def compute(self, arrays: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """See `Branch.compute`."""
        word_ids = arrays["word_ids"]
        return (self.encoder(word_ids, arrays.get("lengths", word_ids)),)


class RecipeBranch(Branch):
    """Ingredient ids, and vectors of sentences and texts, to global vectors and tokens.

    Tokens where the model has a local part.
    """

    def __init__(self, model: Model, global_dim: int, dtype: torch.dtype) -> None:
        # A graph has no input that nothing reads.
        inputs: ArraySpecs = {}
        if model.config.reads_ingredients:
            inputs["ingredients"] = ArraySpec("int64", ("M", "T"))
            inputs["ingredient_counts"] = ArraySpec("int64", ("M",))
        if model.sentence_encoder is not None:
            inputs["sentences"] = _floats("M", "N", model.sentence_encoder.width)
            inputs["sentence_counts"] = ArraySpec("int64", ("M",))
            if model.config.global_text == "fields":
                inputs["title_counts"] = ArraySpec("int64", ("M",))
        if model.text_encoder is not None:
            inputs["texts"] = _floats("M", "P", model.text_encoder.width)
            inputs["text_fields"] = ArraySpec("int64", ("M", "P"))
        outputs = {"global": _floats("M", global_dim)}
        if model.has_local:
            outputs["tokens"] = _floats("M", "T", model.config.width)
        super().__init__(inputs, outputs, dtype)
        self.model = _without(model, "sentence_encoder", "text_encoder", "trunk")

    def compute(self, arrays: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """See `Branch.compute`."""
        if "sentences" not in arrays:
            fields = arrays["text_fields"]
            ids = {"ingredients": fields, "ingredient_counts": fields[:, 0]}
            return _present(self.model.recipe_tokens(texts_as_sentences(**{**ids, **arrays})))
        # What is missing is not read: any array stands for it.
        counts = arrays["sentence_counts"]
        names = ("ingredients", "ingredient_counts", "title_counts", "texts", "text_fields")
        others = dict.fromkeys(names, counts)
        return _present(self.model.recipe_tokens(RecipeBatch(**{**others, **arrays})))


class ProjectBranch(Branch):
    """Tokens of photos or recipes to their projections.

    Args:
        role: of the items.
        weights: of the role, folded, in float64.
        regions: R.
        dtype: what the graph computes in.
    """

    def __init__(
        self, role: str, weights: FoldedItemWeights, regions: int, dtype: torch.dtype
    ) -> None:
        count, size = _letters(role, regions)
        width = weights.fuse_bias.shape[0]
        inputs = {"tokens": _floats(count, size, width)}
        if role == "recipe":
            inputs["lengths"] = ArraySpec("int64", (count,))
        outputs = {name: _floats(count, size, width) for name in PROJECTIONS}
        outputs |= {"gate_bias": _floats(count, size), "mean": _floats(count, width)}
        super().__init__(inputs, outputs, dtype)
        self.weights = _FoldedItemBuffers(weights, dtype)

    def compute(self, arrays: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """See `Branch.compute`."""
        tokens = arrays["tokens"].to(self.dtype)
        lengths = arrays.get("lengths")
        if lengths is None:  # photos: every one has R regions
            lengths = torch.full_like(tokens[:, 0, 0], tokens.shape[1])
        encodings = project(tokens, lengths, self.weights.folded())
        return tuple(getattr(encodings, name) for name in self.outputs)


class TabulateBranch(Branch):
    """Values of photos or recipes to their tables; the arguments are those of `ProjectBranch`."""

    def __init__(
        self, role: str, weights: FoldedItemWeights, regions: int, dtype: torch.dtype
    ) -> None:
        count, size = _letters(role, regions)
        heads, _, width = weights.table.shape
        super().__init__(
            {"value": _floats(count, size, width)},
            {"table": _floats(count, heads, size, width)},
            dtype,
        )
        self.weights = _FoldedItemBuffers(weights, dtype)

    def compute(self, arrays: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """See `Branch.compute`."""
        return (_table(arrays["value"].to(self.dtype), self.weights.folded().table),)


class CrossBranch(Branch):
    """Scores of every photo with every recipe within each of G groups.

    Args:
        weights: folded, in float64.
        model: whose they are; says how the two parts of S are weighed.
        tabulated: roles whose table is an input; that of the others is computed in the graph.
        global_dim: D_g.
        dtype: what S_local is computed in; S_global is float32 always.
    """

    def __init__(
        self,
        weights: FoldedWeights,
        model: HFICMA,
        tabulated: Sequence[str],
        global_dim: int,
        dtype: torch.dtype,
    ) -> None:
        heads, _, width = weights.image.table.shape
        inputs: ArraySpecs = {}
        for role in ROLES:
            count, size = _letters(role, model.region_count)
            for name in PROJECTIONS:
                inputs[f"{role}_{name}"] = _floats("G", count, size, width)
            inputs[f"{role}_gate_bias"] = _floats("G", count, size)
            inputs[f"{role}_mean"] = _floats("G", count, width)
            if role in tabulated:
                inputs[f"{role}_table"] = _floats("G", count, heads, size, width)
            inputs[f"{role}_global"] = _floats("G", count, global_dim)
        inputs["recipe_lengths"] = ArraySpec("int64", ("G", "M"))
        scores = _floats("G", "B", "M")
        super().__init__(inputs, {"score": scores, "global": scores, "local": scores}, dtype)
        self.weights = _FoldedBuffers(weights, dtype)
        self.score_weights = model.config.score_weights

    def compute(self, arrays: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """See `Branch.compute`."""
        weights = self.weights.folded()
        image = self._encodings("image", arrays, weights.image)
        recipe = self._encodings("recipe", arrays, weights.recipe)
        local = pair_block(image, recipe, weights).float()
        global_ = arrays["image_global"] @ arrays["recipe_global"].mT
        return self.score_weights.total(global_, local), global_, local

    def _encodings(
        self, role: str, arrays: dict[str, Tensor], weights: FoldedItemWeights
    ) -> PaddedEncodings:
        """Gather the inputs of one role, computing the table where it is none of them."""
        names = (*PROJECTIONS, "gate_bias", "mean")
        parts = {name: arrays[f"{role}_{name}"].to(self.dtype) for name in names}
        lengths = arrays.get(f"{role}_lengths")
        if lengths is None:  # photos: every one has R regions
            lengths = torch.full_like(parts["mean"][..., 0], parts["key"].shape[-2])
        stored = arrays.get(f"{role}_table")
        table = _table(parts["value"], weights.table) if stored is None else stored.to(self.dtype)
        return PaddedEncodings(**parts, lengths=lengths, table=table)


def branches(
    model: Model,
    dtype: torch.dtype = torch.float32,
    *,
    image_encoder: nn.Module | None = None,
) -> Iterator[tuple[str, Branch]]:
    """Yield the graphs of a model by name, one after the other, in evaluation mode.

    Args:
        model: in evaluation mode; is not changed.
        dtype: what the graphs compute in.
        image_encoder: float32 pixels to features in `dtype`, in place of the model's own with its
            weights rounded one by one.
    """
    wide = model
    if dtype != torch.float32:
        model = copy.deepcopy(model).to(dtype)
        for name in wide.float32_layers:
            setattr(model, name, getattr(wide, name))
        if image_encoder is not None:
            model.normalize, model.trunk = wide.normalize, image_encoder
    global_dim = wide.global_dim
    yield "image", ImageBranch(model, global_dim, dtype).eval()
    if model.sentence_encoder is not None:
        yield "sentence", SentenceBranch(model, dtype).eval()
    if model.text_encoder is not None:
        yield "text", TextBranch(model.text_encoder, dtype).eval()
    yield "recipe", RecipeBranch(model, global_dim, dtype).eval()
    if not isinstance(wide, HFICMA):
        return
    weights, regions = wide.fold_in_float64(), wide.region_count
    for role, item_weights in (("image", weights.image), ("recipe", weights.recipe)):
        yield f"project_{role}", ProjectBranch(role, item_weights, regions, dtype).eval()
        yield f"tabulate_{role}", TabulateBranch(role, item_weights, regions, dtype).eval()
    for name, tabulated in (
        ("cross_tables", ROLES),
        ("cross_recipe_projections", ("image",)),
        ("cross_image_projections", ("recipe",)),
    ):
        yield name, CrossBranch(weights, wide, tabulated, global_dim, dtype).eval()


class _FoldedItemBuffers(nn.Module):
    """`FoldedItemWeights` as buffers, so that they move and export with their graph."""

    def __init__(self, weights: FoldedItemWeights, dtype: torch.dtype) -> None:
        super().__init__()
        for name, tensor in weights._asdict().items():
            self.register_buffer(name, tensor.to(dtype).contiguous())

    def folded(self) -> FoldedItemWeights:
        """Return the buffers as they came in."""
        return FoldedItemWeights(
            **{name: getattr(self, name) for name in FoldedItemWeights._fields}
        )


class _FoldedBuffers(nn.Module):
    """`FoldedWeights` as buffers."""

    def __init__(self, weights: FoldedWeights, dtype: torch.dtype) -> None:
        super().__init__()
        self.image = _FoldedItemBuffers(weights.image, dtype)
        self.recipe = _FoldedItemBuffers(weights.recipe, dtype)
        for name in FoldedWeights._fields[2:]:
            self.register_buffer(name, getattr(weights, name).to(dtype))

    def folded(self) -> FoldedWeights:
        """Return the buffers as they came in."""
        rest = {name: getattr(self, name) for name in FoldedWeights._fields[2:]}
        return FoldedWeights(image=self.image.folded(), recipe=self.recipe.folded(), **rest)


def _table(value: Tensor, weight: Tensor) -> Tensor:
    """Compute the table (..., H, L, D) of values (..., L, D), as `similarity.tabulate` does.

    A product a head with a constant matrix, which runtimes pack once; one batched product over
    all heads takes onnxruntime ten times as long.
    """
    heads, head_width, width = weight.shape
    parts = value.split(head_width, dim=-1)
    rows = torch.cat([part @ weight[head] for head, part in enumerate(parts)], dim=-2)
    return rows.reshape(*value.shape[:-2], heads, value.shape[-2], width)


def _present(tokens: Tokens) -> tuple[Tensor, ...]:
    """Return the global vectors and, with a local part, the tokens."""
    return (tokens.global_,) if tokens.tokens is None else (tokens.global_, tokens.tokens)


def _without(model: Model, *names: str) -> Model:
    """Return a shallow copy of a model that lacks some of its parts."""
    partial = copy.copy(model)
    partial._modules = {name: part for name, part in model._modules.items() if name not in names}
    return partial


def _letters(role: str, regions: int) -> tuple[str, int | str]:
    """Return the axes of a role's items and of their tokens."""
    return ("B", regions) if role == "image" else ("M", "T")


def _floats(*shape: int | str) -> ArraySpec:
    """Return the spec of a float32 array."""
    return ArraySpec("float32", shape)
