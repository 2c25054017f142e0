"""Two recommendations side by side, as the documents that were saved: what changed, and by how much."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

Document = Mapping[str, Any]
Value = float | str | None
#: what is compared of two plans: its name, where it stands in the document, and what it is
PLAN = (
    ("technique", "technique", "word"), ("weights", "weights", "word"), ("GPU", "gpu", "word"),
    ("replicas", "replicas", "count"), ("TP", "tp", "count"), ("DP", "dp", "count"), ("GPUs", "gpus", "count"),
    ("requests in flight each", "requests_in_flight", "count"),
    ("TTFT", "ttft", "time"), ("TPOT", "tpot", "time"), ("end to end", "e2e", "time"),
    ("a query", "usd_per_query.expected", "usd"), ("P10", "usd_per_query.p10", "usd"),
    ("P90", "usd_per_query.p90", "usd"), ("a million tokens", "usd_per_million_tokens", "usd"),
    ("a month", "usd_per_month", "usd"), ("limits kept", "slo_probability", "share"),
    ("quality lost", "quality.drop", "share"), ("energy of a query", "joules_per_query", "energy"),
)  # fmt: skip
#: and of two questions
QUESTION = (
    ("model", "model", "word"), ("workload", "workload.name", "word"), ("objective", "objective", "word"),
    ("queries a day", "workload.queries_per_day", "count"), ("tokens in", "workload.input_tokens", "count"),
    ("tokens out", "workload.output_tokens", "count"), ("in the prefix cache", "workload.prefix_share", "share"),
    ("TTFT limit", "limits.ttft", "time"), ("TPOT limit", "limits.tpot", "time"),
    ("end-to-end limit", "limits.e2e", "time"), ("percentile", "limits.percentile", "share"),
    ("quality limit", "limits.max_quality_drop", "share"), ("GPUs limit", "limits.gpus", "count"),
    ("confidence", "limits.confidence", "share"), ("prices of", "day", "word"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Change:
    """One figure of both: a number in base units or a word, None where it is unknown or there is none.

    `kind` is word, count, time [s], usd, share or energy [J].
    """

    name: str
    kind: str
    before: Value
    after: Value

    @property
    def changed(self) -> bool:
        """Whether the figure differs by more than rounding."""
        if isinstance(self.before, float) and isinstance(self.after, float):
            return abs(self.after - self.before) > 1e-9 * max(abs(self.before), abs(self.after))
        return self.before != self.after

    @property
    def difference(self) -> float | None:
        """The figure after minus the figure before, None unless both are numbers."""
        if not isinstance(self.before, float) or not isinstance(self.after, float):
            return None
        return self.after - self.before

    @property
    def relative(self) -> float | None:
        """Return the difference over what it was, None where it was nothing or is no amount."""
        found = self.difference
        return None if found is None or not self.before else found / float(self.before)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two recommendations: what was asked differently, the plans, and where each dollar of a query goes."""

    names: tuple[str, str]
    question: tuple[Change, ...]
    plan: tuple[Change, ...]
    lines: tuple[Change, ...]
    reasons: tuple[str, str]

    @property
    def changed(self) -> bool:
        """Whether any figure differs."""
        return any(change.changed for change in (*self.question, *self.plan, *self.lines))


def compare(before: Document, after: Document, names: tuple[str, str]) -> Comparison:
    """Return what differs between two documents of `kvplan recommend`."""
    plans = tuple(found if isinstance(found := d.get("recommended"), Mapping) else {} for d in (before, after))
    asked = tuple(change for change in figures((before, after), QUESTION) if change.changed)
    return Comparison(
        names=names,
        question=asked,
        plan=tuple(figures(plans, PLAN)),
        lines=tuple(bill_lines(*plans)),
        reasons=(reason_of(before), reason_of(after)),
    )


def reason_of(document: Document) -> str:
    """Return why a recommendation found no plan, '' where it found one."""
    found = document.get("reason")
    return found[:ASIDE] if isinstance(found, str) else ""


def figures(documents: Sequence[Document], wanted: Iterable[tuple[str, str, str]]) -> Iterable[Change]:
    """Yield the figures that either document has."""
    for name, path, kind in wanted:
        before, after = (value(at(document, path), kind) for document in documents)
        if before is not None or after is not None:
            yield Change(name=name, kind=kind, before=before, after=after)


def at(document: Document, path: str) -> object:
    """Return what stands at a dotted path, None where there is nothing."""
    found: object = document
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


#: letters of a technique, a GPU, a name in a saved plan
WORD = 200
#: letters of a reason
ASIDE = 2000


def value(found: object, kind: str) -> Value:
    """Return a figure of a document that may not be ours: a word, a finite number, or None."""
    if kind == "word":
        return found[:WORD] if isinstance(found, str) else None
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not isfinite(found):
        return None
    return float(found)


def bill_lines(before: Document, after: Document) -> Iterable[Change]:
    """Yield the lines of both bills per query, a line that one lacks as none. [USD]"""
    bills = [dict(line_of(plan)) for plan in (before, after)]
    for name in dict.fromkeys((*bills[0], *bills[1])):
        yield Change(name=name, kind="usd", before=bills[0].get(name), after=bills[1].get(name))


def line_of(plan: Document) -> Iterable[tuple[str, float]]:
    """Yield (name, cost per query) of each line of a plan's bill. [USD]"""
    lines = plan.get("lines")
    for line in lines if isinstance(lines, list) else []:
        name, amount = at(line, "name"), value(at(line, "usd_per_query"), "usd")
        if isinstance(name, str) and isinstance(amount, float):
            yield name[:WORD], amount
