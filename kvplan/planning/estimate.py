"""`kvplan estimate`: techniques side by side on the GPUs asked for or on the best one, and what must be said first."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from kvplan.kv import spelling
from kvplan.money.offers import old
from kvplan.planning.replica import Evaluation, best, estimate
from kvplan.planning.site import Query, Site
from kvplan.planning.suitability import beyond, within
from kvplan.specs.hardware import Engine, Gpu
from kvplan.specs.model import ModelSpec

#: a price last seen longer ago than this is said to be old [day]
STALE = 120


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """All that `kvplan estimate` found.

    `sites` are shown in detail; `where` is the baseline on every GPU, if none was named.
    """

    model: ModelSpec
    query: Query
    sites: tuple[Site, ...]
    rows: tuple[Evaluation, ...]
    where: tuple[Evaluation, ...]
    warnings: tuple[str, ...]

    @property
    def feasible(self) -> bool:
        """Whether any technique can be served."""
        return any(row.feasible for row in self.rows)

    def site(self, row: Evaluation) -> Site:
        """Return the site that a row was evaluated on."""
        return next(site for site in self.sites if site.gpu.name == row.gpu)

    @property
    def stored(self) -> float:
        """Cache bytes of one uncompressed sequence. [B]"""
        return next(r.stored for r in self.rows if r.technique == spelling.BASELINE) or 0.0

    @property
    def engine(self) -> Engine:
        """The engine that serves."""
        return self.sites[0].engine

    @cached_property
    def uncompressed(self) -> Evaluation | None:
        """The cheapest replica without compression, None where none fits."""
        return best(r for r in self.rows if r.technique == spelling.BASELINE)

    @cached_property
    def served(self) -> Evaluation | None:
        """The cheapest row whose technique the engine serves, None where none fits."""
        return best(r for r in self.rows if spelling.served_by(r.technique, self.engine.name))

    @cached_property
    def overall(self) -> Evaluation | None:
        """The cheapest row of all, None where nothing fits."""
        return best(self.rows)

    @cached_property
    def guess(self) -> Evaluation | None:
        """The baseline on an unmeasured GPU that looks cheaper than the one shown, None where there is none."""
        found, base = best(r for r in self.where if r.cost), self.uncompressed
        if found is None or found.cost is None or base is None or base.cost is None:
            return None
        return found if found.cost.per_query < base.cost.per_query else None

    def cheapest(self, gpu: str) -> Evaluation | None:
        """Return the row with the lowest cost per query on one GPU, None where no cost is known."""
        return best(r for r in self.rows if r.gpu == gpu and r.cost)


def survey(
    model: ModelSpec, query: Query, sites: Sequence[Site], wanted: Sequence[str], *, today: str, named: bool
) -> Estimate:
    """Compare techniques on every site the user named, or on the best of all sites when none was."""
    where: tuple[Evaluation, ...] = ()
    if not named:
        where = tuple(estimate(model, (), query, site)[0] for site in sites)
        sites = [site for site in sites if site.gpu.name == pick_gpu(where)]
    rows = tuple(row for site in sites for row in estimate(model, wanted, query, site))
    return Estimate(
        model=model,
        query=query,
        sites=tuple(sites),
        rows=rows,
        where=where,
        warnings=warnings(model, query.context, sites, today),
    )


def pick_gpu(rows: Sequence[Evaluation]) -> str:
    """Return the GPU to show in detail.

    The cheapest that fits among those whose rates rest on measurements, else any.
    """
    found = best(r for r in rows if r.grounded) or best(rows)
    return found.gpu if found else max(rows, key=lambda r: r.budget.total if r.budget else 0.0).gpu


def warnings(model: ModelSpec, context: int, sites: Sequence[Site], today: str) -> tuple[str, ...]:
    """Return what the reader must know: a context beyond the model's, unchecked figures, missing or old prices."""
    found = context_warnings(model, context)
    for site in sites:
        found += no_bf16(site.gpu, model)
        if site.price is None and site.owned is None:
            found.append(f"no on-demand price known for {site.gpu.name}; give one with price=2.49/h")
        found += [f"{line}, or give your own price" for line in old_price(site, today)]
    return (*found, *model.notes)


def context_warnings(model: ModelSpec, context: int) -> list[str]:
    """Return what is wrong with asking for a context, and with what is known of the model."""
    found = []
    if needs := beyond(model, context):
        longer = f"; {model.longer} has the same shape and a longer context" if model.longer else ""
        found.append(f"{within(model, context)}: the longer context takes {needs}{longer}")
    if model.source.kind == "assumption":
        found.append("this model's config was written down from memory and not checked against the published file")
    return found


def no_bf16(gpu: Gpu, model: ModelSpec) -> list[str]:
    """Return a warning where a GPU lacks the model's number format."""
    without = gpu.bf16 is None and model.dtype == "bfloat16"
    return [f"{gpu.name} has no bf16: weights and KV cache use fp16"] if without else []


def old_price(site: Site, today: str) -> list[str]:
    """Return a warning where a site's rent was last seen long ago."""
    outdated = old(site.price, today, STALE) if site.price else ""
    return [outdated] if outdated else []
