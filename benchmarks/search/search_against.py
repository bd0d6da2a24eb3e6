"""`hficma bench search-against PYTHON`: the answers and the speed of two installed versions.

One index is opened by this interpreter and by that of another installation, and both are asked for
the same photos in turns. Answers must be equal to the last bit. Times are compared query by query:
a machine drifts more from minute to minute than two versions differ.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from hficma.artifacts.workspace import Workspace
from hficma.engine.index.index_facts import IndexFacts
from hficma.errors import InputError
from hficma.terminal import TextConsole

from ..common.servers import Server
from ..common.workload import queries_for

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
    bundle = facts.find_bundle(index)
    opening, search = {"threads": threads}, {"k": k, "exact": exact}
    differences = dict.fromkeys(COMPARED, 0)
    seconds: dict[str, list[float]] = {"this": [], "other": []}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        photos = [folder / f"{number}.jpg" for number in range(len(bag))]
        for number, photo in enumerate(photos):
            photo.write_bytes(bag.photo_bytes(number))
        servers = {
            name: stack.enter_context(Server(path, index, bundle, opening=opening, search=search))
            for name, path in (("this", sys.executable), ("other", python))
        }
        for turn in range(-1, rounds):
            for number, photo in enumerate(photos):
                # Each goes first as often: the second finds the caches of the first.
                order = sorted(servers, reverse=bool((turn + number) % 2))
                answers = {}
                for name in order:
                    time.sleep(REST)
                    answers[name] = servers[name].ask(photo)
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


if __name__ == "__main__":
    typer.run(main)
