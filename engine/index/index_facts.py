"""What an index's manifest records of it, and the only writer of that manifest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from hficma.artifacts.json_fields import Fields, integer, text
from hficma.artifacts.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    Manifest,
    read_manifest,
    write_manifest,
)
from hficma.artifacts.workspace import Workspace, find_bundle
from hficma.data.photo_places import PhotoRoot, RootKind
from hficma.errors import ArtifactError
from hficma.images.crops import COUNTS

from .item_encoding import ENCODING_PRECISIONS, LEVELS, EncodingPrecision, Level, Role

if TYPE_CHECKING:
    from ..bundle.bundle import Bundle

KIND = "index"
"""The manifest's kind."""
MADE_BY = "hficma index"
SHARDS = "shards"
"""The folder of the shards."""
SHARD_NAME = re.compile(r"\d{6,12}")
"""What a shard's folder may be called: names become paths."""

FOUR_BITS = 2
"""Format of an index with tokens in int4, or with exact ones beside them: older programs, which
know neither, refuse it by its number."""
PHOTO_ROOTS = 10_000
"""Roots of photos that an index may have: one for each folder that items were added from."""

ItemKind = Literal["recipes", "images"]
"""What an index holds: recipes answer photos, photos answer recipes."""

_KEYS = {"level": "keep", "encoding_precision": "side_precision"}
"""The manifest's keys of the fields that have another name there: its format does not change."""
_LATER_DEFAULTS = {"keep_photos": False, "photo_roots": [], "crops": 1, "exact_tokens": False}
"""Keys that older versions did not write, with what they stand for where they are not there."""


@dataclass(frozen=True, kw_only=True)
class IndexFacts:
    """What an index's manifest records."""

    of: ItemKind
    """What its items are."""
    model_id: str
    """Of the bundle that encoded it, and of every bundle that may search it."""
    bundle: str
    """Where that bundle was, relative to the index; absolute where an older version wrote it."""
    dataset: str | None
    """What was indexed first, as `open_dataset` takes it."""
    level: Level | None
    """Level at which items are stored; None for a model without a local part."""
    encoding_precision: EncodingPrecision
    """In which the wide arrays of the items' encodings are stored."""
    prefilter: str
    """FAISS factory string of new shards."""
    shard_items: int
    """Items a shard is cut at."""
    shards: tuple[str, ...] = ()
    """Folders under `shards`, in the order of their items' numbers."""
    removed: tuple[int, ...] = ()
    """Numbers of items that are no longer there, rising."""
    next_number: int = 0
    """The number of the next item; no number is used twice, so a removed one stays removed."""
    next_shard: int = 0
    """The next shard's name; no name is used twice, so a reader never finds another's files."""
    keep_photos: bool = False
    """Whether shards hold a small JPEG of each item's photo."""
    crops: int = 1
    """Crops of a photo whose global vectors are averaged: of its items, or of its queries."""
    exact_tokens: bool = False
    """Whether float16 tokens are kept beside those of fewer bits, to score the best again."""
    photo_roots: tuple[PhotoRoot, ...] = ()
    """What the places of photos are relative to; paths are relative to the index."""

    @property
    def role(self) -> Role:
        """Return what its items are to the model: of a pair, the image or the recipe."""
        return "recipe" if self.of == "recipes" else "image"

    @property
    def query_role(self) -> Role:
        """Return the other role: photos search recipes, and recipes search photos."""
        return "image" if self.of == "recipes" else "recipe"

    def to_json(self) -> dict[str, Any]:
        """Return the facts as JSON values, under the manifest's keys."""
        record = {_KEYS.get(name, name): value for name, value in asdict(self).items()}
        record["photo_roots"] = [root._asdict() for root in self.photo_roots]
        return {
            key: value
            for key, value in record.items()
            if key not in _LATER_DEFAULTS or value != _LATER_DEFAULTS[key]
        }

    def find_bundle(self, path: Path) -> Path:
        """Return where the bundle of the index at `path` is now.

        See `hficma.artifacts.workspace.find_bundle`, which also says where it looks.

        Raises:
            ArtifactError: no bundle of the model is found.
        """
        return find_bundle(path, recorded=self.bundle, model_id=self.model_id)

    @classmethod
    def read(cls, path: Path) -> IndexFacts:
        """Read the facts of the index at `path`.

        Raises:
            ArtifactError: no index there, or a damaged one.
        """
        return cls.of_manifest(path, read_manifest(path, kind=KIND))

    @classmethod
    def of_manifest(cls, path: Path, manifest: Manifest) -> IndexFacts:
        """Read the facts out of the manifest of the index at `path`.

        Raises:
            ArtifactError: they are not what an index records.
        """
        try:
            keys = {_KEYS.get(field.name, field.name) for field in fields(cls)}
            return cls._parsed(Fields(manifest.facts, "facts", keys))
        except ValueError as error:
            raise ArtifactError(f"{path}: its {MANIFEST} is damaged ({error})") from error

    @classmethod
    def _parsed(cls, record: Fields) -> IndexFacts:
        """Return the facts of a manifest; raises ValueError where they are not of the format."""
        facts = cls(
            of=cast(ItemKind, record.text("of", ("recipes", "images"))),
            model_id=record.text("model_id"),
            bundle=record.text("bundle"),
            dataset=record.optional_text("dataset"),
            level=cast("Level | None", record.optional_text("keep", LEVELS)),
            encoding_precision=cast(
                EncodingPrecision, record.text("side_precision", ENCODING_PRECISIONS)
            ),
            prefilter=record.text("prefilter"),
            shard_items=record.integer("shard_items", 1),
            shards=tuple(text(name, "a shard") for name in record.sequence("shards")),
            removed=tuple(integer(one, "removed") for one in record.sequence("removed")),
            next_number=record.integer("next_number"),
            next_shard=record.integer("next_shard"),
            keep_photos="keep_photos" in record and record.flag("keep_photos"),
            crops=record.integer("crops", 1) if "crops" in record else 1,
            exact_tokens="exact_tokens" in record and record.flag("exact_tokens"),
            photo_roots=_photo_roots(record) if "photo_roots" in record else (),
        )
        if facts.crops not in COUNTS:
            raise ValueError(f"it says {facts.crops} crops")
        for name in facts.shards:
            if not SHARD_NAME.fullmatch(name):
                raise ValueError(f"{name[:40]!r} is no shard's name")
        if len(set(facts.shards)) < len(facts.shards):
            raise ValueError("a shard stands in it twice")
        if any(a >= b for a, b in pairwise((-1, *facts.removed, facts.next_number))):
            raise ValueError("the numbers of removed items do not rise below next_number")
        return facts


def _photo_roots(record: Fields) -> tuple[PhotoRoot, ...]:
    """Return the roots of photos; raises ValueError where they are not of the format."""
    roots = [Fields(root, "a photo root", PhotoRoot._fields)
             for root in record.sequence("photo_roots")]  # fmt: skip
    if len(roots) > PHOTO_ROOTS:
        raise ValueError(f"it has {len(roots)} roots of photos")
    return tuple(
        PhotoRoot(cast(RootKind, root.text("kind", get_args(RootKind))), root.text("where"))
        for root in roots
    )


def newest_index(workspace: Workspace, of: ItemKind) -> Path | None:
    """Return the newest index of a workspace whose items are of a kind; None where there is none.

    Only manifests are read: no shard is opened, however many indexes there are.

    Args:
        workspace: whose indexes are looked at.
        of: `recipes` for an index that answers photos, `images` for one that answers recipes.

    Raises:
        ArtifactError: the manifest of a newer index is damaged.
    """
    indexes = workspace.all(KIND)
    return next((path for path in indexes if IndexFacts.read(path).of == of), None)


def write_index_manifest(path: Path, facts: IndexFacts, files: dict[str, str]) -> None:
    """Make `facts` what the directory at `path` is, by one rename.

    Args:
        path: of the index.
        facts: its new state.
        files: path in the index to SHA-256, of every file of its shards.
    """
    new = facts.encoding_precision == "int4" or facts.exact_tokens
    manifest = Manifest(
        kind=KIND, made_by=MADE_BY, files=files, facts=facts.to_json(),
        format_version=FOUR_BITS if new else FORMAT_VERSION,
    )  # fmt: skip
    write_manifest(path, manifest)


def files_by_shard(files: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return what a manifest lists of each shard: the shard's name to file to SHA-256.

    Args:
        files: of the manifest, `shards/NAME/FILE` to SHA-256.
    """
    listed: dict[str, dict[str, str]] = {}
    for file, digest in files.items():
        folder, _, rest = file.partition("/")
        name, _, within = rest.partition("/")
        if folder == SHARDS:
            listed.setdefault(name, {})[within] = digest
    return listed


def model_mismatch(path: Path, facts: IndexFacts, bundle: Bundle) -> ArtifactError:
    """Return the error that says that a bundle is not of the index's model.

    Args:
        path: of the index.
        facts: of the index.
        bundle: of another model.
    """
    return ArtifactError(
        f"{path}: was made with model {facts.model_id[:12]} "
        f"({(path / facts.bundle).resolve()}), and the bundle {bundle.path} is of another model, "
        f"{bundle.model_id[:12]}; give a bundle of the first, or index again with this one"
    )
