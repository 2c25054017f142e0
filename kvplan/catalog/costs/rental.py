"""Rents of GPUs: the dated offers on the shelf, and files of one's own."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from kvplan.catalog.costs.rents import RATE, currency_of, rates, rent
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
    text,
)
from kvplan.catalog.files import Document, called, path_of
from kvplan.catalog.hardware.cards import gpu_name
from kvplan.catalog.lookup import as_path
from kvplan.catalog.shelves import names
from kvplan.errors import SpecError, shown
from kvplan.specs.hardware import Price
from kvplan.specs.source import Source
from kvplan.units import HOUR, NUMBER

PRICE_FIELDS = ("gpu", "provider", "price", "term", "from", "to", "gpus", "host_memory", "note", "source")
#: columns of a price list as a table; `gpu` and `price` must be there, an empty cell is as good as none
CSV_COLUMNS = ("gpu", "price", "currency", "rate", "provider", "term", "from", "to", "gpus", "host_memory", "note")
#: GPUs that may be let together
TOGETHER = ValueRange(1, 1e4)
#: memory that a GPU's part of a server may have [B]
HOST_MEMORY = ValueRange(1e9, 1e14)
#: the term of an offer that names none
ON_DEMAND = "on-demand"
_TERM = re.compile(r"on-demand|spot|community|reserved-\d+[ym]|owned-[a-z]+")


@cache
def prices() -> tuple[Price, ...]:
    """Return every price on the shelf, past ones included."""
    return tuple(price for name in names("prices") for price in price_file(name))


def terms() -> tuple[str, ...]:
    """Return the terms of the shelf's prices, sorted."""
    return tuple(sorted({price.term for price in prices()}))


def offers(gpu_name: str, day: str, term: str = ON_DEMAND, own: Iterable[Price] = ()) -> tuple[Price, ...]:
    """Return the prices of a GPU current on a day, cheapest first; none when none is known (never a zero).

    Where `own` prices of the user's hold for this GPU and term, they stand for the shelf's.
    """
    mine, shelf = (
        [p for p in some if p.gpu == gpu_name and p.term == term and p.current(day)] for some in (own, prices())
    )
    return tuple(sorted(mine or shelf, key=lambda p: p.price))


def offers_by_gpu(day: str, term: str = ON_DEMAND) -> dict[str, tuple[Price, ...]]:
    """Return the shelf's prices of every GPU current on a day, cheapest first."""
    return {gpu: offers(gpu, day, term) for gpu in dict.fromkeys(p.gpu for p in prices())}


def price_list(words: Iterable[str]) -> tuple[Price, ...]:
    """Return the prices of the user's own lists, YAML or CSV, as prices that are certain; raise SpecError."""
    return tuple(replace(p, yours=True) for word in words for p in price_file(word))


def price_file(word: str) -> tuple[Price, ...]:
    """Return the GPU prices of a provider's file on the shelf, or of the user's by path.

    An entry without a term is on demand; one without a provider is of the file's name. Raises SpecError, UnknownName.
    """
    if as_path(word) is not None and word.lower().endswith(".csv"):
        return price_table(word)
    raw, name, location = shelf_document("prices", word, "price list")
    default = read_source(raw.get("source"), location)
    required(raw, ("name", "title", "source", "rates", "prices"), ("prices",), location, "prices")
    stated = rates(raw.get("rates", {}), f"{location}: rates")
    prices = []
    for n, item in enumerate(listed(raw["prices"], f"{location}: prices"), 1):
        place = f"{location}: price {n}"
        entry = required(item, PRICE_FIELDS, ("gpu", "price", "from"), place)
        prices.append(
            Price(
                gpu=gpu_name(text(entry, "gpu", place), place),
                provider=text(entry, "provider", place, text(raw, "name", location, name)),
                term=_term(text(entry, "term", place, ON_DEMAND), f"{place}: term"),
                price=rent(entry["price"], f"{place}: price", stated),
                start=day(entry["from"], f"{place}: from"),
                end=day(entry["to"], f"{place}: to") if "to" in entry else None,
                note=text(entry, "note", place, ""),
                source=source_of(entry, default, place),
                gpus=count(entry["gpus"], f"{place}: gpus", TOGETHER) if "gpus" in entry else 1,
                host_memory=_host_memory(entry, place),
            )
        )
    return tuple(prices)


def _host_memory(entry: Mapping[str, object], place: str) -> float | None:
    """Return a GPU's part of the server's memory, None where an entry does not say. [B]"""
    written = entry.get("host_memory")
    return None if written is None else number(written, f"{place}: host_memory", HOST_MEMORY, "B")


def price_table(word: str) -> tuple[Price, ...]:
    """Return the prices of a CSV file of the user's, USD per GPU-hour unless it names a currency and its rate.

    The day a price holds from is also the day it was seen; a row without one has no date, and counts as old. Raises
    SpecError, UnknownName.
    """
    from kvplan.catalog.rows.tables import LINE, csv_blocks

    path = path_of(word)
    prices = []

    def check(columns: list[str]) -> None:
        required(dict.fromkeys(columns), CSV_COLUMNS, ("gpu", "price"), called(path))

    for _, rows in csv_blocks(word, None, check):
        for row in rows:
            place = f"{called(path)}: line {row[LINE]}"
            entry = {key: cell.strip() for key, cell in row.items() if key != LINE and cell.strip()}
            required(entry, CSV_COLUMNS, ("gpu", "price"), place)
            seen = day(entry["from"], f"{place}: from") if "from" in entry else ""
            prices.append(
                Price(
                    gpu=gpu_name(entry["gpu"], place),
                    provider=entry.get("provider", path.stem),
                    term=_term(entry.get("term", ON_DEMAND), f"{place}: term"),
                    price=_cell(entry, place),
                    start=seen,
                    end=day(entry["to"], f"{place}: to") if "to" in entry else None,
                    note=entry.get("note", ""),
                    source=Source(kind="quote", ref=path.name, date=seen),
                    gpus=count(entry["gpus"], f"{place}: gpus", TOGETHER) if "gpus" in entry else 1,
                    host_memory=_host_memory(entry, place),
                )
            )
    return tuple(prices)


def _cell(entry: Mapping[str, str], location: str) -> float:
    """Return the price of a row of a table, whose currency and rate may stand in columns of their own. [USD/s]"""
    price = entry["price"]
    currency = entry.get("currency", currency_of(price)).upper()
    stated = {currency: number(entry["rate"], f"{location}: rate", RATE)} if "rate" in entry else {}
    if re.fullmatch(NUMBER, price, re.ASCII):
        price = f"{price} {currency}"
    return rent(price, f"{location}: price", stated, hourly=True)


def _term(word: str, location: str) -> str:
    if not _TERM.fullmatch(word):
        raise SpecError(f"{location}: expected on-demand, spot, community or reserved-1y, got {shown(word)}")
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
            **({"gpus": str(p.gpus)} if p.gpus > 1 else {}),
            **({"host_memory": f"{p.host_memory:.6g} B"} if p.host_memory else {}),
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
    from kvplan.catalog.rows.tables import write_profile

    write_profile(word, price_document(Path(word).stem, title, prices, source), title)


def all_prices(own: Iterable[str] = ()) -> tuple[Price, ...]:
    """Return the user's prices and then the shelf's, past ones included."""
    return (*(p for word in own for p in price_file(word)), *prices())
