"""Plans as pictures, which repeat tables and are left out of text: costs as bars, the Pareto front as points."""

from collections.abc import Iterator, Sequence

from kvplan.kv.spelling import BASELINE, in_words, together
from kvplan.planning.plan import Plan, first_of
from kvplan.planning.recommend import Recommendation
from kvplan.report.blocks import Bars, Block, Chart, Measure, Readout, Series, Slider, WhatIf
from kvplan.units import priced_by, said_per_query, show_percentile, show_usd


def of_plans(r: Recommendation, gpus: Sequence[Plan], kinds: Sequence[Plan]) -> Iterator[Block]:
    """Yield the cost of the best plans, by GPU and by technique and weights, and the Pareto front."""
    many, end, _ = priced_by(r.per_query or 0.0)
    title = said_per_query("Cost of a query with the best plan", r.per_query)
    yield Bars(f"{title} on each GPU", f"USD {end}", compared(gpus, r.plan, many))
    if len(kinds) > 1:
        yield Bars(f"{title} of each technique and weight format", f"USD {end}", compared(kinds, r.plan, many))
    if len(r.front) > 1:
        yield pareto(r.front, many, end)


def compared(plans: Sequence[Plan], best: Plan | None, many: float) -> tuple[Measure, ...]:
    """Return the cost of so many queries with the plans that have one."""
    return tuple(
        Measure(label(p), many * p.usd, show_usd(many * p.usd), tone="best" if p is best else "plain")
        for p in plans
        if p.usd is not None
    )


def label(p: Plan) -> str:
    """Return a plan's technique, weights where they were converted, and GPU."""
    return f"{together(p.technique, p.form)} on {p.gpu}"


def pareto(plans: Sequence[Plan], many: float, end: str) -> Chart:
    """Return plans as points: cost of so many queries, and quality lost; one series a technique, points named."""
    known = [(p, many * p.usd, 100 * p.quality.drop) for p in plans if p.usd is not None and p.quality.drop is not None]
    series = tuple(
        Series(in_words(technique), usd, lost, joined=False, names=tuple(p.label for p in chosen))
        for technique in dict.fromkeys(p.technique for p, *_ in known)
        for chosen, usd, lost in [zip(*(row for row in known if row[0].technique == technique), strict=True)]
    )
    return Chart("Cost against quality", f"USD {end}", "quality loss [%]", series, log=False, picture=True)


#: kinds of plans that are shown at every load, the best at the asked one; the best at each other and the uncompressed
#: one besides
TRIED = 8
#: rents that a reader may try, as shares of today's [%]
RENTS = (25, 200)


def what_if(plans: Sequence[tuple[float, Sequence[Plan]]], asked: Recommendation) -> Iterator[WhatIf]:
    """Yield GPUs, cost and TTFT of the best plans of each technique at other loads and rents; nothing without a plan.

    `plans` are (factor of the load, plans on the recommended GPU, the best first). The same kinds are shown at all
    loads, so that a bar is missing only where there is no such plan.
    """
    if not plans or asked.site is None:
        return
    many = priced_by(asked.per_query or 0.0)[0]
    loads = tuple(factor for factor, _ in plans)
    best = {factor: {kind(p): p for p in first_of(some, kind)} for factor, some in plans}
    shown = dict.fromkeys(
        (*list(best.get(1.0, {}))[:TRIED], *(next(iter(found)) for found in best.values() if found), (BASELINE, None))
    )
    yield WhatIf(
        "What if the load or the rent were different",
        f"On {asked.site.gpu.title}, with the limits of the question. Each load was planned beforehand; a rent moves "
        "all offers alike, so it changes no choice. A missing bar: no plan with this technique keeps the limits.",
        (
            Slider("load", "Load, times the asked one", loads, tuple(f"{x:g}x" for x in loads), start=1.0),
            Slider("rent", "Rent, of today's [%]", low=RENTS[0], high=RENTS[1], step=5, start=100),
        ),
        (
            Readout("usd", said_per_query("Cost of a query [USD]", asked.per_query), ("rent",)),
            Readout("gpus", "GPUs"),
            Readout("ttft", f"TTFT at {show_percentile(asked.demand.limits.percentile)} [ms]"),
        ),
        "plan",
        tuple(
            {
                "plan": together(p.technique, p.form),
                "load": factor,
                "usd": None if p.usd is None else many * p.usd / 100,
                "gpus": p.gpus,
                "ttft": 1e3 * p.ttft,
            }
            for factor in loads
            for p in (best[factor][k] for k in shown if k in best[factor])
        ),
    )


def kind(p: Plan) -> tuple[str, str | None]:
    """Return what tells plans apart on one GPU."""
    return p.technique, p.form
