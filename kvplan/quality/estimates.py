"""From published rows to a loss: interpolated in the share left, never beyond the harshest measured."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log2

from kvplan.kv.techniques import Technique
from kvplan.quality.carrying import carried
from kvplan.quality.caveats import averaged
from kvplan.quality.results import Quality, unknown
from kvplan.quality.scores import STAND_INS, Evidenced, by_family, curve, leading, retained_at
from kvplan.specs.quality import SHORT, TASKS, Score
from kvplan.specs.source import Source
from kvplan.units import show_percent

#: half-width of a score of one other model: two models of one class differed by 0.019 (H2O, half of the tokens)
ONE_MODEL = 0.02
#: half-width of a score of the very model: KIVI-4bit, called lossless, came out 0.004 above the uncompressed score
NOISE = 0.004


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
    scores = leading(pool.rows, task, stands_in=_may_stand_in(kind, task) or own)
    sources = tuple(dict.fromkeys(r.source for r in scores or pool.rows))
    if not scores:
        return _unmeasured(name, kind, pool.rows, task, sources)
    exact = any(r.task == task for r in scores)
    single = [] if exact else _of_single_families(scores, kind, every)
    caveats = _caveats(scores, task, exact=exact)
    points = curve(scores)
    mildest, harshest = points[1], points[-1]
    if share < harshest.share * 0.999:
        remaining, least = f"{100 * share:.3g} %", f"{100 * harshest.share:.3g} %"
        reason = f"{name} leaves {remaining} of the {_of(kind)}; the harshest measured leaves {least}"
        there = estimated(replace(asked, share=harshest.share), pool, every, own=own)
        return unknown(name, task, reason, low=there.low, caveats=caveats, source=sources)
    at = retained_at(points, share)
    basis = _where(scores, kind, share)
    worst = [1 - retained_at(curve(other), share).low for other in by_family(single)]
    low, high = 1 - at.high, max([1 - at.low, *worst])
    if share > mildest.share * 1.001:
        low, high = 0.0, max(high, 1 - mildest.low)
        basis += f"; {name} is milder and loses at most as much"
    if not own:
        beyond = _doublings(asked.context, [*scores, *single])
        low, high = carried(max(low, 0.0), max(high, 0.0), factor=kind.factor, very=pool.very, doublings=beyond)
    drop = min(max(1 - at.retained, 0.0), 1.0)
    slack = NOISE if pool.very or len({r.model for r in scores}) > 1 else ONE_MODEL
    low, high = min(max(low - slack, 0.0), drop), max(min(high + slack, 1.0), drop)
    return Quality(
        technique=name, task=task, drop=drop, low=low, high=high, known=True, basis=basis, caveats=caveats,
        source=sources,
    )  # fmt: skip


def _may_stand_in(kind: Technique, task: str) -> bool:
    """Return whether averages over task families may speak for a task: not for what tokens a video or a proof needs."""
    family = TASKS[task]
    return family.averaged or (family.name not in ("video", "reasoning") and kind.factor != "tokens")


def _of_single_families(scores: Sequence[Score], kind: Technique, every: Sequence[Evidenced]) -> list[Score]:
    """Return rows of single families that an average may hide: where tokens are dropped, of the same test alone."""
    lead = {r.benchmark for r in scores}
    rows = [r for pool in every for r in pool.rows]
    if kind.factor != "tokens":
        return rows
    return [r for r in rows if r.benchmark in lead and r.query == scores[0].query]


def _caveats(scores: Sequence[Score], task: str, *, exact: bool) -> tuple[str, ...]:
    recipes = sorted({r.condition for r in scores if r.condition and r.benchmark != "RULER"})
    spread = [f"the range spans {' and '.join(recipes)}"] if len(recipes) > 1 else []
    return (*spread, *([] if exact else [averaged(task)]))


def _doublings(context: int, rows: Sequence[Score]) -> float:
    """Return how many times a prompt is twice as long as the longest measured."""
    longest = max((r.context or 0 for r in rows), default=0)
    return log2(context / longest) if longest else 0.0


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
