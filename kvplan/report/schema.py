"""`kvplan schema` in tables and JSON: every field that a schema names, with its type and what it is."""

from collections.abc import Iterator
from typing import Any

from kvplan.api.schema import Schema
from kvplan.report.blocks import Heading, Json, Page, Text, grid, notes, schema

Shape = dict[str, Any]


def page(s: Schema) -> Page:
    """Return what there is, or the fields of a schema."""
    if not s.kind:
        return Page.of(
            Text("Schemas of YAML files, for editors: kvplan schema KIND > KIND.schema.json.", "answer"),
            grid("Kinds of files", (Heading("kind"), Heading("what it is", wraps=True)), s.files),
            notes("Commands whose JSON document has one (give answer=COMMAND)", [", ".join(s.answers)]),
        )
    headings = (Heading("field"), Heading("type", wraps=True), Heading("what it is", wraps=True))
    return Page.of(Text(f"{s.title}.", "answer"), grid("", headings, rows(s.shape)))


def document(s: Schema) -> Json:
    """Return the document."""
    kinds = [name for name, _ in s.files]
    return schema("schema", kind=s.kind, title=s.title, json_schema=s.shape, files=kinds, answers=[*s.answers])


def rows(shape: Shape, place: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield (field, type, meaning) of every field: dots nest, [] is an element of a list, * any name."""
    for name, below in shape.get("properties", {}).items():
        path = f"{place}.{name}" if place else name
        yield path, typed(below), below.get("description", "")
        yield from inner(below, path)


def inner(shape: Shape, place: str) -> Iterator[tuple[str, str, str]]:
    """Yield the fields of what a field holds."""
    yield from rows(shape, place)
    if shape.get("items"):
        yield from inner(shape["items"], f"{place}[]")
    if isinstance(shape.get("additionalProperties"), dict):
        yield from inner(shape["additionalProperties"], f"{place}.*")
    for option in options_of(shape):
        if set(option.get("properties", {})) != {"value", "source"}:  # a figure with a source of its own
            yield from inner(option, place)


def options_of(shape: Shape) -> list[Shape]:
    """Return what a field may hold: one of several, or else fields of its own."""
    chosen = [shape["else"], shape["then"]] if "if" in shape and "properties" not in shape else []
    return [*shape.get("anyOf", chosen)]


#: what patterns of quantities begin with, unlike those of dates and words
QUANTITY = r"^\s*"
#: how types are called; what YAML may read as a number or a truth value is text all the same
TYPES = {"string": "text", "array": "list", "object": "fields", "boolean": "yes or no"}


def typed(shape: Shape) -> str:
    """Return the type of a field in words."""
    if "const" in shape:
        return str(shape["const"])
    if "enum" in shape:
        return ", ".join(dict.fromkeys(str(word).lower() for word in shape["enum"] if word != ""))
    if options := options_of(shape):
        own = " (or value and source)" if any("value" in option.get("properties", {}) for option in options) else ""
        plain = dict.fromkeys(typed(o) for o in options if "value" not in o.get("properties", {}))
        return " or ".join(plain) + own
    names = shape.get("type", "any")
    names = [names] if isinstance(names, str) else names
    if names == ["string"] and shape.get("pattern", "").startswith(QUANTITY):
        return "number with its unit"
    if {"string", "number"} <= set(names):
        return "number or text" if "pattern" in shape else "text"
    return " or ".join(TYPES.get(name, name) for name in sorted(names, key=lambda name: name == "null"))
