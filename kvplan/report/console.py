"""The one way to the terminal: a console to which what a file says is text, never a command."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from kvplan.errors import visible


class Plain(Console):
    """A console to which all text is plain: no markup, no emoji codes, no links, and control characters written out.

    It is the one way to the terminal: what a file says is never obeyed.
    """

    def __init__(self, **options: Any):
        super().__init__(markup=False, emoji=False, highlight=False, soft_wrap=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text with control characters written out."""
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield what is printed, with control characters written out."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)
