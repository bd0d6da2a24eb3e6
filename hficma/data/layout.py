"""Names and keys inside a dataset directory, shared by its writer and its reader."""

from __future__ import annotations

PHOTOS = "photos.lmdb"
PHOTO_COUNTS = "photo_counts.npy"
"""uint8 (M,): photos of each recipe."""
SENTENCES = "sentences.f32"
"""float32 (S, D), little-endian, no header: all recipes' sentence vectors, end to end."""
SENTENCE_OFFSETS = "sentence_offsets.npy"
"""int64 (M + 1,): recipe i has rows offsets[i] to offsets[i + 1]."""
CLASSES = "classes.npy"
"""int32 (M,): classes made of titles, 0 for none; only where they were asked for."""
CLASS_NAMES = "classes.json"
"""Their names by number."""
NOTES = "notes.txt"
"""While a dataset is written: bad records, which head `left_out.txt` at the end."""
LEFT_OUT = "left_out.txt"
"""Bad records and photos, one a line."""

_PHOTO = b"p"
NOTE = b"n"
DONE = b"done"
"""How many recipes' photos are stored; written in the same transaction as the photos."""


def shard_name(number: int) -> str:
    """File name of a shard of recipes."""
    return f"recipes-{number:05d}.parquet"


def photo_key(index: int, number: int) -> bytes:
    """Key of a recipe's photo: big-endian, so that the store's order is the dataset's."""
    return _PHOTO + index.to_bytes(8, "big") + number.to_bytes(2, "big")


def note_key(index: int, position: int) -> bytes:
    """Key of a note on a bad photo."""
    return NOTE + index.to_bytes(8, "big") + position.to_bytes(4, "big")
