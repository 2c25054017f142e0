"""What a technique costs in quality: published scores interpolated, never extrapolated; unknown is a value.

Of several models measured the mean is expected and their extremes are the range (`kvplan/quality/scores.py` says
which models stand for which).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import log2

from kvplan.architectures.formats import FORMATS
from kvplan.errors import Incompatible, SpecError
from kvplan.kv import spelling, techniques
from kvplan.kv.techniques import Technique
from kvplan.quality.scores import (
    STAND_INS,
    Evidenced,
    by_family,
    carried,
    curve,
    leading,
    pools,
    relatives,
    retained_at,
    share_left,
)
from kvplan.specs.model import Attention, ModelSpec
from kvplan.specs.quality import AVERAGE, SHORT, TASKS, BaseScore, QualityTable, Score, task_named
from kvplan.specs.source import Source
from kvplan.units import show_percent, show_tokens

#: half-width of a score of one other model: two models of one class differed by 0.019 (H2O, half of the tokens)
ONE_MODEL = 0.02
#: half-width of a score of the very model: KIVI-4bit, called lossless, came out 0.004 above the uncompressed score
NOISE = 0.004
#: what rows of weight formats begin their technique with
WEIGHTS = "weights:"
#: by how much the range of a composition is wider than its parts'; an assumption, no source measures parts together
COMPOSED = 2.0


@dataclass(frozen=True, kw_only=True)
class Base:
    """A model's own long-context score before any compression, None where nobody measured it."""

    score: float | None = None  #: at the context asked for, of 100
    short: float | None = None  #: at the shortest context measured, of 100
    effective: str = ""  #: context up to which the benchmark calls the model good
    words: str = ""  #: the same in a sentence
    source: Source | None = None  #: where it was published

    @property
    def drop(self) -> float | None:
        """Relative loss against the model's own short prompts."""
        return None if self.score is None or not self.short else 1 - self.score / self.short


@dataclass(frozen=True, kw_only=True)
class Quality:
    """The relative loss of score that a technique is expected to cost; 0.01 is 1 %."""

    technique: str  #: in its one spelling
    task: str  #: task family
    drop: float | None  #: expected, None where it is not known, of 1
    low: float  #: the least it may be, or what can still be said of it, of 1
    high: float  #: the most it may be, or what can still be said of it, of 1
    known: bool  #: whether it was measured or lies between measurements
    basis: str  #: which scores it rests on, or why it is not known
    caveats: tuple[str, ...] = ()  #: what to beware of
    source: tuple[Source, ...] = ()  #: where the scores were published
    base: Base = Base()  #: what the model loses at this context without any compression

    def within(self, limit: float) -> bool:
        """Whether the expected loss is known and at most `limit`: unknown counts against a technique."""
        return self.drop is not None and self.drop <= limit


def quality(
    technique: str,
    model: ModelSpec,
    task: str,
    context: int,
    table: QualityTable,
    *own: QualityTable,
    seen: bool = False,
    answer: int | None = None,
) -> Quality:
    """Return the relative loss of `technique` on a task family at `context` tokens.

    `seen` tells that the question is known when the cache is compressed: one question to each prompt. Without it what
    was measured so is not carried over (`Workload.question_seen`). `answer` tokens of the context are generated. Files
    measured on the user's own model (`own`, first wins) go before the published table.
    """
    task = task_named(task)
    base = base_score(model, context, (*own, table))
    by_table = [_whole(technique, model, task, context, extra) for extra in own]
    measured = next((q for q in by_table if q), None)
    if measured is None:
        each = [
            _part(kind, argument, model, task, context, (*own, table), seen=seen, answer=answer)
            for kind, argument in spelling.parts(technique)
        ]
        measured = composed(each, task)
    caveats = (*measured.caveats, *base_caveats(model, context, base))
    return replace(measured, technique=spelling.canonical(technique), caveats=tuple(dict.fromkeys(caveats)), base=base)


def checked(table: QualityTable) -> QualityTable:
    """Return a user's table; raise UnknownName or SpecError where a row's technique is no technique of kvplan's."""
    for row in table.scores:
        if row.technique.startswith(WEIGHTS):
            if row.technique.removeprefix(WEIGHTS) not in FORMATS:
                raise SpecError(f"{table.name}: {row.technique}: write {WEIGHTS} and one of {', '.join(FORMATS)}")
        elif row.share is None:
            spelling.parts(row.technique)
        elif row.technique not in techniques.TECHNIQUES:
            raise SpecError(
                f"{table.name}: {row.technique}: with a share, technique is one of {', '.join(techniques.TECHNIQUES)}"
            )
    return table


# -- one technique --------------------------------------------------------------------------------


def _part(
    kind: Technique,
    argument: str,
    model: ModelSpec,
    task: str,
    context: int,
    tables: Sequence[QualityTable],
    *,
    seen: bool,
    answer: int | None = None,
) -> Quality:
    """Return what one technique costs, from the first table, and the nearest rows of it, that know."""
    name = f"{kind.name}:{argument}" if argument else kind.name
    try:
        share = share_left(name, model, context, answer)
    except Incompatible as refusal:
        return unknown(name, task, str(refusal))
    if share >= 1:
        return Quality(
            technique=name, task=task, drop=0.0, low=0.0, high=0.0, known=True, basis=f"{name} removes nothing"
        )
    for table in tables:
        found, why_none = pools(table, kind, name, model, context, seen=seen)
        if not found and table.own:
            continue
        others = (*quotes(table, kind), *guards(kind, task, seen=seen))
        if not found:
            return _of_relatives(unknown(name, task, why_none, caveats=others), table, kind, share, seen=seen)
        asked = AskedLoss(name=name, kind=kind, share=share, task=task, context=context)
        estimates = [estimated(asked, pool, found, own=table.own) for pool in found]
        pool, estimate = next(
            ((p, e) for p, e in zip(found, estimates, strict=True) if e.known), (found[0], estimates[0])
        )
        far = distances(pool.rows, model, context, table)
        caveats = (*((pool.label,) if pool.label and estimate.known else ()), *estimate.caveats, *others, *far)
        if estimate.known or not table.own:
            return replace(estimate, caveats=caveats)
    return unknown(name, task, f"{name}: nothing measured", caveats=guards(kind, task, seen=seen))


def _of_relatives(lost: Quality, table: QualityTable, kind: Technique, share: float, *, seen: bool) -> Quality:
    """Return an unknown loss with the range of other techniques that choose tokens by score, where there are some."""
    low, high, count = relatives(table, kind, share, lost.task, seen=seen)
    if not count:
        return lost
    least, most = show_percent(low, 1), show_percent(high, 1)
    words = f"{count} other techniques that choose tokens by score lost {least} to {most} at {show_percent(share, 1)}"
    return replace(lost, low=low, high=high, basis=f"{lost.basis}; {words}")


# -- from rows to a loss --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class AskedLoss:
    """One technique at one share on one task family."""

    name: str  #: in its one spelling
    kind: Technique  #: its family
    share: float  #: what it leaves of its factor, of 1
    task: str  #: task family
    context: int  #: prompt [token]


def estimated(asked: AskedLoss, pool: Evidenced, every: Sequence[Evidenced], *, own: bool) -> Quality:
    """Return the loss at a share from the task's own rows, or from averages over families where they may stand in.

    Rows of other families, of `every` pool, say how much worse a single family can be.
    """
    name, kind, share, task = asked.name, asked.kind, asked.share, asked.task
    family = TASKS[task]
    stands_in = family.averaged or (family.name not in ("video", "reasoning") and kind.factor != "tokens") or own
    scores = leading(pool.rows, task, stands_in=stands_in)
    exact = any(r.task == task for r in scores)
    sources = tuple(dict.fromkeys(r.source for r in scores or pool.rows))
    if not scores:
        return _unmeasured(name, kind, pool.rows, task, sources)
    points = curve(scores)
    mildest, harshest = points[1], points[-1]
    at = retained_at(points, share)
    low, high = 1 - at.high, 1 - at.low
    slack = NOISE if pool.very or len({r.model for r in scores}) > 1 else ONE_MODEL
    basis = _where(scores, kind, share)
    recipes = sorted({r.condition for r in scores if r.condition and r.benchmark != "RULER"})
    caveats = [f"the range spans {' and '.join(recipes)}"] if len(recipes) > 1 else []
    speaking = list(scores)
    if not exact:
        lead = {r.benchmark for r in scores}
        single = [
            r
            for p in every
            for r in p.rows
            if kind.factor != "tokens" or (r.benchmark in lead and r.query == scores[0].query)
        ]
        worst = [1 - retained_at(curve(other), share).low for other in by_family(single)]
        high = max([high, *worst])
        speaking += single
        caveats.append(f"an average over task families stands for {family.title}, which alone may lose more")
    if share < harshest.share * 0.999:
        remaining, least = f"{100 * share:.3g} %", f"{100 * harshest.share:.3g} %"
        reason = f"{name} leaves {remaining} of the {_of(kind)}; the harshest measured leaves {least}"
        return unknown(name, task, reason, low=max(1 - harshest.high, 0.0), caveats=tuple(caveats), source=sources)
    if share > mildest.share * 1.001:
        low, high = 0.0, max(high, 1 - mildest.low)
        basis += f"; {name} is milder and loses at most as much"
    drop = min(max(1 - at.retained, 0.0), 1.0)
    longest = max((r.context or 0 for r in speaking), default=0)
    beyond = log2(asked.context / longest) if longest else 0.0
    if not own:
        low, high = carried(max(low, 0.0), max(high, 0.0), factor=kind.factor, very=pool.very, doublings=beyond)
    return Quality(
        technique=name,
        task=task,
        drop=drop,
        low=min(max(low - slack, 0.0), drop),
        high=max(min(high + slack, 1.0), drop),
        known=True,
        basis=basis,
        caveats=tuple(caveats),
        source=sources,
    )


def _of(kind: Technique) -> str:
    return {
        "tokens": "tokens",
        "bits": "bits",
        "heads": "key/value heads",
        "width": "width",
        "reads": "tokens read",
        "layers": "cache",
    }[kind.factor]


def _where(rows: Sequence[Score], kind: Technique, share: float) -> str:
    """Return in words which rows a loss rests on."""
    models = ", ".join(sorted({r.model or "the user's file" for r in rows}))
    shares = ", ".join(f"{s:.3g}" for s in sorted({r.share for r in rows if r.share}, reverse=True))
    stand_in = STAND_INS.get(kind.name) if all(r.technique == STAND_INS.get(kind.name) for r in rows) else None
    stand_in_words = f"no score of {kind.title} itself was published for such tasks; {stand_in} " if stand_in else ""
    tests = " and ".join(sorted({r.benchmark for r in rows if r.benchmark}))
    tested = f" in {tests}" if tests else ""
    unseen = ", the question unseen" if all(r.query == "unseen" for r in rows) else ""
    return f"{stand_in_words}measured on {models} at {shares} of the {_of(kind)}{tested}{unseen} (asked: {share:.3g})"


def _unmeasured(name: str, kind: Technique, rows: Sequence[Score], task: str, sources: tuple[Source, ...]) -> Quality:
    short = [r for r in rows if r.task == SHORT]
    if len(short) == len(rows):
        trained = ", uptrained or trained so from scratch" if kind.factor in ("heads", "width") else ""
        least, most = (show_percent(1 - pick(r.retained for r in short), 1) for pick in (max, min))
        reason = (
            f"{kind.title} lost {least} to {most} in short prompts{trained}; such scores, MMLU for one, say nothing "
            "of long prompts"
        )
    else:
        tasks = ", ".join(sorted({r.task for r in rows}))
        reason = f"{kind.title} was not measured on {TASKS[task].title}, only on: {tasks}"
    return unknown(name, task, reason, source=sources)


def unknown(
    name: str,
    task: str,
    reason: str,
    *,
    low: float = 0.0,
    caveats: tuple[str, ...] = (),
    source: tuple[Source, ...] = (),
) -> Quality:
    """Return a loss nobody measured, and why."""
    return Quality(
        technique=name,
        task=task,
        drop=None,
        low=low,
        high=1.0,
        known=False,
        basis=reason,
        caveats=caveats,
        source=source,
    )


# -- compositions ---------------------------------------------------------------------------------


def _whole(technique: str, model: ModelSpec, task: str, context: int, table: QualityTable) -> Quality | None:
    """Return the loss of a technique or composition measured under its whole spelling, None if it was not."""
    name = spelling.canonical(technique)
    rows = [
        r
        for r in table.scores
        if r.share is None and r.model in (None, model.name) and spelling.canonical(r.technique) == name
    ]
    rows = [r for r in rows if r.task == task] or [r for r in rows if r.task == AVERAGE]
    if not rows or not spelling.parts(technique):
        return None
    mean = sum(r.retained for r in rows) / len(rows)
    longest = max((r.context or 0 for r in rows), default=0)
    caveats = [_too_long(longest, context)] if 0 < longest < context else []
    if rows[0].task != task:
        caveats.append(f"an average over task families stands for {TASKS[task].title}, which alone may lose more")
    return Quality(
        technique=name,
        task=task,
        drop=min(max(1 - mean, 0.0), 1.0),
        low=max(1 - max(r.retained + max(r.spread, NOISE) for r in rows), 0.0),
        high=min(1 - min(r.retained - max(r.spread, NOISE) for r in rows), 1.0),
        known=True,
        basis=f"measured as a whole in {table.name}",
        caveats=tuple(caveats),
        source=tuple(dict.fromkeys(r.source for r in rows)),
    )


def composed(each: Sequence[Quality], task: str) -> Quality:
    """Return what several techniques cost together: retained shares multiply, and the range widens."""
    if not each:
        return Quality(
            technique=spelling.BASELINE,
            task=task,
            drop=0.0,
            low=0.0,
            high=0.0,
            known=True,
            basis="reference: no compression",
        )
    if len(each) == 1:
        return each[0]
    low, retained, worst = max(q.low for q in each), 1.0, 1.0
    for q in each:
        retained, worst = retained * (1 - (q.drop or 0.0)), worst * (1 - q.high)
    drop = 1 - retained
    basis = "; ".join(q.basis for q in each)
    shared = {
        "technique": "+".join(q.technique for q in each),
        "task": task,
        "low": min(low, drop) if all(q.known for q in each) else low,
        "caveats": tuple(c for q in each for c in q.caveats),
        "source": tuple(dict.fromkeys(s for q in each for s in q.source)),
    }
    if not all(q.known for q in each):
        missing = "; ".join(q.basis for q in each if not q.known)
        return Quality(**shared, drop=None, high=1.0, known=False, basis=missing)  # type: ignore[arg-type]
    combination = "their combination was not measured: shares retained are multiplied, the range is doubled"
    high = min(1.0, drop + COMPOSED * (1 - worst - drop))
    return Quality(**shared, drop=drop, high=high, known=True, basis=f"{basis}; {combination}")  # type: ignore[arg-type]


# -- words ----------------------------------------------------------------------------------------


def guards(kind: Technique, task: str, *, seen: bool = True) -> tuple[str, ...]:
    """Return what to beware of, whatever the scores say."""
    family = TASKS[task]
    warnings: tuple[str, ...] = ()
    if kind.query == "aware" and not seen:
        warnings += (f"{kind.title} chooses tokens before the question is known, and the question may ask for others",)
    if kind.name in ("streaming", "window") and family.name == "retrieval":
        warnings += (f"{kind.title} on retrieval: what left the window is gone, whoever asks for it",)
    elif kind.factor == "tokens" and family.exact:
        warnings += (f"{kind.title} drops tokens, and {family.title} may ask for any of them",)
    if kind.factor == "heads":
        warnings += ("MMLU and other short prompts say nothing of quality at 128k",)
    if kind.name in ("gqa", "mqa", "mhc"):
        warnings += (f"{kind.title} needs {kind.needs}",)
    return warnings


def quotes(table: QualityTable, kind: Technique) -> tuple[str, ...]:
    """Return published scores of a technique that cannot be interpolated, since more was changed than the technique."""
    rows = [r for r in table.scores if r.technique == kind.name and r.share is None and r.grade != "C"]
    return (
        ()
        if table.own
        else tuple(
            f"published with other changes: {show_percent(1 - r.retained, 1)} lost on {r.model} ({r.condition})"
            for r in rows
        )
    )


def _too_long(longest: int, context: int) -> str:
    return f"measured on prompts of at most {longest:,} tokens; how the loss grows to {context:,} tokens is not known"


def distances(rows: Sequence[Score], model: ModelSpec, context: int, table: QualityTable) -> tuple[str, ...]:
    """Return how far the model and the prompt are from what was measured."""
    longest = max((r.context or 0 for r in rows), default=0)
    remarks: tuple[str, ...] = (_too_long(longest, context),) if 0 < longest < context else ()
    largest = max((r.parameters or 0.0 for r in rows), default=0.0)
    if largest and model.parameters > 1.5 * largest and not table.own:
        remarks += (f"measured on models up to {largest / 1e9:g}B; where sizes were compared larger ones lost less",)
    if largest and not table.own and model.active_parameters < 0.5 * model.parameters:
        working = f"{model.active_parameters / 1e9:.3g}B of its {model.parameters / 1e9:.3g}B parameters"
        remarks += (f"measured on dense models; here {working} work on a token, and smaller models lose more",)
    windows = any(isinstance(m, Attention) and m.window for layer in model.layers for m in layer.mixers)
    if not table.own and (windows or any(m.kind == "state" for layer in model.layers for m in layer.mixers)):
        remarks += ("layers with windows or states already forget; the models measured have neither",)
    return remarks


def base_score(model: ModelSpec, context: int, tables: Sequence[QualityTable]) -> Base:
    """Return a model's RULER score at a context, between published lengths and never beyond them."""
    row = next((b for t in tables for b in t.bases if b.model == model.name and b.grade != "C"), None)
    if row is None:
        return Base(words=f"how {model.title} itself does at {show_tokens(context)} was not measured (no RULER score)")
    (first, short), (last, _) = row.scores[0], row.scores[-1]
    known = Base(short=short, effective=row.effective, source=row.source)
    if context > last:
        return replace(known, words=f"RULER: {model.title} was measured up to {show_tokens(last)} only")
    score = _ruler(row, max(context, first))
    words = f"RULER before any compression: {score:.1f} at {show_tokens(context)}, {short:.1f} at {show_tokens(first)}"
    return replace(known, score=score, words=f"{words}; effective to {row.effective}")


def _ruler(row: BaseScore, context: int) -> float:
    for (a, at_a), (b, at_b) in pairwise(row.scores):
        if a <= context <= b:
            return at_a + (at_b - at_a) * log2(context / a) / log2(b / a)
    return row.scores[0][1]


def base_caveats(model: ModelSpec, context: int, base: Base) -> tuple[str, ...]:
    """Return what the model itself cannot do at this context."""
    caveats: tuple[str, ...] = (base.words,) if base.drop is None or base.drop > 0.02 else ()
    if model.max_context and context > model.max_context:
        caveats = (f"{model.title} supports {model.max_context:,} tokens, not {context:,}", *caveats)
    return caveats
