"""What a claim can be checked for: one function a quantity, from a case and what is known to a figure with its range.

Adding a check is one `@check(...)` function here; the YAML, the JSON and the general tests follow.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, prod
from typing import TypeVar

from kvplan.docstrings import summary
from kvplan.errors import Incompatible, KvplanError, SpecError, UnknownName
from kvplan.kv import spelling
from kvplan.kv.layout import KVLayout, equation, kv_layout
from kvplan.kv.replica import Parallel, weights
from kvplan.money.api import Tokens, api_cost, applicable
from kvplan.money.bill import kinds_of
from kvplan.money.gpu_cost import own
from kvplan.planning.replica import Evaluation, default_kv_bits, estimate
from kvplan.planning.site import Query, Site
from kvplan.quality.loss import quality
from kvplan.specs.claims import ClaimCase
from kvplan.specs.hardware import Price
from kvplan.specs.model import Attention, Mixer, ModelSpec
from kvplan.specs.money import ApiPrice, Ownership
from kvplan.specs.quality import SHORT, TASKS, QualityTable, Score
from kvplan.specs.source import Source
from kvplan.specs.workload import Factor
from kvplan.units import HOUR, MILLION, show_bytes, show_percent, show_rate, show_time, show_tokens, show_usd

#: tokens generated per query where a claim does not say
OUTPUT = 512
#: no answer is looked for beyond this context [token]
LONGEST = 2**24
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What claims are checked with."""

    day: str  #: of the prices, YYYY-MM-DD
    sites: Mapping[str, Site]  #: by name, one for every GPU that a claim names
    table: QualityTable  #: published scores
    apis: tuple[ApiPrice, ...]  #: list prices of all days
    terms: Ownership  #: of an owner


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One case's figure, in base units of its check."""

    value: float | None  #: None where it is not known
    low: float  #: the least it may truly be
    high: float  #: the most it may truly be
    line: str  #: its arithmetic
    reason: str = ""  #: why it is not known
    extra: str = ""  #: what the case does not name: a row of a table
    remarks: tuple[str, ...] = ()  #: printed once for all cases
    sources: tuple[Source, ...] = ()  #: what the arithmetic rests on


def exact(value: float, line: str, *sources: Source) -> Measured:
    """Return a figure that is known exactly, with its arithmetic."""
    return Measured(value=value, low=value, high=value, line=line, sources=sources)


def unknown(reason: str, *sources: Source, low: float = -inf, high: float = inf) -> Measured:
    """Return a figure that nobody knows and why; `low` and `high` bound it."""
    return Measured(value=None, low=low, high=high, line="", reason=reason, sources=sources)


Function = Callable[[ClaimCase, Bench], Sequence[Measured]]


@dataclass(frozen=True, kw_only=True)
class Check:
    """A quantity that claims are of."""

    name: str  #: as claims spell it
    unit: str  #: share, ratio, count, or a unit of `units`
    needs: tuple[str, ...]  #: fields a case must have
    may: tuple[str, ...]  #: fields a case may have besides
    tolerance: float  #: how far people's rounding may be off: a share of the figure, for shares a difference
    summary: str  #: what it is, in one line
    function: Function  #: from a case to its figures


CHECKS: dict[str, Check] = {}
#: fields of every check that runs a model on a GPU
RUN = ("context", "output", "workload", "technique", "weights", "batch", "tp")


def check(
    name: str, *, unit: str, needs: tuple[str, ...], may: tuple[str, ...] = (), tolerance: float | None = None
) -> Callable[[Function], Function]:
    """Register a check."""

    def register(function: Function) -> Function:
        usual = 0.02 if unit == "share" else 0.0 if unit == "count" else 0.10
        CHECKS[name] = Check(
            name=name,
            unit=unit,
            needs=needs,
            may=may,
            tolerance=usual if tolerance is None else tolerance,
            summary=summary(function),
            function=function,
        )
        return function

    return register


def need(value: T | None) -> T:
    """Return a field that the check was registered to need."""
    assert value is not None
    return value


def show(value: float, unit: str) -> str:
    """Return a figure in the words of its unit."""
    if value in (inf, -inf):
        return "none"
    if unit == "share":
        return f"{100 * value:.1f}".removesuffix(".0") + " %"
    if unit == "ratio":
        return f"{value:.2f}x" if abs(value) < 100 else f"{value:,.0f}x"
    if unit == "B":
        return show_rate(value, "B")
    if unit == "USD/token":
        return f"{show_usd(value * MILLION)}/Mtok"
    if unit == "token" and value >= 1:
        return show_tokens(round(value))
    if unit in ("count", "token"):
        return f"{value:,.6g}"
    return show_time(value) if unit == "s" else show_usd(value)


# -- bytes ----------------------------------------------------------------------------------------


def with_kv_heads(model: ModelSpec, heads: int | None) -> ModelSpec:
    """Return a model with another number of key/value heads in every layer, as if it had been trained so."""
    if heads is None:
        return model
    if not any(isinstance(m, Attention) and m.stored for x in model.layers for m in x.mixers):
        raise Incompatible(f"{model.title} stores no key/value heads")

    def change(mixer: Mixer) -> Mixer:
        return replace(mixer, kv_heads=heads) if isinstance(mixer, Attention) and mixer.stored else mixer

    return replace(model, layers=tuple(replace(x, mixers=tuple(map(change, x.mixers))) for x in model.layers))


def layouts(case: ClaimCase, technique: str = "") -> tuple[KVLayout, KVLayout]:
    """Return the plain and the compressed cache; Incompatible where the technique cannot act on the model."""
    model = with_kv_heads(need(case.model), case.kv_heads)
    base = kv_layout(model, default_kv_bits(model))
    return base, spelling.apply(technique or case.technique, base)


def worked(layout: KVLayout, context: int) -> str:
    """Return the sum of a cache's bytes with its numbers."""
    terms = [line.split(" = ")[0].split(maxsplit=1)[1] for line in equation(layout, context)][:-1]
    total = layout.stored(context)
    return f"{' + '.join(terms)} = {show_bytes(total)} ({show(total, 'B')})"


BYTES = ("technique", "kv_heads")


@check("kv_bytes", unit="B", needs=("model", "context"), may=BYTES)
def kv_bytes(case: ClaimCase, bench: Bench) -> list[Measured]:
    """Cache of one sequence. [B]"""
    _, after = layouts(case)
    return [exact(after.stored(need(case.context)), worked(after, need(case.context)), need(case.model).source)]


@check("kv_reduction", unit="share", needs=("model", "context"), may=BYTES)
def kv_reduction(case: ClaimCase, bench: Bench) -> list[Measured]:
    """Share of the uncompressed cache that a technique saves."""
    (base, after), context = layouts(case), need(case.context)
    a, b = after.stored(context), base.stored(context)
    line = f"1 - {show_bytes(a)} / {show_bytes(b)} = {show(1 - a / b, 'share')}"
    return [exact(1 - a / b, line, need(case.model).source)]


@check("read_reduction", unit="share", needs=("model", "context", "of"), may=(*BYTES, "batch", "weights"))
def read_reduction(case: ClaimCase, bench: Bench) -> list[Measured]:
    """Share of the bytes read per decode step that a technique saves, of the cache or of the whole step."""
    if case.of not in ("cache", "step"):
        raise UnknownName("part", case.of, ("cache", "step"), "write of: cache, or of: step for weights too")
    (base, after), context, model = layouts(case), need(case.context), need(case.model)
    weight_bytes = (
        weights(model, case.weights).total * model.active_parameters / model.parameters if case.of == "step" else 0.0
    )
    a, b = (weight_bytes + (case.batch or 1) * x.read(context) for x in (after, base))
    line = f"1 - {show_bytes(a)} / {show_bytes(b)} read a step = {show(1 - a / b, 'share')}"
    return [exact(1 - a / b, line, model.source)]


@check("kv_growth", unit="ratio", needs=("model", "context"), may=BYTES)
def kv_growth(case: ClaimCase, bench: Bench) -> list[Measured]:
    """Cache of twice the context over the cache of the context."""
    (_, after), context = layouts(case), need(case.context)
    a, b = after.stored(2 * context), after.stored(context)
    line = f"{show_bytes(a)} at {show_tokens(2 * context)} / {show_bytes(b)} = {show(a / b, 'ratio')}"
    return [exact(a / b, line, need(case.model).source)]


@check("context_ratio", unit="ratio", needs=("model", "context", "technique"), may=("kv_heads",))
def context_ratio(case: ClaimCase, bench: Bench) -> list[Measured]:
    """Longest context whose compressed cache fits where the uncompressed one of `context` does, over `context`."""
    (base, after), context = layouts(case), need(case.context)
    room = base.stored(context)
    longest = _longest(lambda n: after.stored(n) <= room)
    if longest >= LONGEST:
        return [unknown("the cache stops growing: it sets no limit to the context")]
    line = f"{show_bytes(room)} hold {show_tokens(context)} plain, {longest:,} tokens compressed"
    return [exact(longest / context, line, need(case.model).source)]


@check("length_ratio", unit="ratio", needs=("against_workload",), may=("workload", "context"))
def length_ratio(case: ClaimCase, bench: Bench) -> list[Measured]:
    """Tokens of a context, or of a workload's mean request, over those of another's: their plain caches' ratio."""
    one, other = case.workload, need(case.against_workload)
    a = one.input.mean + one.output.mean if one else float(need(case.context))
    b = other.input.mean + other.output.mean
    line = f"{a:,.0f} / {b:,.0f} tokens = {show(a / b, 'ratio')}"
    return [exact(a / b, line, *((one.source,) if one else ()), other.source)]


def _longest(fits: Callable[[int], bool]) -> int:
    """Return the greatest length that fits, 0 if none does, at most LONGEST."""
    low, high = 0, LONGEST + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


# -- a model on GPUs --------------------------------------------------------------------------------


def query(case: ClaimCase) -> Query:
    """Return the request of a case: its context, or the mean lengths of its workload."""
    if case.workload is not None:
        output = max(round(case.workload.output.mean), 1)
        return Query(context=round(case.workload.input.mean) + output, output=output)
    context = need(case.context)
    return Query(context=context, output=case.output or min(OUTPUT, max(context // 2, 1)))


def run(
    case: ClaimCase, bench: Bench, technique: str, *, gpu: str = "", parallel: Parallel | None = None, context: int = 0
) -> Evaluation:
    """Return kvplan's estimate of a case."""
    site, request = site_of(case, bench, gpu), Query(context=context, output=1) if context else query(case)
    if parallel:
        site = replace(site, parallel=parallel)
    return estimate(need(case.model), (technique,), request, site)[-1]


def site_of(case: ClaimCase, bench: Bench, gpu: str = "") -> Site:
    """Return a GPU's site with what the case fixes: shape, weights, batch, price."""
    site = bench.sites[gpu or need(case.gpu).name]
    engine, parallel = site.engine, Parallel(tensor=case.tp) if case.tp else None
    if case.batch:
        engine = replace(engine, small=(case.batch, engine.small[1]), large=(case.batch, engine.large[1]))
    if case.price:
        source = Source(kind="quote", ref="the price in the claims file", date=bench.day)
        terms = {"provider": "the claim", "term": "as given", "start": bench.day, "end": None, "note": ""}
        site = replace(site, offers=(Price(gpu=site.gpu.name, price=case.price, source=source, **terms),))  # type: ignore[arg-type]
    return replace(site, weights=case.weights, parallel=parallel, engine=engine)


def site_sources(case: ClaimCase, bench: Bench, *gpus: str) -> tuple[Source, ...]:
    """Return what a time or a cost rests on: the model, the calibration, the prices."""
    sites = [site_of(case, bench, g) for g in gpus or ("",)]
    sources = [need(case.model).source, *(s for site in sites for s in site.calibration.sources)]
    return tuple(dict.fromkeys([*sources, *(site.price.source for site in sites if site.price)]))


def change(after: float, before: float, spread: tuple[float, float]) -> tuple[float, float]:
    """Return what a ratio of two estimates may truly be.

    What both have in common (R) cancels; what differs (D) may be off against the rest by k, the spread of one estimate
    over another's: (R + k D') / (R + k D). Of all splits R + D = 1 the farthest have D' = 0 where time falls, D = 0
    where it grows.
    """
    low, high = spread
    ratio = after / before
    ends = []
    for k in (low / high, high / low):
        fall = 1 - ratio
        ends.append(1 - k * fall / (1 + (k - 1) * fall) if fall > 0 else 1 - k * fall)
    return min(ends), max(ends)


def timed(value: float, low: float, high: float, line: str, sources: tuple[Source, ...], *rows: Evaluation) -> Measured:
    """Return a figure that rests on times; a GPU nobody measured is named."""
    guessed = dict.fromkeys(
        f"no server with {r.gpu} was measured: its rates are estimated" for r in rows if not r.grounded
    )
    return Measured(value=value, low=low, high=high, line=line, remarks=tuple(guessed), sources=sources)


def refused(row: Evaluation, what: str = "") -> Measured:
    """Return why a row has no answer, as a figure nobody knows."""
    return unknown(f"{what}{row.reason}")


PLACE = ("model", "gpu")


@check("gpus", unit="count", needs=PLACE, may=("context", "output", "workload", "technique", "weights"))
def gpus(case: ClaimCase, bench: Bench) -> list[Measured]:
    """Fewest GPUs that hold the weights and one sequence."""
    row = run(case, bench, case.technique)
    if row.layout is None:
        return [refused(row)]
    weight_size = show_bytes(weights(need(case.model), case.weights).total)
    line = f"{weight_size} of weights + {show_bytes(row.stored or 0)} of KV cache: "
    sources = (need(case.model).source, bench.sites[need(case.gpu).name].engine.sources["sampler_bytes_per_logit"])
    if not row.feasible:
        return [exact(inf, f"{line}fits no replica", *sources)]
    count = need(row.fewest_gpus)
    return [exact(float(count), f"{line}{count} GPU{'s' * (count > 1)}", *sources)]


@check("longest_context", unit="token", needs=PLACE, may=("technique", "weights", "tp"))
def longest_context(case: ClaimCase, bench: Bench) -> list[Measured]:
    """Longest context of which a replica holds one sequence. [token]"""
    parallel = Parallel(tensor=case.tp or 1)
    first = run(case, bench, case.technique, parallel=parallel, context=2)
    if not first.feasible:
        return [exact(0.0, first.reason, need(case.model).source)]
    longest = _longest(lambda n: n < 2 or run(case, bench, case.technique, parallel=parallel, context=n).feasible)
    if longest >= LONGEST:
        return [unknown("the cache stops growing: it sets no limit to the context")]
    weight_size = show_bytes(weights(need(case.model), case.weights).total)
    line = f"beside {weight_size} of weights, {longest:,} tokens fit {parallel.gpus}x {need(case.gpu).name}"
    return [exact(float(longest), line, need(case.model).source)]


@check("sequences_ratio", unit="ratio", needs=PLACE, may=("context", "output", "workload", "technique", "weights", "tp",
                                                         "against"))  # fmt: skip
def sequences_ratio(case: ClaimCase, bench: Bench) -> list[Measured]:
    """Sequences that the same GPUs hold under a technique, over those without."""
    before = run(case, bench, case.against)
    if not before.feasible:
        return [refused(before, "without it: ")]
    after = run(case, bench, case.technique, parallel=before.parallel)
    if not after.feasible:
        return [refused(after)]
    line = f"{after.sequences:,} / {before.sequences:,} on {before.gpus}x {before.gpu}"
    return [exact(after.sequences / before.sequences, line, need(case.model).source)]


#: what a time is of, in words
MEASURES = {"ttft": "first token", "tpot": "a token", "e2e": "whole answer"}


def seconds(row: Evaluation, measure: str, request: Query) -> float:
    """Return a row's ttft, tpot or time of a whole answer. [s]"""
    first, each = need(row.ttft), need(row.tpot)
    return {"ttft": first, "tpot": each}.get(measure, first + (request.output - 1) * each)


def spread_of(row: Evaluation, measure: str) -> tuple[float, float]:
    """Return the factors between which a row's time lies; a whole answer is a slot's time, as TPOT and cost are."""
    return row.ttft_spread if measure == "ttft" else row.spread


@check("latency", unit="s", needs=(*PLACE, "measure"), may=RUN)
def latency(case: ClaimCase, bench: Bench) -> list[Measured]:
    """Time to the first token, per token, or of a whole answer. [s]"""
    row = run(case, bench, case.technique)
    if not row.feasible:
        return [refused(row)]
    time = seconds(row, case.measure, query(case))
    low, high = (time * s for s in spread_of(row, case.measure))
    span = f"({show_time(low)} to {show_time(high)})"
    line = f"{MEASURES[case.measure]} {show_time(time)} {span} on {row.gpus}x {row.gpu}"
    return [timed(time, low, high, line, site_sources(case, bench), row)]


@check("latency_ratio", unit="ratio", needs=(*PLACE, "measure", "batch"), may=(*RUN, "against"), tolerance=0.05)
def latency_ratio(case: ClaimCase, bench: Bench) -> list[Measured]:
    """Time under a technique over the time without, same GPUs and same batch."""
    before = run(case, bench, case.against)
    if not before.feasible:
        return [refused(before, "without it: ")]
    after = run(case, bench, case.technique, parallel=before.parallel)
    if not after.feasible:
        return [refused(after)]
    if before.batch != after.batch:
        batches = f"{before.gpus}x {before.gpu} run a batch of {before.batch} without it and {after.batch} with it"
        return [unknown(f"{batches}; ask for a smaller batch")]
    a, b = (seconds(r, case.measure, query(case)) for r in (after, before))
    low, high = change(a, b, spread_of(after, case.measure))
    line = f"{MEASURES[case.measure]} {show_time(a)} / {show_time(b)} = {a / b:.2f}x ({low:.2f}x to {high:.2f}x)"
    return [timed(a / b, low, high, line, site_sources(case, bench), after)]


@check("throughput_ratio", unit="ratio", needs=PLACE, may=(*RUN, "against", "against_gpu"))
def throughput_ratio(case: ClaimCase, bench: Bench) -> list[Measured]:
    """Output tokens per second and GPU over those of another technique or GPU, replicas full."""
    other = (case.against_gpu or need(case.gpu)).name
    # another GPU is compared under the same technique, unless the claim names one
    against = case.against if "against" in case.words or other == need(case.gpu).name else case.technique
    before, after = run(case, bench, against, gpu=other), run(case, bench, case.technique)
    for row in (before, after):
        if not row.feasible:
            return [refused(row, f"on {row.gpu}: ")]
    a, b = (need(r.tokens_per_second) / need(r.gpus) for r in (after, before))
    low, high = change(a, b, after.spread) if other == after.gpu else _apart(a / b, after, before)
    line = f"{a:,.1f} / {b:,.1f} tokens/s a GPU = {a / b:.2f}x ({low:.2f}x to {high:.2f}x)"
    sources = site_sources(case, bench, after.gpu, other)
    return [timed(a / b, low, high, line, sources, after, before)]


def _apart(ratio: float, after: Evaluation, before: Evaluation) -> tuple[float, float]:
    """Return the range of a ratio of two estimates that have no error in common."""
    return ratio * after.spread[0] / before.spread[1], ratio * after.spread[1] / before.spread[0]


# -- money ------------------------------------------------------------------------------------------


def priced(case: ClaimCase, bench: Bench, technique: str) -> Evaluation | Measured:
    """Return a row with a cost, or why there is none."""
    row = run(case, bench, technique)
    if not row.feasible:
        return refused(row)
    return (
        row
        if row.cost
        else unknown(f"no price of {row.gpu} is known on {bench.day}; give one under cases, as in price: 2.49/h")
    )


def at_load(case: ClaimCase) -> str:
    """Return in words how busy the GPUs of a case are."""
    return f", busy {show_percent(case.load)} of the time" if case.load < 1 else ", always busy"


@check("query_cost", unit="USD", needs=PLACE, may=(*RUN, "load", "price"))
def query_cost(case: ClaimCase, bench: Bench) -> list[Measured]:
    """What one query costs on rented GPUs. [USD]"""
    row = priced(case, bench, case.technique)
    if isinstance(row, Measured):
        return [row]
    usd, price = need(row.cost).per_query / case.load, need(site_of(case, bench).price)
    low, high = (usd * s for s in row.spread)
    rent = f"{show_usd(price.price * HOUR)}/GPU-h"
    span = f"({show_usd(low)} to {show_usd(high)})"
    line = f"{row.gpu_seconds:.3g} GPU-s x {rent}{at_load(case)} = {show_usd(usd)} {span}"
    return [timed(usd, low, high, line, site_sources(case, bench), row)]


@check("cost_reduction", unit="share", needs=(*PLACE, "technique"), may=(*RUN, "against"))
def cost_reduction(case: ClaimCase, bench: Bench) -> list[Measured]:
    """Share of a query's cost that a technique saves, each on its cheapest replica of one GPU, always busy."""
    before, after = priced(case, bench, case.against), priced(case, bench, case.technique)
    if isinstance(before, Measured):
        return [before]
    if isinstance(after, Measured):
        return [after]
    a, b = need(after.cost).per_query, need(before.cost).per_query
    low, high = change(a, b, after.spread)
    span = f"({show(1 - high, 'share')} to {show(1 - low, 'share')})"
    line = f"1 - {show_usd(a)} / {show_usd(b)} = {show(1 - a / b, 'share')} {span}"
    return [timed(1 - a / b, 1 - high, 1 - low, line, site_sources(case, bench), after)]


@check("token_cost", unit="USD/token", needs=(*PLACE, "of"), may=(*RUN, "load", "price"))
def token_cost(case: ClaimCase, bench: Bench) -> list[Measured]:
    """What a token costs on rented GPUs, of input and output together or of output alone (`of`). [USD/token]"""
    if case.of not in ("total", "output"):
        raise UnknownName("part", case.of, ("total", "output"), "write of: total, or of: output")
    row = priced(case, bench, case.technique)
    if isinstance(row, Measured):
        return [row]
    cost = need(row.cost)
    million = cost.per_million_tokens if case.of == "total" else cost.per_million_output_tokens
    usd = million / MILLION / case.load
    low, high = (usd * s for s in row.spread)
    cost_span = f"{show(usd, 'USD/token')} ({show(low, 'USD/token')} to {show(high, 'USD/token')})"
    line = f"{show_usd(cost.per_query)} a query of {cost.input_tokens:,} + {cost.output_tokens:,} tokens"
    line = f"{line}{at_load(case)} = {cost_span} {case.of}"
    return [timed(usd, low, high, line, site_sources(case, bench), row)]


def listed(case: ClaimCase, bench: Bench) -> ApiPrice | Measured:
    """Return the list price of an API for prompts of the case's length on the day."""
    offered = [p for p in bench.apis if p.provider == case.provider]
    if not offered:
        raise UnknownName("API provider", case.provider, {p.provider for p in bench.apis})
    if case.api not in {p.model for p in offered}:
        raise UnknownName("API model", case.api, {p.model for p in offered})
    request = query(case)
    prices = [p for p in applicable(offered, tokens(request), bench.day) if p.model == case.api]
    return prices[0] if prices else unknown(f"no price of {case.provider} {case.api} is known on {bench.day}")


def tokens(request: Query) -> Tokens:
    """Return the tokens of a request as an API counts them, none of them cached."""
    return Tokens(input=request.prompt, output=request.output)


API = ("provider", "api")


@check("api_price", unit="USD/token", needs=(*API, "of"), may=("context", "output", "workload"))
def api_price(case: ClaimCase, bench: Bench) -> list[Measured]:
    """An API's list price for prompts of this length: `of: input`, `output` or `total`. [USD/token]"""
    if case.of not in ("input", "output", "total"):
        raise UnknownName("part", case.of, ("input", "output", "total"), "write of: input, output or total")
    price = listed(case, bench)
    if isinstance(price, Measured):
        return [price]
    request = query(case)
    charge = api_cost(price, tokens(request))
    total = None if charge is None else charge / request.context
    usd = {"input": price.input, "output": price.output, "total": total}[case.of]
    if usd is None:
        return [unknown(f"{case.provider} lists no {case.of} price of {case.api}", price.source)]
    above = f" for prompts over {price.above:,} tokens" if price.above else ""
    return [exact(usd, f"list {show(usd, 'USD/token')} {case.of}{above}", price.source)]


@check("host_or_api", unit="ratio", needs=(*PLACE, *API), may=(*RUN, "load", "price"))
def host_or_api(case: ClaimCase, bench: Bench) -> list[Measured]:
    """Cost of a query on rented GPUs over an API's charge for it."""
    price, row = listed(case, bench), priced(case, bench, case.technique)
    if isinstance(price, Measured):
        return [price]
    if isinstance(row, Measured):
        return [row]
    charge = api_cost(price, tokens(query(case)))
    if not charge:
        return [unknown(f"{case.provider} lists no whole price of {case.api}", price.source)]
    usd = need(row.cost).per_query / case.load
    low, high = (usd / charge * s for s in row.spread)
    line = f"{show_usd(usd)} a query{at_load(case)} / {show_usd(charge)} at list price = {usd / charge:.2f}x "
    line += f"({low:.2f}x to {high:.2f}x)"
    sources = (*site_sources(case, bench), price.source)
    return [timed(usd / charge, low, high, line, sources, row)]


@check("bill_share", unit="share", needs=("gpu", "line"), may=("of",))
def bill_share(case: ClaimCase, bench: Bench) -> list[Measured]:
    """Share of an owned GPU's cost at work that a line is; with `of`, the most that a part of the line can be."""
    gpu = need(case.gpu)
    cost = own(gpu, bench.terms)
    if cost is None:
        return [unknown(f"no price of a server with {gpu.name} is known")]
    lines = kinds_of(cost, "")
    part = next((x for x in lines if x.name == case.line), None)
    if part is None:
        raise UnknownName("line", case.line, [x.name for x in lines])
    share = part.amount / sum(x.amount for x in lines)
    total = f"{show_usd(sum(x.amount for x in lines) * HOUR)} an hour"
    line = f"{case.line} {show_usd(part.amount * HOUR)} of {total} = {show(share, 'share')}"
    server = bench.terms.server(gpu.name)
    sources = (server.source,) if server else ()
    if not case.of:
        return [exact(share, line, *sources)]
    reason = f"{line}, so {case.of} is {show(share, 'share')} at most; its part of the {case.line} is not published"
    return [unknown(reason, *sources, low=0.0, high=share)]


# -- quality ----------------------------------------------------------------------------------------

#: what of a loss's caveats goes with a verdict: scores of other changes, averages that stand in, shorter prompts
TOLD = ("published:", "an average over", "measured on prompts")
#: how far a claimed loss may be off, as a share of the score: the noise between two runs of one benchmark
NOISE = 0.005


@check("quality_drop", unit="share", needs=("model", "technique", "task", "context"), tolerance=NOISE)
def quality_drop(case: ClaimCase, bench: Bench) -> list[Measured]:
    """Share of a model's score that a technique loses on a task family."""
    if case.task == SHORT:
        raise SpecError("task: short prompts are what published_drop checks; name a task family here")
    loss = quality(case.technique, need(case.model), case.task, need(case.context), bench.table)
    caveats = tuple(c for c in loss.caveats if c.startswith(TOLD))
    if loss.drop is None:
        reason = loss.basis + (f"; {show(loss.low, 'share')} is lost before that" if loss.low else "")
        return [replace(unknown(reason, *loss.source, low=loss.low or -inf), remarks=caveats)]
    span = f"({show(loss.low, 'share')} to {show(loss.high, 'share')})"
    line = f"{show(loss.drop, 'share')} lost {span}: {loss.basis}"
    return [Measured(value=loss.drop, low=loss.low, high=loss.high, line=line, remarks=caveats, sources=loss.source)]


@check("published_drop", unit="share", needs=("technique", "task"), tolerance=NOISE)
def published_drop(case: ClaimCase, bench: Bench) -> list[Measured]:
    """Share of a score that a technique lost in each published row of a task family, or of short prompts."""
    kinds = spelling.parts(case.technique)
    rows = [
        r
        for r in bench.table.scores
        if r.task == case.task and r.grade != "C" and len(kinds) == 1 and _family(r) == kinds[0][0].name
    ]
    if not rows:
        task = "short prompts" if case.task == SHORT else TASKS[case.task].title
        return [unknown(f"no score of {spelling.canonical(case.technique)} on {task} is published in kvplan's table")]
    rows_measured = []
    for r in rows:
        scores = f"{r.baseline:g} -> {r.compressed:g}, " if r.baseline and r.compressed else ""
        extra = f"{r.model or 'any model'}{f', {r.condition}' if r.condition else ''}"
        line = f"{extra}: {scores}{show(1 - r.retained, 'share')} lost"
        rows_measured.append(replace(exact(1 - r.retained, line, r.source), extra=extra))
    return rows_measured


def _family(row: Score) -> str:
    """Return the technique a row speaks for: rows of one key/value head stand under gqa, and say so."""
    return "mqa" if row.technique == "gqa" and "MQA" in row.condition else row.technique


@check("size_ratio", unit="ratio", needs=("size",))
def size_ratio(case: ClaimCase, bench: Bench) -> list[Measured]:
    """Share of accuracy that models smaller than `size` lose between two published compressions, over larger ones'."""
    size, threshold = need(case.size), f"{need(case.size) / 1e9:g}B"
    series = {
        what: {s.parameters: s.accuracy for s in bench.table.sizes if s.what == what and s.grade != "C"}
        for what in dict.fromkeys(s.what for s in bench.table.sizes)
    }
    if len(series) < 2:
        return [unknown("it takes two series of accuracies over model sizes, at two compressions")]
    mild, harsh = sorted(series, key=lambda what: -sum(series[what].values()))[:2]
    lost = {p: 1 - series[harsh][p] / a for p, a in series[mild].items() if p in series[harsh] and a}
    small, large = ([x for p, x in lost.items() if (p < size) == below] for below in (True, False))
    if not small or not large or not sum(large):
        return [unknown(f"no series has models on both sides of {threshold}")]
    a, b = sum(small) / len(small), sum(large) / len(large)
    losses = ", ".join(f"{show(x, 'share')} at {p / 1e9:g}B" for p, x in sorted(lost.items()))
    line = f"lost from {mild} to {harsh}: {losses}; {show(a, 'share')} below {threshold} / {show(b, 'share')} above"
    return [exact(a / b, f"{line} = {a / b:.2f}x", bench.table.sizes[0].source)]


# -- arithmetic -------------------------------------------------------------------------------------


def combined(how: str, factors: Sequence[Factor]) -> Measured:
    """Return the product, the sum, or the first over the others of sourced figures."""
    values = [f.value for f in factors]
    if how == "quotient" and not prod(values[1:]):
        return unknown("divides by zero")
    value = {"product": prod(values), "sum": sum(values), "quotient": values[0] / prod(values[1:])}[how]
    sign = {"product": " x ", "sum": " + ", "quotient": " / "}[how]
    line = f"{sign.join(f'{f.value:.6g} ({f.of})' for f in factors)} = {value:.6g}"
    return exact(value, line, *dict.fromkeys(f.source for f in factors))


def tried(kind: Check, case: ClaimCase, bench: Bench) -> Sequence[Measured]:
    """Return a check's figures; a model or technique it cannot act on is not known, with the reason."""
    try:
        return kind.function(case, bench)
    except (SpecError, UnknownName):
        raise
    except KvplanError as refusal:
        return [unknown(str(refusal))]
