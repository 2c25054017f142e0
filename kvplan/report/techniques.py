"""`kvplan techniques` as a report and JSON: one table, what the losses rest on, and who serves what."""

from collections.abc import Callable, Iterator, Sequence

from kvplan.planning.choosing import LITTLE, choose
from kvplan.planning.ratios import Ratio
from kvplan.planning.techniques import TechniqueSurvey, Weighed
from kvplan.planning.tiers import Waiting
from kvplan.report.blocks import Bars, Block, Column, Json, Measure, Page, Text, notes, records, schema, table
from kvplan.report.evaluations import CACHE
from kvplan.report.sources import source
from kvplan.specs.quality import TASKS
from kvplan.units import DAY, HOUR, show_bytes, show_count, show_percent, show_time, show_tokens, show_usd

LEGEND = (
    "Kept, read: bytes of a sequence, and of a decode step, over the uncompressed ones. Loss: expected, and the most "
    "it may be (80 % interval); ?: not known. Alone, at load: time of a decode step over the uncompressed one, with "
    "one query and with as many as fit uncompressed; *: how fast such a cache is read was not measured; -: it is not "
    "for this model, or does not fit."
)
#: where no engine serves a technique
NONE = "none"


def ratio(r: Ratio | None) -> str:
    """Return a ratio, marked where it was not measured."""
    return "-" if r is None else f"{r.middle:.2f}{'' if r.measured else '*'}"


def engines(w: Weighed) -> str:
    """Return the engines that serve a technique now, without release."""
    return ", ".join(e.partition(" from ")[0] for e in w.engines if ", gone from" not in e) or NONE


def lost(w: Weighed) -> str:
    """Return the loss expected, '?' where it is not known."""
    if w.row.layout is None or not w.quality.high:
        return "-" if w.row.layout is None else "none"
    return "?" if w.quality.drop is None else show_percent(w.quality.drop, 1)


def most(w: Weighed) -> str:
    """Return the most a technique may lose."""
    if w.row.layout is None or not w.quality.high:
        return ""
    known = w.quality.high < 1 or w.quality.drop is not None or w.quality.low
    return show_percent(w.quality.high, 0) if known else "?"


def columns() -> tuple[Column[Weighed], ...]:
    """Return the columns, those with a heading in the report as well."""
    ends = ("lone", "load")
    return (
        Column[Weighed](key="technique", heading="technique", value=lambda w: w.row.technique, align="left"),
        Column[Weighed](heading="kept", value=lambda w: w.stored, show=show_percent),
        Column[Weighed](heading="read", value=lambda w: w.read, show=show_percent),
        Column[Weighed](heading="served by", value=engines, align="left", wraps=True,
                        cell=lambda w: "all" if w.row.technique == "baseline" else engines(w)),
        Column[Weighed](heading="loss", value=lambda w: w.quality.drop, cell=lost),
        Column[Weighed](heading="at most", value=lambda w: w.quality.high, cell=most),
        Column[Weighed](heading="alone", value=lambda w: w.lone, cell=lambda w: ratio(w.lone)),
        Column[Weighed](heading="at load", value=lambda w: w.load, cell=lambda w: ratio(w.load)),
        *(Column[Weighed](key=c.key, value=lambda w, c=c: c.value(w.row)) for c in CACHE),  # type: ignore[misc]
        Column[Weighed](key="kv_bytes_on_host", value=lambda w: w.hosted),
        Column[Weighed](key="engines", value=lambda w: list(w.engines)),
        Column[Weighed](key="served_by_engine", value=lambda w: w.here),
        *(
            Column[Weighed](key=f"{end}.{name}", value=lambda w, e=end, n=name: getattr(getattr(w, e), n, None))  # type: ignore[misc]
            for end in ends
            for name in ("middle", "low", "high", "measured")
        ),
        *(
            Column[Weighed](key=f"quality.{name}", value=lambda w, n=name: getattr(w.quality, n))  # type: ignore[misc]
            for name in ("drop", "low", "high", "known", "basis")
        ),
        Column[Weighed](key="quality.caveats", value=lambda w: list(w.quality.caveats)),
        Column[Weighed](key="needs", value=lambda w: list(w.row.needs)),
        Column[Weighed](key="feasible", value=lambda w: w.row.feasible),
        Column[Weighed](key="reason", value=lambda w: w.row.reason),
    )  # fmt: skip


def show_span(seconds: float) -> str:
    """Return a span of time in hours or days."""
    return f"{seconds / DAY:,.0f} days" if seconds >= 2 * DAY else f"{seconds / HOUR:,.1f} h"


TIER = (
    Column[Waiting](key="tier", heading="tier", value=lambda w: w.title, align="left"),
    Column[Waiting](key="room", heading="capacity", value=lambda w: w.room, show=show_bytes),
    Column[Waiting](key="found", heading="hits", value=lambda w: w.found, show=show_percent),
    Column[Waiting](key="transfer", heading="transfer", value=lambda w: w.transfer, show=show_time, absent="-"),
    Column[Waiting](key="ttft_hit", heading="TTFT hit", value=lambda w: w.hit, show=show_time),
    Column[Waiting](key="ttft_miss", heading="TTFT miss", value=lambda w: w.miss, show=show_time),
    Column[Waiting](key="usd_per_month", heading="a month", value=lambda w: w.month, show=show_usd, absent="-"),
    Column[Waiting](key="worth_keeping", heading="keep", value=lambda w: w.worth, show=show_span, absent="-"),
    Column[Waiting](key="found_by", value=lambda w: w.by),
    Column[Waiting](key="engines", value=lambda w: w.engines),
    Column[Waiting](key="basis", value=lambda w: w.basis),
)
FOUND = {
    "Che": "share of prefixes still there when the next question to them comes, at the load of a full replica (Che's "
    "approximation)",
    "trace": "of the trace's tokens that come again, the share still there, all its requests on one replica",
}
TIERS_SAID = (
    "Capacity: of a replica, there or above: a tier holds what those above it do. Hits: {found}. Transfer: of one "
    "prefix to the GPUs. TTFT: of a lone question, its prefix found there (hit) or computed again (miss). Keep: how "
    "long a prefix may be kept there before computing it again is cheaper."
)


def tier_blocks(t: TechniqueSurvey) -> tuple[Block | None, ...]:
    """Return where prefixes may wait, nothing where none are shared."""
    if not t.tiers:
        return ()
    words = TIERS_SAID.format(found=FOUND[t.tiers[0].by])
    if any(w.month == 0 for w in t.tiers):
        words += " $0.00 a month: the price of the GPU states this memory and includes it."
    return (table("Tiers that can keep an uncompressed prefix", TIER, t.tiers), Text(words, "quiet"))


def drawn(t: TechniqueSurvey) -> Iterator[Bars]:
    """Yield what a decode step reads, and what is lost with its 80 % interval, technique by technique."""
    able = [w for w in t.rows if w.row.layout is not None]
    read = (Measure(w.row.technique, 100 * w.read, show_percent(w.read)) for w in able if w.read is not None)
    yield Bars("What a decode step reads of the uncompressed cache", "%", tuple(read))
    known = (
        Measure(w.row.technique, 100 * w.quality.drop, lost(w), 100 * w.quality.low, 100 * w.quality.high)
        for w in able
        if w.quality.drop is not None
    )
    yield Bars("Quality lost on this workload's tasks, with its 80 % interval", "%", tuple(known))


def headline(t: TechniqueSurvey) -> str:
    """Return what is asked: the tasks, and whether questions are known when a cache is compressed."""
    w, query = t.workload, t.estimate.query
    when = "known" if w.question_seen else "not known"
    again = "" if w.question_seen else f" ({show_percent(w.prefix_share)} of a prompt serves several)"
    seen = f"its questions are {when} when the cache is compressed{again}"
    first = t.rows[0].row
    place = f"{first.gpus}x {t.estimate.sites[0].gpu.title}" if first.gpus else t.estimate.sites[0].gpu.title
    batch = f", {show_count(first.batch, 'request')} at load" if first.batch else ""
    held = show_bytes(first.stored) if first.stored else "no bytes"
    return (
        f"{w.title} on {t.model.title}: {TASKS[w.task].title}; {seen}. A sequence of {show_tokens(query.context)} "
        f"tokens holds {held} uncompressed; times are on {place}{batch}, losses at "
        f"{show_tokens(int(w.context(w.slo.percentile)))} tokens."
    )


def images(t: TechniqueSurvey) -> str:
    """Return what cross-attention holds beside the prompt, '' for nothing."""
    if t.beside is None:
        return ""
    held = f"Cross-attention holds {show_bytes(t.beside.bytes)} for the images of a request"
    if t.beside.questions <= 1:
        return f"{held}, uncompressed."
    return (
        f"{held}, uncompressed: {show_bytes(t.beside.each)} a question where {t.beside.questions:g} questions to the "
        "same images share one copy. The times here are of one copy for every request."
    )


def advice(t: TechniqueSurvey) -> Iterator[str]:
    """Yield what the table speaks for, a sentence a point."""
    choice = choose(t.rows[1:])
    engine = t.engine.title
    if choice.good:
        first, *others = choice.good
        besides = f" {joined(others)} would do as well." if others else ""
        unmeasured = "" if first.load and first.load.measured else ", as its bytes say: nobody measured it"
        yield (
            f"{first.row.technique} is the first to try: {engine} serves it, it keeps "
            f"{show_percent(first.stored or 0)} of the bytes, is expected to lose {lost(first)} (at most "
            f"{most(first)}), and a decode step at load takes "
            f"{first.load.middle if first.load else 1:.2f} of the time{unmeasured}.{besides}"
        )
    else:
        yield f"{engine} serves nothing that is expected to lose {show_percent(LITTLE)} or less here and is no slower."
    if choice.lossy:
        yield f"{joined(choice.lossy, lost)} lose more than {show_percent(LITTLE)}."
    if choice.slow:
        times = joined(choice.slow, lambda w: f"{w.load.middle if w.load else 1:.1f} times")
        yield f"Steps at load are longer with {times}: they buy room for more requests, and no speed."
    if choice.elsewhere:
        kept = joined(choice.elsewhere[:3], lambda w: f"{show_percent(w.stored or 0)}, loss {lost(w)}")
        yield f"{engine} does not serve {kept}, which would keep fewer bytes at little loss."
    if choice.ruinous:
        why = "" if t.workload.question_seen else ": those that choose tokens do so before the question is known"
        yield f"Not for these tasks: {joined(choice.ruinous, lost)}{why}."


def joined(rows: Sequence[Weighed], figure: Callable[[Weighed], str] | None = None) -> str:
    """Return techniques in a row, each with a figure in brackets."""
    names = [w.row.technique + (f" ({figure(w)})" if figure else "") for w in rows]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def rests(t: TechniqueSurvey) -> Iterator[str]:
    """Yield what each loss rests on."""
    for w in t.rows[1:]:
        if w.row.layout and w.quality.high:
            yield f"{w.row.technique}: {w.quality.basis}"


def refused(t: TechniqueSurvey) -> Iterator[str]:
    """Yield why techniques are not for this model or this GPU."""
    for w in t.rows[1:]:
        if w.row.reason:
            yield f"{w.row.technique}: {w.row.reason}"


def page(t: TechniqueSurvey) -> Page:
    """Return the report."""
    first, *others = advice(t)
    served = (f"{w.row.technique}: {'; '.join(w.engines)}" for w in t.rows[1:] if w.engines)
    return Page.of(
        Text(first, "answer"),
        Text(headline(t), "quiet"),
        *(Text(f"Note: {warning}.", "warning") for warning in t.warnings),
        table("", columns(), t.rows, tone=lambda w: "best" if w.here and w.row.feasible else "plain"),
        Text(LEGEND, "quiet"),
        drawn(t),
        notes("Of the others", others),
        Text(caption) if (caption := images(t)) else None,
        *tier_blocks(t),
        notes("What the losses rest on", rests(t)),
        notes("Served by (~: a date from memory, without a source)", served),
        notes("Not here", refused(t)),
    )


def document(t: TechniqueSurvey) -> Json:
    """Return the document."""
    return schema(
        "techniques",
        model=t.model.name,
        workload=t.workload.name,
        task=t.workload.task,
        question_seen=t.workload.question_seen,
        engine=t.engine.spelled,
        context=t.estimate.query.context,
        gpu=t.estimate.sites[0].gpu.name,
        **({"warnings": list(t.warnings)} if t.warnings else {}),
        rows=records(columns(), t.rows),
        choose=list(advice(t)),
        tiers=records(TIER, t.tiers),
        cross_attention=t.beside
        and {"bytes": t.beside.bytes, "questions": t.beside.questions, "bytes_per_question": t.beside.each},
        sources=[source(s) for s in dict.fromkeys(s for w in t.rows for s in w.quality.source)],
    )
