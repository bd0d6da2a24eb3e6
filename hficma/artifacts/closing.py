"""Base of what is open until it is closed, and a gate that waits for work before it closes."""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from types import TracebackType
from typing import Self


class Closing(ABC):
    """Something open (files, sessions, threads) that a `with` block closes at its end."""

    @abstractmethod
    def close(self) -> None:
        """Free what is open; calling it again does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Gate:
    """Lets work in until it is shut, and tells whoever shuts it when the last has left."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._shut = False

    @contextlib.contextmanager
    def entered(self) -> Iterator[bool]:
        """Enter for a block.

        Yields:
            whether the gate let it in; False where it was shut.
        """
        with self._changed:
            inside = not self._shut
            self._inside += inside
        try:
            yield inside
        finally:
            with self._changed:
                self._inside -= inside
                self._changed.notify_all()

    def shut(self) -> bool:
        """Let nobody in any more, and wait until all have left.

        Returns:
            False where it was shut before.
        """
        with self._changed:
            first = not self._shut
            self._shut = True
            self._changed.wait_for(lambda: not self._inside)
        return first
