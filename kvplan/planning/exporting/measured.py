"""What commands of all tools share: what is said of the server, how many prefixes there are, what is expected."""

from collections.abc import Iterator
from math import ceil

from kvplan.planning.exporting.values import LoadPlan
from kvplan.planning.promise import Promise
from kvplan.units import show_count, show_percent, show_percentile, show_time


def steady(p: Promise) -> dict[str, str]:
    """Return what a result file does not say of the server, under the names of columns of end-to-end rows."""
    return dict(columns(p))


def columns(p: Promise) -> Iterator[tuple[str, str]]:
    """Yield the columns that differ from what a row without them means."""
    yield "gpu", p.gpu
    yield "engine", p.engine
    yield "precision", p.weights or "checkpoint"
    yield "tp", str(p.tensor)
    if p.pipeline > 1:
        yield "pp", str(p.pipeline)
    if p.data > 1:
        yield "attention_dp", str(p.data)
    if p.kv_dtype:
        yield "kv_dtype", p.kv_dtype
    if p.drafts:
        yield "spec_decode", "yes"
    if p.hit:
        yield "prefix_hit", f"{p.hit:.3g}"


def prefixes(m: LoadPlan) -> int:
    """Return how many prefixes the requests share: the first request to each finds nothing of it."""
    return 1 if m.promise.sharing is None else max(ceil(m.requests / m.promise.sharing), 1)


def about(m: LoadPlan) -> tuple[str, ...]:
    """Return what the load is, and what the plan expects of it."""
    p = m.promise
    load = f"{p.concurrency} requests in flight" if p.rate is None else f"{p.rate:.3g} requests a second"
    alone = f", its share of {p.serving} that serve" if p.serving > 1 else ""
    expected = f"TTFT {show_time(p.ttft)} and TPOT {show_time(p.tpot)} at {show_percentile(p.percentile)}"
    hits = f"; prefix-cache hit rate {show_percent(p.hit)} of the input tokens" if p.hit else ""
    return (f"one replica gets {load}{alone}; the plan expects {expected}{hits}",)


def at_random(p: Promise) -> Iterator[str]:
    """Yield how shared prefixes differ from the plan's, where not all requests share one."""
    if p.prefix and p.sharing is not None:
        drawn = f"prefixes of {show_count(round(p.prefix), 'token')} are drawn at random"
        yield f"{drawn}, each for {p.sharing:.3g} requests on average; in the plan they follow one another"
