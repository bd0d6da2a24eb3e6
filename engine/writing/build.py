"""`build_index`: a dataset to an index, shard after shard, resumed where a kill stopped it."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from hficma.artifacts.locks import locked
from hficma.artifacts.manifest import inside, sync, write_atomically
from hficma.artifacts.unfinished import remove_tree
from hficma.artifacts.workspace import recorded_path
from hficma.data.stream import STDIN
from hficma.errors import ArtifactError, InputError

from ..bundle.bundle import Bundle
from ..index.faiss_factory import check_factory, default_factory
from ..index.index_facts import SHARDS, IndexFacts, ItemKind, write_index_manifest
from ..index.item_encoding import LEVELS, PRECISIONS, Level, Precision
from ..runtimes.options import ExecutionKeywords, ExecutionOptions
from .chunks import Indexed, Source, average_tokens, fingerprint
from .encoding_pipeline import OnBad, Progress, encoded_batches
from .storage_policy import default_level
from .transaction import (
    PLAN,
    building_folder,
    building_lock,
    existing_parent,
    files_of,
    filled,
    new_shard,
    reported,
    shard_name,
    sweep,
    write_batches,
)
from .unique_ids import UniqueIds

SHARD_ITEMS = 32_768
"""Items a shard: what a killed build loses at most, and what bounds its memory."""
AGAIN = "mend that and run the same command again: what is finished is kept"


def build_index(
    bundle: Path,
    dataset: Indexed,
    out: Path,
    *,
    of: ItemKind = "recipes",
    keep: Level | None = None,
    side_precision: Precision = "fp32",
    prefilter: str | None = None,
    shard_items: int = SHARD_ITEMS,
    restart: bool = False,
    strict: bool = False,
    on_bad: OnBad = lambda message: None,
    progress: Progress = lambda done, total: None,
    **execution: Unpack[ExecutionKeywords],
) -> Path:
    """Encode a dataset into a new index.

    Memory is bounded by a chunk of items and the prefilter of one shard, and for a stream by the
    recipes of two shards. What is finished stands in a hidden folder beside `out`: the same call
    after a kill goes on from there, with the same stream from its start.

    Args:
        bundle: encodes the items; the index belongs to its model.
        dataset: what to index: a dataset, or a stream of unknown length.
        out: the index's folder; must not exist.
        of: `recipes` for photos as queries, `images` for recipes as queries.
        keep: level of the sides; None takes the highest that fits memory and disk, and `tokens`
            where a stream may go on.
        side_precision: of the sides' wide arrays.
        prefilter: a FAISS factory string; None chooses by size, always one that can certify.
        shard_items: items a shard.
        restart: throw away what an unfinished build of other inputs left, instead of refusing.
        strict: raise on an item that cannot be read instead of leaving it out.
        on_bad: told of each item left out, in one line.
        progress: called with items done so far and items in all, of a stream those read.
        **execution: `runtime`, `precision`, `device`, `threads` as in `ExecutionOptions`.

    Returns:
        `out`.

    Raises:
        InputError: an option that cannot be; nothing usable in the dataset; a bad item if `strict`.
        ArtifactError: `out` exists or cannot be written, another process builds it, or a build of
            other inputs is unfinished there.
    """
    if out.exists():
        raise ArtifactError(f"{out}: exists already; give another name or remove it first")
    options = ExecutionOptions(**execution).with_thread_count()
    opened = Bundle.open(bundle, options)
    source = Source(dataset, max(1, shard_items))
    facts = _planned(
        opened, bundle, source, out, of=of, keep=keep,
        side_precision=side_precision, prefilter=prefilter, shard_items=shard_items,
    )  # fmt: skip
    names: list[str] = []
    stop = 0
    with reported(out, hint=AGAIN), _building(out) as building:
        facts = _resumed(building, facts, source, out, asked=keep, restart=restart)
        unique = UniqueIds([], (), strict=strict, on_bad=on_bad)
        for piece in source.pieces():
            name = shard_name(len(names))
            shard = inside(building, f"{SHARDS}/{name}")
            if source.streamed and shard.exists() and not piece.reaches(shard):
                remove_tree(shard)
            if not shard.exists():
                batches = encoded_batches(
                    opened, facts.role, facts.keep, piece.dataset, piece.wanted,
                    threads=options.thread_count, strict=strict, on_bad=on_bad,
                )  # fmt: skip
                with new_shard(building, name, facts) as writer:
                    write_batches(writer, batches, piece.first, unique, piece.telling(progress))
            elif (changed := piece.changed(shard)) is not None:
                raise ArtifactError(
                    f"{out}: is unfinished, and {changed} is not what it was when that began; "
                    "give the same data, --restart to begin anew, or another --out"
                )
            unique.shard_done(shard)
            names.append(name)
            stop = piece.stop
            progress(stop, piece.total)
        _finish(building, replace(facts, next_number=stop, next_shard=len(names)), names, out)
    return out


def unfinished_index(folder: Path, name: str) -> Path | None:
    """What an index dated like `NAME-20261126-101500` was to be called, of which a part is there.

    Without a name given, a build that was killed would never be found again.

    Args:
        folder: of indexes.
        name: before the date.

    Returns:
        the latest that nobody is building; None where there is none.
    """
    dated = re.compile(rf"\.({re.escape(name)}-\d{{8}}-\d{{6}}(-\d+)?)\.building")
    for building in sorted(folder.glob(f".{name}-*.building"), reverse=True):
        match = dated.fullmatch(building.name)
        if match is None or not building.is_dir():
            continue
        out = folder / match[1]
        with contextlib.suppress(ArtifactError), locked(building_lock(out), name=str(out)):
            return out
    return None


@contextlib.contextmanager
def _building(out: Path) -> Iterator[Path]:
    """Hold the folder in which `out` is being built; it goes where nothing in it is finished."""
    building, lock = building_folder(out), building_lock(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    for path in (building, lock):
        if path.is_symlink():
            raise ArtifactError(f"{path}: is a link, where an index is built; remove it")
    with locked(lock, name=str(out)):
        try:
            if out.exists():
                raise ArtifactError(f"{out}: another process was writing to it, and is done now")
            (building / SHARDS).mkdir(parents=True, exist_ok=True)
            sweep(building, _finished(building))
            yield building
        finally:
            if building.is_dir() and not _finished(building):
                remove_tree(building)
            if not building.exists():
                # While it is held: whoever waits for it finds that it has no name any more.
                lock.unlink(missing_ok=True)


def _finished(building: Path) -> list[str]:
    """Names of the shards that stand in an unfinished index."""
    folder = inside(building, SHARDS)
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def _planned(
    opened: Bundle,
    bundle: Path,
    source: Source,
    out: Path,
    *,
    of: ItemKind,
    keep: Level | None,
    side_precision: Precision,
    prefilter: str | None,
    shard_items: int,
) -> IndexFacts:
    """What the new index will record, with every choice made."""
    if of not in ("recipes", "images"):
        raise InputError(f"--of {of}: an index is of recipes or of images")
    if keep is not None and keep not in LEVELS:
        raise InputError(f"--keep {keep}: must be one of {', '.join(LEVELS)}")
    if side_precision not in PRECISIONS:
        raise InputError(f"--side-precision {side_precision}: one of {', '.join(PRECISIONS)}")
    if shard_items < 1:
        raise InputError(f"--shard-items {shard_items}: must be at least 1")
    if prefilter is not None:
        check_factory(prefilter, opened.facts["global_dim"])
    facts = IndexFacts(
        of=of,
        model_id=opened.model_id,
        bundle=recorded_path(bundle, out),
        dataset=None if source.streamed else source.name,
        keep=None,
        side_precision=side_precision,
        prefilter=prefilter or default_factory(source.count),
        shard_items=shard_items,
    )
    if opened.has_local:
        keep = keep or _default_level(opened, source, facts, existing_parent(out))
    elif keep is not None:
        raise InputError(f"--keep {keep}: this model has no local part, there is nothing to keep")
    return replace(facts, keep=keep)


def _default_level(opened: Bundle, source: Source, facts: IndexFacts, folder: Path) -> Level:
    """The highest level that fits; the lowest where nobody knows how much is to come."""
    if source.count is None or source.sample is None:
        return "tokens"
    return default_level(
        average_tokens(opened, facts.role, source.sample) * source.count,
        facts.side_precision,
        width=opened.facts["width"],
        heads=opened.facts["heads"],
        folder=folder,
    )


def _resumed(
    building: Path,
    facts: IndexFacts,
    source: Source,
    out: Path,
    *,
    asked: Level | None,
    restart: bool,
) -> IndexFacts:
    """Take up an unfinished build of the same inputs, or begin one.

    A level that was chosen then stands: the free disk has changed since.

    Raises:
        ArtifactError: shards of other inputs are finished, and `restart` does not throw them away.
    """
    sample = source.sample
    inputs = {
        **facts.to_json(), "keep": asked, "bundle": None,
        "items": fingerprint(sample) if sample is not None else None,
    }  # fmt: skip
    plan = json.loads(json.dumps({"inputs": inputs, "keep": facts.keep}))
    try:
        begun = json.loads(inside(building, PLAN).read_text(encoding="utf-8"))
        before, level = begun["inputs"], begun["keep"]
    except FileNotFoundError:
        before, level = {}, None
    except (ValueError, KeyError, TypeError):
        before, level = {"plan": "damaged"}, None
    if finished := _finished(building):
        if before == plan["inputs"] and not restart:
            return replace(facts, keep=level)
        if not restart:
            raise ArtifactError(
                f"{out}: an index of other inputs is unfinished there, {len(finished)} shards are "
                f"done ({_differences(before, plan['inputs'])}); give the same again to go on, "
                "--restart to throw them away, or another --out"
            )
        sweep(building, ())
    write_atomically(building / PLAN, json.dumps(plan).encode())
    return facts


_OPTIONS = {
    "of": "--of", "keep": "--keep", "side_precision": "--side-precision",
    "prefilter": "--prefilter", "shard_items": "--shard-items", "model_id": "the model",
    "dataset": "--data", "items": "the recipes of the data",
}  # fmt: skip


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What of a build's inputs is not as it was, in words."""
    said = []
    for name in (name for name in _OPTIONS if before.get(name) != now.get(name)):
        option = _OPTIONS[name]
        if option.startswith("--"):
            was, is_now = (inputs.get(name) or "not given" for inputs in (before, now))
            said.append(f"{option} was {was}, is {is_now}")
        else:
            said.append(f"{option} changed")
    return "; ".join(said) or "of what is not known"


def _finish(building: Path, facts: IndexFacts, names: list[str], out: Path) -> None:
    """Name the shards in a manifest and put the index into its place."""
    kept = filled(building, names)
    if not kept:
        sweep(building, ())
        kind = "recipe" if facts.of == "recipes" else "photo"
        raise InputError(f"{facts.dataset or STDIN}: holds no usable {kind} to index")
    write_index_manifest(building, replace(facts, shards=kept), files_of(building, kept))
    building.rename(out)
    sync(out.parent)
    # Only now: killed before, the same call must find its plan again.
    (out / PLAN).unlink()
