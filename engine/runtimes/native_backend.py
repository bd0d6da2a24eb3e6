"""The package's own kernels, compiled with it: they run cross graphs, and nothing else.

They read a cross graph's weights out of its ONNX file and compute what `pair_block` of
hficma/model/similarity.py does. Like any runtime they are held to the bundle's reference before
`auto` takes them. Re-ranking goes further than `run`: it has them read items where they lie.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar, Literal, Self

import numpy as np

from hficma.artifacts.manifest import read_manifest
from hficma.errors import ArtifactError, InputError
from hficma.model.config import ModelConfig
from hficma.types import Array, Floats

from ..native.library import PROJECTIONS, TABLES, MissingKernelsError
from ..native.pair_kernel import PairKernel, PairWeights, TileItems
from .base import Arrays, ExecutionReport, Graph, Runtime, example_inputs, prepare_inputs
from .onnx_check.onnx_file import read_onnx, read_weights
from .options import processors

Role = Literal["image", "recipe"]
TILE_TOKENS = 96
"""Tokens of the items that a thread scores at once: what a tile reads stays in its core's cache."""


class NativeRuntime(Runtime):
    """A cross graph's weights, and the kernels that score pairs with them.

    Args:
        graph: what it runs.
        threads: that score tiles.
    """

    name: ClassVar[str] = "native"
    precisions: ClassVar[tuple[str, ...]] = ("fp32",)

    def __init__(self, graph: Graph, threads: int) -> None:
        manifest = read_manifest(graph.bundle, kind="bundle")
        config = ModelConfig.from_json(manifest.facts["model"])
        self.graph = graph
        self._heads = config.heads
        self._score_weights = config.score_weights
        self._weights = _CrossWeights(graph, config.width, config.heads)
        self._kernels: dict[Role, PairKernel] = {}
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        try:
            for role in _item_roles(graph):
                self._kernels[role] = self.kernel(role)
        except MissingKernelsError as error:
            raise InputError(
                f"runtime native: {error}; install where there is a compiler"
            ) from error

    @classmethod
    def load(cls, graph: Graph, *, device: str = "cpu", threads: int | None = None) -> Self:
        """See `Runtime.load`."""
        if device != "cpu":
            raise InputError(f"device {device}: the runtime native runs on the CPU")
        if not graph.name.startswith("cross"):
            raise ArtifactError(f"{graph.file}: the runtime native runs cross graphs only")
        runtime = cls(graph, threads or processors())
        runtime.run(example_inputs(graph, {}))
        return runtime

    def kernel(
        self, items: Role, *, projection: Graph | None = None, kind: str | None = None
    ) -> PairKernel:
        """Return what scores items of a role, for queries of the other.

        Args:
            items: their role; its tables are computed where the graph computes them.
            projection: the graph that projects items of this role, for items given as tokens.
            kind: of the kernels; None takes the fastest in float32.

        Raises:
            MissingKernelsError: this processor has no such kernels.
        """
        weights = self._weights.of_items(items, projection)
        return PairKernel(weights, query_first=items == "recipe", kind=kind)

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """See `Runtime.run`."""
        ready = prepare_inputs(self.graph, inputs)
        groups, photos = ready["image_mean"].shape[:2]
        recipes = ready["recipe_mean"].shape[1]
        local = np.empty((groups, photos, recipes), np.float32)
        # The kernels score one query with many items. Of a graph that takes both roles' tables,
        # whichever role there are fewer of are the queries, photos where there are as many.
        items = self._items_role(photos, recipes)
        for group in range(groups):
            scores = self._group({name: array[group] for name, array in ready.items()}, items)
            local[group] = scores if items == "recipe" else scores.T
        global_ = ready["image_global"] @ ready["recipe_global"].swapaxes(-1, -2)
        total = self._score_weights.total(global_, local)
        return {"score": total.astype(np.float32), "global": global_, "local": local}

    def describe(self) -> ExecutionReport:
        """See `Runtime.describe`."""
        kernel = next(iter(self._kernels.values()))
        return ExecutionReport(
            runtime=self.name,
            version=kernel.kind,
            provider=kernel.kind,
            device="cpu",
            precision="fp32",
        )

    def _items_role(self, photos: int, recipes: int) -> Role:
        if len(self._kernels) == 1:
            return next(iter(self._kernels))
        return "recipe" if photos <= recipes else "image"

    def _group(self, arrays: Mapping[str, Array], items: Role) -> Floats:
        """Return S_local of all pairs of a group: (queries, items)."""
        queries: Role = "image" if items == "recipe" else "recipe"
        kernel = self._kernels[items]
        both = {role: _of_role(arrays, role) for role in (queries, items)}
        lengths = {role: _lengths(arrays, role) for role in (queries, items)}
        count, size = both[items]["gate_bias"].shape
        rows = {
            name: array.reshape(-1, array.shape[-1]) if name in (*PROJECTIONS, "table") else array
            for name, array in both[items].items()
        }
        rows["gate_bias"] = rows["gate_bias"].reshape(-1)
        if "table" in rows:
            # The kernels read an item's heads as runs of its own length: padding is left out.
            rows["table"] = _without_padding(both[items]["table"], lengths[items])
        if "table" in rows and (lengths[items] != size).any():
            valid = np.arange(size) < lengths[items][:, None]
            for name in (*PROJECTIONS, "gate_bias"):
                rows[name] = np.ascontiguousarray(both[items][name][valid])
            first = np.cumsum(lengths[items]) - lengths[items]
        else:
            first = np.arange(count) * size
        step = max(1, TILE_TOKENS // size)
        tiles = [np.arange(start, min(start + step, count)) for start in range(0, count, step)]
        if "table" not in rows and len(lengths[queries]) > 1:
            # Computed once for all queries, and without padding.
            projections = [TileItems(lengths[items][t], first[t], t, rows, {}) for t in tiles]
            rows = kernel.tabulate_tiles(
                [part.lengths for part in projections], projections.__getitem__, self._pool
            )
            first = np.cumsum(lengths[items]) - lengths[items]
        scores = np.empty((len(lengths[queries]), count), np.float32)
        means, logits = kernel.means(count), np.empty((count, kernel.match_parts), np.float32)
        for number, length in enumerate(lengths[queries].tolist()):
            query = kernel.pack(_one_item(both[queries], number, length))

            def fuse(tile: Array) -> None:
                part = TileItems(lengths[items][tile], first[tile], tile, rows, {})
                kernel.fuse(query, part, means[tile[0] : tile[-1] + 1])  # noqa: B023

            list(self._pool.map(fuse, tiles) if self._pool else map(fuse, tiles))
            kernel.match(means, logits, 0, kernel.match_parts)
            scores[number] = kernel.finish(logits)
        return scores


class _CrossWeights:
    """The weights of a cross graph, told apart by what the graph does with them.

    Not by their names: of weights that are equal, such as the biases of a new model, exports keep
    one under one of the names.

    Args:
        graph: the cross graph.
        width: D.
        heads: H.

    Raises:
        ArtifactError: the file is not as exports write it.
    """

    def __init__(self, graph: Graph, width: int, heads: int) -> None:
        self._width, self._heads = width, heads
        products, additions = graph_constants(graph, "MatMul", "Add")
        sums = [bias for bias in additions if bias.shape in ((width,), (1,))]
        # The photo's tokens are fused first, then the recipe's, then the matching MLP runs.
        shapes = [bias.shape for bias in sums]
        tables = products[:-2]
        matrices = [(width // heads, width)] * len(tables) + [(2 * width, width), (width, 1)]
        if (
            shapes != [(width,), (width,), (width,), (1,)]
            or [matrix.shape for matrix in products] != matrices
            or len(tables) not in (0, heads)
        ):
            raise ArtifactError(f"{graph.file}: its weights are not where exports have them")
        self._fuse_bias: dict[Role, Floats] = {"image": sums[0], "recipe": sums[1]}
        self._hidden_bias, self._output_bias = sums[2], float(sums[3][0])
        self._hidden, self._output = products[-2], products[-1].reshape(-1)
        self._table = np.stack(tables) if tables else None

    def of_items(self, items: Role, projection: Graph | None) -> PairWeights:
        """Return the weights that scoring items of a role reads."""
        projecting: dict[str, Floats] = {}
        if projection is not None:
            (matrix, gate_bias), (bias,) = graph_constants(projection, "MatMul", "Add")
            expected = ((self._width, 5 * self._width), (self._width,), (5 * self._width,))
            if (matrix.shape, gate_bias.shape, bias.shape) != expected:
                raise ArtifactError(f"{projection.file}: its weights are of other sizes")
            projecting = {"projection": matrix, "projection_bias": bias, "gate_bias": gate_bias}
        return PairWeights(
            heads=self._heads,
            query_bias=self._fuse_bias["image" if items == "recipe" else "recipe"],
            item_bias=self._fuse_bias[items],
            match_hidden=self._hidden,
            match_hidden_bias=self._hidden_bias,
            match_output=self._output,
            match_output_bias=self._output_bias,
            table=self._table,
            **projecting,
        )


def graph_constants(graph: Graph, *operators: str) -> list[list[Floats]]:
    """Return the weights that a graph's nodes of each operator read, in the nodes' order.

    Args:
        graph: of a bundle, in fp32.
        operators: of ONNX, such as `MatMul`.
    """
    weights, nodes = read_weights(graph.file), read_onnx(graph.file).nodes
    return [
        [
            weights[name]
            for node in nodes
            if node.operator == operator
            for name in node.inputs
            if name in weights
        ]
        for operator in operators
    ]


def _item_roles(graph: Graph) -> list[Role]:
    """Return whose items a graph can score: those whose query comes with its table."""
    roles: list[Role] = []
    if "image_table" in graph.inputs:
        roles.append("recipe")
    if "recipe_table" in graph.inputs:
        roles.append("image")
    return roles


def _of_role(arrays: Mapping[str, Array], role: Role) -> dict[str, Array]:
    """Return the arrays of one role by their own names."""
    return {name: arrays[f"{role}_{name}"] for name in TABLES if f"{role}_{name}" in arrays}


def _lengths(arrays: Mapping[str, Array], role: Role) -> Array:
    """Return the tokens of each item of one role: photos have no padding."""
    bias = arrays[f"{role}_gate_bias"]
    if role == "image":
        return np.full(len(bias), bias.shape[1], dtype=np.int64)
    lengths = arrays["recipe_lengths"]
    if ((lengths < 1) | (lengths > bias.shape[1])).any():
        raise ValueError("recipe_lengths are not those of the recipes' tokens")
    return lengths


def _without_padding(table: Floats, lengths: Array) -> Floats:
    """Return tables (n, H, L, D) as rows, each head's run of an item's own length."""
    count, heads, size, width = table.shape
    if (lengths == size).all():
        return table.reshape(-1, width)
    valid = np.arange(size) < np.repeat(lengths, heads)[:, None]
    return np.ascontiguousarray(table.reshape(count * heads, size, width)[valid])


def _one_item(arrays: Mapping[str, Array], number: int, length: int) -> dict[str, Array]:
    """Return the arrays of one item, without padding."""
    item = {name: arrays[name][number, :length] for name in (*PROJECTIONS, "gate_bias")}
    item["mean"] = arrays["mean"][number]
    item["table"] = arrays["table"][number, :, :length]
    return item
