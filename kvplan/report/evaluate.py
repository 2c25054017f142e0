"""`kvplan evaluate` in words, tables, a chart and JSON: what techniques keep of answers, and what their caches hold."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kvplan.api.evaluate import FAMILIES, Evaluated
from kvplan.report.blocks import Block, Chart, Column, Json, Page, Series, Text, notes, records, schema, table
from kvplan.units import show_bytes, show_count, show_percent, show_time, show_tokens

if TYPE_CHECKING:
    from kvplan.compress.evaluation import Memories, TaskScore


def figure(task: str, value: float) -> str:
    """Return a score as it is read: shares in percent, distances and perplexities as numbers."""
    if task in ("perplexity", "divergence"):
        return f"{value:,.2f}" if value < 1000 else f"{value:,.0f}"
    return show_percent(value)


SCORE: tuple[Column["TaskScore"], ...] = (
    Column(key="technique", heading="technique", value=lambda s: s.technique, align="left"),
    Column(key="task", heading="task", value=lambda s: s.task, align="left"),
    Column(key="question", heading="question", value=lambda s: s.protocol, align="left"),
    Column(key="length", heading="tokens", value=lambda s: s.length, show=show_tokens),
    Column(key="score", heading="score", value=lambda s: s.value.mean, cell=lambda s: figure(s.task, s.value.mean)),
    Column(key="low", value=lambda s: s.value.low),
    Column(key="high", value=lambda s: s.value.high),
    Column(
        heading="95 % interval",
        value=lambda s: s.value.low,
        cell=lambda s: f"{figure(s.task, s.value.low)} to {figure(s.task, s.value.high)}",
    ),
    Column(
        key="baseline", heading="uncompressed", value=lambda s: s.baseline, cell=lambda s: figure(s.task, s.baseline)
    ),
    Column(key="by_depth", value=lambda s: [None if d != d else d for d in s.by_depth] or None),
    Column(key="samples", value=lambda s: s.samples),
)
MEMORY: tuple[Column["Memories"], ...] = (
    Column(key="technique", heading="technique", value=lambda m: m.technique, align="left"),
    Column(key="length", heading="tokens", value=lambda m: m.length, show=show_tokens),
    Column(key="sequences", value=lambda m: m.sequences),
    Column(key="bytes", heading="held", value=lambda m: m.stored, show=show_bytes),
    Column(key="planned_bytes", heading="planned", value=lambda m: m.planned, show=show_bytes),
    Column(heading="difference", value=lambda m: m.stored - m.planned, show=lambda b: f"{b:+,.0f} B" if b else "0 B"),
    Column(heading="of uncompressed", value=lambda m: m.stored / m.baseline, show=lambda x: show_percent(x, 1)),
    Column(key="position_bytes", heading="positions", value=lambda m: m.beside, show=show_bytes),
    Column(key="prefill_seconds", heading="prefill", value=lambda m: m.prefill or None, show=show_time),
    Column(key="step_seconds", heading="step", value=lambda m: m.step or None, show=show_time),
)
TIMES: tuple[Column["Memories"], ...] = (
    MEMORY[0],
    MEMORY[1],
    Column(heading="prefill", value=lambda m: m.prefill or None, show=show_time),
    Column(
        key="prefill_seconds_by_profile", heading="by profile", value=lambda m: m.prefill_by_profile, show=show_time
    ),
    Column(heading="decode step", value=lambda m: m.step or None, show=show_time),
    Column(key="step_seconds_by_profile", heading="by profile", value=lambda m: m.step_by_profile, show=show_time),
)


def page(e: Evaluated) -> Page:
    """Return the report: what the first technique keeps, scores, bytes, a chart."""
    done = e.outcome
    return Page.of(
        Text(headline(e), "answer"),
        Text("Stopped before the end: what was measured until then follows.", "warning") if done.stopped else None,
        table("Scores", SCORE, done.scores, keys=2) if done.scores else None,
        depths(done.scores),
        table("Cache after the text was read", MEMORY, done.memories, keys=2) if done.memories else None,
        *times(done.memories),
        notes("What differs from the planner, and why", differences(done.memories)),
        chart(done.scores, done.memories),
        notes("Layers left as they are", (f"{name}: {why}" for name, why in done.left)),
        notes("Not run", (f"{name}: {reason(name, why)}" for name, why in done.refused)),
        Text(how(e), "quiet"),
        Text(f"The scores were written to {e.output}, a quality file that kvplan recommend plans with.")
        if e.output
        else None,
        Text(f"No quality file was written: {e.unwritten}.", "warning") if e.unwritten else None,
    )


def reason(name: str, why: str) -> str:
    """Return why a technique does not run, without the name in front that is said already."""
    for prefix in (name, name.partition(":")[0]):
        why = why.removeprefix(f"{prefix}: ")
    return why


def headline(e: Evaluated) -> str:
    """Return what the technique that holds least keeps, in a sentence."""
    tasks = [s for s in e.outcome.scores if s.technique != "baseline" and not s.technique.startswith("random:")]
    bytes_of = {(m.technique, m.length): m for m in e.outcome.memories}
    ranked = [s for s in tasks if (s.technique, s.length) in bytes_of]
    if not ranked:
        return f"{e.model.title}: nothing was measured under a technique."
    least = min(ranked, key=lambda s: bytes_of[s.technique, s.length].stored / bytes_of[s.technique, s.length].baseline)
    held = bytes_of[least.technique, least.length]
    words = ", ".join(
        f"{s.task} {figure(s.task, s.value.mean)} ({figure(s.task, s.baseline)} uncompressed)"
        for s in ranked
        if (s.technique, s.length, s.protocol) == (least.technique, least.length, least.protocol)
    )
    return (
        f"{e.model.title} under {least.technique} holds {show_percent(held.stored / held.baseline, 1)} of its cache at "
        f"{show_tokens(least.length)} tokens: {words}."
    )


def depths(scores: Sequence["TaskScore"]) -> Any:
    """Return where in the text needles were found, a row a technique."""
    by_depth = [s for s in scores if s.by_depth]
    if not by_depth:
        return None
    places = ("first quarter", "second", "third", "last")
    columns = (SCORE[0], SCORE[2], SCORE[3], *(quarter(name, i) for i, name in enumerate(places)))
    return table("Needles found, by where they stand in the text", columns, by_depth)


def quarter(name: str, place: int) -> Column["TaskScore"]:
    """Return the column of needles in one quarter of the text."""

    def share(s: "TaskScore") -> float | None:
        return s.by_depth[place] if s.by_depth[place] == s.by_depth[place] else None

    return Column(heading=name, value=share, show=show_percent)


def differences(memories: Sequence["Memories"]) -> list[str]:
    """Return why bytes held differ from the planner's, where they do."""
    lines = []
    for m in memories:
        if m.stored != m.planned:
            lines.append(f"{m.technique}, {show_tokens(m.length)} tokens: {why_other(m)}")
        if m.beside:
            lines.append(
                f"{m.technique}: positions of the tokens kept, 4 B each, stand beside what the planner reckons: "
                "rebuilt keys are rotated by them"
            )
    return lines


def times(memories: Sequence["Memories"]) -> tuple[Block, ...]:
    """Return times beside those of a profile, where one was given."""
    known = [m for m in memories if m.prefill_by_profile is not None or m.step_by_profile is not None]
    if not known:
        return ()
    remark = (
        "By profile: the operators one after the other on one thread. What Python and transformers take for "
        "themselves, and rounding, unpacking and ranking, is in the measured times alone."
    )
    return table("Times beside those of the profile's operators", TIMES, known, keys=2), Text(remark)


def why_other(m: "Memories") -> str:
    """Return why one cache holds other bytes than planned."""
    if m.stored > m.planned and ("h2o" in m.technique or "random" in m.technique):
        return (
            "scores of 4 B a token and stored head are held before anything is dropped; the planner counts them from "
            "then on, and a head that transformers stores several times once"
        )
    if "quest" in m.technique:
        return "bounds of a page are held from its first token on, in the model's own type; the planner counts by token"
    return "ranks are whole numbers here; the planner reckons the ratio itself"


def chart(scores: Sequence["TaskScore"], memories: Sequence["Memories"]) -> Chart | None:
    """Return quality against memory, of the last task that plans are made of: a point a technique."""
    held = {(m.technique, m.length): m.stored / m.baseline for m in memories}
    drawn = [s for s in scores if s.task in FAMILIES and (s.technique, s.length) in held]
    if not drawn:
        return None
    task, protocol, length = drawn[-1].task, drawn[0].protocol, drawn[0].length
    points = [s for s in drawn if (s.task, s.protocol, s.length) == (task, protocol, length)]
    series = tuple(
        Series(s.technique, (100 * held[s.technique, length],), (100 * s.value.mean,), False) for s in points
    )
    title = f"{task} at {show_tokens(length)} tokens, question {protocol}"
    return Chart(title, "cache held [% of uncompressed]", "score [%]", series, log=False) if len(series) > 1 else None


def how(e: Evaluated) -> str:
    """Return how it was measured, in a sentence."""
    asked = e.asked
    return (
        f"Measured on {show_count(asked.samples, 'text')} of each length with "
        f"{show_count(asked.questions, 'question')} each, seed {asked.seed}; intervals: texts drawn with replacement, "
        "1,000 times. Question unseen: the text is compressed before it is asked."
    )


def document(e: Evaluated) -> Json:
    """Return it as one JSON document: bytes, seconds, tokens, scores of 1 (divergence in nat)."""
    done = e.outcome
    return schema(
        "evaluate",
        model=e.model.name,
        parameters=e.model.parameters,
        seed=e.asked.seed,
        scores=records(SCORE, done.scores),
        memory=[{**a, **b} for a, b in zip(*(records(c, done.memories) for c in (MEMORY, TIMES)), strict=True)],
        refused=[{"technique": name, "reason": why} for name, why in done.refused],
        left=[{"technique": name, "reason": why} for name, why in done.left],
        stopped=done.stopped,
        output=e.output,
        unwritten=e.unwritten or None,
    )
