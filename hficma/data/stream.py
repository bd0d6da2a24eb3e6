"""Recipes that are read once, in their order, however many follow.

Standard input has no length and cannot be read twice, so it is no `Dataset`; cut into parts it can
be indexed nevertheless, in the memory of one part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from ..recipe import Recipe, read_jsonl
from .dataset import RecipeList

STDIN = "-"
"""Stands for standard input in `--data`."""


class RecipeStream:
    """A stream of recipes, cut into parts that are each read when their turn comes.

    Args:
        recipes: iterated once.
        name: its name in messages.
        folder: the folder that photos are relative to.
    """

    def __init__(
        self, recipes: Iterable[Recipe], *, name: str = STDIN, folder: Path = Path()
    ) -> None:
        self._recipes = iter(recipes)
        self.name = name
        self._folder = folder

    @classmethod
    def from_stdin(
        cls,
        partitions: Sequence[str] | None = None,
        *,
        strict: bool = False,
        on_bad: Callable[[str], None] | None = None,
    ) -> RecipeStream:
        """Read JSONL from standard input; photos are relative to the working directory.

        Args:
            partitions: of `train`, `val`, `test`; None takes all. Recipes without one are `train`.
            strict: make a bad record an error instead of leaving it out.
            on_bad: called with one line for each record left out.
        """
        recipes = read_jsonl(Path(STDIN), strict=strict, on_bad=on_bad)
        if partitions:
            allowed = frozenset(partitions)
            recipes = (one for one in recipes if (one.partition or "train") in allowed)
        return cls(recipes)

    def parts(self, size: int) -> Iterator[RecipeList]:
        """Yield datasets of `size` recipes, the last of fewer, each read when it is its turn."""
        while recipes := list(islice(self._recipes, size)):
            yield RecipeList(recipes, name=self.name, folder=self._folder)
