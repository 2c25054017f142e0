"""Plans that `kvplan recommend` saved: JSON documents, written whole and read back with suspicion."""

import json
from collections.abc import Iterable, Mapping
from math import inf, isclose
from pathlib import Path
from typing import Any

from kvplan.catalog.files import Document, called, path_of, read_json, read_text, write_whole
from kvplan.errors import SpecError, shown
from kvplan.planning.compare import PLAN, QUESTION, Quantity, at

#: the schema of documents that can be compared
SCHEMA = 1
#: what is said of another file
NO_PLAN = "is no saved recommendation, which kvplan recommend --save plan.json writes"
#: no figure of a plan is larger, and what rounding leaves of the sum of a bill's lines
MOST, ROUNDING = 1e18, 1e-6
#: figures with bounds of their own: a technique can also gain quality
BOUNDS = {"quality.drop": (-1.0, 1.0)}


def plan_path(word: str) -> Path:
    """Return the file a recommendation is kept in; raise SpecError for one that is not JSON by its name."""
    path = path_of(word)
    if path.suffix != ".json":
        raise SpecError(f"save: {word}: write a file name that ends with .json, as in plan.json")
    return path


def save_plan(word: str, document: Mapping[str, Any]) -> None:
    """Write a recommendation's document, whole or not at all; raise SpecError."""
    write_whole(plan_path(word), json.dumps(document, allow_nan=False, indent=1) + "\n")


def saved_plan(word: str) -> Document:
    """Return the document of a recommendation that was saved; raise SpecError that names the field that is amiss."""
    path = path_of(word)
    written = read_text(path, called(path))
    if path.suffix != ".json" and not written.lstrip().startswith("{"):
        raise SpecError(f"{called(path)}: {NO_PLAN}")
    document = read_json(written, called(path))
    if document.get("command") != "recommend" or document.get("schema") != SCHEMA:
        raise SpecError(f"{called(path)}: {NO_PLAN}")
    check_question(document.get("question"), f"{called(path)}: question")
    for field, kind in (("model", str), ("workload", dict), ("limits", dict), ("day", str)):
        if not isinstance(document.get(field), kind):
            raise SpecError(f"{called(path)}: {field}: is missing or no {kind.__name__}; save the plan again")
    if not isinstance(document.get("recommended", ""), (dict, type(None))):
        raise SpecError(f"{called(path)}: recommended: expected a plan or null, as kvplan recommend saves them")
    check_figures(document, QUESTION, f"{called(path)}: ")
    if plan := document.get("recommended"):
        place = f"{called(path)}: recommended."
        check_figures(plan, PLAN, place)
        total = at(plan, "usd_per_query.expected")
        for bill in ("lines", "kinds"):
            check_bill(plan.get(bill, []), total, f"{place}{bill}")
    return document


def check_question(question: object, location: str) -> None:
    """Refuse a question that is neither a call, a function's name and its values, nor words, as first saved."""
    words = isinstance(question, list) and all(isinstance(word, str) for word in question)
    call = (
        isinstance(question, dict)
        and question.get("function") == "recommend"
        and isinstance(question.get("values"), dict)
    )
    if not words and not call:
        raise SpecError(f"{location}: expected the call it was asked with, as kvplan recommend saves it")


def check_figures(document: Mapping[str, Any], wanted: Iterable[Quantity], place: str) -> None:
    """Refuse a figure that is of another kind or cannot be; one may be missing."""
    for path, kind in ((figure.field, figure.kind) for figure in wanted):
        node: object = document
        for key in path.split("."):
            if node is not None and not isinstance(node, Mapping):
                raise SpecError(f"{place}{path}: expected a figure, as kvplan recommend saves it")
            node = None if node is None else node.get(key)
        if node is None:
            continue
        if kind == "word":
            if not isinstance(node, str):
                raise SpecError(f"{place}{path}: expected text, got {shown(node)}")
            continue
        check_amount(node, f"{place}{path}", *BOUNDS.get(path, (0.0, 1.0 if kind == "share" else inf)))


def check_amount(amount: object, location: str, least: float = 0.0, most: float = inf) -> float:
    """Return a finite number within bounds; raise SpecError."""
    number = not isinstance(amount, bool) and isinstance(amount, (int, float)) and abs(amount) < MOST
    if not number or not least <= float(amount) <= most:  # type: ignore[arg-type]
        expected = f"a number from {least:g} to {min(most, MOST):g}"
        raise SpecError(f"{location}: expected {expected}, got {shown(amount)}; save the plan again")
    return float(amount)  # type: ignore[arg-type]


def check_bill(lines: object, total: object, location: str) -> None:
    """Refuse the lines of a bill per query that are none, or do not come to its total. [USD]"""
    if not isinstance(lines, list):
        raise SpecError(f"{location}: expected a list of lines, got {shown(lines)}")
    amounts = []
    for n, line in enumerate(lines, 1):
        if not isinstance(line, dict) or not isinstance(line.get("name"), str):
            raise SpecError(f"{location}: line {n}: expected a name and usd_per_query, got {shown(line)}")
        amounts.append(check_amount(line.get("usd_per_query"), f"{location}: line {n}: usd_per_query"))
    if lines and isinstance(total, (int, float)) and not isclose(sum(amounts), total, rel_tol=ROUNDING):
        raise SpecError(f"{location}: come to {sum(amounts):g} USD a query, but usd_per_query.expected is {total:g}")
