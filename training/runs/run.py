"""The run directory: what a training run leaves on disk, whole at every moment.

    manifest.json                    what the run is, and which checkpoint is best and last
    options.json                     every option, defaults filled in
    vocabulary.json                  the words of the model
    text_tokenizer.json              those of its pretrained text encoder, if it has one
    environment.json                 versions, device, commit
    partitions.json                  ids of the pairs that the run itself kept out, if it did
    sureness.json                    how sure answers are, once it was calibrated, and ...
    sureness.safetensors             ... the scores of unseen pairs that say so
    checkpoints/0007.safetensors     weights after epoch 7
    checkpoints/0007.state.safetensors, 0007.state.json    what training needs to go on
    checkpoints/0007-000120...       the same after 120 batches of epoch 8
    log.jsonl, events/, curves.html  the course of training; they grow, so they have no hash

A checkpoint is written whole and synced before the manifest names it, by one rename; only then
are checkpoints that nothing names removed. So a run killed at any moment holds its last good one.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from hficma.artifacts.locks import LOCK as WRITING
from hficma.artifacts.locks import locked
from hficma.artifacts.manifest import (
    Manifest,
    disk_reason,
    inside,
    new_directory,
    read_manifest,
    sha256,
    verified_file,
    write_atomically,
    write_manifest,
)
from hficma.artifacts.unfinished import remove_tree
from hficma.data.partitions import FILE as PARTITIONS_FILE
from hficma.errors import ArtifactError
from hficma.limits import parse_json, read_regular_file
from hficma.metrics import figure_text
from hficma.model.config import ModelConfig
from hficma.text.text_tokenizer import TEXT_TOKENIZER_FILE, TextTokenizer, text_tokenizer
from hficma.text.vocabulary import VOCABULARY_FILE, Vocabulary

from ..config.option_values import with_new_names

CHECKPOINTS = "checkpoints"
OPTIONS = "options.json"
ENVIRONMENT = "environment.json"
LOG = "log.jsonl"
EVENTS = "events"
CURVES = "curves.html"
EVALUATIONS = "evaluations"
NO_EPOCH = "no epoch was finished"
NO_TESTS = "no test pairs are left to measure with: hold_out keeps some out of training"

Json = dict[str, Any]


@dataclass(frozen=True)
class State:
    """Tensors and records that training needs, beside the weights, to go on to the same bits."""

    tensors: Mapping[str, Tensor]
    """Optimizer moments, the dish-class head, raw weights behind a running mean."""
    record: Json
    """Epoch, schedule, optimizer steps, ... as JSON values."""


class RunDirectory:
    """One run on disk, and the only writer of its directory.

    Attributes:
        path: the directory.
        manifest: what it says of itself, as last read or written here.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        made_by: str,
        options: Json,
        environment: Json,
        vocabulary: Vocabulary,
        facts: Json,
        text_tokenizer: TextTokenizer | None = None,
        partitions: Mapping[str, str] | None = None,
    ) -> RunDirectory:
        """Create a run, without a checkpoint yet.

        Args:
            path: where it goes.
            made_by: the command.
            options: every option, as `to_tree` gives them.
            environment: versions and device, as `environment` gives them.
            vocabulary: the model's words.
            facts: what the manifest records.
            text_tokenizer: of the model's text encoder, where it has one.
            partitions: partition by recipe id, where the run chose them.

        Raises:
            ArtifactError: `path` exists.
        """
        if path.exists():
            raise ArtifactError(f"{path}: exists already; resume it, or give another name")
        with new_directory(path, kind="run", made_by=made_by) as (building, manifest_facts):
            (building / CHECKPOINTS).mkdir()
            _dump(building / OPTIONS, options)
            _dump(building / ENVIRONMENT, environment)
            vocabulary.save(building / VOCABULARY_FILE)
            if text_tokenizer is not None:
                write_atomically(building / TEXT_TOKENIZER_FILE, text_tokenizer.content)
            if partitions:
                _dump(building / PARTITIONS_FILE, _by_partition(partitions))
            manifest_facts.update(facts)
        (path / LOG).touch()
        return cls(path, read_manifest(path, kind="run"))

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """Open a run that is there already.

        Raises:
            ArtifactError: it is no run, or damaged.
        """
        return cls(path, read_manifest(path, kind="run"))

    @property
    def facts(self) -> Json:
        """Return what the manifest records."""
        return self.manifest.facts

    @property
    def last_checkpoint(self) -> str | None:
        """Return what a run goes on from, for a user; None where there is nothing yet."""
        last = self.facts.get("last")
        if not last:
            return None
        if "batch" in last:
            return f"the checkpoint within epoch {last['epoch'] + 1}"
        return f"the checkpoint of epoch {last['epoch']}"

    @property
    def outcome(self) -> str:
        """Return how good the run's weights are, and how sure that is, in one line."""
        best, tests = self.facts.get("best"), self.facts.get("test_pairs")
        figures = (best or {}).get("validation")
        # Runs of older versions did not count test pairs.
        count = "" if tests is None else f"{tests} "
        measure = NO_TESTS if tests == 0 else f"`hficma eval` measures on {count}test pairs"
        if best is None:
            return NO_EPOCH
        if figures is None:
            return f"no pairs were kept for validation; {measure}"
        parts = []
        for direction, one in figures.items():
            if isinstance(one, dict):
                ends = (one.get("intervals") or {}).get("R@10")
                text = figure_text(one["R@10"], (ends[0], ends[1]) if ends else None)
                queries = f" of {one['queries']}" if "queries" in one else ""
                parts.append(f"{direction.replace('_', ' ')} R@10 {text}{queries}")
        selected = self.options["trainer"]["keep"] == "best"
        return (
            f"epoch {best['epoch']}: {', '.join(parts)} validation pairs (in brackets: 95 %)"
            f"{', by which its epoch was chosen' if selected else ''}; {measure}"
        )

    @property
    def options(self) -> Json:
        """Return the resolved options, in today's names.

        A run that names no reader of ingredients gets the first, and options of older releases
        that nothing reads any more are left out, unless the run used them.
        """
        path = verified_file(self.path, self.manifest, OPTIONS)
        record = parse_json(read_regular_file(path), name=str(path))
        if not isinstance(record, dict):
            raise ArtifactError(f"{path}: holds no options")
        record = with_new_names(record)
        if "text" in (model := record.get("model", {})):
            model["text"] = {"reader": 1, **model["text"]}
        text = record.get("text", {})
        if not text.get("extra"):
            for name in ("extra", "extra_count"):
                text.pop(name, None)
        return record

    @property
    def vocabulary(self) -> Vocabulary:
        """Return the model's words."""
        return Vocabulary.load(verified_file(self.path, self.manifest, VOCABULARY_FILE))

    @property
    def text_tokenizer(self) -> TextTokenizer | None:
        """Return the tokenizer of the model's text encoder, or None where it has none."""
        config = ModelConfig.from_json(self.facts["model"])
        return text_tokenizer(config.text.text_architecture, self.path, self.manifest)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Make this the one process that writes to the run, for the block.

        Raises:
            ArtifactError: another one is, or was since this opened it; or the disk is full or
                gone, whichever library met that.
        """
        # What grows or is swept here is written through its name: through a link, elsewhere.
        for name in (CHECKPOINTS, LOG, EVENTS):
            inside(self.path, name)
        with locked(inside(self.path, WRITING), name=str(self.path)):
            if read_manifest(self.path, kind="run").facts.get("last") != self.facts.get("last"):
                raise ArtifactError(
                    f"{self.path}: another process has written to it meanwhile; "
                    "resume it to go on from there"
                )
            self.sweep()
            try:
                yield
            except Exception as error:
                reason = disk_reason(error)
                if reason is None:
                    raise
                last = self.last_checkpoint
                left = f"{last} is kept" if last else NO_EPOCH
                raise ArtifactError(
                    f"{self.path}: cannot be written ({reason}); {left}: mend that and resume it"
                ) from error
            finally:
                self.sweep()

    def save_checkpoint(
        self,
        epoch: int,
        weights: Mapping[str, Tensor],
        state: State,
        *,
        best: Json | None,
        batch: int = 0,
    ) -> None:
        """Write a checkpoint, name it in the manifest, remove what is out of use.

        Args:
            epoch: epochs done.
            weights: the model's whole state.
            state: to go on from.
            best: the record of this checkpoint where it is the best so far, else None.
            batch: of the next epoch, that were learnt from.
        """
        stem = f"{CHECKPOINTS}/{epoch:04d}" + (f"-{batch:06d}" if batch else "")
        names = [f"{stem}.safetensors", f"{stem}.state.safetensors", f"{stem}.state.json"]
        # Files first, and last the manifest that names them: a kill in between leaves files that
        # the next sweep removes, and the manifest names the checkpoint before.
        _save_tensors(self.path / names[0], weights)
        _save_tensors(self.path / names[1], state.tensors)
        write_atomically(self.path / names[2], json.dumps(state.record).encode())
        last = {"file": names[0], "epoch": epoch, "state": names[1:]}
        last |= {"batch": batch} if batch else {}
        facts = {**self.facts, "last": last}
        if best is not None:
            facts["best"] = {"file": names[0], "epoch": epoch, **best}
        # The best checkpoint's weights stay, without its state: only the last one is gone on from.
        used = {facts["best"]["file"], *names} if facts.get("best") else set(names)
        files = {
            name: digest
            for name, digest in self.manifest.files.items()
            if not name.startswith(CHECKPOINTS) or name in used
        }
        files |= {name: sha256(self.path / name) for name in names}
        self.manifest = replace(self.manifest, files=files, facts=facts)
        write_manifest(self.path, self.manifest)
        self.sweep()

    def save_converted(self, weights: Mapping[str, Tensor]) -> None:
        """Write the only checkpoint of a run that was converted, or remove the run.

        Args:
            weights: the model's, by name.

        Raises:
            ArtifactError: the checkpoint cannot be written.
        """
        try:
            self.save_checkpoint(0, weights, State({}, {"epoch": 0}), best={"recall_sum": None})
        except Exception as error:
            remove_tree(self.path)  # without weights it is no run, and in the way of the next try
            why = disk_reason(error)
            if why is None:
                raise
            raise ArtifactError(f"{self.path}: cannot be written ({why})") from error

    def load_checkpoint(self) -> tuple[dict[str, Tensor], State] | None:
        """Return the last checkpoint's weights and state; None where there is none yet.

        Raises:
            ArtifactError: a file is missing or not as it was written.
        """
        from safetensors.torch import load_file

        last = self.facts.get("last")
        if not last:
            return None
        weights, tensors, record = (
            verified_file(self.path, self.manifest, name) for name in (last["file"], *last["state"])
        )
        state = State(load_file(tensors), json.loads(record.read_bytes()))
        return load_file(weights), state

    def sweep(self) -> None:
        """Remove checkpoints that the manifest does not name, as a kill leaves them."""
        for file in inside(self.path, CHECKPOINTS).glob("*"):
            if f"{CHECKPOINTS}/{file.name}" not in self.manifest.files:
                file.unlink(missing_ok=True)

    def add_facts(self, facts: Json) -> None:
        """Record more in the manifest."""
        self.manifest = replace(self.manifest, facts={**self.facts, **facts})
        write_manifest(self.path, self.manifest)

    def add_files(self, contents: Mapping[str, bytes]) -> None:
        """Write files into the run, in the place of those of their names, and list them.

        Args:
            contents: of each file, by its name in the run.
        """
        with self.writing():
            for name, content in contents.items():
                write_atomically(inside(self.path, name), content)
            files = self.manifest.files | {name: sha256(self.path / name) for name in contents}
            self.manifest = replace(self.manifest, files=files)
            write_manifest(self.path, self.manifest)

    def save_evaluation(self, name: str, record: Json) -> Path:
        """Write an evaluation's figures into the run under a name, and return the file."""
        if not re.fullmatch(r"[\w.,-]+", name):
            raise ArtifactError(
                f"{name}: an evaluation's name has letters, digits and . , - _ only"
            )
        folder = inside(self.path, EVALUATIONS)
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}.json"
        _dump(path, record)
        return path

    def evaluations(self) -> dict[str, Json]:
        """Return what `save_evaluation` wrote, by file within the run.

        Raises:
            InputError: a file is no JSON.
            ArtifactError: it holds something else than an object.
        """
        records = {}
        for file in sorted(inside(self.path, EVALUATIONS).glob("*.json")):
            path = inside(self.path, f"{EVALUATIONS}/{file.name}")
            record = parse_json(read_regular_file(path), name=str(path))
            if not isinstance(record, dict):
                raise ArtifactError(f"{path}: holds no evaluation")
            records[f"{EVALUATIONS}/{path.name}"] = record
        return records


def _by_partition(partitions: Mapping[str, str]) -> dict[str, list[str]]:
    """Return recipe ids by partition, of partitions by recipe id."""
    lists: dict[str, list[str]] = {}
    for name, partition in partitions.items():
        lists.setdefault(partition, []).append(name)
    return lists


def _dump(path: Path, record: object) -> None:
    """Write a record as indented JSON, whole or not at all."""
    write_atomically(path, (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode())


def _save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors of any device as safetensors, whole or not at all."""
    from safetensors.torch import save

    flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, save(flat))
