"""Says what of the photos is cached on disk: what fits, and leaves room for others.

    features of a frozen image encoder, fit      read from the cache      no image encoder runs
    squares of pixels for a trained one, fit     read from the cache      nothing is decoded
    neither fits                                 read from the dataset in every epoch (`loader`)

Of Recipe1M the features of nine views would take 380 GB, the squares 67 GB, and the photos as they
are stored take 8.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from ...config.options import Options

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
FOLDERS = ("photos", "features")
"""Parts of the workspace's cache that hold photos' pixels and features."""


def readable_size(size: int) -> str:
    """Return a number of bytes as people read it: `12.3 GB`."""
    unit = next((unit for unit in "TGMK" if size >= UNITS[unit]), "")
    return f"{size / UNITS[unit]:.{1 if unit else 0}f} {unit}B"


def with_cache_limit(options: Options, cache: Path) -> Options:
    """Return a new run's options with the bytes that its photos may take in the cache.

    The run keeps the number: one that goes on would otherwise read photos in another way, and see
    other crops, because a disk has filled meanwhile.

    Args:
        options: as a user gave them.
        cache: the workspace's cache folder.
    """
    if options.loader.cache_limit is not None:
        return options
    folder = next(path for path in (cache, *cache.absolute().parents) if path.exists())
    # What lies there already counts as free: a second run finds its photos in it.
    used = sum(
        file.stat().st_blocks * 512
        for name in FOLDERS
        for file in (cache / name).rglob("*")
        if file.is_file()
    )
    limit = (shutil.disk_usage(folder).free + used) // 2
    return replace(options, loader=replace(options.loader, cache_limit=limit))
