"""The one line an estimate opens with, and what it must warn of."""

from collections.abc import Sequence
from dataclasses import dataclass

from kvplan.kv import techniques
from kvplan.money.terms import old
from kvplan.planning.estimate import Query, Row, Site, best, estimate
from kvplan.specs.model import ModelSpec
from kvplan.units import show_bytes, show_tokens, show_usd

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
    rows: tuple[Row, ...]
    where: tuple[Row, ...]
    answer: str
    warnings: tuple[str, ...]

    @property
    def feasible(self) -> bool:
        return any(row.feasible for row in self.rows)

    def site(self, row: Row) -> Site:
        return next(site for site in self.sites if site.gpu.name == row.gpu)


def survey(
    model: ModelSpec, query: Query, sites: Sequence[Site], wanted: Sequence[str], *, today: str, named: bool
) -> Estimate:
    """Compare techniques on every site the user named, or on the best of all sites when none was."""
    where: tuple[Row, ...] = ()
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
        answer=answer(model, query, sites, rows, where),
        warnings=tuple(warnings(model, query, sites, today)),
    )


def pick_gpu(rows: Sequence[Row]) -> str:
    """Return the GPU to show in detail.

    The cheapest that fits among those whose rates rest on measurements, else any.
    """
    found = best(r for r in rows if r.grounded) or best(rows)
    return found.gpu if found else max(rows, key=lambda r: r.budget.total if r.budget else 0.0).gpu


def answer(model: ModelSpec, query: Query, sites: Sequence[Site], rows: Sequence[Row], where: Sequence[Row]) -> str:
    """Say what fits where, which technique the engine serves helps most, and at what cost."""
    size = next(r.stored for r in rows if r.technique == techniques.BASELINE)
    head = f"{model.title} at {show_tokens(query.context)} needs {show_bytes(size or 0)} of KV cache per sequence."
    titles, engine = {s.gpu.name: s.gpu.title for s in sites}, sites[0].engine
    base = best(r for r in rows if r.technique == techniques.BASELINE)
    chosen = best(r for r in rows if techniques.served_by(r.technique, engine.name))
    if chosen is None:
        other = best(rows)
        if other is None:
            return f"{head} Nothing fits: {next(r.reason for r in rows if r.reason)}"
        unserved = f"with {other.technique}, which {engine.title} does not serve"
        return f"{head} Uncompressed it does not fit; {capacity(other, titles)} {unserved}."
    if base is None:
        held = f"{capacity(chosen, titles)} with {chosen.technique}{price_of(chosen)}"
        return f"{head} Uncompressed it does not fit; {held}."
    said = f"{head} {capacity(base, titles)} uncompressed{price_of(base)}{cheaper_guess(base, where)}"
    if base.cost is None:
        return f"{said}; no price is known, so costs are not compared."
    if chosen.technique == techniques.BASELINE:
        return f"{said}; no technique that {engine.title} serves is cheaper."
    change = f" at {chosen.cost.per_query / base.cost.per_query - 1:+.0%} cost" if chosen.cost else ""
    return f"{said}; with {chosen.technique}, {chosen.gpus} hold {chosen.sequences:,}{change}."


def capacity(row: Row, titles: dict[str, str]) -> str:
    return f"{row.gpus}x {titles[row.gpu]} hold{'s' if row.gpus == 1 else ''} {row.sequences:,} such sequences"


def price_of(row: Row) -> str:
    if row.cost is None:
        return ""
    low, high = (row.cost.per_query * factor for factor in row.spread)
    return f" at {show_usd(row.cost.per_query)} a query ({show_usd(low)} to {show_usd(high)})"


def cheaper_guess(base: Row, where: Sequence[Row]) -> str:
    """Return the mention of a GPU that looks cheaper but was never measured."""
    found = best(r for r in where if r.cost)
    if found is None or found.cost is None or base.cost is None or found.cost.per_query >= base.cost.per_query:
        return ""
    return f" ({found.gpu} would be {show_usd(found.cost.per_query)}, but nothing was measured on it)"


def warnings(model: ModelSpec, query: Query, sites: Sequence[Site], today: str) -> list[str]:
    """Return what the reader must know: a context beyond the model's, unchecked figures, missing or old prices."""
    found = []
    if model.max_context and query.context > model.max_context:
        longer = f"; {model.longer} has the same shape and a longer context" if model.longer else ""
        found.append(f"{model.title} supports {model.max_context:,} tokens, not {query.context:,}{longer}")
    if model.source.kind == "assumption":
        found.append("this model's config was written down from memory and not checked against the published file")
    for site in sites:
        found += site_warnings(site, model, today)
    return found + list(model.notes)


def site_warnings(site: Site, model: ModelSpec, today: str) -> list[str]:
    gpu, price = site.gpu, site.price
    found = []
    if gpu.bf16 is None and model.dtype == "bfloat16":
        found.append(f"{gpu.name} has no bf16: weights and cache run in fp16")
    if price is None:
        found.append(f"no on-demand price known for {gpu.name}; give one with --price 2.49/h")
    elif outdated := old(price, today, STALE):
        found.append(f"{outdated}, or give one with --price")
    return found
