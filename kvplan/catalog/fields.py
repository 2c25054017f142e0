"""Fields of data files: each kind of value is read and refused in one place."""

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

from kvplan.catalog.files import Document, read_text, read_yaml
from kvplan.catalog.lookup import as_path, resolve
from kvplan.catalog.shelves import shipped
from kvplan.errors import ECHOED, SpecError, UnknownName, shown
from kvplan.specs.source import KINDS, Source
from kvplan.units import parse


def known_fields(raw: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    """Refuse a field that is none of the known ones, with the nearest."""
    for key in raw:
        if key not in known:
            raise UnknownName("field", key, known, f"known: {', '.join(known)}", where)


def mapping(raw: object, where: str, example: str) -> Document:
    """Return fields, or refuse what is none, with an example to copy."""
    if not isinstance(raw, dict):
        raise SpecError(f"{where}: expected fields, as in {example}, got {shown(raw)}")
    return raw


def read_source(raw: object, where: str) -> Source:
    if not isinstance(raw, Mapping) or not all(isinstance(raw.get(k), (str, date)) for k in ("kind", "ref", "date")):
        raise SpecError(
            f"{where}: source must say kind, ref and date, "
            "as in {kind: datasheet, ref: https://..., date: 2026-11-23}"
        )
    if raw["kind"] not in KINDS:
        raise SpecError(f"{where}: source kind must be one of {', '.join(KINDS)}, got {shown(raw['kind'])}")
    return Source(kind=raw["kind"], ref=str(raw["ref"]), date=day(raw["date"], f"{where}: source: date"))


def day(raw: object, where: str) -> str:
    """Read a date such as 2026-11-23."""
    try:
        return date.fromisoformat(str(raw)[:ECHOED]).isoformat()
    except ValueError:
        raise SpecError(f"{where}: expected a date such as 2026-11-23, got {shown(raw)}") from None


def figures(raw: Document, units: Mapping[str, str], where: str) -> tuple[Document, dict[str, Source]]:
    """Return the values of a text document in base units, and the source of each field."""
    if "source" not in raw:
        raise SpecError(
            f"{where}: missing source; every figure needs one, "
            "as in source: {kind: datasheet, ref: https://..., date: 2026-11-23}"
        )
    default = read_source(raw["source"], where)
    unknown = sorted(set(raw) - set(units) - {"name", "aliases", "source"})
    if unknown:
        raise SpecError(f"{where}: unknown field {shown(unknown[0])}; known: {', '.join(units)}")
    values: Document = {}
    sources: dict[str, Source] = {}
    for field, unit in units.items():
        if field not in raw:
            continue
        value, sources[field] = raw[field], default
        if isinstance(value, Mapping):
            sources[field] = read_source(value.get("source"), f"{where}: {field}")
            value = value.get("value")
        values[field] = str(value) if unit == "" else positive(value, unit, f"{where}: {field}")
    return values, sources


def positive(value: object, unit: str, where: str) -> float | int:
    number = parse(value, "1" if unit == "#" else unit, where)
    if not 0 < number < 1e21:
        raise SpecError(f"{where}: must be above zero and finite, got {shown(value)}")
    if unit == "#" and number != int(number):
        raise SpecError(f"{where}: must be a whole number, got {shown(value)}")
    return int(number) if unit == "#" else number


def shelf_document(kind: str, word: str, noun: str) -> tuple[Document, str, str]:
    """Return a shipped or a user's document (all values text), its name, and its name for messages."""
    path = as_path(word)
    if path is not None:
        return read_yaml(read_text(path, path.name), path.name, typed=False), path.stem, path.name
    name = resolve(kind, word, noun)
    return read_yaml(shipped(kind, name), f"{name}.yaml", typed=False), name, f"{name}.yaml"


def required(entry: object, fields: Iterable[str], required: Iterable[str], where: str) -> Document:
    if not isinstance(entry, dict):
        raise SpecError(f"{where}: expected a mapping of fields, got {shown(entry)}")
    known = sorted(fields)
    if wrong := next((f for f in entry if f not in known), None):
        raise SpecError(f"{where}: unknown field {shown(wrong)}; known: {', '.join(known)}")
    if missing := next((f for f in required if f not in entry), None):
        raise SpecError(f"{where}: missing {missing}")
    return entry


def bounded(raw: object, unit: str, where: str, low: float, high: float = float("inf")) -> float:
    found = parse(raw, unit, where)
    if not low <= found <= high:
        most = f" and {high:g}" if high != float("inf") else ""
        raise SpecError(f"{where}: must be {'between' if most else 'at least'} {low:g}{most}, got {shown(raw)}")
    return found


def entries(raw: Document, key: str, where: str) -> list[object]:
    found = raw.get(key, [])
    if not isinstance(found, list):
        raise SpecError(f"{where}: {key} must be a list")
    return found


# -- owning ---------------------------------------------------------------------------------------
