"""A shard: some items of an index in a folder that never changes once it is written.

shard.json        what is in it
numbers, lengths  (N,) int64: the items' numbers in the index, and their tokens
global            (N, D_g) float32: the vectors whose inner product is S_global
query, key, ...   the arrays of one level, ragged; int8 ones have a `.scale` beside them
prefilter.faiss   unless the prefilter is Flat, which reads `global`
records.sqlite    the recipes
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hficma.artifact import sha256, sync
from hficma.closing import Closing
from hficma.errors import ArtifactError
from hficma.recipe import Recipe

from . import prefilter, records
from .prefilter import Prefilter, PrefilterFacts, Vectors
from .ragged import Array, ArrayFile, Layout, map_array
from .records import Records, RecordWriter
from .sides import (
    LEVELS,
    NARROW,
    NO_ERROR,
    SCALE,
    Level,
    Precision,
    QuantisationError,
    Sides,
    StoredSides,
    quantise,
    rows_of,
)

FACTS = "shard.json"
Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class ShardFacts:
    """What `shard.json` says."""

    count: int
    """Items."""
    tokens: int
    """Tokens of all items; 0 without a local part."""
    arrays: dict[str, Layout]
    """Array file to its layout."""
    errors: dict[str, QuantisationError]
    """Array to what storing took from it."""
    prefilter: PrefilterFacts | None
    """None for an empty shard."""
    files: dict[str, str]
    """File to SHA-256, without `shard.json` itself."""

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "count": self.count,
            "tokens": self.tokens,
            "arrays": {name: layout.to_json() for name, layout in self.arrays.items()},
            "errors": {name: error._asdict() for name, error in self.errors.items()},
            "prefilter": asdict(self.prefilter) if self.prefilter else None,
            "files": self.files,
        }

    @classmethod
    def read(cls, folder: Path) -> ShardFacts:
        """Read a shard's facts.

        Raises:
            ArtifactError: missing or damaged.
        """
        try:
            record = json.loads((folder / FACTS).read_text(encoding="utf-8"))
            return cls(
                count=record["count"],
                tokens=record["tokens"],
                arrays={k: Layout.from_json(v) for k, v in record["arrays"].items()},
                errors={k: QuantisationError(**v) for k, v in record["errors"].items()},
                prefilter=PrefilterFacts(**record["prefilter"]) if record["prefilter"] else None,
                files=dict(record["files"]),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"{folder}: is no whole shard ({error})") from error


class ShardWriter:
    """Writes one shard, item after item, in bounded memory.

    Args:
        folder: an empty one.
        level: of the sides; None for a model without a local part.
        precision: of the sides' wide arrays.
    """

    def __init__(self, folder: Path, *, level: Level | None, precision: Precision) -> None:
        self._folder = folder
        self._precision = precision
        self._names = LEVELS[level] if level else ()
        self._files: dict[str, ArrayFile] = {}
        self._errors: dict[str, QuantisationError] = {}
        self._stack = ExitStack()
        self._records = RecordWriter(folder / records.FILE)
        self._stack.callback(self._records.abandon)
        self._last_number = -1
        self.count = 0
        self._tokens = 0

    def append(
        self,
        numbers: Sequence[int] | Positions,
        recipes: Sequence[Recipe],
        vectors: Vectors,
        sides: Sides | None,
    ) -> None:
        """Write items.

        Args:
            numbers: (N,) rising, above those written before.
            recipes: their records.
            vectors: (N, D_g) global vectors.
            sides: at the shard's level; None without a local part.
        """
        rows: dict[str, Array] = {}
        for name in self._names:
            assert sides is not None
            exact = rows_of(sides, name)
            if name in NARROW:
                rows[name] = exact
                continue
            rows[name], scales, error = quantise(exact, self._precision)
            self._errors[name] = self._errors.get(name, NO_ERROR).joined(error)
            if scales is not None:
                rows[name + SCALE] = scales
        lengths = sides.lengths if sides else np.zeros(len(recipes), dtype=np.int64)
        self.append_stored(numbers, recipes, vectors, lengths, rows)

    def append_stored(
        self,
        numbers: Sequence[int] | Positions,
        recipes: Sequence[Recipe],
        vectors: Vectors,
        lengths: Positions,
        rows: Mapping[str, Array],
    ) -> None:
        """Write items whose rows are as another shard stored them."""
        numbers = np.asarray(numbers, dtype=np.int64)
        if not len(numbers):
            return
        assert numbers[0] > self._last_number
        self._last_number = int(numbers[-1])
        self._array("numbers").append(numbers)
        self._array("lengths").append(np.asarray(lengths, dtype=np.int64))
        self._array("global").append(np.asarray(vectors, dtype=np.float32))
        for name, values in rows.items():
            self._array(name).append(values)
        self._records.append(recipes)
        self.count += len(numbers)
        self._tokens += int(lengths.sum())

    def add_errors(self, errors: Mapping[str, QuantisationError]) -> None:
        """Count the errors of rows that came by `append_stored`."""
        for name, error in errors.items():
            self._errors[name] = self._errors.get(name, NO_ERROR).joined(error)

    def finish(self, factory: str) -> ShardFacts:
        """Make the prefilter, close the files and write `shard.json`, all of it on the disk."""
        for file in self._files.values():
            file.close()
        self._records.close()
        arrays = {name: file.layout for name, file in self._files.items()}
        files = {name: file.sha256 for name, file in self._files.items()}
        files[records.FILE] = sha256(self._folder / records.FILE)
        facts = None
        if self.count:
            vectors = map_array(self._folder / "global", arrays["global"])
            facts = prefilter.build_prefilter(vectors, factory, self._folder)
            if (self._folder / prefilter.FILE).exists():
                files[prefilter.FILE] = sha256(self._folder / prefilter.FILE)
        shard = ShardFacts(
            count=self.count,
            tokens=self._tokens,
            arrays=arrays,
            errors=self._errors,
            prefilter=facts,
            files=files,
        )
        (self._folder / FACTS).write_text(json.dumps(shard.to_json()), encoding="utf-8")
        for path in (*self._folder.iterdir(), self._folder):
            sync(path)
        return shard

    def _array(self, name: str) -> ArrayFile:
        if name not in self._files:
            self._files[name] = self._stack.enter_context(ArrayFile(self._folder / name))
        return self._files[name]

    def close(self) -> None:
        """Let go of the files, finished or not."""
        self._stack.close()


class Shard(Closing):
    """A shard opened for reading; everything large is memory-mapped.

    Raises:
        ArtifactError: a file is missing or has not its length.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.facts = ShardFacts.read(folder)
        self.count = self.facts.count
        arrays = {
            name: map_array(folder / name, layout) for name, layout in self.facts.arrays.items()
        }
        self.numbers: Positions = arrays.pop("numbers")
        lengths: Positions = np.array(arrays.pop("lengths"))
        self.vectors: Vectors = arrays.pop("global")
        self.sides: StoredSides | None = None
        if arrays:
            tables = len(arrays["table"]) if "table" in arrays else 0
            self.sides = StoredSides(lengths, arrays, max(1, tables // self.facts.tokens))
        self.records = Records(folder / records.FILE)
        assert self.facts.prefilter is not None
        self.prefilter = Prefilter(self.facts.prefilter, self.vectors, folder)

    def close(self) -> None:
        """Close the records; arrays stay mapped while something holds them."""
        self.records.close()
