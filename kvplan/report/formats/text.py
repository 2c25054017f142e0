"""Text for a terminal or a file: nothing is cut; a table too wide goes on in a second one under its first columns."""

import re
from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text as RichText

from kvplan.errors import visible
from kvplan.report.blocks import Bar, Block, Cell, Chart, Code, Notes, Page, Row, Table, Text, read
from kvplan.report.console import Plain
from kvplan.report.formats import Report, Screen
from kvplan.report.vega import short

STYLES = {
    "plain": "", "answer": "bold", "warning": "yellow", "quiet": "dim", "best": "green", "bad": "red", "total": "bold",
}  # fmt: skip
#: a space before a unit, at which a line must not end, and what stands for it while lines are made
JOINT = re.compile(r"(?<=\d) (?=(?:%|[KMGT]i?B|[mu]?s|min|[mkM]?Wh)(?![\w/]))")
GLUE = "\ue000"
#: what the line under headings is drawn with
RULE = "─"
#: columns between two cells
GAP = 2
#: columns that a cell of words keeps, at the least and where there is room
NARROWEST, COMFORT = 14, 26
#: characters of the longest bar, lines of a chart, and columns beside its words
BAR, HEIGHT, EDGES = 18, 20, 8


def render(report: Report, screen: Screen) -> str:
    """Return the report's page, or its first screens, as lines of at most `screen.width` columns."""
    colours = "standard" if screen.colour else None
    console = Plain(width=screen.width, force_terminal=screen.colour, color_system=colours)
    page = (report.first or report.page)()
    with console.capture() as captured:
        for part in laid_out(bare(page) if screen.plain else page, screen.width):
            console.print(part, crop=False)
    text = captured.get().replace(GLUE, " ")
    return "\n".join(line.rstrip() for line in (text.replace(RULE, "-") if screen.plain else text).splitlines())


def bare(page: Page) -> Page:
    """Return a page of words alone: a chart is a line that names it, and columns of drawings are left out."""
    blocks = (Text(f"{b.title}: a chart, which is left out here.") if isinstance(b, Chart) else b for b in read(page))
    return Page(tuple(without_pictures(b) if isinstance(b, Table) else b for b in blocks))


def laid_out(page: Page, width: int) -> list[RenderableType]:
    """Return what to print: an empty line between blocks, none between paragraphs that follow each other."""
    renderables: list[RenderableType] = []
    last: Block | None = None
    for block in read(page):
        if last is not None and not (isinstance(block, Text) and isinstance(last, Text)):
            renderables.append(RichText())
        renderables += drawn(block, width)
        last = block
    return renderables


def drawn(block: Block, width: int) -> list[RenderableType]:
    """Return what to print for a block."""
    if isinstance(block, Text):
        return [plain(block.text, STYLES[block.tone])]
    if isinstance(block, Notes | Code):
        code, words = ((), block.lines) if isinstance(block, Notes) else (block.lines, block.remarks)
        lines: tuple[RenderableType, ...] = (
            *map(as_it_is, code),
            *(Padding(plain(line), (0, 0, 0, 2)) for line in words),
        )
        return [*([plain(block.heading, "bold")] if block.heading else []), *lines]
    if isinstance(block, Chart):
        return [plotted(block, width)]
    if not isinstance(block, Table):
        return []
    tables = [ruled(table, widths) for table, widths in fitted(block, width)]
    return [part for n, t in enumerate(tables) for part in ([RichText(), *t] if n else t)]


def plain(text: str, style: str = "") -> RichText:
    """Return text as it is, numbers with their units, and what could steer a terminal written out."""
    return RichText(JOINT.sub(GLUE, harmless(text)), style=style, overflow="fold")


def as_it_is(line: str) -> Group:
    """Return a line to copy, unbroken: a shell would take two halves for two commands."""
    return Group(RichText(f"  {harmless(line)}", no_wrap=True, overflow="ignore"))  # a bare text's own options are lost


def harmless(text: str) -> str:
    """Return lines with what could steer a terminal written out, as wide as they are printed."""
    return "\n".join(visible(line) for line in text.split("\n"))


# -- tables ---------------------------------------------------------------------------------------


def written(cell: Cell) -> str:
    """Return a cell as text; bars have eight steps a character no terminal lacks."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, Bar):
        return "█" * max(1, round(BAR * cell.share)) if cell.share > 0 else ""
    half = BAR // 2
    reach = max(cell.most - cell.point, cell.point - cell.least) or 1.0
    left, right = (round(half * max(x, 0.0) / reach) for x in (cell.point - cell.low, cell.high - cell.point))
    return " " * (half - left) + "█" * left + "|" + "█" * right


def fitted(table: Table, width: int) -> list[tuple[Table, list[int]]]:
    """Return the table in as few parts as fit, each with its columns' widths.

    Words wrap first, to a width one still likes to read; then pictures go; then words wrap closer; then columns move
    to further tables that repeat the key columns, the last not for one column alone. A cell that is alone too wide is
    folded.
    """
    bare = without_pictures(table)
    for tried, least in ((table, COMFORT), (bare, COMFORT), (bare, NARROWEST)):
        if (widths := widths_of(tried, width, least)) is not None:
            return [(tried, widths)]
    parts = [only(bare, columns, continued(table, n)) for n, columns in enumerate(parted(bare, width))]
    return [(part, widths_of(part, width, NARROWEST) or squeezed(part, width)) for part in parts]


def parted(table: Table, width: int) -> list[list[int]]:
    """Return the columns of as few parts as fit; where one alone would be left for the last, of parts equally wide."""
    least = [needs(table, n, NARROWEST)[0] for n in range(len(table.headings))]
    full = packed(least, table.keys, width)
    if len(full[-1]) > table.keys + 1:
        return full
    return next(even for room in range(width + 1) if len(even := packed(least, table.keys, room)) == len(full))


def packed(widths: Sequence[int], keys: int, room: int) -> list[list[int]]:
    """Return columns in turn filled into parts of so much room behind the keys; one alone may be wider."""
    parts: list[list[int]] = []
    for column in range(keys, len(widths)):
        last = [*parts[-1], column] if parts else []
        if last and sum(widths[n] + GAP for n in last) - GAP <= room:
            parts[-1] = last
        else:
            parts.append([*range(keys), column])
    return parts or [[*range(keys)]]


def continued(table: Table, before: int) -> str:
    """Return the title of a part of a table with so many parts before it."""
    return f"{table.title} (continued)" if table.title and before else table.title


def without_pictures(table: Table) -> Table:
    """Return a table without the columns that only repeat others."""
    return only(table, [n for n, h in enumerate(table.headings) if not h.picture])


def only(table: Table, columns: Sequence[int], title: str | None = None) -> Table:
    """Return a table of some of the columns."""
    rows = tuple(Row(tuple(row.cells[n] for n in columns), row.tone) for row in table.rows)
    return Table(table.title if title is None else title, tuple(table.headings[n] for n in columns), rows, table.keys)


def needs(table: Table, column: int, least: int) -> tuple[int, int]:
    """Return the columns a column needs at the least and at the most."""
    texts = [harmless(t) for t in (table.headings[column].text, *(written(row.cells[column]) for row in table.rows))]
    most = max(cell_len(line) for text in texts for line in text.split("\n"))
    if not table.headings[column].wraps:
        return most, most
    word = max((cell_len(w) for text in texts for w in text.split()), default=0)
    return min(most, max(word, least)), most


def widths_of(table: Table, width: int, least: int) -> list[int] | None:
    """Return every column's width with words at least `least` wide, None where the table is too wide."""
    wanted = [needs(table, n, least) for n in range(len(table.headings))]
    widths = [low for low, _ in wanted]
    room = width - GAP * (len(wanted) - 1) - sum(widths)
    if room < 0:
        return None
    while room > 0 and (short := [n for n, (_, most) in enumerate(wanted) if widths[n] < most]):
        for n in short[:room]:
            widths[n] += 1
        room -= len(short[:room])
    return widths


def squeezed(table: Table, width: int) -> list[int]:
    """Return widths for a part that does not fit: the widest columns fold."""
    widths = [needs(table, n, NARROWEST)[0] for n in range(len(table.headings))]
    while sum(widths) + GAP * (len(widths) - 1) > width and max(widths) > 1:
        widths[widths.index(max(widths))] -= 1
    return widths


def ruled(table: Table, widths: Sequence[int]) -> list[RenderableType]:
    """Return a table as rich draws it: its title, a line under the headings."""
    drawing = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for heading, columns in zip(table.headings, widths, strict=True):
        drawing.add_column(plain(heading.text, "bold"), justify=heading.align, width=max(columns, 1), overflow="fold")
    for row in table.rows:
        drawing.add_row(*(plain(written(cell)) for cell in row.cells), style=STYLES[row.tone])
    return [plain(table.title, "bold"), drawing] if table.title else [drawing]


# -- charts ---------------------------------------------------------------------------------------


def plotted(chart: Chart, width: int) -> RichText:
    """Return a chart drawn with characters."""
    import plotext

    chart = chart.drawable()
    room = width - 2
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plotsize(room, HEIGHT)
    if chart.log:
        plotext.xscale("log")
        plotext.yscale("log")
    elif not any(y for s in chart.series for y in s.y):
        plotext.ylim(0, 1)  # as wide as it likes, it would show zeros in the middle of -1 to 1
    markers = iter("abcdefghijklmnopqrstuvwxyz")
    for s in chart.series:
        label = short(s.label, room // 3)
        if s.joined:
            plotext.plot(s.x, s.y, label=label)
        else:
            plotext.scatter(s.x, s.y, label=label, marker=next(markers))
    plotext.title(short(chart.title, min(room, 80) - 2 * EDGES))  # it leaves out what is wider
    plotext.xlabel(short(chart.x_label, room // 3))
    plotext.ylabel(short(chart.y_label, room // 3))
    return RichText.from_ansi(str(plotext.build()).rstrip("\n"))
