"""One self-contained page: it opens from disk without a network, prints, and draws its charts with Vega-Lite.

The page runs its own scripts only: their checksums are in its content security policy, and Vega's expressions are
interpreted, not evaluated.
"""

from base64 import b64encode
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from json import dumps
from typing import TYPE_CHECKING, Any

from kvplan import __version__
from kvplan.errors import visible
from kvplan.report.blocks import (
    Bar,
    Bars,
    Block,
    Cell,
    Chart,
    Code,
    Heading,
    Json,
    Notes,
    Span,
    Table,
    Text,
    WhatIf,
    grid,
)
from kvplan.report.formats import Report, Screen
from kvplan.report.vega import drawn, operated, safe

if TYPE_CHECKING:
    from jinja2 import Template

#: what the page runs, in this order
SCRIPTS = ("vega/vega.min.js", "vega/vega-lite.min.js", "vega/vega-embed.min.js", "page.js")
#: what a page ends with: sliders behind it are not found
LAST = "Sources"
KINDS = {Text: "text", Notes: "notes", Code: "code", Table: "table", Chart: "chart", Bars: "chart", WhatIf: "study"}


@dataclass(frozen=True)
class Placed:
    """A block as the template places it."""

    kind: str  #: what the template makes of it
    block: Block  #: what it says
    number: int  #: its place on the page
    specs: tuple[int, ...] = ()  #: its charts, by their place in the list of all
    figures: Table | None = None  #: the figures of its chart


def render(report: Report, screen: Screen) -> str:
    """Return the report as one HTML document."""
    page = report.page()
    end = next((n for n, b in enumerate(page.blocks) if isinstance(b, Notes) and b.heading == LAST), len(page.blocks))
    parts, specs = placed((*page.blocks[:end], *report.studies(), *page.blocks[end:]))
    scripts = [resource(name) for name in SCRIPTS] if specs else []
    return template().render(
        title=f"kvplan {screen.command}".strip(),
        asked=screen.asked,
        version=__version__,
        css=resource("page.css"),
        parts=parts,
        specs=dumps(safe(specs), allow_nan=False).replace("<", "\\u003c"),
        scripts=scripts,
        hashes=[checksum(script) for script in scripts],
    )


def placed(blocks: tuple[Block, ...]) -> tuple[list[Placed], list[Json]]:
    """Return the parts of the page, and the specifications of all charts."""
    parts: list[Placed] = []
    specs: list[Json] = []
    for number, block in enumerate(blocks):
        made = (
            operated(block) if isinstance(block, WhatIf) else [drawn(block)] if isinstance(block, Chart | Bars) else []
        )
        own = tuple(range(len(specs), len(specs) + len(made)))
        specs += made
        figures = table_of(block) if isinstance(block, Chart | Bars) else None
        parts.append(Placed(KINDS[type(block)], block, number, own, figures))
    return parts, specs


def table_of(block: Chart | Bars) -> Table:
    """Return the figures of a chart as a table."""
    if isinstance(block, Bars):
        return grid("", ("", Heading(block.label, "right")), [(b.name, b.text) for b in block.bars])
    rows = [
        (name, f"{x:.4g}", f"{y:.4g}")
        for s in block.series
        for x, y, name in zip(s.x, s.y, s.names or (s.label,) * len(s.x), strict=True)
    ]
    return grid("", ("series", Heading(block.x_label, "right"), Heading(block.y_label, "right")), rows)


# -- the template ---------------------------------------------------------------------------------


@cache
def resource(name: str) -> str:
    """Return a file beside this module."""
    return files(__name__).joinpath(name).read_text("utf-8")


def checksum(script: str) -> str:
    """Return a script's checksum as a content security policy names it."""
    return f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'"


@cache
def template() -> "Template":
    """Return the page's template; everything put into it is escaped unless it is our own."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=harmless
    )  # fmt: skip
    environment.filters |= {"bullet": bullet, "sketch": sketch, "json": lambda value: dumps(value)}
    return environment.from_string(resource("page.html"))


def harmless(value: Any) -> Any:
    """Return what is put into the page with every character that could steer a reader written out."""
    return visible(value) if type(value) is str else value


def bullet(line: str) -> str:
    """Return a note without the dash that marks it in text."""
    return line.removeprefix("- ")


def sketch(cell: Cell) -> Any:
    """Return a bar or a range as a small drawing; the figures stand in the cells beside it."""
    from markupsafe import Markup

    if isinstance(cell, Bar):
        shapes = f'<rect width="{100 * max(cell.share, 0):.1f}" height="8" class="fill"/>'
    elif isinstance(cell, Span):
        scale = 100 / ((cell.most - cell.least) or 1.0)
        low, point, high = (scale * (x - cell.least) for x in (cell.low, cell.point, cell.high))
        shapes = (
            f'<rect x="{low:.1f}" width="{max(high - low, 0.5):.1f}" height="8" class="fill"/>'
            f'<rect x="{point:.1f}" width="1" height="8" class="mark"/>'
        )
    else:
        return cell
    return Markup('<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">{}</svg>').format(
        Markup(shapes)  # noqa: S704  numbers alone
    )
