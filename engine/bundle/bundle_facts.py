"""What a bundle's manifest says of its model and graphs, checked before anything is computed."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hficma.artifacts.json_fields import LARGEST_SIZE, Fields, text
from hficma.artifacts.manifest import MANIFEST, read_manifest
from hficma.errors import ArtifactError
from hficma.model.config import ModelConfig
from hficma.text.vocabulary import TextConfig
from hficma.types import ArraySpec, ArraySpecs

KIND = "bundle"
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
"""What a graph can be exported in."""

_MODEL_ID = re.compile("[0-9a-f]{64}")
_DTYPES = ("uint8", "int64", "float32")
_PROJECTIONS = ("query", "key", "value", "gate", "fuse")


@dataclass(frozen=True, kw_only=True)
class GraphFacts:
    """What a bundle's manifest records of one graph."""

    inputs: ArraySpecs
    """By name."""
    outputs: ArraySpecs
    """By name."""
    files: Mapping[str, str]
    """Precision to the ONNX file in the bundle; has `fp32`, unless the bundle is slim."""

    def precision(self, requested: str) -> str:
        """Return the precision that the graph runs in where another is requested.

        Args:
            requested: of `PRECISIONS`; where the graph lacks it, that is `fp32`, or the only one.
        """
        if requested in self.files:
            return requested
        return "fp32" if "fp32" in self.files else next(iter(self.files))


@dataclass(frozen=True, kw_only=True)
class BundleFacts:
    """What a bundle's manifest records.

    Certificates need weights of S that are finite and not negative; sizes decide how memory is
    read; every graph has the ports that a model of these sizes has. All of that is checked by
    `from_json`, so that whoever reads the facts or feeds a graph need not look.
    """

    model: ModelConfig
    """The model's options."""
    model_id: str
    """SHA-256 over weights, options and vocabulary: what an index belongs to."""
    has_local: bool
    """Whether the model has cross-attention, and so S_local."""
    global_dim: int
    """D_g: width of a global vector."""
    width: int
    """D: width of a token."""
    heads: int
    """H: attention heads; divides the width."""
    regions: int
    """R: regions of a photo, a square grid row by row."""
    sentence_dim: int
    """Width of a sentence vector."""
    graphs: Mapping[str, GraphFacts]
    """By name, in the order in which each can be fed by those before it."""
    opset: int | None
    """Version of ONNX's operators; like the fields below None where an older version wrote none."""
    run: str | None
    """Name of the run that trained the model; None for weights that nothing trained."""
    dataset: str | None
    """What calibration and the comparison of ranks read; None where they used random items."""
    trained_on: str | None
    """Name of the data set that the model was trained on, where that is known."""
    int8_kept_wide: tuple[str, ...] | None
    """Layers that the int8 graph keeps in fp32."""
    slim: bool = False
    """Whether it has one precision a graph, and neither torch weights nor a reference."""

    @property
    def grid(self) -> int:
        """Return the regions a side: R = grid²."""
        return math.isqrt(self.regions)

    @property
    def precisions(self) -> set[str]:
        """Return every precision that some graph has."""
        return {precision for graph in self.graphs.values() for precision in graph.files}

    @property
    def contents(self) -> str:
        """Return in words what graphs there are: `fp32, int8` or `int8, slim`."""
        order = [precision for precision in PRECISIONS if precision in self.precisions]
        return ", ".join([*order, "slim"] if self.slim else order)

    @classmethod
    def read(cls, path: Path) -> BundleFacts:
        """Read the facts of the bundle at `path`.

        Raises:
            ArtifactError: no bundle there, or a damaged one.
        """
        return cls.from_json(read_manifest(path, kind=KIND).facts, path)

    @classmethod
    def from_json(cls, record: Mapping[str, Any], path: Path) -> BundleFacts:
        """Read the facts out of the JSON values of a manifest.

        Args:
            record: the manifest's facts.
            path: of the bundle, for messages.

        Raises:
            ArtifactError: something is missing, of another type or out of its range.
        """
        try:
            facts = cls._parsed(Fields(dict(record), "facts"))
            facts._check()
        except ValueError as error:
            raise ArtifactError(f"{path}: its {MANIFEST} is damaged ({error})") from error
        return facts

    @classmethod
    def _parsed(cls, record: Fields) -> BundleFacts:
        """Return the facts of a manifest; raises ValueError where they are not of the format."""
        graphs = record.object("graphs")
        wide = record.sequence("int8_kept_wide") if "int8_kept_wide" in record else None
        return cls(
            model=ModelConfig.from_json(record.value("model")),
            model_id=record.text("model_id"),
            has_local=record.flag("has_local"),
            global_dim=record.integer("global_dim", 1, LARGEST_SIZE),
            width=record.integer("width", 1, LARGEST_SIZE),
            heads=record.integer("heads", 1, LARGEST_SIZE),
            regions=record.integer("regions", 1, LARGEST_SIZE),
            sentence_dim=record.integer("sentence_dim", 1, LARGEST_SIZE),
            graphs={name: _graph(graphs, name) for name in graphs},
            opset=record.integer("opset") if "opset" in record else None,
            run=record.optional_text("run") if "run" in record else None,
            dataset=record.optional_text("dataset") if "dataset" in record else None,
            trained_on=record.optional_text("trained_on") if "trained_on" in record else None,
            int8_kept_wide=None if wide is None else tuple(text(one, "a layer") for one in wide),
            slim=record.flag("slim") if "slim" in record else False,
        )

    def _check(self) -> None:
        """Compare the facts with each other; raises ValueError."""
        # It names a folder of the cache.
        if not _MODEL_ID.fullmatch(self.model_id):
            raise ValueError("facts.model_id is no SHA-256")
        if self.has_local != (self.model.kind == "hf-icma"):
            raise ValueError(f"facts.has_local is {self.has_local}, the model is {self.model.kind}")
        if self.grid**2 != self.regions:
            raise ValueError(f"facts.regions {self.regions} are no square grid")
        if self.width % self.heads:
            raise ValueError(f"facts.width {self.width} is not divisible by {self.heads} heads")
        for name in ("max_ingredients", "max_sentences", "max_words"):
            if getattr(self.model.text, name) < 1:
                raise ValueError(f"model.text.{name} is 0: the model would read nothing")
        expected = graph_ports(self)
        if unlike := expected.keys() ^ self.graphs.keys():
            raise ValueError(f"graphs.{min(unlike)[:40]} is missing or of another model")
        for name, (inputs, outputs) in expected.items():
            graph = self.graphs[name]
            if (graph.inputs, graph.outputs) != (inputs, outputs):
                raise ValueError(f"graphs.{name} reads or gives other arrays than its model")
            if self.slim and len(graph.files) != 1:
                raise ValueError(f"graphs.{name} has {len(graph.files)} files, a slim bundle has 1")
            if not self.slim and "fp32" not in graph.files:
                raise ValueError(f"graphs.{name} has no fp32")


def longest_sizes(config: TextConfig, graph: str = "") -> dict[str, int]:
    """Return what the letters of a recipe's axes may reach in a model's graph.

    Args:
        config: what the model reads of a recipe.
        graph: its name; the words of `text` are a pretrained encoder's tokens.
    """
    architecture = config.text_architecture
    words = config.longest_sentence
    if graph == "text" and architecture is not None:
        words = architecture.longest
    return {
        "T": config.max_ingredients,
        "N": config.max_sentences,
        "W": words,
        "P": config.max_sentences + 1,
    }


def graph_ports(facts: BundleFacts) -> dict[str, tuple[ArraySpecs, ArraySpecs]]:
    """Return what the graphs of a model read and give, by name.

    Written down apart from the model, which needs torch: a bundle is checked where there is none.
    The letters are those of `hficma/types.py`, but for S, the distinct sentences of a batch, N, the
    sentences of a recipe, P, its texts for a text encoder, and G, which groups pairs (B, M) scored
    together.

    Args:
        facts: the sizes of the model; its graphs are not looked at.
    """
    d, h, r = facts.width, facts.heads, facts.regions
    size = facts.model.image_input.size
    graphs: dict[str, tuple[ArraySpecs, ArraySpecs]] = {
        "image": (
            {"photos": ArraySpec("uint8", ("B", size, size, 3))},
            {"global": _floats("B", facts.global_dim)},
        ),
    }
    recipe: ArraySpecs = {}
    if facts.model.reads_ingredients:
        recipe["ingredients"] = ArraySpec("int64", ("M", "T"))
        recipe["ingredient_counts"] = ArraySpec("int64", ("M",))
    if facts.model.sentence != "none":
        graphs["sentence"] = (
            {"word_ids": ArraySpec("int64", ("S", "W"))},
            {"vectors": _floats("S", facts.sentence_dim)},
        )
        if facts.model.sentence == "gru":  # a mean over padded words does not need their number
            graphs["sentence"][0]["lengths"] = ArraySpec("int64", ("S",))
        recipe["sentences"] = _floats("M", "N", facts.sentence_dim)
        recipe["sentence_counts"] = ArraySpec("int64", ("M",))
        if facts.model.global_text == "fields":
            recipe["title_counts"] = ArraySpec("int64", ("M",))
    architecture = facts.model.text.text_architecture
    if architecture is not None:
        graphs["text"] = (
            {"word_ids": ArraySpec("int64", ("S", "W"))},
            {"vectors": _floats("S", architecture.width)},
        )
        if architecture.pad is None:  # texts that are all padded to one length have but that
            graphs["text"][0]["lengths"] = ArraySpec("int64", ("S",))
        recipe["texts"] = _floats("M", "P", architecture.width)
        recipe["text_fields"] = ArraySpec("int64", ("M", "P"))
    graphs["recipe"] = (recipe, {"global": _floats("M", facts.global_dim)})
    if not facts.has_local:
        return graphs
    # Of each role: the letter that counts its items, and how many tokens one has.
    roles: tuple[tuple[str, str, int | str], ...] = (("image", "B", r), ("recipe", "M", "T"))
    for role, count, tokens in roles:
        graphs[role][1]["tokens"] = _floats(count, tokens, d)
        inputs: ArraySpecs = {"tokens": _floats(count, tokens, d)}
        if role == "recipe":
            inputs["lengths"] = ArraySpec("int64", (count,))
        graphs[f"project_{role}"] = (inputs, _projections((count,), tokens, d))
        graphs[f"tabulate_{role}"] = (
            {"value": _floats(count, tokens, d)},
            {"table": _floats(count, h, tokens, d)},
        )
    for name, tabulated in (
        ("cross_tables", ("image", "recipe")),
        ("cross_recipe_projections", ("image",)),
        ("cross_image_projections", ("recipe",)),
    ):
        inputs = {"recipe_lengths": ArraySpec("int64", ("G", "M"))}
        for role, count, tokens in roles:
            arrays = _projections(("G", count), tokens, d)
            arrays["global"] = _floats("G", count, facts.global_dim)
            if role in tabulated:
                arrays["table"] = _floats("G", count, h, tokens, d)
            inputs |= {f"{role}_{array}": port for array, port in arrays.items()}
        scores = _floats("G", "B", "M")
        graphs[name] = (inputs, {"score": scores, "global": scores, "local": scores})
    return graphs


def _projections(batch: tuple[str, ...], tokens: int | str, width: int) -> ArraySpecs:
    """Return the arrays of an item encoding at level projections, each (*batch, ...)."""
    ports = {name: _floats(*batch, tokens, width) for name in _PROJECTIONS}
    return ports | {"gate_bias": _floats(*batch, tokens), "mean": _floats(*batch, width)}


def _floats(*shape: int | str) -> ArraySpec:
    """Return the spec of a float32 array."""
    return ArraySpec("float32", shape)


def _graph(graphs: Fields, name: str) -> GraphFacts:
    """Return what a manifest says of a graph; raises ValueError where it is not of the format."""
    record = graphs.object(name, ("inputs", "outputs", "precisions"))
    files = record.object("precisions", PRECISIONS)
    for precision in files:
        # Whoever opens a graph joins this name to the bundle's path.
        if files.text(precision) != f"onnx/{name}.{precision}.onnx":
            raise ValueError(f"graphs.{name[:40]}.precisions.{precision} names another file")
    return GraphFacts(
        inputs=_ports(record.object("inputs")),
        outputs=_ports(record.object("outputs")),
        files={precision: files.text(precision) for precision in files},
    )


def _ports(record: Fields) -> ArraySpecs:
    """Return what a manifest says of inputs or outputs, by name."""
    return {name: _port(record.object(name, ("dtype", "shape"))) for name in record}


def _port(record: Fields) -> ArraySpec:
    """Return what a manifest says of one array."""
    shape = record.sequence("shape")
    # By type: a flag equals 1, and 1.0 does too.
    if any(type(size) not in (int, str) for size in shape):
        raise ValueError(f"a port has the shape {str(shape)[:80]}")
    return ArraySpec(record.text("dtype", _DTYPES), tuple(shape))
