"""Markdown, as pull requests and wikis show it: the page's text and tables; charts are left to formats that draw."""

import re

from kvplan.errors import visible
from kvplan.report.blocks import Bar, Block, Cell, Chart, Code, Notes, Page, Span, Table, Text, read
from kvplan.report.formats import Report, Screen

#: characters that would begin a style, a link, a cell or a tag
SPECIAL = re.compile(r"([\\`*_\[\]<>|~])")
#: what would begin a list, a heading, a quotation or a rule at the start of a line
LEADING = re.compile(r"^([#>+-]|\d+\.)(?=\s|$)")


def render(report: Report, screen: Screen) -> str:
    """Return the report's page in Markdown."""
    return marked(report.page())


def marked(page: Page) -> str:
    """Return the blocks of a page, an empty line between them."""
    return "\n\n".join(text for block in read(page) if (text := written(block)))


def written(block: Block) -> str:
    """Return a block; a chart is one line that names it."""
    if isinstance(block, Text):
        text = LEADING.sub(r"\\\1", plain(block.text))
        return f"**{text}**" if block.tone == "answer" else f"> {text}" if block.tone == "warning" else text
    if isinstance(block, Notes):
        heading = [f"### {plain(block.heading)}", ""] if block.heading else []
        return "\n".join([*heading, *(f"- {plain(line.removeprefix('- '))}" for line in block.lines)])
    if isinstance(block, Code):
        return fenced(block)
    if isinstance(block, Table):
        return tabled(block)
    return f"*{plain(block.title)}: see the page (HTML).*" if isinstance(block, Chart) else ""


def fenced(block: Code) -> str:
    """Return lines to copy between fences longer than any run of backticks in them, and what is said of them."""
    lines = [visible(line) for line in block.lines]
    fence = "`" * max(3, 1 + max((len(run) for line in lines for run in re.findall("`+", line)), default=0))
    code = "\n".join([f"{fence}{block.language}", *lines, fence])
    return "\n\n".join([f"### {plain(block.heading)}", code, *map(plain, block.remarks)])


def plain(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    return SPECIAL.sub(r"\\\1", " ".join(visible(text).split()))


def tabled(table: Table) -> str:
    """Return a table; columns that are pictures alone are left out."""
    columns = [n for n, h in enumerate(table.headings) if not h.picture]
    rule = ["--:" if table.headings[n].align == "right" else ":--" for n in columns]
    lines = [[plain(table.headings[n].text) for n in columns], rule]
    lines += [[cell(row.cells[n]) for n in columns] for row in table.rows]
    title = [f"### {plain(table.title)}", ""] if table.title else []
    return "\n".join([*title, *(f"| {' | '.join(line)} |" for line in lines)])


def cell(content: Cell) -> str:
    """Return a cell's text; a drawing repeats other cells and is left out."""
    return "" if isinstance(content, Bar | Span) else plain(content)
