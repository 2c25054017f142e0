"""The notebook in the docs runs from its first cell to its last, as a notebook would run it.

Its cells are executed here and not in a kernel of Jupyter: that would bring thirty packages and a socket for what a
loop does, and the cells use nothing of a kernel's but to show their last value.
"""

import ast
import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parent.parent / "docs" / "plan.ipynb"


def cells(kind: str) -> list[str]:
    """Return the sources of the cells of a kind."""
    document = json.loads(NOTEBOOK.read_text("utf-8"))
    assert (document["nbformat"], len({cell["id"] for cell in document["cells"]})) == (4, len(document["cells"]))
    return ["".join(cell["source"]) for cell in document["cells"] if cell["cell_type"] == kind]


def shown(source: str, names: dict[str, Any]) -> Any:
    """Run a cell and return the value of its last line, None where that is no expression."""
    body = ast.parse(source).body
    last = body.pop() if isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last else None


@pytest.mark.slow
def test_the_notebook_runs_and_shows_its_results(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    values = [shown(source, names) for source in cells("code")]
    pages = [value._repr_html_() for value in values if hasattr(value, "_repr_html_")]
    assert len(pages) >= 4 and all("<table" in page and "<script" not in page for page in pages)
    assert "a query costs $" in capsys.readouterr().out
    assert names["table"].loc["fp8", "reduction"] == 0.5


def test_the_notebook_is_kept_without_outputs_and_says_what_it_does() -> None:
    document = json.loads(NOTEBOOK.read_text("utf-8"))
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in document["cells"])
    assert len(cells("markdown")) >= len(cells("code")) - 2
    assert all(len(line) <= 128 for source in (*cells("code"), *cells("markdown")) for line in source.splitlines())
