"""A bundle opened for inference: verified when used, its graphs loaded when first run."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from hficma.artifacts.closing import Closing
from hficma.artifacts.manifest import Manifest, read_manifest, verified_file
from hficma.errors import ArtifactError, InputError
from hficma.scores import ScoreWeights
from hficma.text.vocabulary import TextConfig, Tokenizer, Vocabulary
from hficma.types import ArraySpec

from ..runtimes import Array, Arrays, Execution, Graph, Runtime, runtime
from ..runtimes.onnx_check.graph_costs import check_graph
from ..runtimes.options import AUTO, ExecutionOptions
from ..runtimes.reference import REFERENCE, read_reference
from ..runtimes.selection import Choice, choose
from .bundle_facts import check_bundle_facts

VOCABULARY = "vocabulary.json"

DEFAULT_EXECUTION = ExecutionOptions()
"""The fastest runtime here, in fp32, on all CPU cores."""

_log = logging.getLogger("hficma")


class Bundle(Closing):
    """The compiled branches of one model and what its inputs need. Open with `Bundle.open`.

    Closed, it lets go of its sessions: their memory, threads and files.

    Args:
        path: the bundle's directory.
        manifest: of the directory.
        execution: how the graphs are executed.
    """

    def __init__(self, path: Path, manifest: Manifest, execution: ExecutionOptions) -> None:
        self.path = path
        self.manifest = manifest
        self.execution = execution
        self.choices: dict[str, Choice] = {}
        """What `auto` took for each graph that was loaded, and why."""
        self._loaded: dict[str, Runtime] = {}
        self._graphs: dict[tuple[str, str], Graph] = {}
        self._lock = threading.Lock()
        self._closed = False

    @classmethod
    def open(cls, path: str | Path, execution: ExecutionOptions = DEFAULT_EXECUTION) -> Self:
        """Open a bundle directory; no graph is loaded yet.

        Args:
            path: the directory.
            execution: runtime, precision, device and threads.

        Raises:
            ArtifactError: no bundle there, of another format, damaged, or without the precision.
        """
        directory = Path(path)
        manifest = read_manifest(directory, kind="bundle")
        check_bundle_facts(directory, manifest.facts)
        bundle = cls(directory, manifest, execution)
        precision = execution.precision
        if not any(precision in graph["precisions"] for graph in bundle.facts["graphs"].values()):
            raise ArtifactError(
                f"{directory}: has no {precision} graphs; export it with --precision {precision}"
            )
        return bundle

    @property
    def facts(self) -> dict[str, Any]:
        """What the manifest records of the model and its graphs."""
        return self.manifest.facts

    @property
    def model_id(self) -> str:
        """SHA-256 over weights, options and vocabulary: what an index belongs to."""
        return str(self.facts["model_id"])

    @property
    def has_local(self) -> bool:
        """Whether the model has cross-attention."""
        return bool(self.facts["has_local"])

    @property
    def model_config(self) -> Mapping[str, Any]:
        """The model's options as JSON values (`hficma.model.ModelConfig.to_json`)."""
        options: Mapping[str, Any] = self.facts["model"]
        return options

    @property
    def score_weights(self) -> ScoreWeights:
        """w_g and w_l, finite and not negative; w_l is 0 for a model without a local part."""
        options = self.model_config
        return ScoreWeights(
            float(options["global_weight"]),
            float(options["local_weight"]) if self.has_local else 0.0,
        )

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Reads recipes as the model does."""
        vocabulary = Vocabulary.load(verified_file(self.path, self.manifest, VOCABULARY))
        try:
            return Tokenizer(vocabulary, TextConfig.from_json(self.model_config["text"]))
        except (TypeError, ValueError) as error:
            raise ArtifactError(f"{self.path}: its text options are damaged ({error})") from error

    def graph(self, name: str, precision: str | None = None) -> Graph:
        """A graph and its verified file.

        Args:
            name: `image`, `recipe`, ...
            precision: None takes the bundle's, or `fp32` where this graph lacks it.

        Raises:
            ArtifactError: the model has no such graph, or its file was changed.
        """
        record = self.facts["graphs"].get(name)
        if record is None:
            raise ArtifactError(
                f"{self.path}: a {self.model_config['kind']} model has no graph {name}"
            )
        files = record["precisions"]
        if precision is None:
            wanted = self.execution.precision
            precision = wanted if wanted in files else "fp32"
            if precision != wanted and (name, precision) not in self._graphs:
                _log.info("graph %s has no %s: it runs in fp32", name, wanted)
        if (name, precision) in self._graphs:
            return self._graphs[name, precision]  # a file is hashed once, not at every use
        if precision not in files:
            raise ArtifactError(f"{self.path}: graph {name} was not exported in {precision}")
        file = verified_file(self.path, self.manifest, files[precision])
        graph = Graph(
            name=name,
            precision=precision,
            file=file,
            sha256=self.manifest.files[files[precision]],
            bundle=self.path,
            inputs=_ports(record["inputs"]),
            outputs=_ports(record["outputs"]),
        )
        check_graph(graph)
        self._graphs[name, precision] = graph
        return graph

    def runtime(self, name: str) -> Runtime:
        """The loaded graph of a name; loads and warms it at the first call."""
        with self._lock:
            if self._closed:
                raise InputError(f"{self.path}: this bundle was closed; open it again")
            if name not in self._loaded:
                self._loaded[name] = self._load(self.graph(name))
            return self._loaded[name]

    def run(self, graph: str, inputs: Arrays) -> dict[str, Array]:
        """Run a graph on named arrays; see `facts["graphs"]` for names and shapes."""
        return self.runtime(graph).run(inputs)

    def describe(self) -> dict[str, Execution]:
        """What really runs each graph that was loaded."""
        return {name: loaded.describe() for name, loaded in self._loaded.items()}

    def close(self) -> None:
        """Let go of the loaded graphs; a run that has begun ends with its own."""
        with self._lock:
            self._closed = True
            self._loaded.clear()
            self._graphs.clear()

    def _load(self, graph: Graph) -> Runtime:
        name = self.execution.runtime
        if name == AUTO:
            choice = choose(graph, self._reference, self.execution)
            self.choices[graph.name] = choice
            name = choice.runtime
        return runtime(name).load(
            graph, device=self.execution.device, threads=self.execution.threads
        )

    @cached_property
    def _reference(self) -> dict[str, Array]:
        return read_reference(verified_file(self.path, self.manifest, REFERENCE))


def _ports(record: Mapping[str, Any]) -> dict[str, ArraySpec]:
    return {name: ArraySpec(port["dtype"], tuple(port["shape"])) for name, port in record.items()}
