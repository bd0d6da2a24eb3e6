"""Errors that a user can mend. Each message is one line: the thing, what is wrong, what to do.

They name no option of the command line: whoever calls the library has none.
"""

from __future__ import annotations

from typing import ClassVar


class HficmaError(Exception):
    """Base of the project's errors; the command line prints the message and exits."""

    exit_code: ClassVar[int] = 2
    """Exit code of the command that it ends."""


class InputError(HficmaError):
    """A photo, recipe, file or option that cannot be used as it is."""


class ArtifactError(HficmaError):
    """A run, bundle, index or report that is missing, damaged or of another make."""


class MissingDependencyError(HficmaError):
    """An optional package that this step needs is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        """Say what is missing.

        Args:
            package: the package.
            extra: of this project, which brings it.
            purpose: what needs it, such as "the runtime torch".
        """
        super().__init__(
            f"{purpose} needs {package}, which is not installed: pip install 'hficma[{extra}]'"
        )
