"""Array types, and the letters that name array axes: defined here once, used everywhere.

A shape in a docstring or comment is a tuple of these letters, such as (B, R, D) for the regions of
B photos. A letter means the same thing in every file:

| Letter | Axis |
| --- | --- |
| B | photos of a batch (or of a table of scores: its rows) |
| M | recipes of a batch (or of a table of scores: its columns) |
| N | items, of either kind: what an index holds, or a batch of one kind |
| Q | queries that are answered together |
| K | candidates that one query is scored against, or results that it returns |
| R | regions of a photo: a square grid read row by row from the top left, 7 x 7 at 224 pixels |
| T | ingredient tokens of a recipe: at most 20, padded to the longest of its batch |
| S | sentences (instructions) of a recipe, padded likewise |
| W | words of a sentence |
| V | words of a vocabulary (its tables have V + 2 rows) |
| L | tokens of one item, whichever its kind: regions of a photo, ingredients of a recipe |
| H | attention heads |
| D | model width: the number of features of a token (a head sees D / H of them) |
| G | groups, each of B x M pairs that are scored together |

Widths that are not D have its letter and an index: D_g of a global vector, D_s of a sentence
vector, D_w of a word vector; C is the number of channels of an image encoder's features.

The graphs of a bundle name two dynamic axes otherwise, and their files keep it so: there S counts
the distinct sentences of a batch, and N the sentences of a recipe.

A ragged array holds the L tokens of each of N items one after the other, without padding: its first
axis is sum(L), and `offsets` (N + 1,) says where each item begins.

Importing this module imports NumPy and nothing else, so any part of the program may use it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
"""An array of any element type: what files, ONNX graphs and validation pass through."""

AnyFloats: TypeAlias = npt.NDArray[np.floating[Any]]
"""Floating-point numbers of any precision."""

Floats: TypeAlias = npt.NDArray[np.float32]
"""Single-precision numbers: vectors, scores, weights."""

Floats64: TypeAlias = npt.NDArray[np.float64]
"""Double-precision numbers: scores that are ranked, bounds, statistics."""

Halves: TypeAlias = npt.NDArray[np.float16]
"""Half-precision numbers, as an index keeps them on disk."""

Ids: TypeAlias = npt.NDArray[np.int64]
"""Token ids: rows of a vocabulary's table of embeddings (0 is padding)."""

Positions: TypeAlias = npt.NDArray[np.int64]
"""Positions of items in a data set, an index or an array, from 0."""

Classes: TypeAlias = npt.NDArray[np.int64]
"""Dish classes, one number per item, from 1; 0 is none."""

Lengths: TypeAlias = npt.NDArray[np.int64]
"""Numbers of tokens, sentences or words, one number per item."""

Offsets: TypeAlias = npt.NDArray[np.int64]
"""Starts of ragged rows: item i is rows offsets[i] to offsets[i + 1]."""

Ranks: TypeAlias = npt.NDArray[np.int64]
"""Ranks of the right answers, from 1."""

Mask: TypeAlias = npt.NDArray[np.bool_]
"""True where an entry counts."""

Pixels: TypeAlias = npt.NDArray[np.uint8]
"""Bytes of photos: (height, width, 3), or (B, height, width, 3), red, green, blue."""

Bytes: TypeAlias = npt.NDArray[np.uint8]
"""The raw bytes of a file or of memory."""

Strings: TypeAlias = npt.NDArray[np.str_]
"""Fixed-width strings, such as the partition of each recipe."""


@dataclass(frozen=True)
class ArraySpec:
    """The type and shape of an array that a graph reads or gives."""

    dtype: str
    """`uint8`, `int64` or `float32`."""
    shape: tuple[int | str, ...]
    """Fixed sizes as numbers, dynamic ones by letter."""


ArraySpecs: TypeAlias = dict[str, ArraySpec]
"""The inputs or the outputs of a graph by name, in the graph's order."""
