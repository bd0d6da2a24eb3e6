"""Edits what artifacts say of themselves: every JSON value in turn becomes something else.

Two hands edit. One changes a value and nothing else, as damage does: the artifact is refused, or
what it gives is the same. The other makes every hash agree again, as an attacker does: the artifact
is refused, or used as it now says; never a crash, a hang, or an exception that is not ours.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from hficma.artifacts.workspace import Workspace
from hficma.data.dataset import open_dataset
from hficma.data.sources import open_source
from hficma.data.store.importing import import_dataset
from hficma.engine import Engine, build_index
from hficma.errors import HficmaError
from hficma.model import load_model
from hficma.text.word_vectors import WordVectors
from hficma.training import train
from tests.engine.datasets import NoiseDataset
from tests.engine.factories import tiny_bundle
from tests.torture.damage import NASTY
from tests.training.conftest import SMALL

SECONDS = 60
"""What opening an edited artifact may take, with a fork, on a machine that is busy."""
Probe = Callable[[Path], object]


class Target(NamedTuple):
    """An artifact and what using it gives."""

    folder: Path
    """A good one; never written to."""
    probe: Probe
    """Uses one; equal for equal artifacts."""


def run(seconds: float, seed: int) -> dict[str, int]:
    """Edit for `seconds`; return counts of outcomes; `wrong`, `crashed`, `hung` must be zero."""
    chance = random.Random(seed)
    torch.set_num_threads(1)
    counts = {"refused": 0, "same": 0, "used as it says": 0, "wrong": 0, "crashed": 0, "hung": 0}
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch)
        os.environ["HFICMA_HOME"] = str(base / "home")
        targets = _targets(base)
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            name = chance.choice(list(targets))
            target = targets[name]
            copy = base / "edited" / target.folder.name
            shutil.rmtree(copy.parent, ignore_errors=True)
            shutil.copytree(target.folder, copy)
            rehashed = chance.random() < 0.5
            edit = _edit(copy, chance, rehashed=rehashed)
            outcome = _outcome(target, copy)
            if outcome == "different":
                outcome = "used as it says" if rehashed else "wrong"
            counts[outcome] += 1
            if outcome in ("wrong", "crashed", "hung"):
                print(f"{outcome}: {name}: {edit}", flush=True)
    return counts


def _targets(base: Path) -> dict[str, Target]:
    bundle = tiny_bundle(base / "bundles")
    dishes = NoiseDataset(12)
    index = build_index(bundle, dishes, base / "index", prefilter="SQ8", shard_items=5, threads=1)
    trained = train(
        "hf-icma-small", SMALL, data="sample:100", run=base / "run",
        workspace=Workspace(base / "home"),
    )  # fmt: skip
    imported = base / "imported"
    import_dataset(open_source("sample:100"), imported)

    def search(index: Path, bundle: Path) -> object:
        with Engine.open(index, bundle=bundle, threads=1) as engine:
            answer = engine.search(image=dishes.photo(3), k=5)
        return [(hit.id, hit.score, hit.title) for hit in answer.hits]

    def weights(run: Path) -> object:
        model = load_model(run)
        return {name: value.sum().item() for name, value in model.state_dict().items()}

    def records(folder: Path) -> object:
        dataset = open_dataset(str(folder))
        photos = [np.asarray(dataset.photo(i)).tobytes() for i in range(0, len(dataset), 10)]
        return [dataset.recipe(i) for i in range(len(dataset))], photos

    def vectors(folder: Path) -> object:
        found = WordVectors.load(folder)
        return found.vocabulary.words, found.table.tobytes()

    words = next((base / "home").rglob("words*/manifest.json"), None)
    targets = {
        "index": Target(index, lambda path: search(path, bundle)),
        "bundle": Target(bundle, lambda path: search(index, path)),
        "run": Target(trained, weights),
        "dataset": Target(imported, records),
    }
    if words is not None:
        targets["vectors"] = Target(words.parent, vectors)
    return targets


def _edit(folder: Path, chance: random.Random, *, rehashed: bool) -> str:
    """Change one value of one JSON file; return which."""
    files = sorted(path for path in folder.rglob("*.json"))
    path = chance.choice(files)
    record = json.loads(path.read_text())
    places = list(_places(record))
    holder, key, name = chance.choice(places) if places else ({}, "", "")
    action = chance.choice(("replace", "replace", "replace", "delete", "add"))
    if action == "delete":
        del holder[key]
        told = "deleted"
    elif action == "add" and isinstance(holder, dict):
        holder["added"] = chance.choice(NASTY)
        told = "with a key more"
    else:
        value = chance.choice((*NASTY, _nudged(holder[key])))
        holder[key] = value
        told = f"= {value!r:.80}"
    path.write_text(json.dumps(record))
    if rehashed:
        _rehash(folder, path)
    return f"{path.relative_to(folder)}: {name} {told}{', rehashed' if rehashed else ''}"


def _places(value: Any, name: str = "") -> Iterator[tuple[Any, Any, str]]:
    """Yield every (holder, key, path) inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(items):
        yield value, key, f"{name}.{key}"
        if isinstance(inner, (dict, list)):
            yield from _places(inner, f"{name}.{key}")


def _nudged(value: Any) -> Any:
    """A value near the old one: what a single flipped bit makes of it."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str) and value:
        return value[:-1] + chr(ord(value[-1]) ^ 1)
    return value


def _rehash(folder: Path, edited: Path) -> None:
    """Make the manifest's hashes, the edited file's and its own, agree with the edit."""
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text())
        name = edited.relative_to(folder).as_posix()
        if name in manifest["files"]:
            manifest["files"][name] = hashlib.sha256(edited.read_bytes()).hexdigest()
        manifest.pop("sha256", None)
        text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
        manifest["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    except (ValueError, KeyError, TypeError, AttributeError):
        return  # the edit itself has left no manifest to speak of
    path.write_text(json.dumps(manifest))


def _outcome(target: Target, edited: Path) -> str:
    """Use both in a fork each, so that a crash is seen and costs nothing."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            same = repr(target.probe(edited)) == repr(target.probe(target.folder))
            word = "same" if same else "different"
        except HficmaError:
            word = "refused"
        except BaseException as error:
            print(f"{type(error).__name__}: {error}"[:200], flush=True)
            word = "crashed"
        os.write(writer, word.encode())
        os._exit(0)
    os.close(writer)
    ends = time.monotonic() + SECONDS
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > ends:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(reader)
            return "hung"
        time.sleep(0.01)
    with os.fdopen(reader) as file:
        return file.read() or "crashed"
