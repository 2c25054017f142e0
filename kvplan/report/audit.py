"""An audit: claim, verdict, arithmetic in one line, source, and the same as JSON."""

from collections.abc import Iterator, Sequence
from math import isfinite

from kvplan.api.audit import Audit
from kvplan.claims.verdicts import FAILS, HOLDS, OPEN, SOMETIMES, VERDICTS, Outcome, Verdict, beyond
from kvplan.report.blocks import Block, Column, Json, Page, Text, notes, records, schema, table
from kvplan.report.sources import brief, source
from kvplan.specs.source import Source
from kvplan.units import show_count

#: how a verdict is counted: one claim, several
COUNTED = {
    HOLDS: ("holds", "hold"),
    SOMETIMES: ("holds under a condition", "hold under a condition"),
    FAILS: ("does not hold", "do not hold"),
    OPEN: ("cannot be checked", "cannot be checked"),
}
LEGEND = (
    "kvplan computes every verdict from the sources below. A claim agrees within 2 percentage points, 10 % of an "
    "amount, 5 % of a ratio of latencies or 0.5 points of a score, unless the file states another tolerance. Times and "
    "costs have an 80 % interval; where only the interval agrees, the claim holds within our error. holds if: the "
    "claim holds for these cases, not for all. docs/audit.md explains what each check computes."
)
#: sources that a row lists; the document has all
MOST = 3


def finite(value: float | None) -> float | None:
    """Return a number that JSON can hold, None for infinity."""
    return value if value is not None and isfinite(value) else None


#: a case: what it was checked on, its figure and range, and whether the claim holds for it
CASE = (
    Column[Outcome](key="on", value=lambda f: dict(f.case.words) if f.case else {}),
    Column[Outcome](key="label", value=lambda f: f.label),
    Column[Outcome](key="holds", value=lambda f: None if f.status == "open" else f.holds),
    Column[Outcome](key="within_our_error", value=lambda f: f.status == "within"),
    Column[Outcome](key="value", value=lambda f: finite(f.measured.value)),
    Column[Outcome](key="low", value=lambda f: finite(f.measured.low)),
    Column[Outcome](key="high", value=lambda f: finite(f.measured.high)),
    Column[Outcome](key="arithmetic", value=lambda f: f.measured.line),
    Column[Outcome](key="reason", value=lambda f: f.measured.reason),
)
#: a claim and its verdict
CLAIM = (
    Column[Verdict](key="id", value=lambda v: v.claim.id),
    Column[Verdict](key="about", value=lambda v: v.claim.about),
    Column[Verdict](key="claim", heading="claim", value=lambda v: v.claim.claim, align="left", wraps=True),
    Column[Verdict](key="verdict", value=lambda v: v.verdict),
    Column[Verdict](key="condition", value=lambda v: v.condition),
    Column[Verdict](key="within_our_error", value=lambda v: v.within),
    Column[Verdict](key="said", heading="verdict", value=lambda v: v.sentence, align="left", wraps=True),
    Column[Verdict](key="arithmetic", heading="arithmetic", value=lambda v: v.arithmetic, align="left", wraps=True),
    Column[Verdict](key="check", value=lambda v: v.claim.check),
    Column[Verdict](key="claimed", value=lambda v: v.claim.claimed),
    Column[Verdict](key="unit", value=lambda v: v.unit),
    Column[Verdict](key="tolerance", value=lambda v: v.tolerance),
    Column[Verdict](key="cases", value=lambda v: records(CASE, v.outcomes)),
    Column[Verdict](key="source", value=lambda v: source(v.claim.source)),
    Column[Verdict](key="rests_on", value=lambda v: [source(s) for s in v.sources]),
)


def page(found: Audit) -> Page:
    """Return the report of `kvplan audit`."""
    claims, verdicts = found.claims, found.verdicts
    order = {ref: n for n, ref in enumerate(dict.fromkeys(brief(s) for v in verdicts for s in cited(v)), 1)}
    short = (f"{text}; a longer context uses its shape only" for text in beyond(v.claim for v in verdicts).values())
    return Page.of(
        Text(counted(verdicts), "answer"),
        Text(f"{claims.title}: {claims.source.ref}."),
        Text(LEGEND, "quiet"),
        tables(verdicts, order),
        notes("Models checked beyond their own context", short),
        notes("Sources", (f"[{n}] {ref}" for ref, n in order.items())),
    )


def tables(verdicts: Sequence[Verdict], order: dict[str, int]) -> Iterator[Block]:
    """Yield a table for each topic; the sources of a row are numbers of `order`."""

    def refs(v: Verdict) -> str:
        numbers = sorted({order[brief(s)] for s in cited(v)})
        return " ".join([f"[{n}]" for n in numbers[:MOST]] + ["..."] * (len(numbers) > MOST))

    columns = (*CLAIM, Column[Verdict](heading="source", value=refs, align="left", wraps=True))
    for about in dict.fromkeys(v.claim.about for v in verdicts):
        yield table(about, columns, [v for v in verdicts if v.claim.about == about])


def cited(v: Verdict) -> tuple[Source, ...]:
    """Return the sources of a verdict, else the source of its claim."""
    return v.sources or (v.claim.source,)


def counted(verdicts: Sequence[Verdict]) -> str:
    """Return how many claims hold, and how many do not."""
    parts = []
    for word, (one, several) in COUNTED.items():
        number = sum(v.verdict == word for v in verdicts)
        if number:
            parts.append(f"{number} {one if number == 1 else several}")
    return f"{show_count(len(verdicts), 'claim')}: {', '.join(parts)}."


def document(found: Audit) -> Json:
    """Return the document of `kvplan audit`."""
    claims, verdicts = found.claims, found.verdicts
    return schema(
        "audit",
        name=claims.name,
        title=claims.title,
        source=source(claims.source),
        counts={word: sum(v.verdict == word for v in verdicts) for word in VERDICTS},
        claims=records(CLAIM, verdicts),
    )
