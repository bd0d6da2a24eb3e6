"""The model cut into the graphs that export compiles and runtimes execute, by name.

A graph reads and gives named arrays: ids as int64, photos as uint8, everything else float32
in every precision, so that whoever feeds one need not know what it computes in.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..images import CROP
from .base import Model, Tokens
from .config import REGION_GRID
from .encoders.sentence_encoder import MeanSentences
from .hf_icma import HFICMA
from .similarity import FoldedItemWeights, FoldedWeights, PaddedEncodings, pair_block, project

REGIONS = REGION_GRID**2
PROJECTIONS = ("query", "key", "value", "gate", "fuse")


@dataclass(frozen=True)
class Port:
    """An input or output of a graph."""

    dtype: str
    """`uint8`, `int64` or `float32`."""
    shape: tuple[int | str, ...]
    """Fixed sizes as numbers, dynamic ones by letter."""


Ports = dict[str, Port]


class Branch(nn.Module):
    """One graph: arrays in the order of `inputs` to a tuple in the order of `outputs`.

    Args:
        inputs: by name, in the order of the arguments.
        outputs: by name, in the order of the results.
        dtype: what the graph computes in.
    """

    def __init__(self, inputs: Ports, outputs: Ports, dtype: torch.dtype) -> None:
        super().__init__()
        self.inputs = inputs
        self.outputs = outputs
        self.dtype = dtype

    @abstractmethod
    def compute(self, arrays: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """The graph itself, in `dtype`, except for what it widens on purpose."""

    def forward(self, *arrays: Tensor) -> tuple[Tensor, ...]:
        """Run on arrays in the order of `inputs`; gives float32."""
        named = dict(zip(self.inputs, arrays, strict=True))
        return tuple(result.float() for result in self.compute(named))


class ImageBranch(Branch):
    """Photos to global vectors and, with a local part, tokens."""

    def __init__(self, model: Model, global_dim: int, dtype: torch.dtype) -> None:
        outputs = {"global": _floats("B", global_dim)}
        if model.has_local:
            outputs["tokens"] = _floats("B", REGIONS, model.config.width)
        super().__init__({"photos": Port("uint8", ("B", CROP, CROP, 3))}, outputs, dtype)
        # The graph needs the trunk and two or three layers; the rest stays out of its weights.
        self.model = _without(model, "sentence_encoder", "ingredient_words")

    def compute(self, arrays: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """See the base."""
        return _present(self.model.image_tokens(self.model.regions(arrays["photos"])))


class SentenceBranch(Branch):
    """Word ids to sentence vectors."""

    def __init__(self, model: Model, dtype: torch.dtype) -> None:
        inputs = {"word_ids": Port("int64", ("S", "W"))}
        if not isinstance(model.sentence_encoder, MeanSentences):
            inputs["lengths"] = Port("int64", ("S",))  # a mean does not read them
        super().__init__(inputs, {"vectors": _floats("S", model.sentence_encoder.width)}, dtype)
        self.encoder = model.sentence_encoder

    def compute(self, arrays: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """See the base."""
        word_ids = arrays["word_ids"]
        return (self.encoder(word_ids, arrays.get("lengths", word_ids)),)


class RecipeBranch(Branch):
    """Ingredient ids and sentence vectors to global vectors and, with a local part, tokens."""

    def __init__(self, model: Model, global_dim: int, dtype: torch.dtype) -> None:
        inputs = {
            "ingredients": Port("int64", ("M", "T")),
            "ingredient_counts": Port("int64", ("M",)),
            "sentences": _floats("M", "N", model.sentence_encoder.width),
            "sentence_counts": Port("int64", ("M",)),
        }
        outputs = {"global": _floats("M", global_dim)}
        if model.has_local:
            outputs["tokens"] = _floats("M", "T", model.config.width)
        super().__init__(inputs, outputs, dtype)
        self.model = _without(model, "sentence_encoder", "trunk")

    def compute(self, arrays: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """See the base."""
        return _present(self.model.recipe_tokens(**arrays))


class ProjectBranch(Branch):
    """Tokens of one side to its projections."""

    def __init__(self, side: str, weights: FoldedItemWeights, dtype: torch.dtype) -> None:
        count, size = _letters(side)
        width = weights.fuse_bias.shape[0]
        inputs = {"tokens": _floats(count, size, width)}
        if side == "recipe":
            inputs["lengths"] = Port("int64", (count,))
        outputs = {name: _floats(count, size, width) for name in PROJECTIONS}
        outputs |= {"gate_bias": _floats(count, size), "mean": _floats(count, width)}
        super().__init__(inputs, outputs, dtype)
        self.weights = _Folded(weights, dtype)

    def compute(self, arrays: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """See the base."""
        tokens = arrays["tokens"].to(self.dtype)
        lengths = arrays.get("lengths")
        if lengths is None:
            lengths = torch.full_like(tokens[:, 0, 0], REGIONS)
        side = project(tokens, lengths, self.weights.side())
        return tuple(getattr(side, name) for name in self.outputs)


class TabulateBranch(Branch):
    """Values of one side to its table."""

    def __init__(self, side: str, weights: FoldedItemWeights, dtype: torch.dtype) -> None:
        count, size = _letters(side)
        heads, _, width = weights.table.shape
        super().__init__(
            {"value": _floats(count, size, width)},
            {"table": _floats(count, heads, size, width)},
            dtype,
        )
        self.weights = _Folded(weights, dtype)

    def compute(self, arrays: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """See the base."""
        return (_table(arrays["value"].to(self.dtype), self.weights.side().table),)


class CrossBranch(Branch):
    """Scores of every photo and recipe within each of G groups.

    Args:
        weights: folded, wide.
        config: of the model; its weights of the two parts.
        tabulated: sides whose table is given; the other's is made inside.
        global_dim: D_g.
        dtype: what S_local is computed in; S_global is float32 always.
    """

    def __init__(
        self,
        weights: FoldedWeights,
        model: HFICMA,
        tabulated: tuple[str, ...],
        global_dim: int,
        dtype: torch.dtype,
    ) -> None:
        heads, _, width = weights.image.table.shape
        inputs: Ports = {}
        for side in ("image", "recipe"):
            count, size = _letters(side)
            for name in PROJECTIONS:
                inputs[f"{side}_{name}"] = _floats("G", count, size, width)
            inputs[f"{side}_gate_bias"] = _floats("G", count, size)
            inputs[f"{side}_mean"] = _floats("G", count, width)
            if side in tabulated:
                inputs[f"{side}_table"] = _floats("G", count, heads, size, width)
            inputs[f"{side}_global"] = _floats("G", count, global_dim)
        inputs["recipe_lengths"] = Port("int64", ("G", "M"))
        scores = _floats("G", "B", "M")
        super().__init__(inputs, {"score": scores, "global": scores, "local": scores}, dtype)
        self.weights = _FoldedSpine(weights, dtype)
        self.score_weights = model.config.score_weights

    def compute(self, arrays: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """See the base."""
        weights = self.weights.spine()
        image = self._side("image", arrays, weights.image)
        recipe = self._side("recipe", arrays, weights.recipe)
        local = pair_block(image, recipe, weights).float()
        global_ = arrays["image_global"] @ arrays["recipe_global"].mT
        return self.score_weights.total(global_, local), global_, local

    def _side(
        self, side: str, arrays: dict[str, Tensor], weights: FoldedItemWeights
    ) -> PaddedEncodings:
        names = (*PROJECTIONS, "gate_bias", "mean")
        parts = {name: arrays[f"{side}_{name}"].to(self.dtype) for name in names}
        lengths = arrays.get(f"{side}_lengths")
        if lengths is None:
            lengths = torch.full_like(parts["mean"][..., 0], REGIONS)
        given = arrays.get(f"{side}_table")
        table = _table(parts["value"], weights.table) if given is None else given.to(self.dtype)
        return PaddedEncodings(**parts, lengths=lengths, table=table)


def branches(
    model: Model, dtype: torch.dtype = torch.float32, *, trunk: nn.Module | None = None
) -> Iterator[tuple[str, Branch]]:
    """The graphs of a model by name, one after the other, in evaluation mode.

    Args:
        model: in evaluation mode; is not changed.
        dtype: what the graphs compute in.
        trunk: float32 pixels to regions in `dtype`, in place of the model's own rounded as it is.
    """
    wide = model
    if dtype != torch.float32:
        model = copy.deepcopy(model).to(dtype)
        for name in wide.kept_wide:
            setattr(model, name, getattr(wide, name))
        if trunk is not None:
            model.normalize, model.trunk = wide.normalize, trunk
    global_dim = global_width(wide)
    yield "image", ImageBranch(model, global_dim, dtype).eval()
    yield "sentence", SentenceBranch(model, dtype).eval()
    yield "recipe", RecipeBranch(model, global_dim, dtype).eval()
    if not isinstance(wide, HFICMA):
        return
    weights = _fold_wide(wide)
    for side, own in (("image", weights.image), ("recipe", weights.recipe)):
        yield f"project_{side}", ProjectBranch(side, own, dtype).eval()
        yield f"tabulate_{side}", TabulateBranch(side, own, dtype).eval()
    for name, tabulated in (
        ("cross_tables", ("image", "recipe")),
        ("cross_recipe_projections", ("image",)),
        ("cross_image_projections", ("recipe",)),
    ):
        yield name, CrossBranch(weights, wide, tabulated, global_dim, dtype).eval()


def global_width(model: Model) -> int:
    """D_g of a model, from its layers."""
    config = model.config
    if config.kind == "adamine":
        return config.width
    return config.global_dim if config.global_dim is not None else 2 * config.width


class _Folded(nn.Module):
    """`FoldedItemWeights` as buffers, so that they move and export with their graph."""

    def __init__(self, weights: FoldedItemWeights, dtype: torch.dtype) -> None:
        super().__init__()
        for name, tensor in weights._asdict().items():
            self.register_buffer(name, tensor.to(dtype).contiguous())

    def side(self) -> FoldedItemWeights:
        """The weights again."""
        return FoldedItemWeights(
            **{name: getattr(self, name) for name in FoldedItemWeights._fields}
        )


class _FoldedSpine(nn.Module):
    def __init__(self, weights: FoldedWeights, dtype: torch.dtype) -> None:
        super().__init__()
        self.image = _Folded(weights.image, dtype)
        self.recipe = _Folded(weights.recipe, dtype)
        for name in FoldedWeights._fields[2:]:
            self.register_buffer(name, getattr(weights, name).to(dtype))

    def spine(self) -> FoldedWeights:
        """The weights again."""
        rest = {name: getattr(self, name) for name in FoldedWeights._fields[2:]}
        return FoldedWeights(image=self.image.side(), recipe=self.recipe.side(), **rest)


def _fold_wide(model: HFICMA) -> FoldedWeights:
    """The spine multiplied out in float64: rounding happens once, to the graph's precision."""
    with torch.no_grad():
        return copy.deepcopy(model.cross_fusion).double().fold()


def _table(value: Tensor, weight: Tensor) -> Tensor:
    """value (..., n, d) to its table (..., H, n, d).

    A product a head with a constant matrix, which runtimes pack once; one batched product over
    all heads takes onnxruntime ten times as long.
    """
    heads, head_width, width = weight.shape
    parts = value.split(head_width, dim=-1)
    rows = torch.cat([part @ weight[head] for head, part in enumerate(parts)], dim=-2)
    return rows.reshape(*value.shape[:-2], heads, value.shape[-2], width)


def _present(tokens: Tokens) -> tuple[Tensor, ...]:
    return (tokens.global_,) if tokens.tokens is None else (tokens.global_, tokens.tokens)


def _without(model: Model, *names: str) -> Model:
    """A shallow copy of a model that lacks some of its parts."""
    partial = copy.copy(model)
    partial._modules = {name: part for name, part in model._modules.items() if name not in names}
    return partial


def _letters(side: str) -> tuple[str, int | str]:
    return ("B", REGIONS) if side == "image" else ("M", "T")


def _floats(*shape: int | str) -> Port:
    return Port("float32", shape)
