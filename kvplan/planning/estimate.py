"""`kvplan estimate`: techniques side by side on the GPUs asked for or on the best one, and what must be said first."""

from collections.abc import Sequence
from dataclasses import dataclass

from kvplan.money.offers import old
from kvplan.planning.replica import Evaluation, best, estimate
from kvplan.planning.site import Query, Site
from kvplan.planning.suitability import beyond, within
from kvplan.specs.hardware import Gpu
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
        found.append(f"{within(model, context)}: the longer one takes {needs}{longer}")
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
