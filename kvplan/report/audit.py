"""An audit: how many claims hold and those that matter most; in full, every claim with its arithmetic and sources."""

from collections.abc import Iterable, Sequence
from math import isfinite

from kvplan.api.audit import Audit
from kvplan.claims.verdicts import FAILS, HOLDS, IN_PART, OPEN, VERDICTS, WITHIN, Outcome, Verdict, beyond
from kvplan.report.blocks import (
    Bars,
    Block,
    Column,
    Heading,
    Json,
    Measure,
    Page,
    Table,
    Text,
    grid,
    notes,
    records,
    schema,
    table,
)
from kvplan.report.sources import brief, source
from kvplan.specs.source import Source
from kvplan.units import show_count

#: how a verdict is counted: one claim, several
COUNTED = {
    HOLDS: ("holds", "hold"),
    IN_PART: ("holds in part", "hold in part"),
    WITHIN: ("agrees only within our error", "agree only within our error"),
    FAILS: ("does not hold", "do not hold"),
    OPEN: ("cannot be checked", "cannot be checked"),
}
#: the verdicts as headings of counts
COLUMNS = ("hold", "in part", "within error", "do not hold", "cannot be checked")
#: what the verdicts mean
LEGEND = (
    "kvplan computes every verdict. Holds in part: in some of the cases checked, which are named. Within our error: "
    "only the 80 % interval of a time, a cost or a score agrees; the claim can be neither confirmed nor refuted."
)
#: how near is near enough, and where to read more
TOLERANCES = (
    "A claim agrees within 2 percentage points, 10 % of an amount, 5 % of a ratio of latencies or 0.5 points of a "
    "score, unless the file states another tolerance. docs/audit.md explains what each check computes."
)
#: claims that a summary shows
HEADLINES = 10
#: the order of the claims that a summary shows, where the file names none as headlines
SEVERITY = (FAILS, WITHIN, IN_PART, HOLDS, OPEN)
#: sources that a row lists; the document has all
MOST = 3


def finite(value: float | None) -> float | None:
    """Return a number that JSON can hold, None for infinity."""
    return value if value is not None and isfinite(value) else None


#: a case: what it was checked on, its figure and range, and whether the claim holds for it
CASE = (
    Column[Outcome](key="on", value=lambda o: dict(o.case.words) if o.case else {}),
    Column[Outcome](key="label", value=lambda o: o.label),
    Column[Outcome](key="holds", value=lambda o: {"yes": True, "no": False}.get(o.status)),
    Column[Outcome](key="within_our_error", value=lambda o: o.status == "within"),
    Column[Outcome](key="value", value=lambda o: finite(o.answer.value)),
    Column[Outcome](key="low", value=lambda o: finite(o.answer.low)),
    Column[Outcome](key="high", value=lambda o: finite(o.answer.high)),
    Column[Outcome](key="arithmetic", value=lambda o: o.answer.line),
    Column[Outcome](key="reason", value=lambda o: o.answer.reason),
)
CLAIMED = Column[Verdict](key="claim", heading="claim", value=lambda v: v.claim.claim, align="left", wraps=True)
SENTENCE = Column[Verdict](key="sentence", heading="verdict", value=lambda v: v.sentence, align="left", wraps=True)
#: a claim and its verdict
CLAIM = (
    Column[Verdict](key="id", value=lambda v: v.claim.id),
    Column[Verdict](key="about", value=lambda v: v.claim.about),
    CLAIMED,
    Column[Verdict](key="verdict", value=lambda v: v.verdict),
    Column[Verdict](key="condition", value=lambda v: v.condition),
    Column[Verdict](key="within_our_error", value=lambda v: bool(v.of_status("within"))),
    SENTENCE,
    Column[Verdict](key="headline", value=lambda v: v.claim.headline),
    Column[Verdict](key="arithmetic", heading="arithmetic", value=lambda v: v.arithmetic, align="left", wraps=True),
    Column[Verdict](key="check", value=lambda v: v.claim.check),
    Column[Verdict](key="claimed", value=lambda v: v.claim.claimed),
    Column[Verdict](key="unit", value=lambda v: v.unit),
    Column[Verdict](key="tolerance", value=lambda v: v.tolerance),
    Column[Verdict](key="cases", value=lambda v: records(CASE, v.outcomes)),
    Column[Verdict](key="source", value=lambda v: source(v.claim.source)),
    Column[Verdict](key="rests_on", value=lambda v: [source(s) for s in v.sources]),
)
#: a claim in the summary
HEADLINE = (CLAIMED, SENTENCE, Column[Verdict](heading="arithmetic", value=lambda v: v.brief, align="left", wraps=True))


def page(audit: Audit, *, full: bool = False) -> Page:
    """Return the report of `kvplan audit`: a summary, or with `full` every claim."""
    claims, verdicts = audit.claims, audit.verdicts
    return Page.of(
        Text(count_sentence(verdicts), "answer"),
        Text(f"{claims.title}: {claims.source.ref}."),
        Text(LEGEND, "quiet"),
        verdict_bars(verdicts),
        topic_table(verdicts) if len(topics(verdicts)) > 1 else None,
        every_claim(verdicts) if full else summary(verdicts),
    )


def topics(verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    """Return what the claims are about, in the file's order."""
    return tuple(dict.fromkeys(v.claim.about for v in verdicts))


def counts(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """Return how many claims have each verdict."""
    words = [v.verdict for v in verdicts]
    return {word: words.count(word) for word in VERDICTS}


def verdict_bars(verdicts: Sequence[Verdict]) -> Bars:
    """Return how many claims have each verdict."""
    named = zip(COLUMNS, counts(verdicts).values(), strict=True)
    return Bars("Verdicts", "claims", tuple(Measure(name, number, f"{number}") for name, number in named))


def topic_table(verdicts: Sequence[Verdict]) -> Table:
    """Return the counts of the verdicts on each topic."""
    by_topic = {topic: counts(v for v in verdicts if v.claim.about == topic) for topic in topics(verdicts)}
    headings = [Heading(text, "right") for text in ("claims", *COLUMNS)]
    rows = [
        (topic or "other", f"{sum(number.values())}", *(f"{number[word] or '-'}" for word in VERDICTS))
        for topic, number in by_topic.items()
    ]
    return grid("Verdicts by topic", ("topic", *headings), rows)


def summary(verdicts: Sequence[Verdict]) -> Iterable[Block]:
    """Yield the claims that matter most, and how to see the others."""
    chosen = headlines(verdicts)
    title = "The claims that matter most" if len(chosen) < len(verdicts) else "The claims"
    yield table(title, HEADLINE, chosen)
    yield Text(f"full=yes lists all {show_count(len(verdicts), 'claim')} with every case and its sources.", "quiet")


def headlines(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return the claims that a summary shows, in the file's order: its headlines, then those that do not hold."""
    ranked = sorted(verdicts, key=lambda v: (not v.claim.headline, SEVERITY.index(v.verdict)))[:HEADLINES]
    return [v for v in verdicts if v in ranked]


def every_claim(verdicts: Sequence[Verdict]) -> Iterable[Block]:
    """Yield every claim by topic, and the sources that rows cite by number."""
    order = {ref: n for n, ref in enumerate(dict.fromkeys(brief(s) for v in verdicts for s in citations(v)), 1)}

    def numbers(v: Verdict) -> str:
        places = sorted({order[brief(s)] for s in citations(v)})
        return " ".join([f"[{n}]" for n in places[:MOST]] + ["..."] * (len(places) > MOST))

    columns = (*CLAIM, Column[Verdict](heading="source", value=numbers, align="left", wraps=True))
    yield Text(TOLERANCES, "quiet")
    for topic in topics(verdicts):
        yield table(topic, columns, [v for v in verdicts if v.claim.about == topic])
    short = (f"{text}; a longer context uses its shape only" for text in beyond(v.claim for v in verdicts).values())
    yield notes("Models checked beyond their own context", short)
    yield notes("Sources", (f"[{n}] {ref}" for ref, n in order.items()))


def citations(v: Verdict) -> tuple[Source, ...]:
    """Return the sources of a verdict, else the source of its claim."""
    return v.sources or (v.claim.source,)


def count_sentence(verdicts: Sequence[Verdict]) -> str:
    """Return how many claims hold, and how many do not."""
    parts = []
    for word, number in counts(verdicts).items():
        one, several = COUNTED[word]
        if number:
            parts.append(f"{number} {one if number == 1 else several}")
    return f"{show_count(len(verdicts), 'claim')}: {', '.join(parts)}."


def document(audit: Audit) -> Json:
    """Return the document of `kvplan audit`."""
    claims, verdicts = audit.claims, audit.verdicts
    topic_counts = [
        {"about": topic, "counts": counts(v for v in verdicts if v.claim.about == topic)} for topic in topics(verdicts)
    ]
    return schema(
        "audit",
        name=claims.name,
        title=claims.title,
        source=source(claims.source),
        counts=counts(verdicts),
        topics=topic_counts,
        claims=records(CLAIM, verdicts),
    )
