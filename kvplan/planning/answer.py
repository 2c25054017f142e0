"""The one line an estimate opens with, and what it must warn of."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from kvplan.kv import techniques
from kvplan.planning.estimate import Query, Row, Site, best, estimate
from kvplan.specs.model import ModelSpec
from kvplan.units import show_bytes, show_tokens, show_usd

#: a price older than this is said to be old [day]
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
        answer=answer(model, query, sites, rows),
        warnings=tuple(warnings(model, query, sites, today)),
    )


def pick_gpu(rows: Sequence[Row]) -> str:
    """Return the GPU to show in detail.

    The cheapest that fits among those whose rates rest on measurements, else any.
    """
    found = best(r for r in rows if r.grounded) or best(rows)
    return found.gpu if found else max(rows, key=lambda r: r.budget.total if r.budget else 0.0).gpu


def answer(model: ModelSpec, query: Query, sites: Sequence[Site], rows: Sequence[Row]) -> str:
    """Say what fits where, which technique helps, and at what cost."""
    size = next(r.stored for r in rows if r.technique == techniques.BASELINE)
    head = f"{model.title} at {show_tokens(query.context)} keeps {show_bytes(size or 0)} of KV cache per sequence."
    titles = {s.gpu.name: s.gpu.title for s in sites}
    base = best(r for r in rows if r.technique == techniques.BASELINE)
    chosen = best(r for r in rows if techniques.drop_in(r.technique))
    if chosen is None:
        other = best(rows)
        if other is None:
            reasons = [r.reason for r in rows if r.reason]
            return f"{head} Nothing fits: {reasons[0]}"
        return f"{head} Uncompressed it does not fit; {holds(other, titles)} with {other.technique} ({other.risk})."
    if base is None:
        held = f"{holds(chosen, titles)} with {chosen.technique} ({chosen.risk}){price_of(chosen)}"
        return f"{head} Uncompressed it does not fit; {held}."
    said = f"{head} {holds(base, titles)} uncompressed{price_of(base)}"
    if chosen.technique == techniques.BASELINE:
        return f"{said}; no drop-in technique asked for makes it cheaper."
    return (
        f"{said}; {chosen.technique} ({chosen.risk}) holds {chosen.sequences} on {chosen.gpus}{price_of(chosen, base)}."
    )


def holds(row: Row, titles: dict[str, str]) -> str:
    return f"{row.gpus}x {titles[row.gpu]} hold{'s' if row.gpus == 1 else ''} {row.sequences} of them"


def price_of(row: Row, against: Row | None = None) -> str:
    if row.cost is None:
        return ""
    low, high = (row.cost.per_query * factor for factor in row.spread)
    said = f", {show_usd(row.cost.per_query)} a query ({show_usd(low)} to {show_usd(high)}"
    if against and against.cost:
        change = row.cost.per_query / against.cost.per_query - 1
        return f"{said}, {change:+.0%})"
    return f"{said})"


def warnings(model: ModelSpec, query: Query, sites: Sequence[Site], today: str) -> list[str]:
    """Return what the reader must know: context beyond the model's, missing or old prices, layers not counted."""
    found = []
    if model.max_context and query.context > model.max_context:
        stated = (
            f"{model.title} is stated for {model.max_context:,} tokens, not {query.context:,}: "
            "the memory is right, the answers would not be."
        )
        found.append(f"{stated} {successor(model)}".strip())
    for site in sites:
        if site.price is None:
            found.append(f"no on-demand price known for {site.gpu.name}; give one with --price 2.49/h")
        elif (date.fromisoformat(today) - date.fromisoformat(site.price.start)).days > STALE:
            found.append(
                f"the {site.gpu.name} price is of {site.price.start} ({site.price.provider}); "
                "check it, or give one with --price"
            )
    return found + list(model.notes)


def successor(model: ModelSpec) -> str:
    """Return which release of the same shape has the longer context, where that is a common mix-up."""
    if model.name in ("llama3-8b", "llama3-70b"):
        return f"{model.name.replace('llama3', 'llama3.1')} has the same shape and 131,072 tokens."
    return ""
