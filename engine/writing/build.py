"""`build_index`: a dataset to an index, shard after shard, resumed where a kill stopped it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

from hficma.artifacts.manifest import check_free
from hficma.artifacts.workspace import recorded_path
from hficma.data.stream import STDIN
from hficma.errors import InputError
from hficma.images.crops import check_crops

from ..bundle.bundle import Bundle
from ..index.faiss_factory import check_factory, default_factory
from ..index.index_facts import IndexFacts, ItemKind
from ..index.item_encoding import ENCODING_PRECISIONS, LEVELS, EncodingPrecision, Level, Role
from ..runtimes.options import ExecutionKeywords, ExecutionOptions
from .chunks import IndexInput, ItemSource, average_tokens
from .encoding_pipeline import BadItemCallback, ProgressCallback
from .ingest import write_shards
from .storage_policy import check_form, default_level, form_within
from .transaction import existing_parent, explain_disk_errors
from .unfinished_build import UnfinishedBuild
from .unique_ids import UniqueIds

SHARD_ITEMS = 32_768
"""Items a shard: what a killed build loses at most, and what bounds its memory."""
RESUME_HINT = "mend that and run the same command again: what is finished is kept"


@dataclass(frozen=True, kw_only=True)
class IndexOptions:
    """What a new index holds and stores; `build_index` takes the fields, and tells more of them."""

    of: ItemKind = "recipes"
    """What its items are."""
    keep: Level | None = None
    """Level at which they are stored; None takes the highest that fits."""
    side_precision: EncodingPrecision | None = None
    """In which the wide arrays of their encodings are stored; None takes fp32, or what fits."""
    bytes_per_item: float | None = None
    """The most that an item's encodings may take on average."""
    exact_tokens: bool = False
    """Whether float16 tokens are kept beside those in int8 or int4."""
    prefilter: str | None = None
    """A FAISS factory string; None chooses by size."""
    shard_items: int = SHARD_ITEMS
    """Items a shard."""
    keep_photos: bool = False
    """Whether a small JPEG of each item's photo is kept."""
    crops: int | None = None
    """Crops of a photo whose global vectors are averaged; None takes the model's."""


def build_index(
    bundle: Path,
    dataset: IndexInput,
    out: Path,
    *,
    of: ItemKind = "recipes",
    keep: Level | None = None,
    side_precision: EncodingPrecision | None = None,
    bytes_per_item: float | None = None,
    exact_tokens: bool = False,
    prefilter: str | None = None,
    shard_items: int = SHARD_ITEMS,
    keep_photos: bool = False,
    crops: int | None = None,
    restart: bool = False,
    strict: bool = False,
    on_bad: BadItemCallback = lambda message: None,
    progress: ProgressCallback = lambda done, total: None,
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
        keep: level at which items are stored; None takes the highest that fits memory and disk,
            and `tokens` where a stream may go on.
        side_precision: in which the wide arrays of the items' encodings are stored, of which `int4`
            stores tokens alone; None takes fp32, or what fits `bytes_per_item`.
        bytes_per_item: the most that an item's encodings may take on average, global vectors and
            records not counted; level and precision are the best that fit.
        exact_tokens: keep float16 tokens beside those in int8 or int4, for
            `Engine.search(exact_precision=True)`.
        prefilter: a FAISS factory string; None chooses by size, always one that can certify.
        shard_items: items a shard.
        keep_photos: keep a small JPEG of each item's photo, about 10 KB, to be shown beside
            answers; otherwise the index remembers where the photos are.
        crops: crops of a photo whose global vectors are averaged, 1 or 5: of the items, or of the
            photos that will be its queries; None takes as many as the model was trained for.
        restart: throw away what an unfinished build of other inputs left, instead of refusing.
        strict: raise on an item that cannot be read instead of leaving it out.
        on_bad: called with one line about each item that is left out.
        progress: called with items done so far and items in all, of a stream those read.
        **execution: `runtime`, `precision`, `device`, `threads` as in `ExecutionOptions`.

    Returns:
        `out`.

    Raises:
        InputError: an option that cannot be; nothing usable in the dataset; a bad item if `strict`.
        ArtifactError: `out` exists or cannot be written, another process builds it, or a build of
            other inputs is unfinished there.
    """
    check_free(out)
    options = IndexOptions(
        of=of, keep=keep, side_precision=side_precision, bytes_per_item=bytes_per_item,
        exact_tokens=exact_tokens, prefilter=prefilter, shard_items=shard_items,
        keep_photos=keep_photos, crops=crops,
    )  # fmt: skip
    running = ExecutionOptions(**execution).with_thread_count()
    open_bundle = Bundle.open(bundle, running)
    source = ItemSource(dataset, max(1, shard_items))
    with unfinished_build(open_bundle, source, out, options, restart=restart) as (build, facts):
        unique = UniqueIds([], (), strict=strict, on_bad=on_bad)
        facts = write_shards(
            build.folder, facts, source, open_bundle, unique, threads=running.thread_count,
            strict=strict, on_bad=on_bad, progress=progress, finished=build,
        )  # fmt: skip
        complete_build(build, facts)
    return out


@contextlib.contextmanager
def unfinished_build(
    bundle: Bundle, source: ItemSource, out: Path, options: IndexOptions, *, restart: bool
) -> Iterator[tuple[UnfinishedBuild, IndexFacts]]:
    """Begin a new index, or go on with it; for a block the place is this process's alone.

    Every option is checked and every choice made before anything is encoded: what is wrong is said
    in the first second, and a build that goes on compares its inputs with the recorded ones.

    Args:
        bundle: open; encodes the items.
        source: the items.
        out: the index's folder.
        options: of the index.
        restart: throw away what an unfinished build of other inputs left, instead of refusing.

    Yields:
        the build, and what the index will record, without its shards.

    Raises:
        InputError: an option that cannot be.
        ArtifactError: `out` cannot be written, another process builds it, or a build of other
            inputs is unfinished there.
    """
    facts = planned_facts(bundle, source, out, options)
    # Within a budget the level is chosen by the data alone, not by the free disk: another run
    # agrees.
    level = options.keep if options.bytes_per_item is None else facts.level
    with explain_disk_errors(out, hint=RESUME_HINT), UnfinishedBuild.hold(out) as build:
        yield build, build.resume(facts, source, level=level, restart=restart)


def complete_build(build: UnfinishedBuild, facts: IndexFacts) -> None:
    """Give a built index its name.

    Args:
        build: whose shards are all there.
        facts: of the index, with its shards.

    Raises:
        InputError: none of them holds an item.
    """
    if not facts.shards:  # an index that can answer nothing would only hide a wrong dataset
        build.discard()
        item = "recipe" if facts.of == "recipes" else "photo"
        raise InputError(f"{facts.dataset or STDIN}: holds no usable {item} to index")
    build.complete(facts)


def planned_facts(
    bundle: Bundle, source: ItemSource, out: Path, options: IndexOptions
) -> IndexFacts:
    """Return what a new index will record, every option checked and every choice made.

    Args:
        bundle: open; encodes the items.
        source: the items.
        out: the index's folder.
        options: of the index.

    Raises:
        InputError: an option that cannot be.
    """
    of, level, encoding_precision = options.of, options.keep, options.side_precision
    exact_tokens = options.exact_tokens
    crops = bundle.facts.model.image.crops if options.crops is None else options.crops
    if of not in ("recipes", "images"):
        raise InputError(f"an index is of recipes or of images, not of {of!r}")
    if level is not None and level not in LEVELS:
        raise InputError(f"level {level!r}: must be one of {', '.join(LEVELS)}")
    if encoding_precision not in (None, *ENCODING_PRECISIONS):
        raise InputError(
            f"stored precision {encoding_precision!r}: must be one of "
            f"{', '.join(ENCODING_PRECISIONS)}"
        )
    check_crops(crops)
    if options.shard_items < 1:
        raise InputError(f"{options.shard_items} items a shard: must be at least 1")
    if options.prefilter is not None:
        check_factory(options.prefilter, bundle.facts.global_dim)
    if bundle.has_local and options.bytes_per_item is not None:
        level, encoding_precision = _form_within(
            options.bytes_per_item, bundle, source, of, level, encoding_precision, exact_tokens
        )
    encoding_precision = encoding_precision or "fp32"
    check_form(level, encoding_precision, exact_tokens=exact_tokens)
    if bundle.has_local and (encoding_precision == "int4" or exact_tokens):
        level = "tokens"  # nothing else is stored so
        if bundle.facts.width % 2:
            raise InputError(f"int4: a model of odd width, {bundle.facts.width}; take int8")
    facts = IndexFacts(
        of=of,
        model_id=bundle.model_id,
        bundle=recorded_path(bundle.path, out),
        dataset=None if source.streamed else source.name,
        level=None,
        encoding_precision=encoding_precision,
        prefilter=options.prefilter or default_factory(source.count),
        shard_items=options.shard_items,
        keep_photos=options.keep_photos,
        crops=crops,
        exact_tokens=exact_tokens and bundle.has_local,
    )
    if bundle.has_local:
        level = level or _default_level(bundle, source, facts, existing_parent(out))
    elif level is not None:
        raise InputError(
            f"level {level!r}: this model has no local part, so an index of it stores none"
        )
    return replace(facts, level=level)


def _form_within(
    budget: float,
    bundle: Bundle,
    source: ItemSource,
    of: ItemKind,
    level: Level | None,
    precision: EncodingPrecision | None,
    exact_tokens: bool,
) -> tuple[Level, EncodingPrecision]:
    """Return the best level and precision within a budget of bytes an item."""
    if not 0 < budget < float("inf"):
        raise InputError(f"{budget:g} bytes an item: must be more than 0")
    role: Role = "recipe" if of == "recipes" else "image"
    # Of a stream the first chunk stands for what is to come. Where it is empty, nothing will be
    # written, and that is said later.
    tokens = average_tokens(bundle, role, source.sample) if source.sample is not None else 1.0
    return form_within(
        budget, tokens, width=bundle.facts.width, heads=bundle.facts.heads,
        level=level, precision=precision, exact_tokens=exact_tokens,
    )  # fmt: skip


def _default_level(bundle: Bundle, source: ItemSource, facts: IndexFacts, folder: Path) -> Level:
    """Return the highest level that fits; the lowest where nobody knows how much is to come."""
    # What is not stored a search computes; a level too high for the disk would end a build late.
    if source.count is None or source.sample is None:
        return "tokens"
    return default_level(
        average_tokens(bundle, facts.role, source.sample) * source.count,
        facts.encoding_precision,
        width=bundle.facts.width,
        heads=bundle.facts.heads,
        folder=folder,
    )
