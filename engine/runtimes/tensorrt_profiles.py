"""Runs inputs of any size in a compiled plan, which takes only the sizes of its profiles."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hficma.types import ArraySpec

from .base import letter_sizes

ArrayOrTensor = Any
"""A NumPy array, or a torch tensor on the GPU: sliced alike."""
BATCH_AXES = "BMSG"
"""Axes along which nothing is summed, so that inputs may be split there."""
Range = tuple[int, int, int]
"""Smallest, usual and largest size of a dynamic axis; a plan is fastest at the usual one."""
Profile = Mapping[str, Range]
"""The range of each dynamic axis, by letter."""


def profiles_of(graph: str, longest: Mapping[str, int]) -> list[dict[str, Range]]:
    """Return the profiles that a plan of a graph is built for.

    Cross graphs get two: photos with candidates of their own, and whole blocks.

    Args:
        graph: its name.
        longest: the graph's `Graph.longest`.
    """
    tokens = (1, min(12, longest["T"]), longest["T"])
    if graph.startswith("cross"):
        return [
            {"G": (1, 1, 8), "B": (1, 1, 1), "M": (1, 100, 256), "T": tokens},
            {"G": (1, 1, 1), "B": (1, 16, 32), "M": (1, 32, 64), "T": tokens},
        ]
    return [
        {
            "B": (1, 1, 64),
            "M": (1, 32, 256),
            "T": tokens,
            "S": (1, 64, 512),
            "W": (1, min(12, longest["W"]), longest["W"]),
            "N": (1, min(8, longest["N"]), longest["N"]),
            "P": (1, min(8, longest["P"]), longest["P"]),
        }
    ]


def run_in_profiles(
    execute: Callable[[int, dict[str, ArrayOrTensor]], dict[str, ArrayOrTensor]],
    inputs: Mapping[str, ArrayOrTensor],
    input_ports: Mapping[str, ArraySpec],
    output_ports: Mapping[str, ArraySpec],
    profiles: list[dict[str, Range]],
    concatenate: Callable[[list[ArrayOrTensor], int], ArrayOrTensor] = np.concatenate,
) -> dict[str, ArrayOrTensor]:
    """Run inputs of any size, split along a batch axis where no profile takes them whole.

    Args:
        execute: runs inputs that fit the profile of a number.
        inputs: by name.
        input_ports: of the graph.
        output_ports: of the graph.
        profiles: what the plan takes.
        concatenate: joins parts along an axis: NumPy's of arrays, or torch's of tensors.

    Raises:
        ValueError: an axis that cannot be split, such as ingredients, is too long.
    """
    sizes = letter_sizes(input_ports, {name: array.shape for name, array in inputs.items()})
    # How many runs each profile would take, split along every axis that is too long for it.
    runs = [
        math.prod(math.ceil(size / profile[letter][2]) for letter, size in sizes.items())
        for profile in profiles
    ]
    best = runs.index(min(runs))
    excess = [letter for letter, size in sizes.items() if size > profiles[best][letter][2]]
    if not excess:
        return execute(best, dict(inputs))
    letter = excess[0]
    if letter not in BATCH_AXES or any(letter not in p.shape for p in output_ports.values()):
        limit = profiles[best][letter][2]
        raise ValueError(f"axis {letter} has {sizes[letter]} entries, the plan takes {limit}")
    # One axis is split here; the parts split themselves further along others.
    step = profiles[best][letter][2]
    parts = []
    for start in range(0, sizes[letter], step):
        run = slice(start, start + step)
        chunk = {
            name: array[(slice(None),) * port.shape.index(letter) + (run,)]
            if letter in (port := input_ports[name]).shape
            else array
            for name, array in inputs.items()
        }
        parts.append(
            run_in_profiles(execute, chunk, input_ports, output_ports, profiles, concatenate)
        )
    return {
        name: concatenate([part[name] for part in parts], port.shape.index(letter))
        for name, port in output_ports.items()
    }
