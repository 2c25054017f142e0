"""The first screens of a recommendation: what one takes away and decides by; the rest stands in the whole report."""

from collections.abc import Sequence
from dataclasses import replace

from kvplan.planning.outcome import Rejected
from kvplan.planning.plan import Plan
from kvplan.planning.recommend import Recommendation
from kvplan.report import launch
from kvplan.report.blocks import Page, Table, Text, merged, notes, table, warned
from kvplan.report.confirm import confirmed_table, confirmed_words
from kvplan.report.cost import bill_table, terms_table
from kvplan.report.headline import answer, asked, rests_on
from kvplan.report.plans import (
    BARRED,
    GPUS,
    columns,
    engines_table,
    legend,
    remedies_table,
    remedies_words,
    variations_table,
)
from kvplan.report.recommend import by_gpu, named, priced_once, speculative
from kvplan.units import show_count

#: reasons, GPUs and rejected options that are shown
REASONS, OTHERS, REJECTED = 6, 6, 8
#: figures of plans that fit 80 columns
FIGURES = ("technique", "gpu", "weights", "gpus", "usd_per_query", "quality.drop", "slo_probability")
#: the column of the bill that says how each line was computed
BASIS = "basis"


def page(r: Recommendation) -> Page:
    """Return the answer, its range and limits, the command, the bill, the reasons, and the next best on each GPU."""
    shown = by_gpu(r, OTHERS) if r.alternatives else ()
    return Page.of(
        Text(answer(r), "answer"),
        warned(r.warnings),
        Text(asked(r), "quiet"),
        rests_on(r),
        launch.started(r),
        remedies_table(r),
        remedies_words(r),
        variations_table(r),
        engines_table(r),
        confirmed_table(r.confirmed),
        confirmed_words(r.confirmed, r.demand),
        without(bill_table(r), BASIS),
        terms_table(r, narrow=True),
        notes("Speculative decoding", speculative(r.plan)),
        notes("Why", few([f"- {line}" for line in r.why], REASONS, "reason")),
        side_by_side(shown, r),
        legend(shown, r.demand.limits, timed=False) if shown else None,
        Text(priced_once(r, shown), "quiet"),
        (Text(f"No plan on {line}.", "quiet") for line in (barred(r) if r.plan else ())),
        None if r.plan else notes("What cannot be used", unused(r)),
        Text(more(r), "quiet"),
    )


def without(bill: Table | None, heading: str) -> Table | None:
    """Return a table without the column of this heading."""
    if bill is None:
        return None
    kept = [n for n, h in enumerate(bill.headings) if h.text != heading]
    rows = tuple(replace(row, cells=tuple(row.cells[n] for n in kept)) for row in bill.rows)
    return replace(bill, headings=tuple(bill.headings[n] for n in kept), rows=rows)


def few(lines: Sequence[str], most: int, what: str) -> list[str]:
    """Return the first lines, and how many more there are."""
    left = len(lines) - most
    return [*lines[:most], *([f"- and {show_count(left, f'more {what}')}"] if left > 0 else [])]


def side_by_side(plans: Sequence[Plan], r: Recommendation) -> Table | None:
    """Return the best plan on each GPU in columns that fit a narrow terminal, None where there is no other."""
    if not plans:
        return None
    shown = [c for c in columns(plans, r.demand.limits) if c.key in FIGURES]
    title = GPUS if r.plan else BARRED
    return table(title, shown, plans, keys=2, tone=lambda p: "best" if p == r.plan else "plain", like=r.per_query)


def barred(r: Recommendation) -> list[str]:
    """Return why the GPUs that the question names are in no plan, nothing where it names none."""
    return merged((named(x), x.reason) for x in r.rejected if r.named and of_gpu(x))


def unused(r: Recommendation) -> list[str]:
    """Return why nothing can be planned with: each GPU that was named, and the first of the other reasons."""
    lines = barred(r)
    others = merged((named(x), x.reason) for x in r.rejected if not (r.named and of_gpu(x)))
    return [*lines, *few(others, max(REJECTED - len(lines), 1), "reason")]


def of_gpu(x: Rejected) -> bool:
    """Return whether a reason is that of a GPU, whatever runs on it."""
    return bool(x.gpu and not x.technique and not x.weights)


def more(r: Recommendation) -> str:
    """Return what the whole report has besides."""
    if r.plan is None:
        return "full=true prints the whole report: every option that cannot be used, and where the figures come from."
    return (
        "full=true prints the whole report: how each line of the bill was computed, what moves the cost, "
        "every technique, the Pareto front, what cannot be used, quality, and where the figures come from."
    )
