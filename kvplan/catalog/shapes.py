"""Words of JSON Schema for what files say: a quantity with its unit, a date, a source, a list, fields."""

from collections.abc import Iterable, Mapping
from re import escape
from typing import Any

from kvplan.catalog.costs.rents import HOURS, pattern
from kvplan.specs.source import KINDS
from kvplan.units import NUMBER, spellings

Shape = dict[str, Any]

DRAFT = "https://json-schema.org/draft/2020-12/schema"
#: how an amount of each unit is written
WRITTEN = {
    "B": "80 GB", "B/s": "3.35 TB/s", "FLOP/s": "989 TFLOP/s", "W": "700 W", "s": "5s", "USD": "270000 USD",
    "USD/s": "2.49 USD/h", "USD/token": "0.4 USD/Mtok", "USD/J": "0.08 USD/kWh", "USD/W/s": "200 USD/kW/month",
}  # fmt: skip


#: a price by time, in any currency
RENT = f"^{pattern('/(' + '|'.join((*spellings('s'), *HOURS)) + ')')}$"


def told(shape: Shape, meaning: str) -> Shape:
    """Return a shape with what it means."""
    return {**shape, "description": meaning} if meaning else shape


def text(meaning: str = "") -> Shape:
    """Return a text; YAML may read one that looks like a number as such."""
    return told({"type": ["string", "number", "boolean"]}, meaning)


def quantity(unit: str, meaning: str = "") -> Shape:
    """Return an amount with its unit; '' is text, '#' a whole number, '1' a plain number, 'queries' may count in k."""
    if not unit:
        return text(meaning)
    if unit == "queries":
        return told({"type": ["number", "string"], "pattern": amount(unit)}, f"{meaning} (as in 40000 or 40k)".strip())
    if unit in ("#", "1"):
        return told({"type": ["number", "string"], "pattern": rf"^\s*{NUMBER}\s*%?\s*$"}, meaning)
    as_in = f"in {unit}, as in {WRITTEN[unit]}" if unit in WRITTEN else f"in {unit}"
    pattern = RENT if unit == "USD/s" else amount(unit)
    return told({"type": "string", "pattern": pattern}, f"{meaning} ({as_in})".strip())


def amount(unit: str) -> str:
    """Return the pattern of a number with one of the units that readers know."""
    return rf"^\s*{NUMBER}\s*({'|'.join(map(escape, spellings(unit)))})\s*$"


def number(meaning: str = "") -> Shape:
    """Return a plain number; a text may group its digits or end with a percent sign."""
    return quantity("1", meaning)


def yes(meaning: str = "") -> Shape:
    """Return a yes or no."""
    return told({"enum": ["yes", "no", "true", "false", True, False]}, meaning)


def day(meaning: str = "") -> Shape:
    """Return a date."""
    return told({"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"}, f"{meaning} (YYYY-MM-DD)".strip())


def one_of(words: Iterable[str], meaning: str = "") -> Shape:
    """Return one of several words."""
    return told({"enum": [*words]}, meaning)


def listed(shape: Shape, meaning: str = "", fewest: int = 0) -> Shape:
    """Return a list."""
    return told({"type": "array", "items": shape, **({"minItems": fewest} if fewest else {})}, meaning)


def several(shape: Shape, meaning: str = "") -> Shape:
    """Return one value or a list of them."""
    return told({"anyOf": [shape, listed(shape, fewest=1)]}, meaning)


def by_name(shape: Shape, meaning: str = "") -> Shape:
    """Return fields of any names."""
    return told({"type": "object", "additionalProperties": shape}, meaning)


def fields(shapes: Mapping[str, Shape], needed: Iterable[str] = (), meaning: str = "") -> Shape:
    """Return fields of these names and no others."""
    shape = {"type": "object", "properties": {**shapes}, "required": [*needed], "additionalProperties": False}
    return told(shape, meaning)


def source() -> Shape:
    """Return who says a figure."""
    shapes = {"kind": one_of(KINDS), "ref": text("where it can be read"), "date": day("day it was read")}
    return fields(shapes, shapes, "who says so; an entry's own wins over its file's")


def stated(shape: Shape) -> Shape:
    """Return a figure, plain or with a source of its own."""
    plain = {name: part for name, part in shape.items() if name != "description"}
    own = fields({"value": plain, "source": source()}, ("value", "source"))
    return told({"if": {"type": "object"}, "then": own, "else": plain}, shape.get("description", ""))


def with_source(shape: Shape) -> Shape:
    """Return fields that may name a source of their own."""
    return {**shape, "properties": {**shape["properties"], "source": source()}}


def file_of(kind: str, title: str, shape: Shape) -> Shape:
    """Return the schema of a whole file."""
    return {"$schema": DRAFT, "title": f"kvplan {kind}", "description": title, **shape}
