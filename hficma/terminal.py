"""A console that shows any string as it is, without markup or control characters.

Rich takes brackets in a string for markup, so a title such as "[final] soup" would lose a word, and
one such as "[/b]" would end the program.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import IO, TYPE_CHECKING, Any

from rich.console import Console
from rich.segment import Segment

from .printable import one_line, printable_lines

if TYPE_CHECKING:
    from rich.console import ConsoleOptions, RenderableType
    from rich.style import Style
    from rich.text import Text


class TextConsole(Console):
    """A Rich console whose strings are plain text.

    Args:
        stderr: write to standard error instead of standard output.
        file: write to it instead, also in a notebook.
        width: columns; None takes the terminal's.
    """

    def __init__(
        self, *, stderr: bool = False, file: IO[str] | None = None, width: int | None = None
    ) -> None:
        super().__init__(
            stderr=stderr, file=file, width=width, force_jupyter=None if file is None else False,
            markup=False, emoji=False, highlight=False,
        )  # fmt: skip

    def print_line(self, text: str, *, style: str | None = None) -> None:
        """Print one line, never broken or cut: a path in it can be copied.

        Args:
            text: the line; line ends in it become spaces.
            style: of Rich.
        """
        self.print(one_line(text), style=style, soft_wrap=True)

    def print_prose(self, text: str, *, style: str | None = None) -> None:
        """Print one line, on a terminal broken between words where it is longer than that.

        Args:
            text: the line; line ends in it become spaces.
            style: of Rich.
        """
        if self.is_terminal:
            # A word that is longer than the line, such as a path, stays whole.
            lines = textwrap.wrap(
                one_line(text), self.width, break_long_words=False, break_on_hyphens=False
            )
            self.print("\n".join(lines), style=style, soft_wrap=True)
        else:
            self.print_line(text, style=style)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a string as text to render, its controls escaped; also for cells of tables."""
        return super().render_str(printable_lines(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render anything; a `Text`, which does not pass through `render_str`, is escaped here."""
        for segment in super().render(renderable, options):
            # Control segments are Rich's own, such as the cursor movements of progress bars.
            yield (
                segment
                if segment.control
                else Segment(printable_lines(segment.text), _plain(segment.style))
            )


def _plain(style: Style | None) -> Style | None:
    # A link's target would reach the terminal as it is, inside an escape sequence.
    return style.update_link(None) if style is not None and style.link else style
