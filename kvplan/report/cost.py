"""Where the money of a plan goes: its bill, other terms, tokens, and what moves the cost."""

from dataclasses import replace

from kvplan.planning.hosting import Tenure, per_million
from kvplan.planning.recommend import Recommendation
from kvplan.planning.sensitivity import Swing
from kvplan.report.blocks import Bar, Column, Span, Table, Text, table
from kvplan.specs.line import Line
from kvplan.units import priced_by, said_per_query, show_percent, show_usd, show_usd_each

#: lines of a bill below this share of it are left out of its table
TRIFLE = 0.0005
#: a median of draws this near to the bill is the same
NEAR = 0.005
SWING = (
    Column[Swing](key="name", heading="quantity", value=lambda s: s.name, align="left", wraps=True),
    Column[Swing](key="usd_per_query", value=lambda s: [s.low, s.high]),
    Column[Swing](heading="cost from", value=lambda s: s.low, show=show_usd, per_query=True),
    Column[Swing](heading="to", value=lambda s: s.high, show=show_usd, per_query=True),
)
BASIS = Column[Swing](key="basis", heading="basis", value=lambda s: s.basis, align="left", wraps=True)
TERM = (
    Column[Tenure](key="term", heading="term", value=lambda t: t.term, align="left"),
    Column[Tenure](
        key="provider", heading="provider", value=lambda t: t.provider or None, align="left", wraps=True, absent=""
    ),
    Column[Tenure](key="usd_per_gpu_hour", heading="$ / GPU-h", value=lambda t: t.gpu_hour, show=show_usd, absent=""),
    Column[Tenure](key="gpus", heading="GPUs", value=lambda t: t.gpus or None, absent=""),
    Column[Tenure](
        key="usd_per_query",
        heading="$ / query",
        value=lambda t: t.usd,
        show=show_usd,
        absent="no price",
        per_query=True,
    ),
    Column[Tenure](
        key="usd_per_month", heading="a month", value=lambda t: t.per_month, show=show_usd, absent="no price"
    ),
)
TERM_BASIS = Column[Tenure](key="basis", heading="basis", value=lambda t: t.basis, align="left", wraps=True)

WHOSE_BASIS = replace(TERM_BASIS, cell=lambda t: ", ".join(filter(None, (t.provider, t.basis))))


def bill_table(r: Recommendation) -> Table | None:
    """Return where each dollar goes, None without a bill."""
    if r.bill is None or r.plan is None:
        return None
    per_query, months = r.bill.lines_per("query") or (), r.bill.lines_per("month") or ()
    whole = sum(line.amount for line in per_query) or 1.0
    queries, _, costs = priced_by(whole)
    columns = (
        Column[tuple[Line, Line]](heading=costs, value=lambda x: x[0].name, align="left"),
        Column[tuple[Line, Line]](heading="USD", value=lambda x: queries * x[0].amount, show=show_usd),
        Column[tuple[Line, Line]](heading="share", value=lambda x: x[0].amount / whole, show=show_percent),
        Column[tuple[Line, Line]](
            heading="",
            value=lambda x: x[0].amount / whole,
            cell=lambda x: Bar(x[0].amount / whole),
            align="left",
            picture=True,
        ),
        Column[tuple[Line, Line]](heading="a month", value=lambda x: x[1].amount, show=show_usd),
        Column[tuple[Line, Line]](heading="basis", value=lambda x: x[0].basis, align="left", wraps=True),
    )
    prices = zip(per_million(r.demand, r.plan), ("input", "output"), strict=True)
    each = f"{', '.join(f'{show_usd(usd)} per million {what} tokens' for usd, what in prices if usd is not None)}"
    total = ("total", show_usd(queries * whole), show_percent(1.0), "", show_usd(sum(m.amount for m in months)), each)
    rows = [pair for pair in zip(per_query, months, strict=True) if pair[0].amount / whole >= TRIFLE]
    return table("Where each dollar goes", columns, rows, total=total)


def billed(r: Recommendation) -> Text | None:
    """Return what the figures of the bill are, None without a range."""
    if r.bill is None or r.usd is None:
        return None
    rented = "the median offer, " if r.site is not None and r.site.price is not None else ""
    middle = f"{rented}times at the middle of their error, the expected load and lengths"
    combined = "Its 80 % interval combines what each quantity under Sensitivity does alone, as independent errors"
    drawn = ""
    if r.median is not None and r.plan is not None and r.plan.usd:
        apart = r.median / r.plan.usd - 1
        drawn = f" The median of draws of all of them at once is {show_usd_each(r.median, r.plan.usd)}"
        drawn += (
            f", {show_percent(abs(apart))} {'above' if apart > 0 else 'below'} the bill." if abs(apart) > NEAR else "."
        )
    return Text(f"The bill is the cost with every input at its middle: {middle}. {combined}.{drawn}", "quiet")


def terms_table(r: Recommendation, narrow: bool = False) -> Table | None:
    """Return what the same plan costs rented, reserved and owned, and what APIs charge; None where one is known.

    A `narrow` one names the provider with the basis, so that it stands whole in 80 columns.
    """
    columns = (*(c for c in TERM if c.key != "provider"), WHOSE_BASIS) if narrow else (*TERM, TERM_BASIS)
    return table("The same load under other terms", columns, r.terms, like=r.per_query) if len(r.terms) > 1 else None


def swing_table(r: Recommendation) -> Table | None:
    """Return what moves the cost, as bars around it; None where nothing does."""
    if not r.swings or r.plan is None or r.plan.usd is None:
        return None
    ends = [x for s in r.swings for x in (s.low, s.high)]
    base = r.plan.usd
    least = min(ends)
    most = max(ends)

    def span(s: Swing) -> Span:
        return Span(min(s.low, s.high), base, max(s.low, s.high), least, most)

    drawn = Column[Swing](
        heading=said_per_query("a query", base), value=lambda s: s.low, cell=span, align="left", picture=True
    )
    title = said_per_query("Sensitivity of the cost of a query", base)
    return table(title, (*SWING, drawn, BASIS), r.swings, like=base)
