"""Rents of GPUs: the dated offers on the shelf, and files of one's own."""

import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from kvplan.catalog.fields import bounded, day, entries, read_source, required, shelf_document
from kvplan.catalog.files import Document
from kvplan.catalog.lookup import resolve
from kvplan.catalog.shelves import document, names
from kvplan.errors import SpecError, shown
from kvplan.specs.hardware import Price
from kvplan.specs.source import Source
from kvplan.units import HOUR, parse

PRICE_FIELDS = {"gpu", "provider", "price", "term", "from", "to", "note", "source"}
_TERM = re.compile(r"on-demand|spot|community|reserved-\d+[ym]|owned-[a-z]+")


@cache
def prices() -> tuple[Price, ...]:
    """Return every price on the shelf, past ones included."""
    return tuple(price for name in names("prices") for price in _price_file(name, document("prices", name)))


def _price_file(name: str, raw: Document) -> Iterator[Price]:
    where = f"{name}.yaml"
    default = read_source(raw.get("source"), where)
    for entry in raw["prices"]:
        source = read_source(entry["source"], where) if "source" in entry else default
        yield Price(
            gpu=entry["gpu"],
            provider=name,
            term=entry["term"],
            price=parse(entry["price"], "USD/s", f"{where}: {entry['gpu']}"),
            start=entry["from"],
            end=entry.get("to"),
            note=entry.get("note", ""),
            source=source,
        )


def offers(gpu_name: str, day: str, term: str = "on-demand") -> tuple[Price, ...]:
    """Return the prices of a GPU current on a day, cheapest first; none when none is known (never a zero)."""
    found = (p for p in prices() if p.gpu == gpu_name and p.term == term and p.current(day))
    return tuple(sorted(found, key=lambda p: p.price))


def price_file(word: str) -> tuple[Price, ...]:
    """Return the GPU prices of a user's file: a list as kvplan's own, where an entry may name its provider."""
    raw, name, where = shelf_document("prices", word, "price list")
    required(raw, ("name", "title", "source", "prices"), ("source", "prices"), where)
    default = read_source(raw["source"], where)
    found = []
    for number, item in enumerate(entries(raw, "prices", where), 1):
        place = f"{where}: price {number}"
        entry = required(item, PRICE_FIELDS, ("gpu", "price", "from"), place)
        term = str(entry.get("term", "on-demand"))
        if not _TERM.fullmatch(term):
            raise SpecError(f"{place}: term: expected on-demand, spot, community or reserved-1y, got {shown(term)}")
        price = bounded(entry["price"], "USD/s", f"{place}: price", 0.0, 1e3)
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
    from kvplan.catalog.tables import write_profile

    write_profile(word, price_document(Path(word).stem, title, prices, source), title)


def all_prices(own: Iterable[str] = ()) -> tuple[Price, ...]:
    """Return the user's prices and then the shelf's, past ones included."""
    return (*(p for word in own for p in price_file(word)), *prices())
