"""`hficma index`: makes an index, changes it, shows and checks it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ...artifacts.manifest import MANIFEST
from ...artifacts.workspace import Workspace
from ...errors import ArtifactError, InputError
from ..cluster_options import PANEL, Ray, RayActors, RayGpus, cluster_options
from ..console import Bars, hint, note, print_json, stdout
from ..defaults import default_bundle, default_index
from ..engine_options import Device, Precision, Runtime
from ..help_text import command_group
from ..quantities import counted, parsed_bytes, readable_bytes, readable_time

if TYPE_CHECKING:
    from hficma.engine.writing.chunks import IndexInput

app = command_group(
    "Make an index of recipes or photos; change, show, check or copy one.\n\n"
    "Example: hficma index --data recipes.jsonl",
    invoke_without_command=True,
)

# Options that several of the commands have.
Index = Annotated[Path | None, typer.Option(help="An index.", show_default="the newest")]
Data = Annotated[
    str | None, typer.Option(help="A JSONL file (- reads stdin), a dataset, sample:N, cookbook.")
]
Bundle = Annotated[
    Path | None,
    typer.Option(help="A bundle.", show_default="the newest, else hficma's pretrained one"),
]
IndexBundle = Annotated[
    Path | None, typer.Option("--bundle", help="A bundle.", show_default="the index's own")
]
Strict = Annotated[bool, typer.Option("--strict", help="A bad record is an error.")]


@app.callback()
def make(
    ctx: typer.Context,
    bundle: Bundle = None,
    data: Data = None,
    out: Annotated[Path | None, typer.Option(help="The index to write.")] = None,
    of: Annotated[
        Literal["recipes", "images"],
        typer.Option(help="recipes answers photos, images answers recipes."),
    ] = "recipes",
    keep: Annotated[
        Literal["tokens", "projections", "tables"] | None,
        typer.Option(help="What is stored of each item: memory against time."),
    ] = None,
    side_precision: Annotated[
        Literal["fp32", "fp16", "int8", "int4"] | None,
        typer.Option(
            help="Precision of what is stored; int4 for tokens alone.", show_default="fp32"
        ),
    ] = None,
    bytes_per_item: Annotated[
        str | None,
        typer.Option(help="Store the best that fits into so many bytes of each item, such as 6k."),
    ] = None,
    exact_tokens: Annotated[
        bool, typer.Option("--exact-tokens", help="Keep fp16 tokens beside int8 or int4 ones.")
    ] = False,
    prefilter: Annotated[
        str | None,
        typer.Option(help="A FAISS factory string, such as SQ8 or HNSW32.", show_default="by size"),
    ] = None,
    keep_photos: Annotated[
        bool,
        typer.Option("--keep-photos", help="Keep small photos to show, about 10 KB each."),
    ] = False,
    crops: Annotated[
        int | None,
        typer.Option(
            help="Crops of a photo whose vectors are averaged: 1 or 5.", show_default="the model's"
        ),
    ] = None,
    partition: Annotated[
        list[str] | None, typer.Option(help="Index only these: train, val, test.")
    ] = None,
    precision: Precision = "fp32",
    runtime: Runtime = "auto",
    device: Device = "cpu",
    restart: Annotated[
        bool, typer.Option("--restart", help="Throw an unfinished index of other inputs away.")
    ] = False,
    strict: Strict = False,
    shard_items: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Items of each shard: an actor's piece of work.",
            show_default="32,768",
            rich_help_panel=PANEL,
        ),
    ] = None,
    ray: Ray = None,
    ray_actors: RayActors = None,
    ray_gpus: RayGpus = None,
) -> None:
    if ctx.invoked_subcommand is not None:
        return
    from hficma.engine import build_index
    from hficma.engine.bundle.bundle_facts import BundleFacts
    from hficma.engine.writing.unfinished_build import find_unfinished_index

    workspace = Workspace.default()
    bundle = bundle or default_bundle()
    if data is None:
        data = BundleFacts.read(bundle).dataset
        if data is None:
            raise InputError(f"{bundle}: names no dataset; give --data")
    cluster = cluster_options(ray, ray_actors, ray_gpus)
    with Bars() as bars:
        new = workspace.new("index", of)
        out = out or find_unfinished_index(new.parent, of) or new
        options: dict[str, Any] = {
            "of": of, "keep": keep, "side_precision": side_precision, "prefilter": prefilter,
            "keep_photos": keep_photos, "crops": crops, "exact_tokens": exact_tokens,
            "bytes_per_item": None if bytes_per_item is None else parsed_bytes(bytes_per_item),
        }  # fmt: skip
        if shard_items is not None:
            options["shard_items"] = shard_items
        work: dict[str, Any] = {
            "restart": restart, "strict": strict, "on_bad": bars.bad,
            "progress": bars.counting(f"indexing {of}"), "runtime": runtime,
            "precision": precision, "device": device,
        }  # fmt: skip
        if cluster is not None:
            from hficma.engine.cluster.build import build_index_on_ray
            from hficma.engine.writing.build import IndexOptions

            path = build_index_on_ray(
                bundle, data, out, cluster, IndexOptions(**options),
                partitions=partition or (), **work,
            )  # fmt: skip
        else:
            dataset = _open_data(data, partition, strict=strict, on_bad=bars.bad)
            path = build_index(bundle, dataset, out, **options, **work)
    count = counted(_info(path)["items"], of.removesuffix("s"))
    left_out = f", {bars.left_out:,} left out" if bars.left_out else ""
    stdout.print_line(f"index: {path} ({count}{left_out})")
    query = "--image photo.jpg" if of == "recipes" else '--ingredients "tomato, basil"'
    hint("next:", f"search {query}")


@app.command("add")
def add(
    data: Annotated[str, typer.Option(help="Recipes to add: a JSONL file, a dataset, sample:N.")],
    index: Index = None,
    bundle: IndexBundle = None,
    strict: Strict = False,
) -> None:
    """Add a dataset's items.

    Example: hficma index add --data more.jsonl
    """
    from hficma.engine import IndexWriter

    path = _path(index)
    with Bars() as bars, IndexWriter(path) as writer:
        dataset = _open_data(data, None, strict=strict, on_bad=bars.bad)
        progress = bars.counting("adding")
        added = writer.add(
            dataset, bundle=bundle, strict=strict, on_bad=bars.bad, progress=progress
        )
    stdout.print_line(f"index: {path} ({added:,} added)")


@app.command("remove")
def remove(
    ids: Annotated[list[str], typer.Argument(help="Ids to take out.")], index: Index = None
) -> None:
    """Take items out by id; without `--index`, you are asked whether the newest is meant.

    Example: hficma index remove 00017 00023
    """
    from hficma.engine import IndexWriter

    path = _path(index)
    note(f"removing {counted(len(ids), 'id')} from {path}")
    # "The newest" may be another index than the user thinks of. Only a person can answer: a script
    # goes on as before.
    if index is None and sys.stdin.isatty():
        typer.confirm("Go on?", abort=True, err=True)
    with IndexWriter(path) as writer:
        removed = writer.remove(ids)
    stdout.print_line(f"index: {path} ({removed:,} removed)")


@app.command("compact")
def compact(index: Index = None) -> None:
    """Merge shards and free the space of removed items.

    Example: hficma index compact
    """
    from hficma.engine import IndexWriter

    path = _path(index)
    with Bars() as bars, IndexWriter(path) as writer:
        writer.compact(progress=bars.counting("compacting"))
    stdout.print_line(f"index: {path} ({counted(len(_info(path)['shards']), 'shard')})")


@app.command("info")
def info(
    path: Annotated[
        Path | None,
        typer.Argument(help="An index.", show_default="the newest, else the cookbook's"),
    ] = None,
    index: Annotated[Path | None, typer.Option(help="The same.", hidden=True)] = None,
    bundle: IndexBundle = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what an index holds.

    Example: hficma index info workspace/indexes/recipes
    """
    path = path or index
    if path is None:
        # Of either kind: what `add` and the like would take. Nothing is written to the cookbook's.
        path = next(iter(Workspace.default().all("index")), None) or default_index("recipes")
    facts = {**_info(path), **_bundle(path, bundle)}
    if as_json:
        print_json(facts)
        return
    stdout.print_line(str(path))
    lines = _info_lines(facts, (path / MANIFEST).stat().st_mtime)
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        stdout.print_line(f"  {name:<{width}}  {text}")


@app.command("verify")
def verify(index: Index = None, bundle: IndexBundle = None, data: Data = None) -> None:
    """Check hashes and counts, and encode some items again.

    Example: hficma index verify
    """
    from hficma.engine import verify_index

    from ...data.dataset import open_dataset

    path = _path(index)
    with Bars() as bars:
        dataset = open_dataset(data) if data else None
        report = verify_index(
            path, bundle=bundle, dataset=dataset, progress=bars.counting("verifying")
        )
    difference = ""
    if report.encoded_again:
        difference = f" (largest difference {report.largest_difference:.1e})"
    stdout.print_line(
        f"{path}: {counted(report.files, 'file')}, {counted(report.items, 'item')}, "
        f"{report.encoded_again:,} encoded again{difference}"
    )
    if report.problems:
        raise ArtifactError("; ".join(report.problems))


@app.command("publish")
def publish(
    url: Annotated[str, typer.Argument(help="Where to: s3://bucket/name, file:///path, ...")],
    index: Index = None,
) -> None:
    """Copy an index to an object store.

    Example: hficma index publish s3://bucket/recipes
    """
    from hficma.engine.cluster.object_store import publish_index

    path = _path(index)
    with Bars() as bars:
        copied = publish_index(path, url, progress=bars.counting("publishing"))
    stdout.print_line(f"index: {url} ({readable_bytes(copied) if copied else 'there already'})")


@app.command("fetch")
def fetch(
    url: Annotated[str, typer.Argument(help="Where it is: s3://bucket/name, file:///path, ...")],
    out: Annotated[
        Path | None, typer.Option(help="The index to write.", show_default="a new one")
    ] = None,
) -> None:
    """Copy an index from an object store.

    Example: hficma index fetch s3://bucket/recipes
    """
    from hficma.engine.cluster.object_store import fetch_index

    name = url.rstrip("/").rpartition("/")[2]
    with Bars() as bars:
        path = fetch_index(
            url, out or Workspace.default().new("index", name),
            progress=bars.counting("fetching"),
        )  # fmt: skip
    stdout.print_line(f"index: {path} ({counted(_info(path)['items'], 'item')})")


def _info_lines(facts: Mapping[str, Any], changed: float) -> list[tuple[str, str]]:
    """Return what an index holds as a person reads it; `--json` gives every number."""
    shards, items = facts["shards"], facts["items"]
    removed = f", {facts['removed']:,} removed" if facts["removed"] else ""
    stored = "nothing but global vectors"
    if facts["keep"] is not None:
        stored = f"{facts['keep']} in {facts['side_precision']}"
        errors = [error["relative_rms"] for error in facts["side_errors"].values()]
        if any(errors):
            stored += f", rounded by {100 * max(errors):.2g} % at most (RMS of an array)"
        if facts["exact_tokens"]:
            stored += ", and in fp16"
        if facts["items"]:
            each = facts["encoding_bytes"] / sum(shard["items"] for shard in shards)
            stored += f": {readable_bytes(each)} each"
    per_item = f", {facts['tokens'] / items:.1f} each" if items else ""
    proves = "answers can be proved" if facts["certifies"] else "answers cannot be proved"
    noun = facts["of"].removesuffix("s")
    return [
        ("holds", f"{counted(items, noun)} of {facts['dataset']}{removed}"),
        ("last change", readable_time(changed)),
        ("on disk", f"{readable_bytes(facts['bytes'])} in {counted(len(shards), 'shard')}"),
        ("stored of each", stored),
        ("photos", _photos_line(facts["photos"])),
        ("tokens", f"{facts['tokens']:,}{per_item}"),
        ("prefilter", f"{facts['prefilter']}: {proves}"),
        ("checksums", "yes" if facts["checksums"] else "no, it is of an older version"),
        ("bundle", str(facts["bundle"])),
        *([("graphs", facts["graphs"])] if facts["graphs"] else ()),
        ("model", facts["model_id"][:16]),
    ]


def _photos_line(photos: Mapping[str, Any]) -> str:
    """Return what an index knows of its photos: how many it keeps, how many lie elsewhere."""
    kept, remembered = photos["kept"], photos["remembered"]
    if kept:
        return f"{counted(kept, 'small one')} kept"
    if remembered:
        return f"{remembered:,} remembered in {', '.join(photos['roots'])}"
    return "none known"


def _open_data(
    data: str, partitions: list[str] | None, *, strict: bool, on_bad: Callable[[str], None]
) -> IndexInput:
    """Open what `--data` names; standard input is read as it is indexed."""
    from ...data.dataset import open_dataset
    from ...data.stream import STDIN, RecipeStream
    from ...data.subset import Subset

    if data == STDIN:
        return RecipeStream.from_stdin(partitions, strict=strict, on_bad=on_bad)
    dataset = open_dataset(data, strict=strict, on_bad=on_bad)
    return Subset.of_partitions(dataset, partitions) if partitions else dataset


def _path(index: Path | None) -> Path:
    """Return the index that the user named, or the newest."""
    return index or Workspace.default().newest("index")


def _info(path: Path) -> dict[str, Any]:
    """Return `index_info` of an index."""
    from hficma.engine import index_info

    return index_info(path)


def _bundle(path: Path, bundle: Path | None) -> dict[str, str | None]:
    """Return the path of an index's bundle and what its graphs are, or that it is not there.

    Raises:
        ArtifactError: the bundle that the user named is of another model.
    """
    from hficma.engine import Bundle
    from hficma.engine.bundle.bundle_facts import BundleFacts
    from hficma.engine.index.index_facts import IndexFacts, model_mismatch

    facts = IndexFacts.read(path)
    if bundle is None:
        try:
            bundle = facts.find_bundle(path)
        except ArtifactError:
            missing = f"{(path / facts.bundle).resolve()} (not there; give --bundle)"
            return {"bundle": missing, "graphs": None}
    elif (other := Bundle.open(bundle)).model_id != facts.model_id:
        raise model_mismatch(path, facts, other)
    return {"bundle": str(bundle), "graphs": BundleFacts.read(bundle).contents}
