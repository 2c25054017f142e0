"""`kvplan prices` in words, tables and JSON: what GPUs and APIs cost, from whom, since when, how old each figure is."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from kvplan.api.prices import ApiPrices, GpuPrices, Owned
from kvplan.money.api import per_million
from kvplan.money.offers import caveat
from kvplan.planning.estimate import STALE
from kvplan.report import ownership
from kvplan.report.blocks import Block, Column, Json, Page, Text, Tone, notes, records, schema, table
from kvplan.report.sources import brief, source
from kvplan.specs.hardware import Price
from kvplan.specs.money import ApiPrice, age
from kvplan.specs.money import stale as is_old
from kvplan.units import HOUR, show_count, show_usd

P = TypeVar("P", Price, ApiPrice)


@dataclass(frozen=True, kw_only=True)
class Quote(Generic[P]):
    """A price as a list shows it: its age [days], the number of its source, whether it goes on with the last one's.

    `stepped`: the same API charges more for longer prompts.
    """

    price: P  #: as it stands in the list
    days: int | None  #: age, None where undated [day]
    stale: bool  #: whether it is too old to rely on
    number: int  #: of its source below the table
    again: bool = False  #: whether it goes on with the last one's source
    stepped: bool = False  #: whether longer prompts cost more


# -- figures --------------------------------------------------------------------------------------


def seen(q: Quote[P]) -> str:
    """Return the age of a price in days."""
    if q.days is None:
        return "no date"
    return f"{q.days} d old" if q.stale else f"{q.days} d"


def usd_per_million(price: float | None) -> float | None:
    """Return the price of a million tokens, None where unknown. [USD]"""
    amounts = per_million(price)
    return None if amounts is None else round(amounts, 9)


def prompts(q: Quote[ApiPrice]) -> str:
    """Return which prompts an API's price is for."""
    return f"> {q.price.above:,}" if q.price.above else "shorter" if q.stepped else "all"


def dated(_: type[P]) -> tuple[Column[Quote[P]], ...]:
    """Return since when a price holds, how old it is, and who says so."""
    return (
        Column[Quote[P]](key="from", heading="since", value=lambda q: q.price.start, align="left"),
        Column[Quote[P]](key="to", value=lambda q: q.price.end),
        Column[Quote[P]](key="age_days", heading="seen", value=lambda q: q.days, cell=seen),
        Column[Quote[P]](key="stale", value=lambda q: q.stale),
        Column[Quote[P]](key="note", value=lambda q: q.price.note),
        Column[Quote[P]](
            key="source", heading="source", value=lambda q: source(q.price.source), cell=lambda q: f"[{q.number}]"
        ),
    )


GPU = (
    Column[Quote[Price]](
        key="gpu", heading="GPU", value=lambda q: q.price.gpu, cell=lambda q: "" if q.again else q.price.gpu,
        align="left",
    ),
    Column[Quote[Price]](key="term", heading="term", value=lambda q: q.price.term, align="left"),
    Column[Quote[Price]](key="provider", heading="provider", value=lambda q: q.price.provider, align="left"),
    Column[Quote[Price]](
        key="usd_per_hour", heading="$ / GPU-h", value=lambda q: round(q.price.price * HOUR, 6), show=show_usd
    ),
    Column[Quote[Price]](key="gpus", value=lambda q: q.price.gpus),
    Column[Quote[Price]](key="caveat", value=lambda q: caveat(q.price.term)),
    *dated(Price),
)  # fmt: skip
API = (
    Column[Quote[ApiPrice]](key="provider", heading="provider", value=lambda q: q.price.provider, align="left"),
    Column[Quote[ApiPrice]](key="model", heading="model", value=lambda q: q.price.model, align="left"),
    Column[Quote[ApiPrice]](key="serves", value=lambda q: q.price.serves or None),
    Column[Quote[ApiPrice]](
        key="above_tokens", heading="prompts", value=lambda q: q.price.above, cell=prompts, align="left"
    ),
    Column[Quote[ApiPrice]](
        key="usd_per_million_input", heading="input", value=lambda q: usd_per_million(q.price.input), show=show_usd
    ),
    Column[Quote[ApiPrice]](
        key="usd_per_million_cached_input", heading="cached", value=lambda q: usd_per_million(q.price.cached),
        show=show_usd,
    ),
    Column[Quote[ApiPrice]](
        key="usd_per_million_output", heading="output", value=lambda q: usd_per_million(q.price.output), show=show_usd
    ),
    *dated(ApiPrice),
)  # fmt: skip


def numbered(prices: Iterable[P]) -> dict[str, int]:
    """Return a number for each source, in order of appearance."""
    return {ref: n for n, ref in enumerate(dict.fromkeys(brief(p.source) for p in prices), 1)}


def quoted(prices: Sequence[P], day: str, stale: int) -> list[Quote[P]]:
    """Return prices with their age on a day; those last seen more than `stale` days before are stale."""
    refs = numbered(prices)
    return [Quote(price=p, days=age(p, day), stale=is_old(p, day, stale), number=refs[brief(p.source)]) for p in prices]


def gpu_quotes(prices: Sequence[Price], day: str, stale: int) -> list[Quote[Price]]:
    """Return prices of GPUs; one that follows another of the same GPU goes on with it."""
    before = [None, *(p.gpu for p in prices)]
    return [replace(q, again=q.price.gpu == last) for q, last in zip(quoted(prices, day, stale), before, strict=False)]


def api_quotes(prices: Sequence[ApiPrice], day: str, stale: int) -> list[Quote[ApiPrice]]:
    """Return prices of APIs, and of which the same API charges more for longer prompts."""
    most = {(p.provider, p.model): p.above for p in sorted(prices, key=lambda p: p.above)}
    return [
        replace(q, stepped=most[q.price.provider, q.price.model] > q.price.above) for q in quoted(prices, day, stale)
    ]


# -- answers --------------------------------------------------------------------------------------


def page(prices: GpuPrices | ApiPrices | Owned) -> Page:
    """Return the report of `kvplan prices`; no price says nothing."""
    if isinstance(prices, Owned):
        return ownership.page(prices.terms, prices.gpus, prices.day, STALE)
    if not prices.prices:
        return Page(())
    if isinstance(prices, ApiPrices):
        return api_page(prices.prices, prices.day, STALE)
    return gpu_page(prices.prices, prices.day, STALE)


def document(prices: GpuPrices | ApiPrices | Owned) -> Json:
    """Return the document of `kvplan prices`."""
    if isinstance(prices, Owned):
        return ownership.document(prices.terms, prices.gpus, prices.day, STALE)
    if isinstance(prices, ApiPrices):
        return api_document(prices.prices, prices.day, STALE)
    return gpu_document(prices.prices, prices.day, STALE)


# -- words ----------------------------------------------------------------------------------------


def tone(q: Quote[P]) -> Tone:
    """Return how a row is meant: old prices are quiet."""
    return "quiet" if q.stale else "plain"


def gpu_page(prices: Sequence[Price], day: str, stale: int) -> Page:
    """Return GPU prices by GPU, term and provider."""
    warned = {p.term: f"{p.term}: {caveat(p.term)}" for p in prices if caveat(p.term)}
    return Page.of(
        Text(f"{show_count(len(prices), 'price')} on {day}", "answer"),
        table("", GPU, gpu_quotes(prices, day, stale), tone=tone, keys=3),
        (Text(warned[term], "quiet") for term in sorted(warned)),
        ending(prices, day, stale),
    )


def api_page(prices: Sequence[ApiPrice], day: str, stale: int) -> Page:
    """Return what APIs charge per million tokens."""
    return Page.of(
        Text(f"{show_count(len(prices), 'API price')} on {day}, in USD per million tokens (-: unknown)", "answer"),
        table("", API, api_quotes(prices, day, stale), tone=tone, keys=3),
        ending(prices, day, stale),
    )


def ending(prices: Sequence[P], day: str, stale: int) -> Iterator[Block]:
    """Yield what follows a table of prices: what old means, and the sources."""
    old = sum(is_old(p, day, stale) for p in prices)
    if old:
        verb = "was" if old == 1 else "were"
        count = f"{old} of {show_count(len(prices), 'price')}"
        yield Text(f"{count} {verb} last seen more than {stale} days before {day} (old); check before use.", "warning")
    yield notes("Sources", (f"[{n}] {ref}" for ref, n in numbered(prices).items()))


# -- JSON -----------------------------------------------------------------------------------------


def gpu_document(prices: Sequence[Price], day: str, stale: int) -> Json:
    """Return the document of GPU prices."""
    return schema("prices", on=day, stale_after_days=stale, prices=records(GPU, gpu_quotes(prices, day, stale)))


def api_document(prices: Sequence[ApiPrice], day: str, stale: int) -> Json:
    """Return the document of API prices."""
    return schema("prices", on=day, stale_after_days=stale, apis=records(API, api_quotes(prices, day, stale)))
