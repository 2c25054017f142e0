"""Docstrings that are shown to users, also under `python -OO`, which leaves them out of what it compiles."""

import inspect
import sys
from collections.abc import Callable


def docstring(function: Callable[..., object]) -> str:
    """Return a function's docstring without its indentation, from its source where Python dropped it; '' for none."""
    if function.__doc__ is not None or sys.flags.optimize < 2:
        return inspect.cleandoc(function.__doc__ or "")
    import ast
    import textwrap

    try:
        read = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    except (OSError, SyntaxError, IndexError):
        return ""
    return (ast.get_docstring(read) if isinstance(read, ast.FunctionDef) else None) or ""


def summary(function: Callable[..., object]) -> str:
    """Return the first line of a function's docstring."""
    return docstring(function).strip().partition("\n")[0]
