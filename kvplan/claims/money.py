"""Checks of money: queries and tokens on rented GPUs, list prices of APIs, an owner's bill."""

from dataclasses import dataclass
from math import inf

from kvplan.claims.checks import Answer, Evidence, check, exact, need, unknown
from kvplan.claims.figures import show, show_span
from kvplan.claims.labels import REQUEST
from kvplan.claims.replicas import (
    PLACE,
    RUN,
    busy_server,
    change,
    from_times,
    query,
    refusal,
    run,
    site_of,
    site_sources,
)
from kvplan.errors import SpecError, UnknownName
from kvplan.money.api import Tokens, api_cost, applicable
from kvplan.money.bill import kinds_of
from kvplan.money.gpu_cost import own
from kvplan.planning.evaluation import Evaluation
from kvplan.planning.site import Query
from kvplan.specs.claims import ClaimCase
from kvplan.specs.money import ApiPrice
from kvplan.units import HOUR, MILLION, show_apart, show_percent, show_usd

#: a prefix cache that always finds what requests have in common
IDEAL_PREFIX = "ideal"
#: fields that say how a query's cost is read
READING = ("load", "price", "per", "prefix_cache")
API = ("provider", "api")


# -- queries ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Charge:
    """What a request costs on a busy replica."""

    row: Evaluation  #: the replica
    gpu_seconds: float  #: of one request [s]
    price: float  #: of a GPU [USD/s]
    prefix: str  #: what the prefix cache does, in words, '' without one

    @property
    def usd(self) -> float:
        """Cost of one request. [USD]"""
        return self.gpu_seconds * self.price


def request_charge(case: ClaimCase, evidence: Evidence, technique: str) -> Charge | Answer:
    """Return what a request of a case costs under a technique, or why it is not known."""
    row = run(case, evidence, technique)
    if not row.feasible:
        return refusal(row)
    price = site_of(case, evidence).price
    if not price:
        hint = "give one under cases, as in price: 2.49/h"
        return unknown(f"no price of {row.gpu} is known on {evidence.day}; {hint}")
    seconds = row.gpu_seconds
    prefix = ""
    if case.prefix_cache == IDEAL_PREFIX:
        seconds, prefix = with_ideal_prefix(case, evidence, row)
    return Charge(row=row, gpu_seconds=seconds, price=price.price, prefix=prefix)


def with_ideal_prefix(case: ClaimCase, evidence: Evidence, row: Evaluation) -> tuple[float, str]:
    """Return the mean GPU time of a request [s] where prefixes are always in the cache, and how much that is in words.

    Requests that find a prefix and those that do not are timed apart. Raises SpecError for a case without a workload.
    """
    if case.workload is None:
        raise SpecError("prefix_cache: ideal needs a workload, whose parts say what its requests share")
    if not need(row.layout).shared(query(case).prompt):
        return row.gpu_seconds, f"{row.technique} leaves no prefix that requests can share"
    seconds = 0.0
    for share, hit in case.workload.prefix_classes:
        server = busy_server(case, evidence, row, hit=hit)
        seconds += share * server.gpus / server.full_rate
    return seconds, f"{show_percent(case.workload.prefix_share)} of the input found in the prefix cache"


def requests_per(case: ClaimCase) -> float:
    """Return how many requests the unit has that a case's cost is of; UnknownName where the workload has no such part.

    The unit is a request, what several requests make (an item, such as a contract), or a part of the prompt that
    several requests in a row share.
    """
    if case.per == REQUEST:
        return 1.0
    w = case.workload
    units = {p.name: p.requests for p in w.parts if p.requests < inf} if w else {}
    units |= {w.item: w.requests_per_item} if w and w.item else {}
    if case.per not in units:
        raise UnknownName("unit", case.per, (REQUEST, *units), f"known: {', '.join((REQUEST, *units))}")
    return units[case.per]


def at_load(case: ClaimCase) -> str:
    """Return in words how busy the GPUs of a case are."""
    return f", busy {show_percent(case.load)} of the time" if case.load < 1 else ", always busy"


@check(unit="USD", needs=PLACE, may=(*RUN, *READING))
def query_cost(case: ClaimCase, evidence: Evidence) -> list[Answer]:
    """What one request costs on rented GPUs, or all requests on one document. [USD]"""
    count = requests_per(case)
    charge = request_charge(case, evidence, case.technique)
    if isinstance(charge, Answer):
        return [charge]
    usd = charge.usd * count / case.load
    low, high = (usd * s for s in charge.row.spread)
    times = f"{count:g} requests x " if count > 1 else ""
    prefix = f"; {charge.prefix}" if charge.prefix else ""
    line = f"{times}{charge.gpu_seconds:.3g} GPU-s x {show_usd(charge.price * HOUR)} per GPU-hour{at_load(case)}"
    line += f" = {show_usd(usd)} {show_span(low, high, 'USD')}{prefix}"
    return [from_times(usd, low, high, line, site_sources(case, evidence), charge.row)]


@check(unit="share", needs=(*PLACE, "technique"), may=(*RUN, "against", "prefix_cache"))
def cost_reduction(case: ClaimCase, evidence: Evidence) -> list[Answer]:
    """Share of a query's cost that a technique saves, each on its cheapest replica of one GPU, always busy."""
    before, after = (request_charge(case, evidence, t) for t in (case.against, case.technique))
    if isinstance(before, Answer):
        return [before]
    if isinstance(after, Answer):
        return [after]
    ratio = after.usd / before.usd
    low, high = change(after.usd, before.usd, after.row.spread)
    prefix = f"; {after.prefix}" if after.prefix else ""
    line = f"1 - {show_usd(after.usd)} / {show_usd(before.usd)} = {show(1 - ratio, 'share')}"
    line += f" {show_span(1 - high, 1 - low, 'share')}{prefix}"
    return [from_times(1 - ratio, 1 - high, 1 - low, line, site_sources(case, evidence), after.row)]


# -- tokens -----------------------------------------------------------------------------------------


@check(unit="USD/token", needs=(*PLACE, "of"), may=(*RUN, "load", "price"))
def token_cost(case: ClaimCase, evidence: Evidence) -> list[Answer]:
    """What a token costs on rented GPUs, of input and output together or of output alone (`of`). [USD/token]"""
    if case.of not in ("total", "output"):
        raise UnknownName("part", case.of, ("total", "output"), "write of: total, or of: output")
    charge = request_charge(case, evidence, case.technique)
    if isinstance(charge, Answer):
        return [charge]
    cost = need(charge.row.cost)
    million = cost.per_million_tokens if case.of == "total" else cost.per_million_output_tokens
    usd = million / MILLION / case.load
    low, high = (usd * s for s in charge.row.spread)
    line = f"{show_usd(cost.per_query)} per query of {cost.input_tokens:,} + {cost.output_tokens:,} tokens"
    line += f"{at_load(case)} = {show(usd, 'USD/token')} {show_span(low, high, 'USD/token')} of {case.of} tokens"
    return [from_times(usd, low, high, line, site_sources(case, evidence), charge.row)]


def list_price(case: ClaimCase, evidence: Evidence) -> ApiPrice | Answer:
    """Return the list price of an API for prompts of the case's length on the day, or why it is not known."""
    offers = [p for p in evidence.apis if p.provider == case.provider]
    if not offers:
        raise UnknownName("API provider", case.provider, {p.provider for p in evidence.apis})
    if case.api not in {p.model for p in offers}:
        raise UnknownName("API model", case.api, {p.model for p in offers})
    request = query(case)
    prices = [p for p in applicable(offers, api_tokens(request), evidence.day) if p.model == case.api]
    return prices[0] if prices else unknown(f"no price of {case.provider} {case.api} is known on {evidence.day}")


def api_tokens(request: Query) -> Tokens:
    """Return the tokens of a request as an API counts them, none of them cached."""
    return Tokens(input=request.prompt, output=request.output)


@check(unit="USD/token", needs=(*API, "of"), may=("context", "output", "workload"))
def api_price(case: ClaimCase, evidence: Evidence) -> list[Answer]:
    """An API's list price for prompts of this length: `of: input`, `output` or `total`. [USD/token]"""
    if case.of not in ("input", "output", "total"):
        raise UnknownName("part", case.of, ("input", "output", "total"), "write of: input, output or total")
    price = list_price(case, evidence)
    if isinstance(price, Answer):
        return [price]
    request = query(case)
    charge = api_cost(price, api_tokens(request))
    total = None if charge is None else charge / request.context
    usd = {"input": price.input, "output": price.output, "total": total}[case.of]
    if usd is None:
        return [unknown(f"{case.provider} lists no {case.of} price of {case.api}", price.source)]
    above = f" for prompts over {price.above:,} tokens" if price.above else ""
    return [exact(usd, f"list price {show(usd, 'USD/token')} of {case.of} tokens{above}", price.source)]


@check(unit="ratio", needs=(*PLACE, *API), may=(*RUN, "load", "price"))
def host_or_api(case: ClaimCase, evidence: Evidence) -> list[Answer]:
    """Cost of a query on rented GPUs over an API's charge for it."""
    price = list_price(case, evidence)
    charge = request_charge(case, evidence, case.technique)
    if isinstance(price, Answer):
        return [price]
    if isinstance(charge, Answer):
        return [charge]
    fee = api_cost(price, api_tokens(query(case)))
    if not fee:
        return [unknown(f"{case.provider} lists no whole price of {case.api}", price.source)]
    usd = charge.usd / case.load
    low, high = (usd / fee * s for s in charge.row.spread)
    own, charged = show_apart(usd, fee, show_usd)
    line = f"{own} per query{at_load(case)} / {charged} at list price = {show(usd / fee, 'ratio')}"
    line += f" {show_span(low, high, 'ratio')}"
    sources = (*site_sources(case, evidence), price.source)
    return [from_times(usd / fee, low, high, line, sources, charge.row)]


# -- ownership --------------------------------------------------------------------------------------


@check(unit="share", needs=("gpu", "line"), may=("of",))
def bill_share(case: ClaimCase, evidence: Evidence) -> list[Answer]:
    """Share of an owned GPU's cost at work that a line is; with `of`, the most that a part of the line can be."""
    gpu = need(case.gpu)
    cost = own(gpu, evidence.terms)
    if cost is None:
        return [unknown(f"no price of a server with {gpu.name} is known")]
    lines = kinds_of(cost, "")
    part = next((x for x in lines if x.name == case.line), None)
    if part is None:
        raise UnknownName("line", case.line, [x.name for x in lines])
    total = sum(x.amount for x in lines)
    share = part.amount / total
    line = f"{case.line} {show_usd(part.amount * HOUR)} of {show_usd(total * HOUR)} per hour = {show(share, 'share')}"
    server = evidence.terms.server(gpu.name)
    sources = (server.source,) if server else ()
    if not case.of:
        return [exact(share, line, *sources)]
    reason = f"{line}, so {case.of} is {show(share, 'share')} at most; its part of the {case.line} is not published"
    return [unknown(reason, *sources, low=0.0, high=share)]
