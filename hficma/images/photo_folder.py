"""Lists the photos of a folder: every file in it, so that none is passed over without a word."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from ..errors import InputError
from ..limits import printable_path


class PhotoFolder(NamedTuple):
    """The files of a folder that may be photos."""

    files: tuple[Path, ...]
    """Every file of the folder and its subfolders, in the order of their paths; subfolders that
    cannot be entered too. Names tell nothing: what is no photo is named when it is read."""
    hidden: int
    """The number of files and folders whose names begin with a dot (`.DS_Store`, `._IMG_1.JPG`);
    they are not among `files`."""


def photo_folder(folder: Path) -> PhotoFolder:
    """List a folder's files and those of its subfolders; links to folders are not entered.

    Args:
        folder: its path.

    Raises:
        InputError: no such folder, or no file in it.
    """
    if not folder.is_dir():
        raise InputError(f"{printable_path(folder)}: is no folder; give a folder of photos")
    files: list[Path] = []
    hidden = 0

    def unread(error: OSError) -> None:
        # A folder that may not be entered: reading it as a photo will say so.
        files.append(Path(error.filename))

    for parent, folders, names in os.walk(folder, onerror=unread):
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        visible = [name for name in (*names, *links) if not name.startswith(".")]
        files.extend(Path(parent, name) for name in visible)
        hidden += len(names) + len(links) - len(visible)
        hidden += sum(name.startswith(".") for name in folders if name not in links)
        folders[:] = (name for name in folders if not name.startswith("."))
    if not files:
        hidden_note = f" but {hidden} hidden ones" if hidden else ""
        raise InputError(f"{printable_path(folder)}: holds no file{hidden_note}")
    return PhotoFolder(tuple(sorted(files)), hidden)
