"""Reading what owning takes and what APIs charge, of the shelf and of the user's own files."""

from functools import cache

from kvplan.catalog.fields import (
    ValueRange,
    count,
    day,
    listed,
    number,
    read_source,
    required,
    shelf_document,
    source_of,
    stated,
    text,
)
from kvplan.catalog.files import Document
from kvplan.catalog.hardware.cards import gpu_name
from kvplan.catalog.lookup import as_path
from kvplan.catalog.shelves import names
from kvplan.errors import SpecError
from kvplan.specs.money import OWNERSHIP_FIELDS, ApiPrice, Ownership, ServerPrice
from kvplan.specs.source import Source
from kvplan.units import MAX_TOKENS

#: what every ownership file is completed from
DEFAULT = "default"
API_FIELDS = ("model", "serves", "input", "output", "cached", "above", "from", "to", "note", "source")
SERVER_FIELDS = ("gpu", "price", "gpus", "power", "host_memory", "note", "source")
#: what a server may cost [USD], hold [GPU] and draw [W]
COST, GPUS, POWER = ValueRange(1.0, 1e11), ValueRange(1, 1e4), ValueRange(1.0, 1e9)
MEMORY = ValueRange(1e9, 1e16)


def ownership(word: str = DEFAULT) -> Ownership:
    """Return what owning takes: a shipped file by name or the user's by path, completed from the default.

    A server of the user's file stands for the default's with the same GPU. Raises SpecError, UnknownName.
    """
    if as_path(word) is None and word == DEFAULT:
        return _default()
    raw, name, location = shelf_document("ownership", word, "ownership")
    base = _default()
    values, sources = _figures(raw, location)
    kept = {field: getattr(base, field) for field in OWNERSHIP_FIELDS}
    servers = _servers(raw, location)
    own = {s.gpu for s in servers}
    return Ownership(
        name=text(raw, "name", location, name),
        title=text(raw, "title", location, name),
        servers=(*servers, *(s for s in base.servers if s.gpu not in own)),
        sources={**base.sources, **sources},
        **{**kept, **values},
    )


@cache
def _default() -> Ownership:
    raw, name, location = shelf_document("ownership", DEFAULT, "ownership")
    values, sources = _figures(raw, location)
    if missing := next((f for f in OWNERSHIP_FIELDS if f not in values), None):
        raise SpecError(f"{location}: missing {missing}")
    title = text(raw, "title", location, name)
    return Ownership(name=name, title=title, servers=_servers(raw, location), sources=sources, **values)


def _figures(raw: Document, location: str) -> tuple[dict[str, float], dict[str, Source]]:
    default = read_source(raw.get("source"), location)
    required(raw, (*OWNERSHIP_FIELDS, "name", "title", "source", "servers"), (), location, "ownership")
    values, sources = {}, {}
    for field, (unit, low, high) in OWNERSHIP_FIELDS.items():
        if field in raw:
            place = f"{location}: {field}"
            value, sources[field] = stated(raw[field], default, place)
            values[field] = number(value, place, ValueRange(low, high), unit)
    return values, sources


def _servers(raw: Document, location: str) -> tuple[ServerPrice, ...]:
    default = read_source(raw.get("source"), location)
    servers = []
    for n, item in enumerate(listed(raw.get("servers", []), f"{location}: servers"), 1):
        place = f"{location}: server {n}"
        entry = required(item, SERVER_FIELDS, ("gpu", "price", "gpus"), place)
        servers.append(
            ServerPrice(
                gpu=gpu_name(text(entry, "gpu", place), place),
                price=number(entry["price"], f"{place}: price", COST, "USD"),
                gpus=count(entry["gpus"], f"{place}: gpus", GPUS),
                power=number(entry["power"], f"{place}: power", POWER, "W") if "power" in entry else None,
                host_memory=(
                    number(entry["host_memory"], f"{place}: host_memory", MEMORY, "B")
                    if "host_memory" in entry else None
                ),
                note=text(entry, "note", place, ""),
                source=source_of(entry, default, place),
            )
        )  # fmt: skip
    return tuple(servers)


# -- APIs -----------------------------------------------------------------------------------------


@cache
def apis() -> tuple[ApiPrice, ...]:
    """Return every API price on the shelf, past ones included."""
    return tuple(price for name in names("apis") for price in api_file(name))


def api_file(word: str) -> tuple[ApiPrice, ...]:
    """Return the prices of one API: a shipped file by name, or the user's by path; raise SpecError, UnknownName."""
    raw, name, location = shelf_document("apis", word, "API")
    default = read_source(raw.get("source"), location)
    required(raw, ("name", "title", "source", "prices"), ("prices",), location, "prices")
    entries = []
    for n, item in enumerate(listed(raw["prices"], f"{location}: prices"), 1):
        place = f"{location}: price {n}"
        entry = required(item, API_FIELDS, ("model", "from"), place)
        prices = {
            field: number(entry[field], f"{place}: {field}", ValueRange(0.0, 1.0), "USD/token")
            if field in entry
            else None
            for field in ("input", "output", "cached")
        }
        entries.append(
            ApiPrice(
                provider=text(raw, "name", location, name),
                model=text(entry, "model", place),
                serves=text(entry, "serves", place, ""),
                above=count(entry.get("above", "0"), f"{place}: above", ValueRange(0, MAX_TOKENS)),
                start=day(entry["from"], f"{place}: from"),
                end=day(entry["to"], f"{place}: to") if "to" in entry else None,
                note=text(entry, "note", place, ""),
                source=source_of(entry, default, place),
                **prices,
            )
        )
    return tuple(entries)
