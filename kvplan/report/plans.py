"""Plans side by side: on each GPU, by technique, under other values, on other engines, and what would make one."""

from collections.abc import Sequence
from dataclasses import replace

from kvplan.planning.plan import RESOLVED, TIE, Plan, beats, surely
from kvplan.planning.recommend import Recommendation, Variation
from kvplan.planning.remedies import TIMES, Remedy
from kvplan.planning.site import Limits
from kvplan.report.blocks import Block, Column, Table, Text, table
from kvplan.report.losses import CHANCE, KEEPING_UP, at_most
from kvplan.units import MONTH, short_odds, show_odds, show_percent, show_percentile, show_time, show_usd

GPUS = "Best plan on each GPU"
KINDS = "Best plan with each technique and weight format"
BARRED = "Plans that keep the limits but may not be used"
FRONT = "Pareto front: no other plan is better in cost, quality and latency together"


def size(p: Plan) -> str:
    """Return the replicas of a plan: '2 x tp4'."""
    return f"{p.replicas} x {p.parallel}"


def marks(p: Plan) -> str:
    """Return the marks of a plan's GPU: '*' where no server was measured, '^' where one offer is known."""
    return f"{'' if p.grounded else '*'}{'^' if p.margin > 1 else ''}"


def kept(p: Plan) -> str:
    """Return the technique of a plan with what drafts for it; '+' where its engine does not serve the technique."""
    drafts = f", {p.drafting.spelled}" if p.drafting else ""
    return f"{p.technique}{drafts}{'' if p.served_by_engine else ' +'}"


#: what weights are called that no plan converts
OWN = "own"
#: what a plan is and reaches; money per query
PLAN = (
    Column[Plan](
        key="technique", heading="technique", value=lambda p: p.technique, align="left",
        cell=kept,
    ),
    Column[Plan](
        key="gpu", heading="GPU", value=lambda p: p.gpu, align="left",
        cell=lambda p: f"{p.gpu} {marks(p)}".strip(),
    ),
    Column[Plan](key="tp", value=lambda p: p.parallel.tensor),
    Column[Plan](key="dp", value=lambda p: p.parallel.data),
    Column[Plan](key="pp", value=lambda p: p.parallel.pipeline),
    Column[Plan](key="weights", value=lambda p: p.form, absent=OWN, align="left"),
    Column[Plan](key="replicas", heading="replicas", value=lambda p: p.replicas, cell=size),
    Column[Plan](key="gpus", heading="GPUs", value=lambda p: p.gpus),
    Column[Plan](key="requests_in_flight", value=lambda p: p.in_flight),
    Column[Plan](key="ttft", value=lambda p: p.ttft, show=show_time),
    Column[Plan](key="tpot", value=lambda p: p.tpot, show=show_time),
    Column[Plan](key="e2e", value=lambda p: p.e2e, show=show_time),
    Column[Plan](key="mean_ttft", value=lambda p: p.mean_ttft),
    Column[Plan](key="mean_tpot", value=lambda p: p.mean_tpot),
    Column[Plan](
        key="usd_per_query", heading="$ / query", value=lambda p: p.usd, show=show_usd, absent="no price",
        per_query=True,
    ),
    Column[Plan](key="gpu_seconds_per_query", value=lambda p: p.gpu_seconds),
    Column[Plan](key="joules_per_query", value=lambda p: p.joules),
    Column[Plan](key="prefix_hit", value=lambda p: p.cached_share),
    Column[Plan](key="prefill_share", value=lambda p: p.prompt_share),
    Column[Plan](
        key="quality.drop", heading="quality loss", value=lambda p: p.quality.drop, cell=lambda p: at_most(p.quality),
        align="left",
    ),
    Column[Plan](key="quality.low", value=lambda p: p.quality.low),
    Column[Plan](key="quality.high", value=lambda p: p.quality.high),
    Column[Plan](key="quality.known", value=lambda p: p.quality.known),
    Column[Plan](key="quality.basis", value=lambda p: p.quality.basis),
    Column[Plan](key="quality.caveats", value=lambda p: list(p.quality.caveats)),
    Column[Plan](key="slo_probability", heading=CHANCE, value=lambda p: p.slo_probability, show=short_odds),
    Column[Plan](key="engine", value=lambda p: p.engine),
    Column[Plan](key="served_by_engine", value=lambda p: p.served_by_engine),
    Column[Plan](key="measured_gpu", value=lambda p: p.grounded),
    Column[Plan](key="price_margin", value=lambda p: p.margin),
    Column[Plan](key="speculative.draft", value=lambda p: p.drafting and p.drafting.spelled),
    Column[Plan](key="speculative.tokens_drafted", value=lambda p: p.drafting and p.drafting.drafted),
    Column[Plan](key="speculative.tokens_per_step", value=lambda p: p.drafting and p.drafting.accepted),
    Column[Plan](key="speculative.basis", value=lambda p: p.drafting and p.drafting.basis),
)  # fmt: skip


def plans_table(
    title: str, plans: Sequence[Plan], limits: Limits, best: Plan | None, like: float | None = None
) -> Table:
    """Return plans side by side, costs at the scale of one `like` this [USD]; the recommended one is marked as best."""
    keys = 3 if any(p.form for p in plans) else 2  # technique, GPU and weights tell plans apart
    columned = columns(plans, limits)
    return table(title, columned, plans, keys=keys, tone=lambda p: "best" if p == best else "plain", like=like)


def off_front(plan: Plan | None, front: Sequence[Plan], objective: str) -> Text | None:
    """Return why a recommended plan is not on the Pareto front, None where it is."""
    better = next((other for other in front if plan and plan not in front and beats(other, plan)), None)
    if plan is None or better is None:
        return None
    remark = f"The recommended plan is not on it: {better.label} is as good or better in all three, but"
    return Text(f"{remark} {preferred(plan, better, objective)}.", "quiet")


def preferred(plan: Plan, other: Plan, objective: str) -> str:
    """Return why a plan is taken before one that is as good or better in cost, quality and latency."""
    if objective != "cost":
        return f"plans were ranked by {objective}"
    if other.margin > plan.margin and (other.weighed or 0.0) > (plan.weighed or 0.0) * (1 + TIE):
        return f"its price rests on one offer, so it is ranked at {other.margin:.2f} times its cost"
    equal = f"costs within {show_percent(TIE)} of the least count as equal"
    apart = round(float(surely(plan.slo_probability) - surely(other.slo_probability)), 2)
    if apart > RESOLVED:
        odds = f"{show_odds(plan.slo_probability)} probability, not {show_odds(other.slo_probability)}"
        return f"{equal}, and this plan keeps the limits with {odds}"
    if apart < 0:
        equal = f"{equal}, and so do odds within {show_percent(RESOLVED)} of the surest"
    return f"{equal}, and this plan changes less of the model or takes fewer GPUs"


def columns(plans: Sequence[Plan], limits: Limits) -> tuple[Column[Plan], ...]:
    """Return the columns that tell these plans apart: times by their percentile, weights where some are converted."""
    at = show_percentile(limits.percentile)
    headings = {"ttft": f"{at} TTFT", "tpot": f"{at} TPOT"}
    headings |= {"e2e": f"{at} end to end"} if limits.e2e is not None else {}
    headings |= {"weights": "weights"} if any(p.form for p in plans) else {}
    headings |= {} if limits.times else {"slo_probability": KEEPING_UP}
    return tuple(replace(c, heading=headings.get(c.key, c.heading)) for c in PLAN)


def legend(plans: Sequence[Plan], limits: Limits, timed: bool = True) -> Block:
    """Return what the columns and marks in a table of plans mean; `timed` where it has times."""
    share = show_percent(limits.percentile)
    lines = (
        [f"{show_percentile(limits.percentile)}: the time that {share} of the requests stay under."] if timed else []
    )
    kept = (
        "every latency limit is kept" if limits.times else "replicas keep up with what comes: no latency limit is set"
    )
    lines.append(f"The chance: that {kept}; in brackets: the most that the quality loss may be.")
    if len({bool(p.form) for p in plans}) > 1:
        lines.append(f"{OWN}: the checkpoint's weights.")
    if any(p.drafting for p in plans):
        lines.append("After a comma: what drafts tokens for speculative decoding, and how many for each step.")
    if not all(p.grounded for p in plans):
        lines.append("* No server on this GPU was measured; its times are extrapolated.")
    if not all(p.served_by_engine for p in plans):
        lines.append("+ The engine does not serve this technique.")
    if lone := [p for p in plans if p.margin > 1]:
        raised = f"{lone[0].margin:.2f}"
        lines.append(
            f"^ One offer is known, which may be the lowest of many; the plan is ranked at {raised} times its cost, "
            "the 90th percentile of what offers of other GPUs cost over their median."
        )
    return Text(" ".join(lines), "quiet")


# -- under other values, on other engines, and with other limits ----------------------------------


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
