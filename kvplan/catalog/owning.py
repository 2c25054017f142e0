"""Reading what owning takes, what APIs charge and prices of the user's own; the catalogue's money shelf."""

from collections.abc import Mapping
from functools import cache

from kvplan.catalog.fields import bounded, day, entries, read_source, required, shelf_document
from kvplan.catalog.files import Document
from kvplan.catalog.lookup import as_path, resolve
from kvplan.catalog.shelves import names
from kvplan.errors import SpecError, shown
from kvplan.specs.money import OWNERSHIP_FIELDS, ApiPrice, Ownership, ServerPrice
from kvplan.specs.source import Source

#: what every ownership file is completed from
DEFAULT = "default"
API_FIELDS = {"model", "serves", "input", "output", "cached", "above", "from", "to", "note", "source"}
SERVER_FIELDS = {"gpu", "price", "gpus", "power", "note", "source"}


def ownership(word: str = DEFAULT) -> Ownership:
    """Return what owning takes: a shipped file by name or the user's by path, completed from the default.

    Servers of the user's file stand before the default's.
    """
    raw, name, where = shelf_document("ownership", word, "ownership")
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
    raw, name, where = shelf_document("ownership", DEFAULT, "ownership")
    values, sources = _figures(raw, where)
    if missing := next((f for f in OWNERSHIP_FIELDS if f not in values), None):
        raise SpecError(f"{where}: missing {missing}")
    return Ownership(name=name, title=str(raw["title"]), servers=_servers(raw, where), sources=sources, **values)


def _figures(raw: Document, where: str) -> tuple[dict[str, float], dict[str, Source]]:
    required(raw, {*OWNERSHIP_FIELDS, "name", "title", "source", "servers"}, ("source",), where)
    default = read_source(raw["source"], where)
    values, sources = {}, {}
    for field, (unit, low, high) in OWNERSHIP_FIELDS.items():
        if field not in raw:
            continue
        value, sources[field] = raw[field], default
        if isinstance(value, Mapping):
            sources[field] = read_source(value.get("source"), f"{where}: {field}")
            value = value.get("value")
        values[field] = bounded(value, unit, f"{where}: {field}", low, high)
    return values, sources


def _servers(raw: Document, where: str) -> tuple[ServerPrice, ...]:
    default = read_source(raw["source"], where)
    found = []
    for number, item in enumerate(entries(raw, "servers", where), 1):
        place = f"{where}: server {number}"
        entry = required(item, SERVER_FIELDS, ("gpu", "price", "gpus"), place)
        gpus = bounded(entry["gpus"], "1", f"{place}: gpus", 1, 1e4)
        if gpus != int(gpus):
            raise SpecError(f"{place}: gpus: must be a whole number, got {shown(entry['gpus'])}")
        found.append(
            ServerPrice(
                gpu=resolve("gpus", str(entry["gpu"]), "GPU"),
                price=bounded(entry["price"], "USD", f"{place}: price", 1.0, 1e11),
                gpus=int(gpus),
                power=bounded(entry["power"], "W", f"{place}: power", 1.0, 1e9) if "power" in entry else None,
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
    raw, name, where = shelf_document("apis", word, "API")
    required(raw, ("name", "title", "source", "prices"), ("source", "prices"), where)
    default = read_source(raw["source"], where)
    found = []
    for number, item in enumerate(entries(raw, "prices", where), 1):
        place = f"{where}: price {number}"
        entry = required(item, API_FIELDS, ("model", "from"), place)
        prices = {
            field: bounded(entry[field], "USD/token", f"{place}: {field}", 0.0, 1.0) if field in entry else None
            for field in ("input", "output", "cached")
        }
        found.append(
            ApiPrice(
                provider=str(raw.get("name", name)),
                model=str(entry["model"]),
                serves=str(entry.get("serves", "")),
                above=int(bounded(entry.get("above", "0"), "1", f"{place}: above", 0)),
                start=day(entry["from"], f"{place}: from"),
                end=day(entry["to"], f"{place}: to") if "to" in entry else None,
                note=str(entry.get("note", "")),
                source=read_source(entry["source"], place) if "source" in entry else default,
                **prices,
            )
        )
    return tuple(found)


# -- prices of the user's own ---------------------------------------------------------------------
