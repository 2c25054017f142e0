"""Rents of GPUs: the dated offers on the shelf, and files of one's own."""

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from kvplan.catalog.fields import day, listed, read_source, rent, required, shelf_document, source_of, text
from kvplan.catalog.files import Document
from kvplan.catalog.lookup import resolve
from kvplan.catalog.shelves import names
from kvplan.errors import SpecError, shown
from kvplan.specs.hardware import Price
from kvplan.specs.source import Source
from kvplan.units import HOUR

PRICE_FIELDS = ("gpu", "provider", "price", "term", "from", "to", "note", "source")
_TERM = re.compile(r"on-demand|spot|community|reserved-\d+[ym]|owned-[a-z]+")


@cache
def prices() -> tuple[Price, ...]:
    """Return every price on the shelf, past ones included."""
    return tuple(price for name in names("prices") for price in price_file(name))


def offers(gpu_name: str, day: str, term: str = "on-demand") -> tuple[Price, ...]:
    """Return the prices of a GPU current on a day, cheapest first; none when none is known (never a zero)."""
    found = (p for p in prices() if p.gpu == gpu_name and p.term == term and p.current(day))
    return tuple(sorted(found, key=lambda p: p.price))


def price_file(word: str) -> tuple[Price, ...]:
    """Return the GPU prices of a provider's file on the shelf, or of the user's by path.

    An entry without a term is on demand; one without a provider is of the file's name. Raises SpecError, UnknownName.
    """
    raw, name, where = shelf_document("prices", word, "price list")
    default = read_source(raw.get("source"), where)
    required(raw, ("name", "title", "source", "prices"), ("prices",), where, "prices")
    found = []
    for n, item in enumerate(listed(raw["prices"], f"{where}: prices"), 1):
        place = f"{where}: price {n}"
        entry = required(item, PRICE_FIELDS, ("gpu", "price", "from"), place)
        found.append(
            Price(
                gpu=resolve("gpus", text(entry, "gpu", place), "GPU", place),
                provider=text(entry, "provider", place, text(raw, "name", where, name)),
                term=_term(text(entry, "term", place, "on-demand"), f"{place}: term"),
                price=rent(entry["price"], f"{place}: price"),
                start=day(entry["from"], f"{place}: from"),
                end=day(entry["to"], f"{place}: to") if "to" in entry else None,
                note=text(entry, "note", place, ""),
                source=source_of(entry, default, place),
            )
        )
    return tuple(found)


def _term(word: str, where: str) -> str:
    if not _TERM.fullmatch(word):
        raise SpecError(f"{where}: expected on-demand, spot, community or reserved-1y, got {shown(word)}")
    return word


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
