"""What a long step tells whoever started it."""

from __future__ import annotations

from typing import Any


class Progress:
    """Hears of every stage, epoch and note; this one keeps silent, the command line draws."""

    def stage(self, name: str, total: int | None = None) -> None:
        """A stage begins ("word vectors", "photos", "epoch 3"), of so many steps."""

    def advance(self, count: int = 1) -> None:
        """So many steps of the stage are done."""

    def note(self, text: str) -> None:
        """Something a user should know, in one line."""

    def bad(self, message: str) -> None:
        """A record that was left out, in one line; a file may have thousands of them."""

    def epoch(self, record: dict[str, Any]) -> None:
        """An epoch ended: its line of `log.jsonl`."""
