"""`kvplan show` in words, a table and JSON: every field of one thing with its value and where that is from."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from math import isfinite
from typing import Any

from kvplan.errors import shown
from kvplan.report.blocks import Block, Column, Json, Page, notes, records, schema, table
from kvplan.units import KIB, show_bytes, show_rate, show_time


@dataclass(frozen=True)
class Field:
    """A field of a thing: its name, its value, its source in words, and the unit its value is written with."""

    name: str  #: as files spell it
    value: object  #: in base units
    source: str  #: in words
    unit: str = ""  #: unit it is written with


def size(value: Any) -> str:
    """Return bytes in binary units, large ones in decimal units too, and a few as they are (14.5 of a logit)."""
    if value < KIB:
        return f"{value:g} B"
    return f"{show_bytes(value)} ({value / 1e9:.1f} GB)" if value >= 1e9 else show_bytes(value)


def steps(value: Any) -> str:
    """Return the largest step of an engine on GPUs of each size."""
    return "; ".join(map(str, value))


def parts(value: Any) -> str:
    """Return bytes by what they are for."""
    return ", ".join(f"{name}: {show_bytes(amount)}" for name, amount in asdict(value).items())


def factors(value: Any) -> str:
    """Return figures without a unit by what they are for."""
    return ", ".join(f"{name}: {amount:g}" for name, amount in asdict(value).items())


def by_ranks(value: Any) -> str:
    """Return bytes by tensor-parallel ranks."""
    return ", ".join(f"tp{n}: {show_bytes(amount)}" for n, amount in value.items())


#: a number beyond which digits are not counted out
WIDE = 1e15
#: how a value of a unit is written
UNITS: dict[str, Callable[[Any], str]] = {
    "B": size,
    "B/s": lambda value: show_rate(value, "B/s"),
    "FLOP/s": lambda value: show_rate(value, "FLOP/s"),
    "W": lambda value: f"{value:g} W",
    "s": show_time,
    "hours": lambda value: " ".join(f"{hour:g}" for hour in value),
    "steps": steps,
    "B by part": parts,
    "1 by part": factors,
    "B by tp": by_ranks,
}


def written(value: object, unit: str = "") -> str:
    """Return a value as the table shows it."""
    if unit in UNITS and value is not None:
        return UNITS[unit](value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return f"{value:,.0f}" if abs(value) < WIDE else shown(value)
    return str(value)


def finite(value: object) -> object:
    """Return a value from a file with the numbers that JSON lacks (NaN, Infinity) as words."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [finite(inner) for inner in value]
    return value if not isinstance(value, float) or isfinite(value) else str(value)


def plain(value: object) -> object:
    """Return a value as a document has it: records of a spec as objects, keys as text."""
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


FIELD = (
    Column[Field](key="field", heading="field", value=lambda f: f.name, align="left"),
    Column[Field](
        key="value", heading="value", value=lambda f: plain(f.value), cell=lambda f: written(f.value, f.unit),
        align="left", wraps=True,
    ),
    Column[Field](key="source", value=lambda f: f.source),
)  # fmt: skip


def field_blocks(title: str, fields: Sequence[Field]) -> Iterator[Block]:
    """Yield name and value of every field, each with the number of its source below."""
    numbers = {source: n for n, source in enumerate(dict.fromkeys(f.source for f in fields), 1)}
    number = Column[Field](heading="source", value=lambda f: f"[{numbers[f.source]}]")
    yield table(title, (*FIELD, number), fields)
    yield notes("Sources", (f"[{n}] {source}" for source, n in numbers.items()))


def page(kind: str, name: str, fields: Sequence[Field]) -> Page:
    """Return the report of `kvplan show`."""
    return Page.of(field_blocks(f"{kind} {name}", fields))


def document(kind: str, name: str, fields: Sequence[Field]) -> Json:
    """Return the document of `kvplan show`."""
    return schema("show", kind=kind, name=name, fields=records(FIELD, fields))
