"""What simulations say of a recommendation: a table of its plans, and the same as JSON."""

from collections.abc import Sequence

from kvplan.planning.confirm import Confirmation
from kvplan.planning.demand import Demand
from kvplan.report.blocks import Column, Json, Table, Text, records, table
from kvplan.report.losses import CHANCE
from kvplan.units import MONTH, short_odds, show_count, show_percentile, show_time, show_usd


def many(replicas: int | None) -> str:
    """Return a number of replicas, or that none is enough."""
    return "none" if replicas is None else str(replicas)


CONFIRMED = (
    Column[Confirmation](key="plan", heading="plan", value=lambda c: c.plan.label, align="left", wraps=True),
    Column[Confirmation](key="planned.ttft", value=lambda c: c.plan.ttft),
    Column[Confirmation](
        key="ttft", heading="TTFT", value=lambda c: c.served.ttft.at_percentile,
        cell=lambda c: f"{show_time(c.plan.ttft)} -> {show_time(c.served.ttft.at_percentile)}",
    ),
    Column[Confirmation](key="planned.tpot", value=lambda c: c.plan.tpot),
    Column[Confirmation](
        key="tpot", heading="TPOT", value=lambda c: c.served.tpot.at_percentile,
        cell=lambda c: f"{show_time(c.plan.tpot)} -> {show_time(c.served.tpot.at_percentile)}",
    ),
    Column[Confirmation](key="planned.slo_probability", value=lambda c: c.plan.slo_probability),
    Column[Confirmation](
        key="slo_probability", heading=CHANCE, value=lambda c: c.odds,
        cell=lambda c: f"{short_odds(c.plan.slo_probability)} -> {short_odds(c.odds)}",
    ),
    Column[Confirmation](key="planned.replicas", value=lambda c: c.plan.replicas),
    Column[Confirmation](
        key="replicas", heading="replicas", value=lambda c: c.replicas,
        cell=lambda c: f"{c.plan.replicas} -> {many(c.replicas)} ({many(c.watchful)})",
    ),
    Column[Confirmation](key="watchful.replicas", value=lambda c: c.watchful),
    Column[Confirmation](key="usd_per_query", value=lambda c: c.usd),
    Column[Confirmation](key="watchful.usd_per_query", value=lambda c: c.watchful_usd),
    Column[Confirmation](key="watchful.router", value=lambda c: c.watched.asked.router),
    Column[Confirmation](key="watchful.ttft", value=lambda c: c.watched.ttft.at_percentile),
    Column[Confirmation](key="watchful.tpot", value=lambda c: c.watched.tpot.at_percentile),
    Column[Confirmation](key="requests", value=lambda c: c.served.requests),
    Column[Confirmation](key="sent_away", value=lambda c: c.served.refused),
    Column[Confirmation](key="refused.requests", value=lambda c: cut.refused if (cut := c.served.asked.cut) else 0),
    Column[Confirmation](key="refused.longest", value=lambda c: cut.longest if (cut := c.served.asked.cut) else None),
)  # fmt: skip


def confirmed_line(rows: Sequence[Confirmation], demand: Demand) -> str:
    """Return how many replicas the simulation asks for, and their cost, where those of the plan are not the fewest."""
    if not rows or (rows[0].replicas, rows[0].watchful) == (rows[0].plan.replicas,) * 2:
        return ""
    best = rows[0]

    def month(usd: float | None) -> str:
        return "" if usd is None else f" ({show_usd(usd * demand.mean * MONTH)} a month)"

    if best.replicas is None:
        first = "no number of replicas sent requests at random is as sure as was asked"
    elif best.replicas > best.plan.replicas:
        first = f"it takes {show_count(best.replicas, 'replica')} to be as sure as was asked{month(best.usd)}"
    else:
        verb = "is" if best.replicas == 1 else "are"
        first = f"{show_count(best.replicas, 'replica')} {verb} enough{month(best.usd)}"
    router = best.watched.asked.router
    if best.watchful is None:
        return f"Simulated on its own arrivals, {first}, and none behind a {router} router."
    if best.watchful == best.replicas:
        return f"Simulated on its own arrivals, {first}, behind a {router} router too."
    watched = f"{best.watchful} behind a {router} router{month(best.watchful_usd)}"
    return f"Simulated on its own arrivals, {first}, and {watched}."


def confirmed_table(rows: Sequence[Confirmation]) -> Table | None:
    """Return the plans as planned and as simulated, None where none was simulated."""
    return table("The plans simulated: planned -> simulated", CONFIRMED, rows) if rows else None


def confirmed_words(rows: Sequence[Confirmation], demand: Demand) -> Text | None:
    """Return what was simulated and what the table's figures are, None where nothing was."""
    if not rows:
        return None
    asked = rows[0].served.asked
    best = rows[0]
    at = show_percentile(asked.limits.percentile)
    missing = "" if best.replicas is not None else " No number of replicas is as sure."
    surge, _ = demand.waits_at
    busier = (
        f" Requests come in bursts, at {surge:g} times the rate of that hour as in its busiest minute, with pauses "
        "between them; the plan is made for that rate all the time."
    ) * (surge > 1)
    return Text(
        f"Simulated: {asked.title}, {best.served.requests:,} requests, without the spare replicas, sent at random as "
        f"the plan has it.{left_out(rows)}{busier} Times at {at}; the chance follows from them and the "
        "calibration's errors, and is at most that of keeping up; "
        f"replicas: the fewest that are as sure as was asked, {show_count(best.spares, 'spare')} included, in brackets "
        f"with {best.watched.asked.router} routing.{missing}",
        "quiet",
    )


def left_out(rows: Sequence[Confirmation]) -> str:
    """Return which requests are not simulated because servers refuse them, '' where none are."""
    cuts = [c.served.asked.cut for c in rows]
    told = [
        f"{show_count(cut.refused, 'request')} of more than {cut.longest:,} tokens"
        f"{f' (plan {n + 1} of the table)' if len(rows) > 1 else ''}"
        for n, cut in enumerate(cuts) if cut
    ]  # fmt: skip
    if not told:
        return ""
    return f" Left out, because servers of the plan refuse them: {' and '.join(told)}, warm-up included."


def confirmed_records(rows: Sequence[Confirmation]) -> list[Json]:
    """Return the same as JSON objects."""
    return records(CONFIRMED, rows)
