"""A page as a fragment of HTML that stands alone: no script, no file, no class; for notebooks, light and dark."""

from html import escape

from kvplan.errors import visible
from kvplan.report.blocks import Bar, Block, Cell, Chart, Notes, Page, Span, Table, Text, read

#: how texts look by their tone; colours are the notebook's own, so that they can be read on any ground
LOOKS = {"answer": "font-weight:600", "warning": "border-left:3px solid #c80;padding-left:.6em", "quiet": "opacity:.8"}
WRAP = "overflow-x:auto;max-width:100%;line-height:1.4"


def fragment(page: Page) -> str:
    """Return the blocks of a page as one element; charts, which repeat figures, are left to pages."""
    return f'<div style="{WRAP}">{"".join(map(placed, read(page)))}</div>'


def placed(block: Block) -> str:
    """Return a block as elements."""
    if isinstance(block, Text):
        return f'<p style="{LOOKS.get(block.tone, "")}">{said(block.text)}</p>'
    if isinstance(block, Notes):
        lines = "".join(f"<li>{said(line.removeprefix('- '))}</li>" for line in block.lines)
        return f"<details><summary>{said(block.heading or 'Notes')}</summary><ul>{lines}</ul></details>"
    if isinstance(block, Table):
        return tabled(block)
    return f"<p><em>{said(block.title)}: see the page.</em></p>" if isinstance(block, Chart) else ""


def tabled(table: Table) -> str:
    """Return a table with its caption; columns that are pictures alone are left out."""
    columns = [n for n, heading in enumerate(table.headings) if not heading.picture]
    sides = {n: f"text-align:{table.headings[n].align}" for n in columns}
    head = "".join(f'<th scope="col" style="{sides[n]}">{said(table.headings[n].text)}</th>' for n in columns)
    rows = "".join(
        f"<tr>{''.join(f'<td style={chr(34)}{sides[n]}{chr(34)}>{cell(row.cells[n])}</td>' for n in columns)}</tr>"
        for row in table.rows
    )
    title = f'<caption style="text-align:left">{said(table.title)}</caption>' if table.title else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def cell(content: Cell) -> str:
    """Return a cell's text; a drawing repeats other cells and is left out."""
    return "" if isinstance(content, Bar | Span) else said(content)


def said(text: str) -> str:
    """Return text that a browser shows as it is."""
    return escape(visible(text))
