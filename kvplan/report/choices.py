"""Other plans than the one recommended: under other values, on other engines, and what would make one possible."""

from kvplan.planning.plan import Plan
from kvplan.planning.recommend import Recommendation, Variation
from kvplan.planning.remedies import TIMES, Remedy
from kvplan.report.blocks import Column, Table, Text, table
from kvplan.report.losses import CHANCE, KEEPING_UP
from kvplan.units import MONTH, short_odds, show_percent, show_usd


def money(usd: float | None) -> str:
    """Return a plan's cost, or that no price is known. [USD]"""
    return "no price" if usd is None else show_usd(usd)


def variations_table(r: Recommendation) -> Table | None:
    """Return the plan for other values of what was varied, None where nothing was."""
    if not r.variations:
        return None

    def changed(k: int) -> Column[Variation]:
        name = r.variations[0].changed[k][0]
        return Column[Variation](heading=name.replace("_", " "), value=lambda v: v.changed[k][1], align="left")

    def monthly(v: Variation) -> float | None:
        plan = v.answer.plan
        return None if plan is None or plan.usd is None else plan.usd * v.answer.demand.mean * MONTH

    columns = (
        *map(changed, range(len(r.variations[0].changed))),
        Column[Variation](
            heading="plan", value=lambda v: v.answer.plan.label if v.answer.plan else v.answer.lacking, align="left",
            wraps=True,
        ),
        Column[Variation](heading="GPUs", value=lambda v: v.answer.plan and v.answer.plan.gpus),
        Column[Variation](
            heading="$ / query", value=lambda v: v.answer.plan and v.answer.plan.usd, show=show_usd, per_query=True,
            cell=lambda v: money(v.answer.plan.usd) if v.answer.plan else "no plan",
        ),
        Column[Variation](heading="a month", value=lambda v: v.answer.plan and v, show=lambda v: money(monthly(v))),
        Column[Variation](
            heading=CHANCE if any(v.answer.demand.limits.times for v in r.variations) else KEEPING_UP,
            value=lambda v: v.answer.plan and v.answer.plan.slo_probability, show=short_odds,
        ),
    )  # fmt: skip
    return table("What if", columns, r.variations, keys=len(r.variations[0].changed), like=r.per_query)


def engines_table(r: Recommendation) -> Table | None:
    """Return the best plan on every engine that was tried, and what its times rest on; None for one engine."""
    if not r.engines:
        return None
    columns = (
        Column[Recommendation](heading="engine", value=lambda x: x.demand.engine.title, align="left"),
        Column[Recommendation](
            heading="plan", value=lambda x: x.plan.label if x.plan else x.lacking, align="left", wraps=True
        ),
        Column[Recommendation](
            heading="$ / query",
            value=lambda x: x.plan and x.plan.usd,
            show=show_usd,
            per_query=True,
            cell=lambda x: money(x.plan.usd) if x.plan else "no plan",
        ),
        Column[Recommendation](heading=CHANCE, value=lambda x: x.plan and x.plan.slo_probability, show=short_odds),
        Column[Recommendation](
            heading="times rest on", value=lambda x: x.site and x.site.calibration.evidence, align="left", wraps=True
        ),
    )
    title = "Best plan on each engine"
    return table(title, columns, r.engines, tone=lambda x: "best" if x.plan is r.plan else "plain", like=r.per_query)


def remedies_table(r: Recommendation) -> Table | None:
    """Return what would make a plan possible or sure enough, the cheapest first; None where nothing is needed."""
    if not r.remedies:
        return None
    month = r.demand.mean * MONTH
    columns = (
        Column[Remedy](heading="change", value=lambda x: x.change, align="left"),
        Column[Remedy](heading="plan", value=lambda x: x.plan.label, align="left", wraps=True),
        Column[Remedy](heading="GPUs", value=lambda x: x.plan.gpus),
        Column[Remedy](
            heading="a month", value=lambda x: None if x.plan.usd is None else x.plan.usd * month, show=show_usd,
            absent="no price",
        ),
        Column[Remedy](heading=CHANCE, value=lambda x: x.plan.slo_probability, show=short_odds),
    )  # fmt: skip
    wanted = (
        "make a plan possible" if r.sought is None else f"keep the limits with {show_percent(r.sought)} probability"
    )
    return table(f"What would {wanted}", columns, r.remedies)


def dearer(one: Plan, other: Plan | None) -> bool:
    """Return whether a plan is known to cost more than another."""
    return other is not None and one.usd is not None and other.usd is not None and one.usd > other.usd


def remedies_words(r: Recommendation) -> Text | None:
    """Return how the changes were found, and which of them lose quality nobody knows; None where nothing is needed."""
    if not r.remedies:
        return None
    share = show_percent(r.demand.limits.confidence if r.sought is None else r.sought)
    words = "Each line is enough by itself."
    if any(x.parameters & set(TIMES) for x in r.remedies):
        words += (
            f" A limit of time is what its plan keeps with {share} probability, rounded up to two digits; more replicas"
            " may keep a shorter one."
        )
    if r.sought is not None and any(dearer(x.plan, r.plan) for x in r.remedies):
        asked = f"confidence={r.demand.limits.confidence:.0%}"
        words += f" What costs more than this plan is surer; with {asked} a looser limit never costs more."
    if unknown := [x.change for x in r.remedies if x.plan.quality.drop is None]:
        words += f" What is lost with {' or '.join(unknown)} is not known."
    return Text(words, "quiet")
