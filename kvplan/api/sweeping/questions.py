"""The questions a study may ask: what each takes, and the figures of its answer.

A question is a name that `kvplan` offers and a row of QUESTIONS. A figure is found by its path through the answer's
attributes (`plan.mean_ttft`), or by a function of the answer where that is not enough.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import kvplan
from kvplan.api.estimate import answered
from kvplan.api.load import endpoint, under_load
from kvplan.errors import KvplanError
from kvplan.kv import spelling
from kvplan.planning.estimate import Estimate, leading
from kvplan.planning.evaluation import Evaluation
from kvplan.specs.sweep import Askable
from kvplan.units import MONTH

#: what answers one point: an object with figures, or why there is none
Found = Any
#: parameters of a point by name, as Value has them; the question itself checks their types
Call = Mapping[str, Any]
#: what a study does not set: how an answer is told, and what makes several answers of one
UNASKED = frozenset({"vary", "progress", "told", "per_request"})
#: kinds of figures, as columns of a table have them
REAL, WHOLE, TEXT = "real", "whole", "text"


@dataclass(frozen=True)
class StudyFigure:
    """One figure of an answer."""

    kind: str  #: REAL, WHOLE or TEXT
    unit: str  #: as the page writes it: s, USD, B, J, share, '' for a plain number
    get: str | Callable[[Any], Any]  #: path through the answer's attributes, or a function of it


def real(get: str | Callable[[Any], Any], unit: str = "") -> StudyFigure:
    """Return a figure that is any number."""
    return StudyFigure(REAL, unit, get)


def whole(get: str | Callable[[Any], Any]) -> StudyFigure:
    """Return a figure that is a whole number."""
    return StudyFigure(WHOLE, "", get)


def text(get: str | Callable[[Any], Any]) -> StudyFigure:
    """Return a figure that is a text."""
    return StudyFigure(TEXT, "", get)


@dataclass(frozen=True, kw_only=True)
class StudyQuestion:
    """What a study may ask, and how points that share work are asked together."""

    name: str  #: as `kvplan` offers it
    figures: Mapping[str, StudyFigure]  #: name -> figure
    minimize: tuple[str, ...]  #: of the Pareto front where a study names none
    shown: tuple[str, ...]  #: what a row of a report says besides
    refusal: Callable[[Any], str]  #: why an answer is a 'no', '' when it is none
    needed: tuple[tuple[str, ...], ...]  #: of each group a point has at least one
    #: parameters that a call must have, for points that have none
    absent: Mapping[str, None] = field(default_factory=dict)
    #: parameters that differ within points that share work
    gathered: frozenset[str] = field(default=frozenset())
    #: asks such points at once, an answer or a refusal for each; None: one by one
    together: Callable[[Sequence[Call]], list[Found | KvplanError]] | None = None

    def ask(self, calls: Sequence[Call]) -> list[Found | KvplanError]:
        """Return an answer or a refusal for each of several points that differ in `gathered` parameters alone."""
        if self.together is not None:
            return self.together(calls)
        ask = getattr(kvplan, self.name)
        return [attempted(lambda call=call: ask(**{**self.absent, **call})) for call in calls]  # type: ignore[misc]

    def row(self, answer: Found) -> dict[str, Any]:
        """Return the figures of an answer, None where one is unknown."""
        return {name: figure_of(answer, figure) for name, figure in self.figures.items()}


def attempted(ask: Callable[[], Found]) -> Found | KvplanError:
    """Return an answer, or its refusal."""
    try:
        return ask()
    except KvplanError as refusal:
        return refusal


def figure_of(answer: Found, figure: StudyFigure) -> Any:
    """Return a figure of an answer in base units, None where there is none on the way to it."""
    if callable(figure.get):
        value = figure.get(answer)
    else:
        value = answer
        for name in figure.get.split("."):
            value = None if value is None else getattr(value, name)
    if value is None:
        return None
    return float(value) if figure.kind == REAL else int(value) if figure.kind == WHOLE else str(value)


# -- estimate -------------------------------------------------------------------------------------


def estimates(calls: Sequence[Call]) -> list[Found | KvplanError]:
    """Return the rows of several techniques at one context: the answer of one call that names them all."""
    if len(calls) == 1 or not all(isinstance(call.get("techniques"), str) for call in calls):
        absent = usual("estimate")
        return [attempted(lambda call=call: chosen_row(answered({**absent, **call}), call)) for call in calls]  # type: ignore[misc]
    names = tuple(str(call["techniques"]) for call in calls)
    answer = attempted(lambda: answered({**usual("estimate"), **calls[0], "techniques": names}))
    if isinstance(answer, KvplanError):  # one of them may be at fault: each is asked alone
        return [each for call in calls for each in estimates([call])]
    return [chosen_row(answer, call) for call in calls]


def chosen_row(answer: Estimate, call: Call) -> Evaluation:
    """Return the row of a point's technique, on the GPU on which it costs least."""
    wanted = call.get("techniques", ())
    names = {spelling.canonical(name) for name in ((wanted,) if isinstance(wanted, str) else wanted)}
    rows = [row for row in answer.rows if row.technique in names] or list(answer.rows)
    return leading(rows) or next((row for row in rows if row.feasible), rows[0])


ESTIMATE = StudyQuestion(
    name="estimate",
    figures={
        "chosen_technique": text("technique"), "chosen_gpu": text("gpu"),
        "kv_bytes_per_sequence": real("stored", "B"),
        "kv_bytes_per_token": real(lambda r: r.layout.growth(r.context) if r.layout else None, "B"),
        "reduction": real("reduction", "share"), "parallel": text("parallel"), "gpu_count": whole("gpus"),
        "fewest_gpus": whole("fewest_gpus"), "max_sequences": whole("sequences"), "batch": real("batch"),
        "mean_ttft": real("ttft", "s"), "mean_tpot": real("tpot", "s"), "tokens_per_second": real("tokens_per_second"),
        "usd_per_query": real("cost.per_query", "USD"),
        "usd_per_million_tokens": real("cost.per_million_tokens", "USD"),
        "lone_ttft": real("lone.ttft", "s"), "lone_tpot": real("lone.tpot", "s"), "lone_usd": real("lone.usd", "USD"),
        "limited_batch": real("same_limits.batch"), "limited_gpus": whole("same_limits.gpus"),
        "limited_ttft": real("same_limits.ttft", "s"), "limited_tpot": real("same_limits.tpot", "s"),
        "limited_usd_per_query": real("same_limits.usd", "USD"), "quality_drop": real("loss.drop", "share"),
    },
    minimize=("limited_usd_per_query", "lone_tpot"),
    shown=("limited_gpus", "limited_batch", "quality_drop"),
    refusal=lambda r: r.reason,
    needed=(("model",), ("context",)),
    gathered=frozenset({"techniques"}),
    together=estimates,
)  # fmt: skip


# -- load -----------------------------------------------------------------------------------------

#: parameters of a load, which a server does not depend on
OF_A_LOAD = frozenset({"concurrency", "rate", "burstiness", "ttft", "tpot"})


def loads(calls: Sequence[Call]) -> list[Found | KvplanError]:
    """Return several loads of one server, which is set up once."""
    same = {name: value for name, value in calls[0].items() if name not in OF_A_LOAD}
    server = attempted(lambda: endpoint({**usual("load"), **same}))
    if isinstance(server, KvplanError):
        return [server] * len(calls)
    own = [{name: value for name, value in call.items() if name in OF_A_LOAD} for call in calls]
    return [attempted(lambda call=call: under_load(server, on=same.get("on"), **call)) for call in own]  # type: ignore[misc]


def of_point(path: str, unit: str = "") -> StudyFigure:
    """Return a figure of the load that was asked for, or of the largest one within the limits."""

    def value(survey: Any) -> Any:
        point = survey.points[-1] if survey.rate is None else survey.rate.point
        for name in path.split("."):
            point = None if point is None else getattr(point, name)
        return point

    return StudyFigure(REAL, unit, value)


LOAD = StudyQuestion(
    name="load",
    figures={
        "gpu_count": whole("server.gpus"), "parallel": text("server.parallel"),
        "in_flight": of_point("in_flight"), "running": of_point("running"),
        "requests_per_second": of_point("rate"), "tokens_per_second": of_point("tokens_per_second"),
        "request_seconds": of_point("cycle", "s"), "queued_seconds": of_point("queued", "s"),
        **{
            f"{share}_{of}": of_point(f"{of}.{share}", "s")
            for of in ("ttft", "tpot") for share in ("mean", "p50", "p95", "p99")
        },
        "kv_occupancy": of_point("occupancy", "share"), "usd_per_query": of_point("usd_per_query", "USD"),
        "usd_per_million_tokens": of_point("usd_per_million_tokens", "USD"), "bound_by": text("rate.binding"),
    },
    minimize=("usd_per_query", "p95_ttft"),
    shown=("parallel", "gpu_count", "mean_tpot"),
    refusal=lambda s: s.refusal,
    needed=(("model",), ("gpu",), ("isl",), ("osl",)),
    gathered=OF_A_LOAD,
    together=loads,
)  # fmt: skip


# -- recommend ------------------------------------------------------------------------------------


def of_term(term: str, figure: str) -> Callable[[Any], Any]:
    """Return what reads a figure of the plan under other terms: owned, API; the cheapest where there are several."""

    def value(answer: Any) -> Any:
        rows = [t for t in answer.terms if t.term == term and t.per_month is not None]
        return getattr(min(rows, key=lambda t: t.per_month), figure) if rows else None

    return value


def monthly(answer: Any) -> float | None:
    """Return what the plan costs a month. [USD]"""
    plan = answer.plan
    return None if plan is None or plan.usd is None else plan.usd * answer.demand.mean * MONTH


def ratio_to_api(answer: Any) -> float | None:
    """Return the plan's cost over that of the cheapest API: above 1 the API wins."""
    plan = monthly(answer)
    api = of_term("API", "per_month")(answer)
    return plan / api if plan is not None and api else None


RECOMMEND = StudyQuestion(
    name="recommend",
    figures={
        "chosen_technique": text("plan.technique"), "chosen_gpu": text("plan.gpu"), "chosen_weights": text("plan.form"),
        "chosen_engine": text("plan.engine"), "parallel": text("plan.parallel"), "replicas": whole("plan.replicas"),
        "gpu_count": whole("plan.gpus"), "in_flight": whole("plan.in_flight"),
        "plan_ttft": real("plan.ttft", "s"), "plan_tpot": real("plan.tpot", "s"), "plan_e2e": real("plan.e2e", "s"),
        "mean_ttft": real("plan.mean_ttft", "s"), "mean_tpot": real("plan.mean_tpot", "s"),
        "usd_per_query": real("plan.usd", "USD"),
        "usd_per_query_p10": real(lambda r: r.usd and r.usd[0], "USD"),
        "usd_per_query_p90": real(lambda r: r.usd and r.usd[2], "USD"),
        "usd_per_month": real(monthly, "USD"), "usd_per_month_owned": real(of_term("owned", "per_month"), "USD"),
        "usd_per_month_api": real(of_term("API", "per_month"), "USD"), "cost_over_api": real(ratio_to_api),
        "joules_per_query": real("plan.joules", "J"), "quality_drop": real("plan.quality.drop", "share"),
        "slo_probability": real("plan.slo_probability", "share"),
    },
    minimize=("usd_per_query", "plan_e2e"),
    shown=("chosen_technique", "chosen_gpu", "replicas", "gpu_count"),
    refusal=lambda r: r.lacking,
    needed=(("model",), ("workload", "isl")),
    absent={"workload": None},
)  # fmt: skip


# -- simulate -------------------------------------------------------------------------------------

SIMULATE = StudyQuestion(
    name="simulate",
    figures={
        "replica_count": whole("outcome.replicas"), "gpu_count": whole("outcome.gpus"),
        "requests": whole("outcome.requests"), "completed": whole("outcome.completed"),
        "preemptions": whole("outcome.preemptions"), "goodput": real("outcome.goodput"),
        **{
            f"{share}_{of}": real(f"outcome.{of}.{share}", "s")
            for of in ("ttft", "tpot", "e2e") for share in ("p50", "p90", "p95", "p99")
        },
        "prefix_hit_rate": real("outcome.hit_rate", "share"), "kv_occupancy": real("outcome.occupancy", "share"),
        "usd_per_query": real("outcome.usd_per_query", "USD"),
    },
    minimize=("usd_per_query", "p95_ttft"),
    shown=("replica_count", "gpu_count", "goodput"),
    refusal=lambda s: s.refusal,
    needed=(("model",), ("gpu",), ("trace", "workload")),
)  # fmt: skip

#: what a study may ask; a question that `kvplan` does not offer is refused until it does
QUESTIONS = {question.name: question for question in (ESTIMATE, LOAD, RECOMMEND, SIMULATE)}


def askable() -> dict[str, Askable]:
    """Return every question with what a study may say about it."""
    return {
        name: Askable(
            parameters=parameters(name), needed=question.needed,
            figures=frozenset(n for n, figure in question.figures.items() if figure.kind != TEXT),
        )
        for name, question in QUESTIONS.items() if name in kvplan.__all__
    }  # fmt: skip


def unavailable() -> dict[str, str]:
    """Return the questions that cannot be asked, and why."""
    missing = [name for name in QUESTIONS if name not in kvplan.__all__]
    others = [name for name in kvplan.__all__ if name not in QUESTIONS]
    return {
        **dict.fromkeys(missing, "this release of kvplan does not offer it"),
        **dict.fromkeys(others, "it is a question of one answer, not of a study's points"),
    }


@cache
def usual(name: str) -> dict[str, Any]:
    """Return the values that a question's parameters have where none is given."""
    known = inspect.signature(getattr(kvplan, name)).parameters.values()
    return {p.name: p.default for p in known if p.default is not inspect.Parameter.empty}


@cache
def parameters(name: str) -> frozenset[str]:
    """Return the parameters of a question."""
    return frozenset(inspect.signature(getattr(kvplan, name)).parameters) - UNASKED


#: parameters under the names their columns have: a point has one value of each
COLUMNS = {"gpus": "gpu", "techniques": "technique"}


def column(parameter: str) -> str:
    """Return the name of a parameter's column."""
    return COLUMNS.get(parameter, parameter)


def columns(names: Iterable[str]) -> list[str]:
    """Return the names of the columns of parameters."""
    return [column(name) for name in names]
