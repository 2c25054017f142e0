"""What GPUs and APIs cost on a day, from whom, and what owning a GPU takes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from kvplan import catalog
from kvplan.api import values
from kvplan.errors import KvplanError, SpecError, UnknownName, WrongUse
from kvplan.specs.hardware import Gpu, Price
from kvplan.specs.money import ApiPrice, Ownership

P = TypeVar("P", Price, ApiPrice)
#: terms in the order of a list: what anyone can get first
TERMS = ("on-demand", "reserved", "spot", "community", "owned")


@dataclass(frozen=True, kw_only=True)
class GpuPrices:
    """What GPUs rent for on a day; `refusal` says why there is nothing, '' where there is."""

    prices: Sequence[Price]  #: current offers, USD per GPU-second
    day: str  #: as in 2026-11-24
    refusal: str  #: why there is nothing, '' where there is


@dataclass(frozen=True, kw_only=True)
class ApiPrices:
    """What APIs charge on a day; `refusal` says why there is nothing, '' where there is."""

    prices: Sequence[ApiPrice]  #: current prices of models, by kind of token
    day: str  #: as in 2026-11-24
    refusal: str  #: why there is nothing, '' where there is


@dataclass(frozen=True, kw_only=True)
class Owned:
    """What owning takes, and the GPUs whose hour is asked for."""

    terms: Ownership  #: prices of servers, power, interest and lifetime
    gpus: Sequence[Gpu]  #: those whose hour is asked for
    day: str  #: as in 2026-11-24
    refusal: str = ""  #: why there is nothing, '' where there is


def prices(
    *,
    gpus: str | Iterable[str] = (),
    providers: str | Iterable[str] = (),
    terms: str | Iterable[str] = (),
    apis: bool = False,
    own: str | None = None,
    files: str | Iterable[str] = (),
    on: str | None = None,
) -> GpuPrices | ApiPrices | Owned:
    """Return the prices of GPUs on a day, of `apis` instead, or what it takes to `own` servers under a file's terms.

    `files` are price files of the user's own, which win. Raises KvplanError for a name that has no price and for a file
    that cannot be understood.
    """
    day = values.day(on)
    named = values.several(gpus, "gpus")
    sellers = values.several(providers, "providers")
    rentals, mine = values.several(terms, "terms"), values.several(files, "files")
    own = values.given(values.word, own, "own")
    apis = values.flag(apis, "apis")
    if own:
        if apis or sellers or rentals or mine:
            raise WrongUse("own: shows servers, which only names of GPUs narrow; leave the others out")
        return owned(own, named, day)
    if apis:
        if named or rentals:
            raise WrongUse("apis: what an API charges has no GPU and no term; leave them out")
        return api_prices(sellers, mine, day)
    return gpu_prices(tuple(catalog.gpu(name).name for name in named), sellers, rentals, mine, day)


def refreshed(output: str) -> str:
    """Write today's cloud offers into a price file, and return what was written in words."""
    from kvplan.catalog.costs import cloud

    today = values.day(None)
    offers, left_out = cloud.online(today)
    if not offers:
        raise SpecError("gpuhunt offered no GPU that kvplan knows; nothing was written")
    catalog.write_prices(output, f"Cheapest cloud offers of {today}, per GPU", offers, cloud.source_of(today))
    other = f"; {left_out:,} offers of other or unclear GPUs left out" if left_out else ""
    return f"wrote {len(offers)} prices into {output}{other}"


def gpu_prices(
    gpus: Sequence[str], providers: Sequence[str], terms: Sequence[str], files: Sequence[str], day: str
) -> GpuPrices:
    """Return what GPUs rent for, by GPU, term and price."""
    known = catalog.all_prices(tuple(files))
    check_known(known, {"providers": ("provider", providers), "terms": ("term", terms)})
    wanted = (("gpu", gpus), ("provider", providers), ("term", terms))
    matching = [
        p for p in known if p.current(day) and all(not names or getattr(p, key) in names for key, names in wanted)
    ]
    named = " ".join(name for _, names in wanted for name in names)
    refusal = f"no price{f' for {named}' if named else ''} is known on {day}; give your own with files=FILE"
    ordered = sorted(matching, key=lambda p: (p.gpu, rank(p.term), p.term, p.price))
    return GpuPrices(prices=ordered, day=day, refusal="" if matching else refusal)


def api_prices(providers: Sequence[str], files: Sequence[str], day: str) -> ApiPrices:
    """Return what APIs charge, those of the user's files first."""
    known = (*(p for word in files for p in catalog.api_file(word)), *catalog.apis())
    check_known(known, {"providers": ("API provider", providers)})
    matching = [p for p in known if p.current(day) and (not providers or p.provider in providers)]
    return ApiPrices(prices=matching, day=day, refusal="" if matching else f"no API price is known on {day}")


def check_known(prices: Sequence[P], filters: Mapping[str, tuple[str, Sequence[str]]]) -> None:
    """Refuse a name that no price has; `filters`: parameter -> (kind of name, names)."""
    for parameter, (kind, names) in filters.items():
        known = {str(getattr(p, kind.split()[-1])) for p in prices}
        for name in names:
            if name not in known:
                raise UnknownName(kind, name, known, location=parameter)


def rank(term: str) -> int:
    """Return where a term stands in a list."""
    return next((i for i, kind in enumerate(TERMS) if term.startswith(kind)), len(TERMS))


def owned(word: str, gpus: Sequence[str], day: str) -> Owned:
    """Return what owning takes, for these GPUs or for all with a known server price."""
    terms = catalog.ownership(word)
    names = dict.fromkeys(catalog.gpu(name).name for name in gpus) or dict.fromkeys(s.gpu for s in terms.servers)
    missing = [name for name in names if terms.server(name) is None]
    if missing:
        raise KvplanError(f"no price of a server with {missing[0]} is known; write one under servers: in your own file")
    shown = replace(terms, servers=tuple(s for s in terms.servers if s.gpu in names))
    return Owned(terms=shown, gpus=[catalog.gpu(name) for name in names], day=day)
