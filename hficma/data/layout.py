"""The layout of a dataset directory: file names and LMDB keys, in one place.

The writer (`store/`) and the reader (`directory.py`) know nothing of each other, so what both must
agree on stands here. A name or key that changes makes every dataset on disk unreadable.

    manifest.json               kind, facts (recipes of each shard, widths), SHA-256 of each file
    recipes-00000.parquet ...   text of M recipes, up to 16,384 a shard, in the dataset's order
    photos.lmdb/data.mdb        JPEG files by key, see `photo_key`
    photo_counts.npy            uint8 (M,)
    sentences.f32               float32 (sum(S), D_s), ragged: recipe i has the rows
    sentence_offsets.npy        offsets[i] to offsets[i + 1], int64 (M + 1,)
    classes.npy, classes.json   int32 (M,) numbers of title classes, and their names
    vocabulary, word vectors    where the source brings them (`hficma.text.word_vectors`)
    left_out.txt                bad records and photos, one a line

Keys of the LMDB, whose entries are ordered by their bytes:

    "p" | recipe, 8 bytes | number of the photo, 2 bytes     a photo's JPEG
    "n" | recipe, 8 bytes | position in its batch, 4 bytes   why a photo is missing
    "done"                                                   number of recipes whose photos are in
"""

from __future__ import annotations

PHOTOS = "photos.lmdb"
"""A folder, as LMDB makes it: `data.mdb`, and while it is written `lock.mdb`."""
PHOTO_COUNTS = "photo_counts.npy"
"""uint8 (M,): the number of photos of each recipe."""
SENTENCES = "sentences.f32"
"""float32 (sum(S), D_s), little-endian, without a header: sentence vectors of all recipes, end to
end.

Without a header it can be appended to shard by shard, and mapped into memory when it is read."""
SENTENCE_OFFSETS = "sentence_offsets.npy"
"""int64 (M + 1,): the sentence vectors of recipe i are rows offsets[i] to offsets[i + 1]."""
CLASSES = "classes.npy"
"""int32 (M,): the class of each title, 0 for none; absent unless an import makes classes."""
CLASS_NAMES = "classes.json"
"""A JSON list of the classes' names by number; the first, of no class, is null."""
NOTES = "notes.txt"
"""While a dataset is written: bad records, which head `left_out.txt` at the end."""
LEFT_OUT = "left_out.txt"
"""Bad records and photos, one a line."""
STORED_SIDE = 256
"""Pixels that a stored photo's shorter side has at most, unless the manifest says otherwise."""

_PHOTO = b"p"
NOTE = b"n"
"""Begins the keys of notes on bad photos."""
DONE = b"done"
"""Key of the number of recipes whose photos are stored; it is written in the transaction that
writes the photos, so a killed import never counts photos that are not there."""


def shard_name(number: int) -> str:
    """Return the file name of a shard of recipes, from 0."""
    return f"recipes-{number:05d}.parquet"


def photo_key(index: int, number: int) -> bytes:
    """Return the key of a recipe's photo.

    Numbers are big-endian, so that LMDB's order, by bytes, is the dataset's: reading in order then
    reads the file in order.

    Args:
        index: the recipe's position.
        number: which of its photos, from 0.
    """
    return _PHOTO + index.to_bytes(8, "big") + number.to_bytes(2, "big")


def note_key(index: int, position: int) -> bytes:
    """Return the key of a note on a bad photo.

    Args:
        index: the recipe's position.
        position: of the photo in its batch, which tells several notes on one recipe apart.
    """
    return NOTE + index.to_bytes(8, "big") + position.to_bytes(4, "big")
