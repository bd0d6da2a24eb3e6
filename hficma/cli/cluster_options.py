"""The options of commands that may work over a Ray cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError

if TYPE_CHECKING:
    from hficma.engine.cluster.options import ClusterOptions

PANEL = "Cluster"
"""Heading of the options in `--help`."""

Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Work over Ray: HOST:PORT, auto or local.",
        rich_help_panel=PANEL,
    ),
]
RayActors = Annotated[
    int | None,
    typer.Option(min=1, help="Actors.", show_default="one a machine", rich_help_panel=PANEL),
]
RayGpus = Annotated[
    float | None, typer.Option(min=0, help="GPUs of each actor.", rich_help_panel=PANEL)
]
Replicas = Annotated[
    int | None,
    typer.Option(min=1, help="Actors that hold each shard.", rich_help_panel=PANEL),
]


def cluster_options(
    ray: str | None, actors: int | None, gpus: float | None, replicas: int | None = None
) -> ClusterOptions | None:
    """Return what a command was told of a cluster; None where it works on this machine alone.

    Raises:
        InputError: an option of a cluster without the cluster, or options that cannot be.
    """
    if ray is None:
        for name, value in (
            ("--ray-actors", actors), ("--ray-gpus", gpus), ("--replicas", replicas),
        ):  # fmt: skip
            if value is not None:
                raise InputError(f"{name} is of a cluster: it goes with --ray")
        return None
    from hficma.engine.cluster.options import ClusterOptions

    return ClusterOptions(
        address=ray, actors=actors, gpus=gpus or 0.0, replicas=1 if replicas is None else replicas
    )
