"""Plans as pictures, which repeat tables and are left out of text: costs as bars, the Pareto front as points."""

from collections.abc import Iterator, Sequence

from kvplan.kv.spelling import in_words, together
from kvplan.planning.plan import Plan, first_of
from kvplan.planning.recommend import Recommendation
from kvplan.report.blocks import Bars, Block, Chart, Measure, Readout, Series, Slider, WhatIf
from kvplan.units import show_usd


def of_plans(r: Recommendation, gpus: Sequence[Plan], kinds: Sequence[Plan]) -> Iterator[Block]:
    """Yield the cost of the best plans, by GPU and by technique and weights, and the Pareto front."""
    yield Bars("Cost of a query with the best plan on each GPU", "USD a query", compared(gpus, r.plan))
    if len(kinds) > 1:
        title = "Cost of a query with the best plan of each technique and weight format"
        yield Bars(title, "USD a query", compared(kinds, r.plan))
    if len(r.front) > 1:
        yield pareto(r.front)


def compared(plans: Sequence[Plan], best: Plan | None) -> tuple[Measure, ...]:
    """Return the cost of a query of the plans that have one."""
    return tuple(
        Measure(label(p), p.usd, show_usd(p.usd), tone="best" if p is best else "plain")
        for p in plans
        if p.usd is not None
    )


def label(p: Plan) -> str:
    """Return a plan's technique, weights where they were converted, and GPU."""
    return f"{together(p.technique, p.form)} on {p.gpu}"


def pareto(plans: Sequence[Plan]) -> Chart:
    """Return plans as points: cost, and quality lost; one series a technique, each point with its plan's name."""
    known = [(p, p.usd, 100 * p.quality.drop) for p in plans if p.usd is not None and p.quality.drop is not None]
    series = tuple(
        Series(in_words(technique), usd, lost, joined=False, names=tuple(p.label for p in chosen))
        for technique in dict.fromkeys(p.technique for p, *_ in known)
        for chosen, usd, lost in [zip(*(row for row in known if row[0].technique == technique), strict=True)]
    )
    return Chart("Cost against quality", "USD a query", "quality lost [%]", series, log=False, picture=True)


#: plans a load is shown with
TRIED = 8
#: rents that a reader may try, as shares of today's [%]
RENTS = (25, 200)


def what_if(plans: Sequence[tuple[float, Sequence[Plan]]], asked: Recommendation) -> Iterator[WhatIf]:
    """Yield GPUs, cost and TTFT of the best plans of each technique at other loads and rents; nothing without a plan.

    `plans` are (factor of the load, plans on the recommended GPU, the best first).
    """
    if not plans or asked.site is None:
        return
    loads = tuple(factor for factor, _ in plans)
    yield WhatIf(
        "What if the load or the rent were different",
        f"On {asked.site.gpu.title}, with the limits of the question. Each load was planned beforehand; a rent moves "
        "all offers alike, so it changes no choice. A missing bar: no plan with this technique keeps the limits.",
        (
            Slider("load", "Load, times the asked one", loads, tuple(f"{x:g}x" for x in loads), start=1.0),
            Slider("rent", "Rent, of today's [%]", low=RENTS[0], high=RENTS[1], step=5, start=100),
        ),
        (
            Readout("usd", "Cost of a query [USD]", ("rent",)),
            Readout("gpus", "GPUs"),
            Readout("ttft", f"TTFT at P{100 * asked.demand.limits.percentile:g} [ms]"),
        ),
        "plan",
        tuple(
            {
                "plan": together(p.technique, p.form),
                "load": factor,
                "usd": None if p.usd is None else p.usd / 100,
                "gpus": p.gpus,
                "ttft": 1e3 * p.ttft,
            }
            for factor, some in plans
            for p in first_of(some, kind)[:TRIED]
        ),
    )


def kind(p: Plan) -> tuple[str, str | None]:
    """Return what tells plans apart on one GPU."""
    return p.technique, p.form
