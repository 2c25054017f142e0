"""Money as JSON documents: prices with source and age, bills with their lines, break-even volumes."""

from collections.abc import Sequence
from math import isfinite
from typing import Any

from kvplan.kv.budget import Line
from kvplan.money.api import BreakEven, per_million
from kvplan.money.bill import SPANS, WORK, Bill, kinds_of
from kvplan.money.gpu_cost import own
from kvplan.money.terms import caveat
from kvplan.specs.hardware import Gpu, Price
from kvplan.specs.money import OWNERSHIP_FIELDS, OWNERSHIP_MEANING, ApiPrice, Ownership, age
from kvplan.specs.source import Source
from kvplan.units import HOUR

Json = dict[str, Any]
SCHEMA = 1


def source(s: Source) -> Json:
    return {"kind": s.kind, "ref": s.ref, "date": s.date}


def dated(price: Price | ApiPrice, day: str, stale: int) -> Json:
    """Return since when a price holds, how old it is in days, and who says so."""
    days = age(price, day)
    return {
        "from": price.start,
        "to": price.end,
        "age_days": days,
        "stale": days > stale,
        "note": price.note,
        "source": source(price.source),
    }


def gpu_prices(prices: Sequence[Price], day: str, stale: int) -> Json:
    rows = [
        {
            "gpu": p.gpu,
            "provider": p.provider,
            "term": p.term,
            "usd_per_hour": round(p.price * HOUR, 6),
            "caveat": caveat(p.term),
            **dated(p, day, stale),
        }
        for p in prices
    ]
    return {"schema": SCHEMA, "command": "prices", "on": day, "stale_after_days": stale, "prices": rows}


def api_prices(prices: Sequence[ApiPrice], day: str, stale: int) -> Json:
    rows = [
        {
            "provider": p.provider,
            "model": p.model,
            "serves": p.serves or None,
            "above_tokens": p.above,
            "usd_per_million_input": rounded(p.input),
            "usd_per_million_cached_input": rounded(p.cached),
            "usd_per_million_output": rounded(p.output),
            **dated(p, day, stale),
        }
        for p in prices
    ]
    return {"schema": SCHEMA, "command": "prices", "on": day, "stale_after_days": stale, "apis": rows}


def rounded(price: float | None) -> float | None:
    found = per_million(price)
    return None if found is None else round(found, 9)


def ownership(terms: Ownership, gpus: Sequence[Gpu], day: str, stale: int) -> Json:
    """Return what owning takes, every figure with its source, and what an hour of each GPU then costs."""
    figures = {
        name: {"value": getattr(terms, name), "unit": unit, "meaning": OWNERSHIP_MEANING[name],
               "source": source(terms.sources[name])}
        for name, (unit, _, _) in OWNERSHIP_FIELDS.items()
    }  # fmt: skip
    servers = [
        {
            "gpu": s.gpu,
            "usd": s.price,
            "gpus": s.gpus,
            "watts": s.power,
            "note": s.note,
            "age_days": age(s, day),
            "stale": age(s, day) > stale,
            "source": source(s.source),
        }
        for s in terms.servers
    ]
    hours = {g.name: hour for g in gpus if (hour := owned_hour(g, terms)) is not None}
    head = {"schema": SCHEMA, "command": "prices", "on": day, "stale_after_days": stale, "ownership": terms.name}
    return {**head, "figures": figures, "servers": servers, "gpu_hours": hours}


def owned_hour(gpu: Gpu, terms: Ownership) -> Json | None:
    """Return USD for an hour of an owned GPU, at work and waiting, with its lines; None when unknown."""
    cost = own(gpu, terms)
    if cost is None:
        return None
    found = [{"name": n.name, "usd": n.amount * HOUR, "basis": n.basis} for n in kinds_of(cost, "")]
    return {"usd_at_work": cost.rate() * HOUR, "usd_waiting": cost.rate(None) * HOUR, "lines": found}


def lines(found: Sequence[Line] | None) -> list[Json] | None:
    return None if found is None else [{"name": n.name, "usd": n.amount, "basis": n.basis} for n in found]


def bill(b: Bill) -> Json:
    """Return a bill: totals per span and per work, lines a query and a month by use, and by what is paid for."""
    return {
        "usd_per": {unit: b.per(unit) for unit in (*SPANS, *WORK)},
        "gpus": b.gpus,
        "lines_per_query": lines(b.lines_per("query")),
        "lines": lines(b.lines_per("month")),
        "paid_for": lines(b.lines_per("month", "kind")),
        "caveats": list(b.caveats),
    }


def break_even(found: BreakEven) -> Json:
    return {
        "queries_per_day": found.queries_per_day,
        "first": found.first,
        "until": found.until if isfinite(found.until) else None,
        "api_usd_per_query": found.api_per_query,
        "reason": found.reason,
    }
