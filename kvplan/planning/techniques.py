"""Techniques for one model and one workload: bytes, time, what serves them, and what they lose of its tasks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite

from kvplan.kv import spelling
from kvplan.kv.layout import KVLayout
from kvplan.planning.estimate import Estimate, survey
from kvplan.planning.evaluation import Evaluation
from kvplan.planning.ratios import Ratio, step_ratio
from kvplan.planning.replica import case_of
from kvplan.planning.reuse import Chain
from kvplan.planning.site import Limits, Query, Site
from kvplan.planning.tiers import Waiting, tiers
from kvplan.quality.results import Quality
from kvplan.specs.hardware import Engine
from kvplan.specs.model import ModelSpec
from kvplan.specs.result import Result
from kvplan.specs.workload import Workload


@dataclass(frozen=True, kw_only=True)
class Weighed:
    """One technique for a workload."""

    row: Evaluation  #: its bytes, replica and times
    quality: Quality  #: what it loses of the workload's tasks
    engines: tuple[str, ...]  #: that serve all of it, with release and date
    here: bool  #: whether the engine asked about does
    stored: float | None  #: bytes of a sequence over the uncompressed ones, None where it cannot act, of 1
    read: float | None  #: bytes of a decode step over the uncompressed ones, of 1
    hosted: float  #: bytes of a sequence in the host's memory [B]
    lone: Ratio | None  #: decode step of a lone query, over the uncompressed one
    load: Ratio | None  #: of as many requests as fit uncompressed


@dataclass(frozen=True, kw_only=True)
class CrossImages:
    """Keys and values of images that cross-attention reads beside the prompt."""

    bytes: float  #: of the images of one request, uncompressed [B]
    questions: float  #: requests in a row to the same images, which may share them

    @property
    def each(self) -> float:
        """Bytes a question where all of them share one copy. [B]"""
        return self.bytes / self.questions


@dataclass(frozen=True, kw_only=True)
class TechniqueSurvey(Result, of="techniques"):
    """Techniques side by side for a model and a workload."""

    model: ModelSpec  #: the model served
    workload: Workload  #: whose prompts, answers and tasks count
    engine: Engine  #: asked about
    estimate: Estimate  #: the same techniques at the workload's mean lengths
    rows: tuple[Weighed, ...]  #: one a technique, the baseline first
    tiers: tuple[Waiting, ...]  #: where the workload's uncompressed prefixes may wait, () where none are shared
    beside: CrossImages | None = None  #: what cross-attention holds, None where the model has none or no images come
    warnings: tuple[str, ...] = ()  #: what the reader must know first


def weigh(
    model: ModelSpec, workload: Workload, site: Site, names: Sequence[str], losses: Callable[[str], Quality],
    today: str, trace: Sequence[Chain] | None = None,
) -> TechniqueSurvey:  # fmt: skip
    """Return techniques for a workload on one kind of GPU; a `trace` says how often prefixes are found in tiers."""
    output = max(round(workload.output.mean), 1)
    query = Query(context=max(round(workload.input.mean), 1) + output, output=output)
    answer = survey(model, query, [site], names, Limits(), today=today, named=True, losses=losses, workload=workload)
    case, first = case_of(model, query, site, workload), answer.rows[0]

    def ratio(row: Evaluation, batch: int) -> Ratio | None:
        if not row.feasible or first.parallel is None or row.layout is None:
            return None
        return step_ratio(case, row.technique, first.parallel, batch)

    rows = tuple(
        Weighed(
            row=row,
            quality=row.loss or losses(row.technique),
            engines=serving(row.technique),
            here=spelling.served_by(row.technique, site.engine, case.base),
            stored=over(row, case.base, KVLayout.stored),
            read=over(row, case.base, KVLayout.read),
            hosted=row.layout.hosted(query.context) if row.layout else 0.0,
            lone=ratio(row, 1),
            load=ratio(row, first.batch),
        )
        for row in answer.rows
    )
    return TechniqueSurvey(
        model=model,
        workload=workload,
        engine=site.engine,
        estimate=answer,
        rows=rows,
        tiers=tiers(case, workload, first, trace),
        beside=crossed(case.base, workload),
    )


def crossed(base: KVLayout, workload: Workload) -> CrossImages | None:
    """Return what cross-attention holds of a workload's images, None where it holds nothing."""
    held = base.part("cross").stored(0)
    shared = [part.requests for part in workload.beside if part.visual and isfinite(part.requests)]
    return CrossImages(bytes=held, questions=max(shared, default=1.0)) if held and workload.beside else None


def over(row: Evaluation, base: KVLayout, amount: Callable[[KVLayout, int], float]) -> float | None:
    """Return bytes of a row over the uncompressed ones, None where its technique cannot act on the model."""
    return None if row.layout is None else amount(row.layout, row.context) / max(amount(base, row.context), 1.0)


def serving(technique: str) -> tuple[str, ...]:
    """Return the engines that serve every part of a technique, with the release and date of the part that came last."""
    parts = spelling.parts(technique)
    if not parts:
        return ()
    by_engine = [{s.engine: s for s in kind.engines if s.only in (None, argument)} for kind, argument in parts]
    shared = [name for name in by_engine[0] if all(name in part for part in by_engine)]
    latest = (max((part[name] for part in by_engine), key=lambda s: s.date) for name in shared)
    return tuple(str(support) for support in latest)
