"""Base of what hears how far a long step is."""

from __future__ import annotations

from typing import Any


class Progress:
    """Hears of every stage, epoch and note. This one is silent; the command line's draws bars."""

    def stage(self, name: str, total: int | None = None) -> None:
        """Begin a stage.

        Args:
            name: such as "word vectors", "photos" or "epoch 3".
            total: its steps; None where they are not known.
        """

    def advance(self, count: int = 1) -> None:
        """Count so many more steps of the stage as done."""

    def note(self, text: str) -> None:
        """Say something that a user should know, in one line."""

    def bad(self, message: str) -> None:
        """Say in one line why a record was left out; a file may have thousands of them."""

    def epoch(self, record: dict[str, Any]) -> None:
        """End an epoch.

        Args:
            record: its line of `log.jsonl`.
        """
