"""What an index's manifest records of it, and the only writer of that manifest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from hficma.artifacts.json_fields import Fields, integer, text
from hficma.artifacts.manifest import MANIFEST, Manifest, read_manifest, write_manifest
from hficma.artifacts.workspace import Workspace, find_bundle
from hficma.errors import ArtifactError

from .item_encoding import LEVELS, PRECISIONS, Level, Precision, Role

if TYPE_CHECKING:
    from ..bundle.bundle import Bundle

KIND = "index"
SHARDS = "shards"
MADE_BY = "hficma index"
SHARD_NAME = re.compile(r"\d{6,12}")
"""What a shard's folder may be called: names become paths."""

ItemKind = Literal["recipes", "images"]


_KEYS = {"level": "keep", "encoding_precision": "side_precision"}
"""The manifest's keys of the fields that have another name there: its format does not change."""


@dataclass(frozen=True, kw_only=True)
class IndexFacts:
    """What an index's manifest records."""

    of: ItemKind
    """What its items are: recipes answer photos, photos answer recipes."""
    model_id: str
    """Of the bundle that encoded it, and of every bundle that may search it."""
    bundle: str
    """Where that bundle was, relative to the index; absolute in those of older versions."""
    dataset: str | None
    """What was indexed first, as `open_dataset` takes it."""
    level: Level | None
    """Level at which items are stored; None for a model without a local part."""
    encoding_precision: Precision
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
    """The number of the next item; numbers are never given twice."""
    next_shard: int = 0
    """The next shard's name; names are never given twice."""

    @property
    def role(self) -> Role:
        """What its items are, as a side's role."""
        return "recipe" if self.of == "recipes" else "image"

    @property
    def query_role(self) -> Role:
        """What its queries are: photos search recipes, recipes search photos."""
        return "image" if self.of == "recipes" else "recipe"

    def to_json(self) -> dict[str, Any]:
        """Return the facts as JSON values, under the manifest's keys."""
        return {_KEYS.get(name, name): value for name, value in asdict(self).items()}

    def find_bundle(self, path: Path) -> Path:
        """Where the bundle of the index at `path` is now; see `workspace.find_bundle`."""
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
        facts = cls(
            of=cast(ItemKind, record.text("of", ("recipes", "images"))),
            model_id=record.text("model_id"),
            bundle=record.text("bundle"),
            dataset=record.optional_text("dataset"),
            level=cast("Level | None", record.optional_text("keep", LEVELS)),
            encoding_precision=cast(Precision, record.text("side_precision", PRECISIONS)),
            prefilter=record.text("prefilter"),
            shard_items=record.integer("shard_items", 1),
            shards=tuple(text(name, "a shard") for name in record.sequence("shards")),
            removed=tuple(integer(one, "removed") for one in record.sequence("removed")),
            next_number=record.integer("next_number"),
            next_shard=record.integer("next_shard"),
        )
        for name in facts.shards:
            if not SHARD_NAME.fullmatch(name):
                raise ValueError(f"{name[:40]!r} is no shard's name")
        if len(set(facts.shards)) < len(facts.shards):
            raise ValueError("a shard stands in it twice")
        if any(a >= b for a, b in pairwise((-1, *facts.removed, facts.next_number))):
            raise ValueError("the numbers of removed items do not rise below next_number")
        return facts


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
    """Make `facts` what the directory at `path` is, by one rename."""
    write_manifest(path, Manifest(kind=KIND, made_by=MADE_BY, files=files, facts=facts.to_json()))


def files_by_shard(files: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return what a manifest lists of each shard: name to file to SHA-256."""
    listed: dict[str, dict[str, str]] = {}
    for file, digest in files.items():
        folder, _, rest = file.partition("/")
        name, _, within = rest.partition("/")
        if folder == SHARDS:
            listed.setdefault(name, {})[within] = digest
    return listed


def model_mismatch(path: Path, facts: IndexFacts, bundle: Bundle) -> ArtifactError:
    """What is raised where a bundle is not of the index's model."""
    return ArtifactError(
        f"{path}: was made with model {facts.model_id[:12]} "
        f"({(path / facts.bundle).resolve()}), and the bundle {bundle.path} is of another model, "
        f"{bundle.model_id[:12]}; give a bundle of the first, or index again with this one"
    )
