"""Opens a bundle for inference: files are verified when used, graphs loaded when first run."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Self

from hficma.artifacts.closing import Closing
from hficma.artifacts.manifest import Manifest, read_manifest, verified_file
from hficma.errors import ArtifactError, InputError
from hficma.images import ImageInput
from hficma.scores import ScoreWeights
from hficma.sureness import SurenessFacts
from hficma.text.text_tokenizer import text_tokenizer
from hficma.text.vocabulary import VOCABULARY_FILE, Tokenizer, Vocabulary
from hficma.types import Array

from ..runtimes import RUNTIMES, Arrays, ExecutionReport, Graph, Runtime, runtime_class
from ..runtimes.onnx_check.graph_costs import check_graph
from ..runtimes.options import AUTO, ExecutionOptions
from ..runtimes.reference import REFERENCE, read_reference
from ..runtimes.selection import Choice, choose, first_able
from .bundle_facts import KIND, BundleFacts, longest_sizes
from .sureness_file import read_sureness

DEFAULT_EXECUTION = ExecutionOptions()
"""The fastest runtime here, in fp32, on all CPU cores."""

_log = logging.getLogger("hficma")


class Bundle(Closing):
    """The compiled branches of one model, and the tokenizer that its inputs need.

    Opened by `Bundle.open`. Any number of threads may run graphs at once. Closing it frees its
    sessions: their memory, threads and files.

    Args:
        path: the bundle's directory.
        manifest: of the directory.
        facts: what the manifest records of the model and its graphs.
        execution: how the graphs are executed.
    """

    def __init__(
        self, path: Path, manifest: Manifest, facts: BundleFacts, execution: ExecutionOptions
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.facts = facts
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
        manifest = read_manifest(directory, kind=KIND)
        facts = BundleFacts.from_json(manifest.facts, directory)
        # fp32 is what nobody asked for: the graphs of a slim bundle run in what they have.
        if execution.precision not in facts.precisions | {"fp32"}:
            raise ArtifactError(
                f"{directory}: has no {execution.precision} graphs; export the model in that "
                f"precision, or take one of {', '.join(sorted(facts.precisions))}"
            )
        return cls(directory, manifest, facts, execution)

    @property
    def model_id(self) -> str:
        """Return a SHA-256 over weights, options and vocabulary: what an index belongs to."""
        return self.facts.model_id

    @property
    def has_local(self) -> bool:
        """Return whether the model has cross-attention, and so S a local part."""
        return self.facts.has_local

    @property
    def image_input(self) -> ImageInput:
        """Return the pixels that the image branch reads of a photo."""
        return self.facts.model.image_input

    @property
    def score_weights(self) -> ScoreWeights:
        """Return w_g and w_l, finite and not negative; w_l is 0 without a local part."""
        return self.facts.model.score_weights

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Return what reads recipes as the model does."""
        vocabulary = Vocabulary.load(verified_file(self.path, self.manifest, VOCABULARY_FILE))
        config = self.facts.model.text
        texts = text_tokenizer(config.text_architecture, self.path, self.manifest)
        return Tokenizer(vocabulary, config, texts)

    @cached_property
    def sureness(self) -> SurenessFacts | None:
        """Return what scores say of how sure an answer is; None for a model not calibrated."""
        return read_sureness(self.path, self.manifest)

    def graph(self, name: str, precision: str | None = None) -> Graph:
        """Return a graph, its file verified and checked.

        Args:
            name: `image`, `recipe`, ...
            precision: None takes the bundle's; where this graph lacks it `fp32`, or the only one
                that a slim bundle has.

        Raises:
            ArtifactError: the model has no such graph, or its file was changed.
        """
        facts = self.facts.graphs.get(name)
        if facts is None:
            raise ArtifactError(f"{self.path}: a {self.facts.model.kind} model has no graph {name}")
        files = facts.files
        if precision is None:
            requested = self.execution.precision
            precision = facts.precision(requested)
            if precision != requested and (name, precision) not in self._graphs:
                _log.info("graph %s has no %s: it runs in %s", name, requested, precision)
        if (name, precision) in self._graphs:
            return self._graphs[name, precision]  # hashed and checked once, not at every use
        if precision not in files:
            raise ArtifactError(f"{self.path}: graph {name} was not exported in {precision}")
        file = verified_file(self.path, self.manifest, files[precision])
        graph = Graph(
            name=name,
            precision=precision,
            file=file,
            sha256=self.manifest.files[files[precision]],
            bundle=self.path,
            model_id=self.model_id,
            inputs=facts.inputs,
            outputs=facts.outputs,
            longest=longest_sizes(self.facts.model.text, name),
        )
        check_graph(graph)
        self._graphs[name, precision] = graph
        return graph

    def runtime(self, name: str) -> Runtime:
        """Return the loaded graph of a name; the first call loads it.

        Raises:
            ArtifactError: the model has no such graph, or its file was changed.
            InputError: the bundle was closed, or the runtime has no such device.
        """
        with self._lock:
            if self._closed:
                raise InputError(f"{self.path}: this bundle was closed; open it again")
            if name not in self._loaded:
                self._loaded[name] = self._load(self.graph(name))
            return self._loaded[name]

    def run(self, graph: str, inputs: Arrays) -> dict[str, Array]:
        """Run a graph on named arrays.

        Args:
            graph: its name.
            inputs: by name; `facts.graphs` has names, dtypes and shapes.

        Returns:
            float32 arrays by name.
        """
        return self.runtime(graph).run(inputs)

    def describe(self) -> dict[str, ExecutionReport]:
        """Return what really runs each graph that was loaded, by name."""
        return {name: loaded.describe() for name, loaded in self._loaded.items()}

    def close(self) -> None:
        """Free the sessions, their memory, threads and files; a run that has begun ends first."""
        with self._lock:
            self._closed = True
            self._loaded.clear()
            self._graphs.clear()
            self.__dict__.pop("_reference", None)  # up to 300 MB

    def _load(self, graph: Graph) -> Runtime:
        """Load a graph into the runtime of the options, or the one that `auto` measures."""
        name = self.execution.runtime
        if name == AUTO or not RUNTIMES[name].runs(graph.name):
            if self.facts.slim:
                self.choices[graph.name], loaded = first_able(graph, self.execution)
                return loaded
            choice = choose(graph, lambda: self._reference, self.execution)
            self.choices[graph.name] = choice
            name = choice.runtime
            if choice.precision is not None:
                graph = replace(graph, precision=choice.precision)
        return runtime_class(name).load(
            graph, device=self.execution.device, threads=self.execution.threads
        )

    @cached_property
    def _reference(self) -> dict[str, Array]:
        """Return what the graphs should give; read only while runtimes are measured."""
        return read_reference(verified_file(self.path, self.manifest, REFERENCE))
