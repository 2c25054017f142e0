"""What a technique costs in quality: published scores interpolated, never extrapolated; unknown is a value.

Of several models measured the mean is expected and their extremes are the range (`kvplan/quality/scores.py` says
which models stand for which).
"""

from collections.abc import Sequence
from dataclasses import replace

from kvplan.architectures.formats import FORMATS
from kvplan.errors import Incompatible, SpecError
from kvplan.kv import spelling, techniques
from kvplan.kv.techniques import Technique
from kvplan.quality.carrying import relatives
from kvplan.quality.caveats import averaged, base_caveats, base_score, distances, guards, quotes, too_long
from kvplan.quality.estimates import NOISE, AskedLoss, estimated
from kvplan.quality.results import Quality, lossless, unknown
from kvplan.quality.scores import pools, share_left
from kvplan.specs.model import ModelSpec
from kvplan.specs.quality import AVERAGE, QualityTable, task_named
from kvplan.units import show_percent

#: what rows of weight formats begin their technique with
WEIGHTS = "weights:"
#: formats of fewer bits and the one of more bits that they are like: they lose no less, however few scores they have
MILDER = {"nvfp4": "fp8", "int4": "fp8"}


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
        asked = (model, task, context, (*own, table))
        each = [
            _monotone(_part(kind, argument, *asked, seen=seen, answer=answer), kind, *asked)
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
        return lossless(name, task, f"{name} removes nothing")
    for table in tables:
        evidence, why_none = pools(table, kind, name, model, context, seen=seen)
        if not evidence and table.own:
            continue
        others = (*quotes(table, kind), *guards(kind, task, seen=seen))
        if not evidence:
            return _of_relatives(unknown(name, task, why_none, caveats=others), table, kind, share, seen=seen)
        asked = AskedLoss(name=name, kind=kind, share=share, task=task, context=context)
        estimates = [estimated(asked, pool, evidence, own=table.own) for pool in evidence]
        pool, estimate = next(
            ((p, e) for p, e in zip(evidence, estimates, strict=True) if e.known), (evidence[0], estimates[0])
        )
        far = distances(pool.rows, model, context, table)
        caveats = (*((pool.label,) if pool.label and estimate.known else ()), *estimate.caveats, *others, *far)
        if estimate.known or not table.own:
            return replace(estimate, caveats=caveats)
    return unknown(name, task, f"{name}: nothing measured", caveats=guards(kind, task, seen=seen))


def _monotone(
    lost: Quality, kind: Technique, model: ModelSpec, task: str, context: int, tables: Sequence[QualityTable]
) -> Quality:
    """Return a loss that is at least that of a like format of more bits, which may have other and harder scores.

    What was measured on the user's own model stands as it is.
    """
    if kind.name not in MILDER or any(_is_own(table, kind) for table in tables):
        return lost
    above = techniques.TECHNIQUES[MILDER[kind.name]]
    least = _part(above, "", model, task, context, tables, seen=False)
    if lost.drop is None or least.drop is None or (lost.drop >= least.drop and lost.high >= least.high):
        return lost
    return replace(
        lost,
        drop=max(lost.drop, least.drop),
        high=max(lost.high, least.high),
        basis=f"{lost.basis}; no less than {above.title}, which stores more bits",
        source=tuple(dict.fromkeys((*lost.source, *least.source))),
    )


def _is_own(table: QualityTable, kind: Technique) -> bool:
    return table.own and any(r.technique.partition(":")[0] == kind.name for r in table.scores)


def _of_relatives(lost: Quality, table: QualityTable, kind: Technique, share: float, *, seen: bool) -> Quality:
    """Return an unknown loss with the range of other techniques that choose tokens by score, where there are some."""
    low, high, count = relatives(table, kind, share, lost.task, seen=seen)
    if not count:
        return lost
    least, most = show_percent(low, 1), show_percent(high, 1)
    words = f"{count} other techniques that choose tokens by score lost {least} to {most} at {show_percent(share, 1)}"
    return replace(lost, low=low, high=high, basis=f"{lost.basis}; {words}")


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
    caveats = [too_long(longest, context)] if 0 < longest < context else []
    if rows[0].task != task:
        caveats.append(averaged(task))
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
    """Return what several techniques cost together: retained shares multiply, and the range widens.

    What parts add to one another is taken to be at most what all but the harshest may lose by themselves, once more:
    an assumption. The one pair measured lost less than its part alone: fp8 caches kept 0.98 of MRCR at 256k with fp8
    weights and 0.94 without (Qwen3-30B-A3B, `profiles/quality/formats.yaml`).
    """
    if not each:
        return lossless(spelling.BASELINE, task, "reference: no compression")
    if len(each) == 1:
        return each[0]
    low = max(q.low for q in each)
    retained = 1.0
    worst = 1.0
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
    combination = (
        "their combination was not measured: shares retained are multiplied, and the milder one may lose its most twice"
    )
    apart = [q.high for q in each]
    high = min(1.0, 1 - worst + sum(apart) - max(apart))
    return Quality(**shared, drop=drop, high=high, known=True, basis=f"{basis}; {combination}")  # type: ignore[arg-type]
