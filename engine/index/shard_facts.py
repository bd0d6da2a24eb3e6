"""What `shard.json` says of a shard, believed where it is what this program writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hficma.artifacts.json_fields import Fields, integer, strict_json, text
from hficma.artifacts.manifest import inside
from hficma.errors import ArtifactError, InputError
from hficma.limits import MEGABYTE, read_regular_file

from ..files import photo_file
from ..files.checksums import BLOCK, block_count
from ..files.photo_file import PhotoCounts
from ..files.ragged import Layout
from . import prefilter, records
from .item_encoding import (
    EXACT_TOKENS,
    LEVELS,
    NARROW,
    PRECISION_DTYPES,
    SCALE,
    STORED_FORMS,
    EncodingPrecision,
    Level,
    QuantisationError,
    rows_per_token,
    stored_layouts,
)
from .prefilter import PrefilterFacts

FACTS = "shard.json"
BLOCKS = "blocks"
"""The checksums of all other files' blocks, files in the order of their names, `<u8`."""
FACTS_BYTES = MEGABYTE
"""The most that `shard.json` may have; it takes about 4 KB."""
BASE: Mapping[str, str] = {"numbers": "<i8", "lengths": "<i8", "global": "<f4"}
"""Arrays of every shard, and their element types."""

_WIDE = tuple(dict.fromkeys(n for names in LEVELS.values() for n in names if n not in NARROW))
_ARRAYS = (*BASE, *_WIDE, *NARROW, EXACT_TOKENS, *(name + SCALE for name in _WIDE))
_DTYPES = (*dict.fromkeys((*BASE.values(), *PRECISION_DTYPES.values())),)
_FILES = (*_ARRAYS, records.FILE, prefilter.FILE, photo_file.FILE, BLOCKS)


@dataclass(frozen=True, kw_only=True)
class ShardFacts:
    """What `shard.json` says."""

    count: int
    """Items."""
    tokens: int
    """Tokens of all items; 0 without a local part."""
    arrays: dict[str, Layout]
    """Name of an array's file to its element type and shape."""
    errors: dict[str, QuantisationError]
    """Name of an array to how far its stored values are from the computed ones."""
    prefilter: PrefilterFacts | None
    """None for an empty shard."""
    files: dict[str, str]
    """File to SHA-256, without `shard.json` itself."""
    sizes: dict[str, int] | None = None
    """File to bytes, of those with checksums of their blocks; None from older versions."""
    photos: PhotoCounts | None = None
    """What is known of the items' photos; None where nothing is, as in older versions."""

    def to_json(self) -> dict[str, Any]:
        """Return the facts as JSON values."""
        record = {
            "count": self.count,
            "tokens": self.tokens,
            "arrays": {name: layout.to_json() for name, layout in self.arrays.items()},
            "errors": {name: error._asdict() for name, error in self.errors.items()},
            "prefilter": asdict(self.prefilter) if self.prefilter else None,
            "files": self.files,
            "block": BLOCK,
            "sizes": self.sizes,
        }
        return record if self.photos is None else {**record, "photos": self.photos._asdict()}

    @classmethod
    def read(cls, folder: Path) -> ShardFacts:
        """Read the facts of a shard that no manifest names yet.

        Raises:
            ArtifactError: missing or damaged.
        """
        try:
            content = read_regular_file(inside(folder, FACTS), limit=FACTS_BYTES)
        except InputError as error:
            raise ArtifactError(f"{folder}: is no whole shard ({error})") from error
        return cls.parse(content, str(folder))

    @classmethod
    def parse(cls, content: bytes, name: str) -> ShardFacts:
        """Read what `to_json` wrote.

        Args:
            content: of the file.
            name: of the shard, for messages.

        Raises:
            ArtifactError: it is damaged, or says what no shard is.
        """
        try:
            facts = _parsed(content)
            if facts.count:
                facts._check()
        except ValueError as error:
            raise ArtifactError(f"{name}: its {FACTS} is damaged ({error})") from error
        return facts

    @property
    def level(self) -> Level | None:
        """Return the level at which items are stored; None without a local part.

        Raises:
            ValueError: the arrays are of no level.
        """
        # A level is written nowhere: it is the one whose arrays these are, all and no others.
        names = set(self.arrays) - BASE.keys() - {EXACT_TOKENS}
        for level, level_names in LEVELS.items():
            if {name for name in names if not name.endswith(SCALE)} == set(level_names):
                return level
        if names:
            raise ValueError(f"its arrays {', '.join(sorted(names))} are of no level")
        return None

    @property
    def precision(self) -> EncodingPrecision:
        """Return the precision in which the wide arrays are stored.

        Raises:
            ValueError: they are of several.
        """
        dtypes = {layout.dtype for name, layout in self.arrays.items() if name in _WIDE}
        for precision, dtype in PRECISION_DTYPES.items():
            if dtypes == {dtype}:
                return precision
        raise ValueError("its arrays are of no one precision")

    @property
    def exact_tokens(self) -> bool:
        """Return whether float16 tokens stand beside those in fewer bits."""
        return EXACT_TOKENS in self.arrays

    @property
    def heads(self) -> int:
        """Return H; 1 where there is no table."""
        return self.arrays["table"].shape[0] // self.tokens if "table" in self.arrays else 1

    @property
    def width(self) -> int:
        """Return D; 0 without a local part."""
        level = self.level
        if not level:
            return 0
        columns = self.arrays[LEVELS[level][0]].shape[1]
        return 2 * columns if self.precision == "int4" else columns

    @property
    def global_dim(self) -> int:
        """Return D_g."""
        return self.arrays["global"].shape[1]

    def _check(self) -> None:
        """Compare every array's layout with what the counts say; raises ValueError."""
        if missing := BASE.keys() - self.arrays.keys():
            raise ValueError(f"it has no {min(missing)}")
        level = self.level
        if (self.tokens > 0) != (level is not None) or (level and self.tokens < self.count):
            raise ValueError(f"{self.tokens} tokens of {self.count} items")
        layouts = {
            "numbers": Layout("<i8", (self.count,)),
            "lengths": Layout("<i8", (self.count,)),
            "global": Layout("<f4", (self.count, self._last("global"))),
        }
        if level is not None:
            layouts.update(self._encoding_layouts(level, self.precision))
        if layouts != self.arrays:
            wrong = next(n for n in {**layouts, **self.arrays}
                         if layouts.get(n) != self.arrays.get(n))  # fmt: skip
            raise ValueError(f"{wrong} is {self.arrays.get(wrong)}, not {layouts.get(wrong)}")
        if self.prefilter is None:
            raise ValueError("it has no prefilter")
        expected = {*self.arrays, records.FILE}
        if self.prefilter.factory != "Flat":
            expected.add(prefilter.FILE)
        if self.photos is not None:
            if self.sizes is None or max(self.photos) > self.count:
                raise ValueError(f"it has {max(self.photos)} photos of {self.count} items")
            expected.add(photo_file.FILE)
        # Older versions wrote neither sizes nor `blocks`; a newer shard has both.
        if self.sizes is not None:
            if set(self.sizes) != expected:
                raise ValueError("its sizes are of other files than it has")
            if any(self.sizes[n] != layout.nbytes for n, layout in self.arrays.items()):
                raise ValueError("its sizes are not those of its arrays")
            expected.add(BLOCKS)
        if set(self.files) != expected:
            raise ValueError(f"it names {sorted(self.files)}, not {sorted(expected)}")

    def _encoding_layouts(self, level: Level, precision: EncodingPrecision) -> dict[str, Layout]:
        """Return the layouts that arrays of a level must have; raises ValueError where none can."""
        columns = self._last(LEVELS[level][0])
        if (level, precision) not in STORED_FORMS:
            raise ValueError(f"its {level} are in {precision}")
        width = 2 * columns if precision == "int4" else columns
        # H is written nowhere: a table has H rows a token, which must come out whole.
        heads = 1
        if level == "tables":
            heads, rest = divmod(self.arrays["table"].shape[0], self.tokens)
            if rest or not heads:
                raise ValueError("table has no whole number of rows a token")
        layouts: dict[str, Layout] = {}
        for name in LEVELS[level]:
            if name == "gate_bias":
                layouts[name] = Layout("<f4", (self.tokens,))
            elif name == "mean":
                layouts[name] = Layout("<f4", (self.count, width))
            else:
                rows = self.tokens * rows_per_token(name, heads)
                layouts.update(stored_layouts(name, precision, rows, width))
        if self.exact_tokens:
            if (level, precision) not in (("tokens", "int8"), ("tokens", "int4")):
                raise ValueError(f"it has {EXACT_TOKENS} beside {level} in {precision}")
            layouts[EXACT_TOKENS] = Layout(PRECISION_DTYPES["fp16"], (self.tokens, width))
        return layouts

    def _last(self, name: str) -> int:
        """Return the last axis of an array of rows; raises ValueError where it is none."""
        shape = self.arrays[name].shape
        if len(shape) != 2 or not shape[1]:
            raise ValueError(f"{name} is {shape}, not a row of numbers each")
        return shape[1]

    def block_slices(self) -> dict[str, slice]:
        """Return where each file's checksums lie in `blocks`."""
        slices, start = {}, 0
        for name, size in sorted((self.sizes or {}).items()):
            slices[name] = slice(start, start := start + block_count(size))
        return slices


def _parsed(content: bytes) -> ShardFacts:
    """Return the facts, each of its type and range but not yet compared with each other."""
    record = Fields(
        strict_json(content), "it",
        {"count", "tokens", "arrays", "errors", "prefilter", "files", "block", "sizes",
         "photos"},
    )  # fmt: skip
    count = record.integer("count")
    arrays, errors = record.object("arrays", _ARRAYS), record.object("errors", _WIDE)
    sizes = None
    if "block" in record or "sizes" in record:
        record.integer("block", BLOCK, BLOCK)
        of_files = record.object("sizes", _FILES)
        sizes = {name: of_files.integer(name) for name in of_files}
    record.object("files", _FILES)
    photos = record.object("photos", PhotoCounts._fields) if "photos" in record else None
    return ShardFacts(
        count=count,
        tokens=record.integer("tokens"),
        arrays={name: _layout(arrays.object(name, ("dtype", "shape")), name) for name in arrays},
        errors={name: _error(errors.object(name, QuantisationError._fields)) for name in errors},
        prefilter=_prefilter(record) if record.value("prefilter") is not None else None,
        files=record.hashes("files"),
        sizes=sizes,
        photos=None if photos is None else PhotoCounts(*map(photos.integer, PhotoCounts._fields)),
    )


def _layout(record: Fields, name: str) -> Layout:
    """Return an array's element type and shape."""
    dtype = record.text("dtype", _DTYPES)
    shape = [integer(size, f"{name}.shape") for size in record.sequence("shape")]
    if not 1 <= len(shape) <= 2:
        raise ValueError(f"{name} has {len(shape)} axes")
    return Layout(dtype, tuple(shape))


def _error(record: Fields) -> QuantisationError:
    """Return how far an array's stored values are from the computed ones."""
    return QuantisationError(*(record.number(name) for name in QuantisationError._fields))


def _prefilter(record: Fields) -> PrefilterFacts:
    """Return what the shard records of its prefilter."""
    facts = record.object(
        "prefilter", ("factory", "bounded", "largest_norm", "error_norm", "error_entry")
    )
    return PrefilterFacts(
        factory=text(facts.value("factory"), "factory"),
        bounded=facts.flag("bounded"),
        largest_norm=facts.number("largest_norm"),
        error_norm=facts.number("error_norm"),
        error_entry=facts.number("error_entry"),
    )
