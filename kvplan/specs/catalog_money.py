"""Reading what owning takes, what APIs charge and prices of the user's own; the catalogue's money shelf."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from kvplan.errors import SpecError, shown
from kvplan.specs import catalog
from kvplan.specs.catalog import as_path, day, names, read_source, resolve, shipped
from kvplan.specs.catalog_files import Document, read_text, read_yaml
from kvplan.specs.catalog_tables import write_profile
from kvplan.specs.hardware import Price
from kvplan.specs.money import OWNERSHIP_FIELDS, ApiPrice, Ownership, Server
from kvplan.specs.source import Source
from kvplan.units import HOUR, parse

#: what every ownership file is completed from
DEFAULT = "default"
API_FIELDS = {"model", "serves", "input", "output", "cached", "above", "from", "to", "note", "source"}
PRICE_FIELDS = {"gpu", "provider", "price", "term", "from", "to", "note", "source"}
SERVER_FIELDS = {"gpu", "price", "gpus", "power", "note", "source"}
_TERM = re.compile(r"on-demand|spot|community|reserved-\d+[ym]|owned-[a-z]+")


def _document(kind: str, word: str, noun: str) -> tuple[Document, str, str]:
    """Return a shipped or a user's document (all values text), its name, and its name for messages."""
    path = as_path(word)
    if path is not None:
        return read_yaml(read_text(path, path.name), path.name, typed=False), path.stem, path.name
    name = resolve(kind, word, noun)
    return read_yaml(shipped(kind, name), f"{name}.yaml", typed=False), name, f"{name}.yaml"


def _known(entry: object, fields: Iterable[str], required: Iterable[str], where: str) -> Document:
    if not isinstance(entry, dict):
        raise SpecError(f"{where}: expected a mapping of fields, got {shown(entry)}")
    known = sorted(fields)
    if wrong := next((f for f in entry if f not in known), None):
        raise SpecError(f"{where}: unknown field {shown(wrong)}; known: {', '.join(known)}")
    if missing := next((f for f in required if f not in entry), None):
        raise SpecError(f"{where}: missing {missing}")
    return entry


def _number(raw: object, unit: str, where: str, low: float, high: float = float("inf")) -> float:
    found = parse(raw, unit, where)
    if not low <= found <= high:
        most = f" and {high:g}" if high != float("inf") else ""
        raise SpecError(f"{where}: must be {'between' if most else 'at least'} {low:g}{most}, got {shown(raw)}")
    return found


def _entries(raw: Document, key: str, where: str) -> list[object]:
    found = raw.get(key, [])
    if not isinstance(found, list):
        raise SpecError(f"{where}: {key} must be a list")
    return found


# -- owning ---------------------------------------------------------------------------------------


def ownership(word: str = DEFAULT) -> Ownership:
    """Return what owning takes: a shipped file by name or the user's by path, completed from the default.

    Servers of the user's file stand before the default's.
    """
    raw, name, where = _document("ownership", word, "ownership")
    if as_path(word) is None and name == DEFAULT:
        return _default()
    base = _default()
    values, sources = _figures(raw, where)
    kept = {field: getattr(base, field) for field in OWNERSHIP_FIELDS}
    return Ownership(
        name=str(raw.get("name", name)),
        title=str(raw.get("title", name)),
        servers=(*_servers(raw, where), *base.servers),
        sources={**base.sources, **sources},
        **{**kept, **values},
    )


@cache
def _default() -> Ownership:
    raw, name, where = _document("ownership", DEFAULT, "ownership")
    values, sources = _figures(raw, where)
    if missing := next((f for f in OWNERSHIP_FIELDS if f not in values), None):
        raise SpecError(f"{where}: missing {missing}")
    return Ownership(name=name, title=str(raw["title"]), servers=_servers(raw, where), sources=sources, **values)


def _figures(raw: Document, where: str) -> tuple[dict[str, float], dict[str, Source]]:
    _known(raw, {*OWNERSHIP_FIELDS, "name", "title", "source", "servers"}, ("source",), where)
    default = read_source(raw["source"], where)
    values, sources = {}, {}
    for field, (unit, low, high) in OWNERSHIP_FIELDS.items():
        if field not in raw:
            continue
        value, sources[field] = raw[field], default
        if isinstance(value, Mapping):
            sources[field] = read_source(value.get("source"), f"{where}: {field}")
            value = value.get("value")
        values[field] = _number(value, unit, f"{where}: {field}", low, high)
    return values, sources


def _servers(raw: Document, where: str) -> tuple[Server, ...]:
    default = read_source(raw["source"], where)
    found = []
    for number, item in enumerate(_entries(raw, "servers", where), 1):
        place = f"{where}: server {number}"
        entry = _known(item, SERVER_FIELDS, ("gpu", "price", "gpus"), place)
        gpus = _number(entry["gpus"], "1", f"{place}: gpus", 1, 1e4)
        if gpus != int(gpus):
            raise SpecError(f"{place}: gpus: must be a whole number, got {shown(entry['gpus'])}")
        found.append(
            Server(
                gpu=resolve("gpus", str(entry["gpu"]), "GPU"),
                price=_number(entry["price"], "USD", f"{place}: price", 1.0, 1e11),
                gpus=int(gpus),
                power=_number(entry["power"], "W", f"{place}: power", 1.0, 1e9) if "power" in entry else None,
                note=str(entry.get("note", "")),
                source=read_source(entry["source"], place) if "source" in entry else default,
            )
        )
    return tuple(found)


# -- APIs -----------------------------------------------------------------------------------------


@cache
def apis() -> tuple[ApiPrice, ...]:
    """Return every API price on the shelf, past ones included."""
    return tuple(price for name in names("apis") for price in api_file(name))


def api_file(word: str) -> tuple[ApiPrice, ...]:
    """Return the prices of one API: a shipped file by name, or the user's by path."""
    raw, name, where = _document("apis", word, "API")
    _known(raw, ("name", "title", "source", "prices"), ("source", "prices"), where)
    default = read_source(raw["source"], where)
    found = []
    for number, item in enumerate(_entries(raw, "prices", where), 1):
        place = f"{where}: price {number}"
        entry = _known(item, API_FIELDS, ("model", "from"), place)
        prices = {
            field: _number(entry[field], "USD/token", f"{place}: {field}", 0.0, 1.0) if field in entry else None
            for field in ("input", "output", "cached")
        }
        found.append(
            ApiPrice(
                provider=str(raw.get("name", name)),
                model=str(entry["model"]),
                serves=str(entry.get("serves", "")),
                above=int(_number(entry.get("above", "0"), "1", f"{place}: above", 0)),
                start=day(entry["from"], f"{place}: from"),
                end=day(entry["to"], f"{place}: to") if "to" in entry else None,
                note=str(entry.get("note", "")),
                source=read_source(entry["source"], place) if "source" in entry else default,
                **prices,
            )
        )
    return tuple(found)


# -- prices of the user's own ---------------------------------------------------------------------


def price_file(word: str) -> tuple[Price, ...]:
    """Return the GPU prices of a user's file: a list as kvplan's own, where an entry may name its provider."""
    raw, name, where = _document("prices", word, "price list")
    _known(raw, ("name", "title", "source", "prices"), ("source", "prices"), where)
    default = read_source(raw["source"], where)
    found = []
    for number, item in enumerate(_entries(raw, "prices", where), 1):
        place = f"{where}: price {number}"
        entry = _known(item, PRICE_FIELDS, ("gpu", "price", "from"), place)
        term = str(entry.get("term", "on-demand"))
        if not _TERM.fullmatch(term):
            raise SpecError(f"{place}: term: expected on-demand, spot, community or reserved-1y, got {shown(term)}")
        price = _number(entry["price"], "USD/s", f"{place}: price", 0.0, 1e3)
        if not price:
            raise SpecError(f"{place}: price: must be above zero; leave out what is unknown")
        found.append(
            Price(
                gpu=resolve("gpus", str(entry["gpu"]), "GPU"),
                provider=str(entry.get("provider", raw.get("name", name))),
                term=term,
                price=price,
                start=day(entry["from"], f"{place}: from"),
                end=day(entry["to"], f"{place}: to") if "to" in entry else None,
                note=str(entry.get("note", "")),
                source=read_source(entry["source"], place) if "source" in entry else default,
            )
        )
    return tuple(found)


def price_document(name: str, title: str, prices: Iterable[Price], source: Source) -> Document:
    """Return prices as the document that price_file reads."""
    rows = [
        {
            "gpu": p.gpu,
            "provider": p.provider,
            "price": f"{p.price * HOUR:.6g} USD/h",
            "term": p.term,
            "from": p.start,
            "note": p.note,
        }
        for p in prices
    ]
    return {
        "name": name,
        "title": title,
        "source": {"kind": source.kind, "ref": source.ref, "date": source.date},
        "prices": rows,
    }


def write_prices(word: str, title: str, prices: Iterable[Price], source: Source) -> None:
    """Write prices into a file whole or not at all."""
    write_profile(word, price_document(Path(word).stem, title, prices, source), title)


def all_prices(own: Iterable[str] = ()) -> tuple[Price, ...]:
    """Return the user's prices and then the shelf's, past ones included."""
    return (*(p for word in own for p in price_file(word)), *catalog.prices())
