"""`kvplan estimate`: techniques side by side on the GPUs asked for or on the best one, and what must be said first."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf

from kvplan.kv import spelling
from kvplan.kv.profiling import graph_warnings, image_warnings
from kvplan.money.offers import old
from kvplan.planning.evaluation import Evaluation
from kvplan.planning.points import compared, usual_limits
from kvplan.planning.replica import best, case_of, evaluate, evaluations
from kvplan.planning.site import Limits, Query, Site
from kvplan.planning.suitability import beyond, within
from kvplan.quality.results import Quality
from kvplan.specs.hardware import Engine, Gpu
from kvplan.specs.model import ModelSpec
from kvplan.specs.result import Result
from kvplan.specs.workload import Workload
from kvplan.units import show_bytes

#: a price last seen longer ago than this is said to be old [day]
STALE = 120


@dataclass(frozen=True, kw_only=True)
class Estimate(Result, of="estimate"):
    """All that `kvplan estimate` found.

    Every row stands at points that can be compared, the last within `limits`. `sites` are shown in detail; `by_gpu` is
    the baseline on every GPU, if none was named.
    """

    model: ModelSpec  #: the model served
    query: Query  #: one request: its context and output [token]
    limits: Limits  #: mean times that a query must keep [s]
    sites: tuple[Site, ...]  #: GPUs shown in detail, with their prices
    rows: tuple[Evaluation, ...]  #: every technique on every GPU shown
    by_gpu: tuple[Evaluation, ...]  #: the baseline on every GPU, () where GPUs were named
    warnings: tuple[str, ...]  #: what the reader must know first

    @property
    def feasible(self) -> bool:
        """Whether any technique can be served."""
        return any(row.feasible for row in self.rows)

    @property
    def figures(self) -> tuple[object, ...]:
        """Everything that an option of the engine may change."""
        at_work = tuple(
            (r.technique, r.gpu, r.parallel, r.fewest_gpus, r.sequences, r.batch, r.ttft, r.tpot, r.cost, r.reason)
            for r in (*self.rows, *self.by_gpu)
        )
        return at_work, tuple((r.lone, r.same_load, r.same_limits) for r in self.rows), self.warnings

    def site(self, row: Evaluation) -> Site:
        """Return the site that a row was evaluated on."""
        return next(site for site in self.sites if site.gpu.name == row.gpu)

    @property
    def stored(self) -> float:
        """Cache bytes of one uncompressed sequence. [B]"""
        return next(r.stored for r in self.rows if r.technique == spelling.BASELINE) or 0.0

    def serves(self, technique: str) -> bool:
        """Return whether the engine serves a technique on this model's cache."""
        base = next((r.layout for r in self.rows if r.technique == spelling.BASELINE), None)
        return spelling.served_by(technique, self.engine, base)

    @property
    def engine(self) -> Engine:
        """The engine that serves."""
        return self.sites[0].engine

    @property
    def weights(self) -> str | None:
        """Format of the weights, None for the checkpoint's own."""
        return self.sites[0].weights

    @property
    def usual(self) -> bool:
        """Whether the limits are those that stand where none is given."""
        return self.limits == usual_limits(self.query)

    @cached_property
    def uncompressed(self) -> Evaluation | None:
        """The row without compression on which a query costs least within the limits, None where none keeps them."""
        return leading(r for r in self.rows if r.technique == spelling.BASELINE)

    @cached_property
    def served(self) -> Evaluation | None:
        """The row whose technique the engine serves and on which a query costs least within the limits, or None."""
        return leading(r for r in self.rows if self.serves(r.technique))

    @cached_property
    def overall(self) -> Evaluation | None:
        """The row on which a query costs least within the limits, None where no row keeps them."""
        return leading(self.rows)

    @property
    def per_query(self) -> float | None:
        """What the query costs that the answer begins with, None where none is served or has a price. [USD]"""
        points = (row.same_limits for row in (self.uncompressed, self.served, self.overall) if row)
        return next((p.usd for p in points if p), None)

    @cached_property
    def guess(self) -> Evaluation | None:
        """The full baseline on an unmeasured GPU that looks cheaper than on the one shown, None where there is none."""
        measured, shown = best(r for r in self.by_gpu if r.cost), best(r for r in self.rows[:1] if r.cost)
        if measured is None or measured.cost is None or shown is None or shown.cost is None:
            return None
        return measured if measured.cost.per_query < shown.cost.per_query else None

    def cheapest(self, gpu: str) -> Evaluation | None:
        """Return the row of a GPU that the engine serves and where a query costs least within the limits, or None."""
        served = (r for r in self.rows if self.serves(r.technique))
        return leading(r for r in served if r.gpu == gpu and r.same_limits and r.same_limits.usd)


def leading(rows: Iterable[Evaluation]) -> Evaluation | None:
    """Return the row on which a query costs least within the limits, or takes the least GPU time without a price."""

    def order(row: Evaluation) -> tuple[bool, float]:
        p = row.same_limits
        return (True, inf) if p is None else (p.usd is None, p.gpu_seconds if p.usd is None else p.usd)

    return min((row for row in rows if row.same_limits), key=order, default=None)


def survey(
    model: ModelSpec, query: Query, sites: Sequence[Site], wanted: Sequence[str], limits: Limits, *, today: str,
    named: bool, losses: Callable[[str], Quality] | None = None, workload: Workload | None = None,
) -> Estimate:  # fmt: skip
    """Compare techniques on every site the user named, or on the best of all sites when none was.

    `losses` says what a technique is expected to lose, if anyone asks; a `workload` what images requests have.
    """
    by_gpu: tuple[Evaluation, ...] = ()
    if not named:
        by_gpu = tuple(evaluations(model, (), query, site, workload)[0] for site in sites)
        sites = [site for site in sites if site.gpu.name == pick_gpu(by_gpu, sites)]
    rows: list[Evaluation] = []
    for site in sites:
        case = case_of(model, query, site, workload)
        known = {row.technique: row for row in by_gpu if row.gpu == site.gpu.name}
        names = dict.fromkeys((spelling.BASELINE, *map(spelling.canonical, wanted)))
        each = compared(case, [known.get(name) or evaluate(case, name) for name in names], limits)
        rows += [replace(row, loss=losses(row.technique)) for row in each] if losses else each
    return Estimate(
        model=model,
        query=query,
        limits=limits,
        sites=tuple(sites),
        rows=tuple(rows),
        by_gpu=by_gpu,
        warnings=(*doubts(model, rows), *warnings(model, query.context, sites, today)),
    )


def doubts(model: ModelSpec, rows: Iterable[Evaluation]) -> tuple[str, ...]:
    """Return what is doubtful of the memory of replicas, each line once."""
    budgets = (row.budget for row in rows if row.budget)
    return tuple(
        dict.fromkeys(
            line
            for b in budgets
            for line in (*graph_warnings(model, b.deployment), *image_warnings(model, b.deployment))
        )
    )


def pick_gpu(rows: Sequence[Evaluation], sites: Sequence[Site]) -> str:
    """Return the GPU to show in detail.

    The cheapest that fits among those whose rates rest on measurements, else any; the largest where none fits.
    """
    cheapest = best(r for r in rows if r.grounded) or best(rows)
    return cheapest.gpu if cheapest else max(sites, key=lambda site: site.gpu.visible_memory).gpu.name


def warnings(model: ModelSpec, context: int, sites: Sequence[Site], today: str) -> tuple[str, ...]:
    """Return what the reader must know: a context beyond the model's, unchecked figures, missing or old prices."""
    messages = context_warnings(model, context)
    if sites and (moved := sites[0].running.offloaded):
        messages.append(
            f"each step also moves the {show_bytes(moved)} of weights left with the host to every GPU; times leave "
            "that out and are too short by it"
        )
    messages += filter(None, dict.fromkeys(site.engine.refuses(model.model_type) for site in sites))
    for site in sites:
        messages += no_bf16(site.gpu, model)
        if site.price is None and site.owned is None:
            messages.append(f"no on-demand price known for {site.gpu.name}; give one with price=2.49/h")
        messages += [f"{line}, or give your own price" for line in old_price(site, today)]
    return (*messages, *model.notes)


def context_warnings(model: ModelSpec, context: int) -> list[str]:
    """Return what is wrong with asking for a context, and with what is known of the model."""
    messages = []
    if needs := beyond(model, context):
        longer = f"; {model.longer} has the same shape and a longer context" if model.longer else ""
        messages.append(f"{within(model, context)}: the longer context takes {needs}{longer}")
    if model.source.kind == "assumption":
        messages.append("this model's config was written down from memory and not checked against the published file")
    return messages


def no_bf16(gpu: Gpu, model: ModelSpec) -> list[str]:
    """Return a warning where a GPU lacks the model's number format; a file with no rate of 16 bits does not say so."""
    unsaid = any(line.startswith("fp16 ") for line in gpu.assumed)
    without = gpu.bf16 is None and not unsaid and model.dtype == "bfloat16"
    return [f"{gpu.name} has no bf16: weights and KV cache use fp16"] if without else []


def old_price(site: Site, today: str) -> list[str]:
    """Return a warning where a site's rent was last seen long ago."""
    outdated = old(site.price, today, STALE) if site.price else ""
    return [outdated] if outdated else []
