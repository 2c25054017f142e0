"""What a recommendation is asked: a workload's limits, the techniques and weight formats that may be used, and why."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from kvplan import catalog
from kvplan.api import values
from kvplan.api.demands import confidence_of, demand_of, percentile_of, spares_of
from kvplan.api.losses import Formats, formats_of, losses_of
from kvplan.api.memory import MOST_DRAFTED, counted, drafting
from kvplan.api.sites import ENGINES
from kvplan.kv import spelling
from kvplan.planning.demand import Demand
from kvplan.planning.site import OBJECTIVES, Limits
from kvplan.planning.speculation import Drafting, draftings, not_started
from kvplan.quality.loss import checked
from kvplan.quality.results import Quality
from kvplan.quality.weights import unheard
from kvplan.specs.model import ModelSpec
from kvplan.specs.workload import Workload

#: what asks for every engine whose servers were measured
ANY = "any"
#: load kept free beyond the peak is below so many times the peak
MOST_HEADROOM = 10.0


@dataclass(frozen=True, kw_only=True)
class Question:
    """A demand, and what may be used to serve it."""

    demand: Demand  #: what is to be served, and its limits
    techniques: tuple[str, ...]  #: those to search
    losses: Mapping[str, Quality]  #: technique -> what it loses, others that might do instead included
    formats: Formats  #: weight formats to search, what each loses, and why others are left out
    objective: str  #: what plans are ranked by
    warnings: tuple[str, ...] = ()  #: files of scores that hold none of this model

    @property
    def context(self) -> int:
        """The longest sequence whose limits are to be kept. [token]"""
        return int(self.demand.workload.context(self.demand.limits.percentile))

    def on(self, engine: str, confidence: float) -> Demand:
        """Return the demand on an engine that may be a release, under limits to be kept so surely."""
        rules = catalog.engine(engine)
        drafting = tuple(d for d in self.demand.drafting if not not_started(rules, self.demand.model, d.draft))
        limits = replace(self.demand.limits, confidence=confidence)
        return replace(self.demand, engine=rules, limits=limits, drafting=drafting)


def engines_of(word: str) -> tuple[str, ...]:
    """Return the engine asked for, or all whose servers were measured."""
    return ENGINES if word == ANY else (values.engine(word, "engine", (*ENGINES, ANY)),)


def limits_of(
    traffic: Workload, *, ttft: float | str | None, tpot: float | str | None, e2e: float | str | None,
    percentile: float | str | None, quality: float | str | None, gpus: int | None, confidence: float | str | None,
    any_technique: bool,
) -> Limits:  # fmt: skip
    """Return what a plan must keep: the limits given, else the workload's own."""
    return Limits(
        ttft=values.limit(ttft, traffic.slo.ttft, "ttft"),
        tpot=values.limit(tpot, traffic.slo.tpot, "tpot"),
        e2e=values.limit(e2e, traffic.slo.e2e, "e2e"),
        percentile=percentile_of(percentile, traffic),
        quality=values.loss(quality, "max_quality_drop"),
        gpus=values.given(values.count, gpus, "max_gpus", 1, values.MOST_REQUESTS),
        confidence=confidence_of(confidence),
        any_technique=values.flag(any_technique, "any_technique"),
    )


def question_of(
    model: ModelSpec, traffic: Workload, limits: Limits, *, techniques: str | Iterable[str],
    weights: str | Iterable[str], quality: str | Iterable[str], objective: str, headroom: float | str,
    spares: int | None, prefix_cache: bool, drafting: tuple[Drafting, ...],
) -> Question:  # fmt: skip
    """Return what is asked about a model and its traffic; `quality` are files of scores of one's own model."""
    context = int(traffic.context(limits.percentile))
    forms = tuple(values.weight_format(form) for form in values.several(weights, "weights"))
    names = values.technique_names(techniques, spelling.searched())
    files = values.several(quality, "quality")
    tables = [checked(catalog.quality_file(word)) for word in files]
    formats = formats_of(model, traffic.task, context, forms, tables)
    demand = demand_of(
        model, traffic, limits, forms=formats.searched, native=not forms,
        headroom=values.share(headroom, "headroom", MOST_HEADROOM),
        spares=spares_of(spares, traffic),
        prefix_cache=values.flag(prefix_cache, "prefix_cache"),
    )  # fmt: skip
    return Question(
        demand=replace(demand, drafting=drafting), techniques=names, formats=formats,
        losses=losses_of((*names, *spelling.searched()), model, traffic, context, tables),
        objective=values.one_of(objective, "objective", OBJECTIVES), warnings=unheard(files, tables, model),
    )  # fmt: skip


def draftings_of(speculative: str | None, model: ModelSpec) -> tuple[Drafting, ...]:
    """Return the ways of speculative decoding asked for, () where none was.

    A draft may be followed by the tokens drafted for a step, and by those that a step yields on average.
    """
    if speculative is None:
        return ()
    draft, sign, tokens = values.word(speculative, "speculative").partition("=")
    accepted = values.number(tokens, "speculative", 1.0, MOST_DRAFTED + 1.0) if sign else None
    _, many = counted(draft)
    return draftings(model, drafting(draft, model, None), many, accepted, catalog.acceptances())
