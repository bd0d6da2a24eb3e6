"""Errors a user can mend. Each message is one line: the thing, what is wrong, what to do."""

from __future__ import annotations

from typing import ClassVar


class HficmaError(Exception):
    """Base of the project's own errors; the CLI prints the message and exits."""

    exit_code: ClassVar[int] = 2
    """Of the command that it ends."""


class InputError(HficmaError):
    """A photo, recipe, file or option that cannot be used as given."""


class ArtifactError(HficmaError):
    """A run, bundle, index or report that is missing, damaged or of another make."""


class MissingDependencyError(HficmaError):
    """An optional package that this step needs is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs {package}, which is not installed: pip install 'hficma[{extra}]'"
        )
