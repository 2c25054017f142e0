"""What a workload demands: its requests and volume as a caller gives them."""

from collections.abc import Iterable
from dataclasses import replace

from kvplan import catalog
from kvplan.api import values
from kvplan.errors import SpecError, WrongUse
from kvplan.planning.demand import Demand
from kvplan.planning.plan import Plan
from kvplan.planning.site import CONFIDENCE, Limits
from kvplan.planning.suitability import read_by
from kvplan.specs.model import ModelSpec
from kvplan.specs.source import Source
from kvplan.specs.workload import Arrivals, Quantiles, Slo, Workload
from kvplan.units import DAY, show_number, show_time

#: what a volume may be multiplied by
LEAST_LOAD, MOST_LOAD = 1e-6, 1e6
#: more replicas than stand in for others
MOST_SPARES = 64


def workload_named(workload: str | None, isl: int | str | None, osl: int | str | None, day: str) -> str | Workload:
    """Return the name of a workload, or one of requests that are all alike."""
    read, written = values.given(values.tokens, isl, "isl"), values.given(values.tokens, osl, "osl")
    if read is None and written is None:
        if workload is None:
            raise WrongUse("workload: name one, or give isl= and osl= (tokens in and out) and rate= instead")
        return values.word(workload, "workload")
    if workload is not None or read is None or written is None:
        raise WrongUse("workload, isl, osl: give either a workload, or both isl= and osl=")
    return uniform_workload(read, written, day)


def uniform_workload(isl: int, osl: int, day: str) -> Workload:
    """Return a workload of equal requests that come at random and at one rate all day; its volume is not known."""
    source = Source(
        kind="assumption", ref="requests as asked for, Poisson arrivals, one rate all day", date="2026-11-28"
    )
    return Workload(
        name=f"{isl}-{osl}",
        title=f"Requests of {isl:,} input and {osl:,} output tokens",
        task="chat",
        offline=False,
        input=Quantiles(((0.0, isl), (1.0, isl))),
        output=Quantiles(((0.0, osl), (1.0, osl))),
        arrivals=Arrivals(queries_per_day=0.0, hours=(1.0,) * 24, burstiness=1.0, busiest_minute=1.0),
        slo=Slo(ttft=None, tpot=None, e2e=None, percentile=0.95),
        source=source,
        sources={},
    )


def arrival_notes(workload: Workload) -> list[str]:
    """Return what is assumed of a load whose file does not say when its requests come; nothing of an offline one."""
    flat = "hours" in workload.defaults and not workload.offline
    return ["no hours given: the load is taken as flat over the day; its file may have 24 weights, as hours"] * flat


def per_day_of(users: float, workload: Workload) -> float:
    """Return the queries a day of so many users at work in the busiest hour, each asking at the workload's interval.

    Little's law, as `kvplan load` counts users; where an answer takes longer than the interval they ask less.
    """
    if workload.offline:
        raise SpecError("users: nobody waits for an offline workload; give queries_per_day= or rate=")
    return users / workload.between_questions * DAY / workload.arrivals.peak_factor


def paced(volume: float, between: float, answered: float) -> float:
    """Return what users ask who would ask for a volume, one question every `between` [s], but for their answers.

    Nobody asks again before the answer is there, after `answered` [s]. Source: Little's law.
    """
    return volume * between / max(between, answered)


def users_note(count: float | None, demand: Demand, plan: Plan | None) -> str:
    """Return how many users a volume comes from, None for those of other volumes, and what that rests on."""
    workload, between = demand.workload, demand.workload.between_questions
    source = workload.sources.get("between_questions")
    whence = f"{source.kind}: {source.ref}" if source else "an assumption"
    each = f"each asks every {show_time(between)} on average ({whence})"
    if count is None:
        return f"users are those at work in the busiest hour: {each}"
    answered = plan.answered(demand.output) if plan else 0.0
    if answered > between:
        each += f", but not before the answer is there, which takes {show_time(answered)}"
    users = show_number(count)
    return f"{users} user{'s' * (users != '1')} at work in the busiest hour: {each}"


def workload_at(
    word: str | Workload, model: ModelSpec, per_day: float | None, load: float = 1.0, users: float | None = None
) -> Workload:
    """Return a workload at the volume asked for, times `load`, its images read as the model reads them.

    The volume may be that of so many `users`.
    """
    demand = read_by(model, catalog.workload(word) if isinstance(word, str) else word, catalog.all_models)
    if users is not None:
        if per_day is not None:
            raise WrongUse("users, queries_per_day, rate: give one of them")
        per_day = per_day_of(users, demand)
    volume = load * (demand.arrivals.queries_per_day if per_day is None else per_day)
    if not volume:
        raise WrongUse(
            "rate, queries_per_day: give one of them; requests without a workload have no volume of their own"
        )
    return replace(demand, arrivals=replace(demand.arrivals, queries_per_day=volume))


def confidence_of(value: float | str | None) -> float:
    """Return how sure the latency limits must be kept: a probability, the usual one where none is given."""
    return CONFIDENCE if value is None else values.bounded_share(value, "confidence", 0.05, 0.99)


def spares_of(value: int | None, workload: Workload) -> int:
    """Return the spare replicas of a pool: the number given, else one, and none of an offline workload."""
    return int(not workload.offline) if value is None else values.count(value, "spares", 0, MOST_SPARES)


def percentile_of(value: float | str | None, workload: Workload) -> float:
    """Return the share of requests that keep the limits."""
    percentile = workload.slo.percentile if value is None else values.share(value, "percentile", example="95%")
    if not 0.5 <= percentile < 1:
        raise SpecError("percentile: expected a share from 50% to below 100%, as in 95%")
    return percentile


def demand_of(
    model: ModelSpec, workload: Workload, limits: Limits, *, forms: Iterable[str | None] = (), native: bool = False,
    headroom: float = 0.0, spares: int = 0, prefix_cache: bool = True,
) -> Demand:  # fmt: skip
    """Return what a workload demands: an offline one its mean rate, any other that of its busiest hour."""
    arrivals = workload.arrivals
    return Demand(
        model=model,
        workload=workload,
        peak=arrivals.mean_rate if workload.offline else arrivals.peak_rate,
        mean=arrivals.mean_rate,
        limits=limits,
        engine=catalog.engine(),
        forms=tuple(dict.fromkeys(forms)) or (None,),
        native=native,
        headroom=headroom,
        spares=spares,
        prefix_cache=prefix_cache,
    )
