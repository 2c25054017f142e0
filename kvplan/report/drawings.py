"""Pictures that repeat tables, which formats of text alone leave out: memory and money as bars, and what-ifs."""

from collections.abc import Iterable, Iterator, Sequence

from kvplan.kv.budget import Budget
from kvplan.perf.step_parts import Step, parts
from kvplan.planning.estimate import Estimate
from kvplan.planning.evaluation import Evaluation
from kvplan.planning.site import Site
from kvplan.report.blocks import Bars, Block, Chart, Measure, Readout, Series, Slider, WhatIf
from kvplan.report.operators import steps_of
from kvplan.units import GIB, HOUR, TERA, priced_by, said_per_query, show_bytes, show_tokens, show_usd


def of_estimate(e: Estimate) -> Iterator[Block]:
    """Yield the cache of a sequence by technique, and the cost of a query and the roofline on each GPU shown."""
    first = [r for r in e.rows if r.gpu == e.sites[0].gpu.name and r.stored is not None]
    held = tuple(Measure(r.technique, (r.stored or 0.0) / GIB, show_bytes(r.stored or 0.0)) for r in first)
    yield Bars("KV cache of one sequence", "GiB", held)
    for site in e.sites:
        rows = [r for r in e.rows if r.gpu == site.gpu.name]
        weights = f", {site.weights} weights" if site.weights else ""
        cost = said_per_query("Cost of a query", e.per_query)
        title = f"{cost} within the limits on {site.gpu.title}{weights}, with its 80 % interval"
        many, end, _ = priced_by(e.per_query or 0.0)
        yield Bars(title, f"USD {end}", tuple(priced(rows, e.cheapest(site.gpu.name), many)))
        yield from roofline(site, [r for r in rows if r.decode])


def roofline(site: Site, rows: Sequence[Evaluation]) -> Iterator[Chart]:
    """Yield the roof of a GPU (its datasheet's bandwidth and 16-bit rate) and what steps reach under it.

    A step's intensity is the FLOP of all its operators over their bytes, its rate those FLOP over the step's whole
    time, messages and the engine's own time included: https://doi.org/10.1145/1498765.1498785.
    """
    if not rows:
        return
    g = site.gpu
    peak = g.rate(16)
    ends = (0.25, peak / g.bandwidth, 100 * peak / g.bandwidth)
    roof = Series(f"roof of the {g.name}", ends, tuple(min(peak, g.bandwidth * x) / TERA for x in ends))
    both = [steps_of(r, site.calibration) for r in rows]
    names = tuple(r.technique for r in rows)
    reached = []
    for name, steps in zip(("decode step of a full replica", "prompt"), zip(*both, strict=True), strict=True):
        intensities, rates = zip(*map(place, steps), strict=True)
        reached.append(Series(name, intensities, rates, joined=False, names=names))
    yield Chart(f"Roofline on {g.title}", "FLOP per byte", "TFLOP/s a GPU", (roof, *reached), picture=True)


def place(step: Step) -> tuple[float, float]:
    """Return a step's FLOP per byte, and the rate it reaches. [TFLOP/s]"""
    flops, moved = (sum(float(getattr(o, of)) for o in step.operators) for of in ("flops", "bytes"))
    return flops / moved, flops / sum(p.seconds for p in parts(step)) / TERA


def priced(rows: Iterable[Evaluation], cheapest: Evaluation | None, many: float) -> Iterator[Measure]:
    """Yield the cost of so many queries within the limits, with its range, of the techniques that have one."""
    for r in rows:
        if r.same_limits is not None and (usd := r.same_limits.usd) is not None:
            low, high, point = (many * x for x in (*(r.limited_range or (usd, usd)), usd))
            yield Measure(r.technique, point, show_usd(point), low, high, "best" if r is cheapest else "plain")


def of_budget(b: Budget) -> Bars:
    """Return how a GPU's memory is divided."""
    lines = (line for line in b.lines if line.amount > 0)
    return Bars(
        "How the memory of a GPU is divided",
        "GiB",
        tuple(Measure(line.name.replace("_", " "), line.amount / GIB, show_bytes(line.amount)) for line in lines),
    )


# -- what a reader may change ---------------------------------------------------------------------

#: prices a reader may try, as factors of today's, and shares of the time that GPUs are busy [%]
PRICES, BUSY = (0.25, 2.0), (5, 100)
#: what a price moves by [USD], and its digits after the point that are no rounding of floats
CENT, DIGITS = 0.01, 9


def what_if(answers: Sequence[Estimate], asked: Estimate) -> WhatIf:
    """Return the techniques' memory, times and cost at other contexts, prices and shares of busy time."""
    site = asked.sites[0]
    hourly = site.price.price * HOUR if site.price else 0.0
    many = priced_by(asked.per_query or 0.0)[0]
    contexts = tuple(e.query.context for e in answers)
    sliders = [
        Slider("context", "Context [tokens]", contexts, tuple(map(show_tokens, contexts)), start=asked.query.context)
    ]
    quantities = [
        Readout("stored", "KV cache of one sequence [GiB]"),
        Readout("ttft", "TTFT of a lone query [s]"),
        Readout("tpot", "TPOT of a lone query [ms]"),
    ]
    if hourly:
        low, high = around(hourly)
        cost = said_per_query("Cost of a query within the limits [USD]", asked.per_query)
        sliders += [
            Slider("price", "Price [USD per GPU-hour]", low=low, high=high, step=CENT, start=round(hourly, DIGITS)),
            Slider("busy", "Share of the time the GPUs are busy [%]", low=BUSY[0], high=BUSY[1], step=5, start=BUSY[1]),
        ]
        quantities.insert(1, Readout("gpu_hours", cost, ("price",), ("busy",)))
    rows = tuple(
        {
            "technique": r.technique,
            "context": e.query.context,
            "stored": None if r.stored is None else r.stored / GIB,
            "ttft": r.lone.ttft if r.lone else None,
            "tpot": r.lone.tpot * 1e3 if r.lone else None,
            "gpu_hours": gpu_hours(r, hourly, many),
        }
        for e in answers
        for r in e.rows
        if r.gpu == site.gpu.name
    )  # fmt: skip
    note = (
        f"On {site.gpu.title}, with the output and the limits of the question. Each context was computed beforehand; a "
        "lone query runs on the GPUs that the uncompressed cache needs at that context. A missing bar: no load keeps "
        "the limits, or the technique does not fit."
    )
    return WhatIf(
        "What if the context, the price or the use were different",
        note,
        tuple(sliders),
        tuple(quantities),
        "technique",
        rows,
    )


def around(hourly: float) -> tuple[float, float]:
    """Return the lowest and the highest price one may try, whole cents from today's: a slider then stands at it."""
    low, high = (int(hourly * abs(factor - 1) / CENT) * CENT for factor in PRICES)
    return round(hourly - low, DIGITS), round(hourly + high, DIGITS)


def gpu_hours(r: Evaluation, hourly: float, many: float) -> float | None:
    """Return GPU-hours of so many queries times the full share of busy time, None where no load keeps the limits."""
    p = r.same_limits
    return many * p.usd / hourly * BUSY[1] if hourly and p is not None and p.usd is not None else None
