"""`hficma bench search-against PYTHON`: the answers and the speed of two installed versions.

One index is opened by this interpreter and by that of another installation, and both are asked for
the same photos in turns. Answers must be equal to the last bit. Times are compared query by query:
a machine drifts more from minute to minute than two versions differ.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from hficma.artifacts.workspace import Workspace
from hficma.engine.index.index_facts import IndexFacts
from hficma.errors import ArtifactError, InputError
from hficma.terminal import TextConsole

from ..common.workload import queries_for

# Runs in installations of any version since 0.1.0, so it keeps to what all of them have.
_SERVER = """
import json, sys, time
from pathlib import Path
from hficma import Engine
index, bundle, threads, k, exact = sys.argv[1:]
with Engine.open(Path(index), bundle=Path(bundle), threads=int(threads)) as engine:
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        answer = engine.search(image=Path(json.loads(line)), k=int(k), exact=exact == "exact")
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "ids": [hit.id for hit in answer.hits],
                          "scores": [float(hit.score) for hit in answer.hits],
                          "certified": answer.certified}), flush=True)
"""
COMPARED = ("ids", "scores", "certified")
"""What must be equal in every answer; JSON keeps every bit of a score."""
REST = 0.02
"""Seconds between two queries: threads of the process asked before spin on for a while."""


def main(
    python: Annotated[Path, typer.Argument(help="The python of the other installation.")],
    index: Annotated[Path | None, typer.Option(help="Of recipes.", show_default="newest")] = None,
    data: Annotated[
        str | None, typer.Option(help="Whose test photos are asked.", show_default="the index's")
    ] = None,
    queries: Annotated[int, typer.Option(min=2, help="Photos.")] = 50,
    rounds: Annotated[int, typer.Option(min=1, help="Times that each is asked.")] = 4,
    k: Annotated[int, typer.Option(min=1, help="Answers to each.")] = 10,
    exact: Annotated[bool, typer.Option("--exact", help="Prove every rank.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="Of each process.")] = 2,
) -> None:
    """Ask this version and another for the same photos in turns; exit with 1 where answers differ.

    Example: hficma bench search-against older/.venv/bin/python --exact
    """
    from scipy.stats import quantile_test

    index = index or Workspace.default().newest("index")
    facts = IndexFacts.read(index)
    spec = data or facts.dataset
    if facts.of != "recipes" or spec is None:
        raise InputError(f"{index}: takes an index of recipes, and a dataset (--data) of photos")
    bag = queries_for(spec, queries)
    words = (index, facts.find_bundle(index), threads, k, "exact" if exact else "")
    differences = dict.fromkeys(COMPARED, 0)
    seconds: dict[str, list[float]] = {"this": [], "other": []}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        photos = [folder / f"{number}.jpg" for number in range(len(bag))]
        for number, photo in enumerate(photos):
            photo.write_bytes(bag.photo_bytes(number))
        servers = {
            name: stack.enter_context(_serving(path, *words))
            for name, path in (("this", Path(sys.executable)), ("other", python))
        }
        for turn in range(-1, rounds):
            for number, photo in enumerate(photos):
                # Each goes first as often: the second finds the caches of the first.
                order = sorted(servers, reverse=bool((turn + number) % 2))
                answers = {name: _ask(servers[name], str(photo)) for name in order}
                for key in COMPARED:
                    differences[key] += answers["this"][key] != answers["other"][key]
                if turn >= 0:  # before that, both warm up
                    for name, answer in answers.items():
                        seconds[name].append(answer["seconds"])
    ratios = np.array(seconds["this"]) / np.array(seconds["other"])
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    ends = quantile_test(ratios, p=0.5).confidence_interval(0.95)
    medians = ", ".join(f"{name} {1000 * np.median(s):.2f} ms" for name, s in seconds.items())
    unequal = ", ".join(f"{key} {count}" for key, count in differences.items())
    TextConsole().print(
        f"{len(bag)} photos, {rounds + 1} times each; answers that differ by: {unequal}\n"
        f"median latency: {medians}; this over the other, query by query: {middle:.3f} "
        f"[{ends.low:.3f}, {ends.high:.3f}], the middle half from {low:.3f} to {high:.3f}",
        soft_wrap=True,
    )
    raise typer.Exit(int(any(differences.values())))


@contextmanager
def _serving(python: Path, *words: object) -> Iterator[subprocess.Popen[str]]:
    """Open the index in a process of an installation; closing its input ends it."""
    command = [str(python), "-P", "-c", _SERVER, *map(str, words)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as server:
        _ask(server)
        yield server


def _ask(server: subprocess.Popen[str], photo: str | None = None) -> Any:
    """Send a photo and return the answer; without one, wait until the index is open."""
    assert server.stdout is not None
    if photo is not None:
        time.sleep(REST)
        print(json.dumps(photo), file=server.stdin, flush=True)
    if line := server.stdout.readline():
        return json.loads(line)
    raise ArtifactError("one of the two installations cannot answer from this index; see above")
