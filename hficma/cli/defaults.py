"""What a command works on where the user names nothing.

The newest of the workspace; where that has none, what comes with the package, and then the command
says so on stderr, and how to put one's own in its place.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..artifacts.workspace import Workspace
from ..errors import ArtifactError
from ..pretrained import has_pretrained, pretrained_path
from .console import note, typed_program

if TYPE_CHECKING:
    from hficma.engine.index.index_facts import ItemKind

OWN_DATA = "index --data recipes.jsonl"
"""The command that puts one's own recipes before the cookbook."""


def default_index(of: ItemKind) -> Path:
    """Return the workspace's newest index of a kind; else the cookbook's, where that can answer.

    Raises:
        ArtifactError: there is neither; the message names the command that makes one.
    """
    from hficma.engine.index.index_facts import newest_index

    workspace = Workspace.default()
    if (newest := newest_index(workspace, of)) is not None:
        return newest
    if of == "recipes" and has_pretrained():
        return cookbook_index(f"no index of recipes in {workspace.home}: ")
    lacking = (
        "the cookbook of hficma has no photos"
        if of == "images"
        else "this installation of hficma comes without a pretrained model"
    )
    raise ArtifactError(
        f"{workspace.home}: no index of {of} here yet, and {lacking}; "
        f"make one with `hficma index --of {of} --data recipes.jsonl`"
    )


def cookbook_index(reason: str = "") -> Path:
    """Return the index of the package's cookbook, and say that it answers.

    Args:
        reason: why it does, before what is said.

    Raises:
        ArtifactError: this installation is without it.
    """
    from hficma.engine.index.index_facts import IndexFacts

    path = pretrained_path("index")
    facts = IndexFacts.read(path)
    count = facts.next_number - len(facts.removed)
    note(f"{reason}answering from hficma's cookbook, {count} recipes")
    note(f"to search your own: {typed_program()} {OWN_DATA}")
    return path


def default_bundle() -> Path:
    """Return the workspace's newest bundle; else the package's, and say so.

    Raises:
        ArtifactError: there is neither; the message names the command that makes one.
    """
    workspace = Workspace.default()
    if not workspace.all("bundle") and has_pretrained():
        note(f"no bundle in {workspace.home}: encoding with hficma's pretrained model")
        return pretrained_path("bundle")
    return workspace.newest("bundle")
