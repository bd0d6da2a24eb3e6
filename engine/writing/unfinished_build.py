"""An index that is being built: a hidden folder beside its place, and what it is made of.

    NAME                 the index; appears by a rename when it is whole
    .NAME.building       the unfinished index
      plan.json          the inputs of the build, which a later run compares with its own
      shards/000000 ...  finished shards
    .NAME.building.lock  held by the process that builds

A build that was killed leaves the folder; the same call goes on at the first missing shard.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hficma.artifacts.locks import locked
from hficma.artifacts.manifest import inside, sync, write_atomically
from hficma.artifacts.unfinished import remove_tree
from hficma.errors import ArtifactError, InputError
from hficma.recipe import Recipe

from ..index.index_facts import SHARDS, IndexFacts, write_index_manifest
from ..index.item_encoding import Level
from ..index.shard import Shard
from ..index.shard_facts import ShardFacts
from .chunks import Chunk, ItemSource, fingerprint
from .transaction import PLAN, building_folder, building_lock, listed_files, sweep

RECORDS_A_READ = 1024
"""Records that are compared at once: their recipes are in memory meanwhile."""

_INPUT_NAMES = {
    "of": "the kind of items", "keep": "the level", "side_precision": "the stored precision",
    "prefilter": "the prefilter", "shard_items": "the items a shard", "dataset": "the dataset",
    "keep_photos": "the kept photos", "crops": "the crops of photos",
    "exact_tokens": "the exact tokens",
}  # fmt: skip
"""Inputs of a build by their keys in the plan: a message shows what they were and are."""
_OPAQUE_INPUT_NAMES = {"model_id": "the model", "items": "the recipes of the dataset"}
"""Inputs that are hashes: a message says only that they changed."""


class UnfinishedBuild:
    """The folder in which an index is being built, held by this process; see `hold`."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = building_folder(out)
        self._streamed = False

    @classmethod
    @contextlib.contextmanager
    def hold(cls, out: Path) -> Iterator[UnfinishedBuild]:
        """Hold the unfinished build of `out` for a block, beginning one where there is none.

        Where nothing in it is finished at the block's end, nothing of it stays.

        Raises:
            ArtifactError: another process builds `out` or has just done so, or there is a link
                in its place.
        """
        build, lock = cls(out), building_lock(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        for path in (build.folder, lock):
            if path.is_symlink():
                raise ArtifactError(f"{path}: is a link, where an index is built; remove it")
        with locked(lock, name=str(out)):
            try:
                if out.exists():
                    raise ArtifactError(
                        f"{out}: another process was writing to it, and is done now"
                    )
                (build.folder / SHARDS).mkdir(parents=True, exist_ok=True)
                sweep(build.folder, build._finished())
                yield build
            finally:
                if build.folder.is_dir() and not build._finished():
                    remove_tree(build.folder)
                if not build.folder.exists():
                    # While it is held: whoever waits for it finds that it has no name any more.
                    lock.unlink(missing_ok=True)

    def resume(
        self, facts: IndexFacts, source: ItemSource, *, level: Level | None, restart: bool
    ) -> IndexFacts:
        """Resume a killed build of the same inputs behind its finished shards, or begin anew.

        Args:
            facts: of the new index, every choice made.
            source: its items.
            level: as it was asked for; None where it was chosen by what fits.
            restart: throw away what a build of other inputs has finished.

        Returns:
            the facts; a level that was chosen when the build began stands, though by now the free
            disk has changed.

        Raises:
            ArtifactError: shards of other inputs are finished, and `restart` is not set.
        """
        self._streamed = source.streamed
        sample = source.sample
        inputs = {
            **facts.to_json(), "keep": level, "bundle": None,
            "items": fingerprint(sample) if sample is not None else None,
        }  # fmt: skip
        # Through JSON and back, so that a tuple compares as the list that it is in the file.
        plan = json.loads(json.dumps({"inputs": inputs, "keep": facts.level}))
        old_inputs, old_level = self._read_plan()
        if finished := self._finished():
            if old_inputs == plan["inputs"] and not restart:
                return replace(facts, level=old_level)
            if not restart:
                raise ArtifactError(
                    f"{self.out}: an index of other inputs is unfinished there, {len(finished)} "
                    f"shards are done ({_differences(old_inputs, plan['inputs'])}); give the same "
                    "inputs to go on, `restart` to throw them away, or another place to build in"
                )
            self.discard()
        write_atomically(self.folder / PLAN, json.dumps(plan).encode())
        return facts

    def holds(self, name: str, chunk: Chunk) -> bool:
        """Return whether the shard `name` is finished, and holds the items of a chunk.

        Raises:
            ArtifactError: it is, and holds other items.
        """
        shard = inside(self.folder, f"{SHARDS}/{name}")
        if not shard.exists():
            return False
        if self._streamed and not _reaches_end(shard, chunk):
            # Where the stream had ended, it goes on now: the shard would lack what follows.
            remove_tree(shard)
            return False
        changed = _changed_item(shard, chunk)
        if changed is not None:
            raise ArtifactError(
                f"{self.out}: is unfinished, and {changed} is not what it was when that began; "
                "give the same data, `restart` to begin anew, or another place to build in"
            )
        return True

    def complete(self, facts: IndexFacts) -> None:
        """Name the shards of `facts` in a manifest and put the index into its place."""
        write_index_manifest(self.folder, facts, listed_files(self.folder, facts.shards))
        self.folder.rename(self.out)
        sync(self.out.parent)
        # Only now: killed before, the same call must find its plan again.
        (self.out / PLAN).unlink()

    def discard(self) -> None:
        """Remove every finished shard."""
        sweep(self.folder, ())

    def _finished(self) -> list[str]:
        """Return the names of the finished shards."""
        folder = inside(self.folder, SHARDS)
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))

    def _read_plan(self) -> tuple[dict[str, Any], Level | None]:
        """Return the inputs of the killed build, and its level; a damaged plan equals no other."""
        try:
            plan = json.loads(inside(self.folder, PLAN).read_text(encoding="utf-8"))
            return plan["inputs"], plan["keep"]
        except FileNotFoundError:
            return {}, None
        except (ValueError, KeyError, TypeError):
            return {"plan": "damaged"}, None


def find_unfinished_index(folder: Path, name: str) -> Path | None:
    """Return where a dated index, such as `NAME-20261126-101500`, is unfinished.

    Whoever gives no name gets a new date at each call, and would never find a killed build again.

    Args:
        folder: of indexes.
        name: before the date.

    Returns:
        the place of the latest that nobody is building; None where there is none.
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


def _reaches_end(folder: Path, chunk: Chunk) -> bool:
    """Return whether a finished shard holds the last item of its chunk."""
    if not ShardFacts.read(folder).count:
        return False
    with Shard(folder) as shard:
        return int(shard.numbers[-1]) == chunk.stop - 1


def _changed_item(folder: Path, chunk: Chunk) -> str | None:
    """Return the id of the first item of a finished shard that its chunk has otherwise, or None.

    Every record is compared: to read one costs a thousandth of encoding it, and a line that was
    mended meanwhile would otherwise stay in the index as it was.
    """
    if not ShardFacts.read(folder).count:
        return None
    with Shard(folder) as shard:
        # A build numbers its items by their place in the input.
        positions = (shard.numbers - chunk.offset).tolist()
        for start in range(0, shard.count, RECORDS_A_READ):
            places = range(start, min(start + RECORDS_A_READ, shard.count))
            for place, recipe in shard.records.recipes(places).items():
                if not _has_recipe(chunk, positions[place], recipe):
                    return recipe.id
    return None


def _has_recipe(chunk: Chunk, position: int, recipe: Recipe) -> bool:
    """Return whether a recipe stands at a position of a chunk."""
    try:
        return position in chunk.positions and chunk.dataset.recipe(position) == recipe
    except InputError:
        return False


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return in words what of a build's inputs is not as it was."""
    differences = []
    for key, name in {**_INPUT_NAMES, **_OPAQUE_INPUT_NAMES}.items():
        if before.get(key) == now.get(key):
            continue
        if key in _OPAQUE_INPUT_NAMES:
            differences.append(f"{name} changed")
        else:
            old, new = (inputs.get(key) or "not given" for inputs in (before, now))
            differences.append(f"{name} was {old}, is {new}")
    return "; ".join(differences) or "of what is not known"
