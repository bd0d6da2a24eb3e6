"""Joins runs of one dual encoder, trained from different seeds, into one run.

    run 1: encoders, heads 1 ─┐
    run 2: encoders, heads 2 ─┼▶ encoders, heads 1 2 3 side by side
    run 3: encoders, heads 3 ─┘

Heads of about a thousand pairs disagree about what they have not seen; the mean of their cosines
is better than any of them. Encoders that were not trained are the same in all, so that a photo is
still encoded once, and only the last layer is as many times as wide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from hficma.errors import InputError
from hficma.model import load_model

from .config.option_values import to_tree
from .config.options import Options
from .runs.environment import environment
from .runs.run import RunDirectory, State

HEADS = {"image_global.": "image_global.members.{}.",
         "recipe_global.head.": "recipe_global.head.members.{}."}  # fmt: skip
"""Beginnings of the names of weights that the members do not share, and what they become."""


def join_members(
    runs: Sequence[Path], path: Path, options: Options, *, partitions: Mapping[str, str] | None
) -> Path:
    """Write the run whose heads are those of several runs.

    Args:
        runs: the members, whose other weights are the same.
        path: where the ensemble goes; must not exist.
        options: of the ensemble, with as many `model.members` as there are runs.
        partitions: partition by recipe id, where the training chose them.

    Returns:
        `path`.

    Raises:
        InputError: weights that members share differ: they were trained.
    """
    assert options.model.members == len(runs)
    models = [load_model(run) for run in runs]
    # First, so that nothing is half made where the members do not fit.
    weights = joined_weights([one.state_dict() for one in models])
    first = RunDirectory.open(runs[0])
    # What training filled in, such as the architecture of an encoder, stands in a member's options.
    model = replace(models[0].config, members=len(runs))
    facts = {**first.facts, "model": model.to_json(), "best": None, "last": None}
    run = RunDirectory.create(
        path,
        made_by="hficma train",
        options=to_tree(replace(options, model=model)),
        environment=environment(torch.device("cpu")),
        vocabulary=first.vocabulary,
        text_tokenizer=first.text_tokenizer,
        facts=facts,
        partitions=partitions,
    )
    epochs = options.trainer.epochs
    with run.writing():
        run.save_checkpoint(
            epochs, weights, State({}, {"epoch": epochs}),
            best={"recall_sum": None, "validation": None},
        )  # fmt: skip
    return path


def joined_weights(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the weights of an ensemble.

    Args:
        states: of its members, by name.

    Raises:
        InputError: weights that members share differ.
    """
    joined: dict[str, Tensor] = {}
    for number, state in enumerate(states):
        for name, value in state.items():
            start = next((start for start in HEADS if name.startswith(start)), None)
            if start is not None:
                joined[HEADS[start].format(number) + name.removeprefix(start)] = value
            elif number == 0:
                joined[name] = value
            elif not torch.equal(joined[name], value):
                raise InputError(
                    f"model.members: {name} was trained, and so is another in each member; keep "
                    "encoders frozen, or train one model"
                )
    return joined
