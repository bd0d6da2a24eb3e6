"""`hficma serve`: an HTTP service over indexes, and a page for cooks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ...artifacts.workspace import Workspace
from ...errors import ArtifactError, MissingDependencyError
from ...limits import MEGABYTE
from ..cluster_options import Ray, RayActors, RayGpus, Replicas, cluster_options
from ..defaults import default_index
from ..engine_options import Device, GpuMemory, Precision, Runtime, Threads

LISTEN, LOAD = "Where", "How much"
"""Headings of the options in `--help`."""


def serve(
    index: Annotated[
        list[Path] | None,
        typer.Option(help="An index; may be repeated.", show_default="newest of each kind"),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 is all.", rich_help_panel=LISTEN)
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="0 takes a free one.", rich_help_panel=LISTEN)
    ] = 8000,
    api_key_file: Annotated[
        Path | None,
        typer.Option(help="Keys, one a line; requests need one.", rich_help_panel=LISTEN),
    ] = None,
    writable: Annotated[
        bool,
        typer.Option(
            "--writable", help="Let items be added and removed; needs keys.", rich_help_panel=LISTEN
        ),
    ] = False,
    ssl_certfile: Annotated[
        Path | None, typer.Option(help="Certificate, for HTTPS.", rich_help_panel=LISTEN)
    ] = None,
    ssl_keyfile: Annotated[
        Path | None, typer.Option(help="The certificate's key.", rich_help_panel=LISTEN)
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.", rich_help_panel=LOAD)] = 1,
    batch: Annotated[
        int, typer.Option(min=1, help="Queries answered together.", rich_help_panel=LOAD)
    ] = 16,
    batch_wait: Annotated[
        float,
        typer.Option(
            min=0,
            help="Milliseconds that a query waits for others to be answered with.",
            rich_help_panel=LOAD,
        ),
    ] = 4.0,
    queue: Annotated[
        int,
        typer.Option(
            min=1, help="Queries that may wait; further ones get 429.", rich_help_panel=LOAD
        ),
    ] = 32,
    deadline: Annotated[
        float, typer.Option(min=0.001, help="Seconds for a request.", rich_help_panel=LOAD)
    ] = 30.0,
    body_megabytes: Annotated[
        float,
        typer.Option(min=0.001, help="Megabytes of a request, at most.", rich_help_panel=LOAD),
    ] = 20.0,
    runtime: Runtime = "auto",
    precision: Precision = "fp32",
    device: Device = "cpu",
    gpu_memory: GpuMemory = None,
    threads: Threads = None,
    ray: Ray = None,
    ray_actors: RayActors = None,
    ray_gpus: RayGpus = None,
    replicas: Replicas = None,
) -> None:
    """Serve indexes over HTTP, with a page where a photo finds its recipe.

    Example: hficma serve, then open http://127.0.0.1:8000
    """
    try:
        from hficma.engine.serving.options import ServeOptions
        from hficma.engine.serving.server import serve as serve_until_stopped
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] == "hficma":
            raise
        raise MissingDependencyError(error.name or "fastapi", "serve", "hficma serve") from error

    execution: dict[str, Any] = {
        "runtime": runtime, "precision": precision, "device": device, "threads": threads,
    }  # fmt: skip
    serve_until_stopped(
        ServeOptions(
            indexes=tuple(index or _newest()),
            host=host,
            port=port,
            api_key_file=api_key_file,
            writable=writable,
            workers=workers,
            batch=batch,
            batch_wait=batch_wait / 1000,
            queue=queue,
            deadline=deadline,
            body_bytes=int(body_megabytes * MEGABYTE),
            ssl_certfile=ssl_certfile,
            ssl_keyfile=ssl_keyfile,
            gpu_memory=gpu_memory,
            cluster=cluster_options(ray, ray_actors, ray_gpus, replicas),
            execution=execution,  # type: ignore[arg-type]
        )
    )


def _newest() -> list[Path]:
    """Return the newest index of each kind; with none of recipes, the package's cookbook."""
    from hficma.engine.index.index_facts import newest_index

    photos = newest_index(Workspace.default(), "images")
    if photos is None:
        return [default_index("recipes")]
    try:
        return [default_index("recipes"), photos]
    except ArtifactError:  # photos alone can be served too
        return [photos]
