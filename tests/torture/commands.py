"""Kills imports, trainings, exports and vectors at random moments, and runs them again.

A killed command leaves its output whole or absent; run again it ends with what an unkilled one
would have made, bit for bit, and nothing that the killed one left lies about.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx  # noqa: F401  imported here, not in every fork
import torch
import torch.onnx

from hficma.artifacts.manifest import read_manifest, verified_file
from hficma.artifacts.workspace import Workspace
from hficma.data.dataset import open_dataset
from hficma.data.sources import open_source
from hficma.data.store.importing import import_dataset
from hficma.export import export_run
from hficma.training import train
from hficma.training.text.word2vec import train_word_vectors
from tests.torture.forks import forked
from tests.training.conftest import SMALL

SAMPLE = "sample:100"


class Trial(NamedTuple):
    """A command, what it writes, and how that is compared with an unkilled one's."""

    command: Callable[[Path], object]
    """Writes into the folder it is given, or goes on there."""
    outcome: Callable[[Path], object]
    """What must be equal."""


def run(seconds: float, seed: int) -> dict[str, int]:
    """Kill for `seconds`; return counts: kills by command, `lost`, `left behind`."""
    chance = random.Random(seed)
    torch.set_num_threads(1)  # a fork inherits no thread pool
    counts: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch)
        trials = _trials(base)
        wanted, durations = {}, {}
        for name, trial in trials.items():
            began = time.monotonic()
            assert _run(trial, base / name / "whole") == 0, name
            durations[name] = time.monotonic() - began
            wanted[name] = trial.outcome(base / name / "whole")
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            for name, trial in trials.items():
                folder = base / name / "killed"
                for _ in range(chance.randint(1, 3)):
                    _run(trial, folder, kill_after=chance.uniform(0, durations[name]))
                    counts[f"{name} killed"] = counts.get(f"{name} killed", 0) + 1
                ended = _run(trial, folder)
                same = ended == 0 and trial.outcome(folder) == wanted[name]
                counts["lost"] = counts.get("lost", 0) + (not same)
                left = [p for p in folder.rglob("*") if ".part" in p.name or ".build" in p.name]
                counts["left behind"] = counts.get("left behind", 0) + len(left)
                assert same, f"{name}: exit {ended}, {os.listdir(folder)}"
                assert not left, f"{name} leaves {left}"
                shutil.rmtree(folder)
    return counts


def _trials(base: Path) -> dict[str, Trial]:
    space = Workspace(base / "workspace")
    trained = train("hf-icma-small", SMALL, data=SAMPLE, run=base / "run", workspace=space)

    def import_(folder: Path) -> None:
        if not (folder / "out").exists():
            import_dataset(open_source("sample:100"), folder / "out")

    def train_(folder: Path) -> None:
        if (folder / "run").exists():
            train(run=folder / "run", resume=True, workspace=space)
        else:
            train("hf-icma-small", SMALL, data=SAMPLE, run=folder / "run", workspace=space)

    def export_(folder: Path) -> None:
        if not (folder / "bundle").exists():
            export_run(trained, folder / "bundle", runtimes=("onnxruntime",), queries=0)

    def vectors_(folder: Path) -> None:
        if not (folder / "words").exists():
            dataset = open_dataset(SAMPLE)
            recipes = [dataset.recipe(i) for i in range(len(dataset))]
            words = train_word_vectors(recipes, dim=8, epochs=1, workers=1)
            words.save(folder / "words", made_by="torture")

    return {
        "import": Trial(import_, _imported),
        "train": Trial(train_, _weights),
        "export": Trial(export_, lambda folder: _files(folder / "bundle", "bundle")),
        "vectors": Trial(vectors_, lambda folder: _files(folder / "words", "vectors")),
    }


def _imported(folder: Path) -> object:
    dataset = open_dataset(str(folder / "out"))
    photos = [np.asarray(dataset.photo(i)).tobytes() for i in range(len(dataset))]
    return [json.dumps(dataset.recipe(i).to_json()) for i in range(len(dataset))], photos


def _weights(folder: Path) -> bytes:
    manifest = read_manifest(folder / "run", kind="run")
    return verified_file(folder / "run", manifest, manifest.facts["last"]["file"]).read_bytes()


def _files(folder: Path, kind: str) -> dict[str, str]:
    """Hashes of a verified directory, without what records times."""
    manifest = read_manifest(folder, kind=kind)
    for name in manifest.files:
        verified_file(folder, manifest, name)
    return {k: v for k, v in manifest.files.items() if k.endswith((".onnx", ".safetensors"))}


def _run(trial: Trial, folder: Path, *, kill_after: float | None = None) -> int:
    """Run a trial's command in a folder; return its exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    return forked(lambda: trial.command(folder), kill_after)
