"""Plans as pictures, which repeat tables and are left out of text: costs as bars, the Pareto front as points."""

from collections.abc import Iterator, Sequence

from kvplan.planning.plan import Plan
from kvplan.planning.recommend import Recommendation
from kvplan.report.blocks import Bars, Block, Chart, Measure, Series
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
    return f"{p.technique}{f', {p.form}' if p.form else ''} on {p.gpu}"


def pareto(plans: Sequence[Plan]) -> Chart:
    """Return plans as points: cost, and quality lost; one series a plan, since each is a choice with a name."""
    known = [(p, p.usd, p.quality.drop) for p in plans if p.usd is not None and p.quality.drop is not None]
    points = tuple(Series(label(p), (usd,), (100 * drop,), joined=False) for p, usd, drop in known)
    return Chart("Cost against quality", "USD a query", "quality lost [%]", points, log=False, picture=True)
