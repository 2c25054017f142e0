"""Checks of quality: what a technique loses of a score, between published scores or in each of them."""

import re
from dataclasses import replace
from math import inf

from kvplan.claims.checks import Answer, Evidence, check, exact, need, unknown
from kvplan.claims.figures import show, show_span
from kvplan.errors import SpecError
from kvplan.kv import spelling
from kvplan.quality.loss import quality
from kvplan.quality.results import Quality
from kvplan.specs.claims import ClaimCase
from kvplan.specs.quality import SHORT, TASKS, Score

#: what of a loss's caveats goes with a verdict: scores of other changes, averages that stand in, shorter prompts
CAVEATS = ("published", "an average over", "measured on prompts")
#: how far a claimed loss may be off, as a share of the score: the noise between two runs of one benchmark
NOISE = 0.005
#: how far the share that a published row leaves may be off the one that is claimed, relatively
ALIKE = 0.02


@check(unit="share", needs=("model", "technique", "task", "context"), tolerance=NOISE)
def quality_drop(case: ClaimCase, evidence: Evidence) -> list[Answer]:
    """Share of a model's score that a technique loses on a task family."""
    if case.task == SHORT:
        raise SpecError("task: short prompts are what published_drop checks; name a task family here")
    asked = (case.technique, need(case.model), case.task, need(case.context), evidence.table)
    early, late = (quality(*asked, seen=seen) for seen in (True, False))
    if (early.drop, early.low, early.high) == (late.drop, late.low, late.high):
        return [_answer(early, "")]
    return [_answer(early, "the question known"), _answer(late, "the question not known")]


def _answer(loss: Quality, when: str) -> Answer:
    """Return a loss as a figure; `when` says whether the question is known when the cache is compressed."""
    caveats = tuple(c for c in loss.caveats if c.startswith(CAVEATS))
    if loss.drop is None:
        reason = loss.basis + (f"; so it loses at least {show(loss.low, 'share')}" if loss.low else "")
        return replace(unknown(reason, *loss.source, low=loss.low or -inf), remarks=caveats, extra=when)
    line = f"{show(loss.drop, 'share')} lost {show_span(loss.low, loss.high, 'share')}: {loss.basis}"
    return Answer(
        value=loss.drop, low=loss.low, high=loss.high, line=line, remarks=caveats, sources=loss.source, extra=when
    )


@check(unit="share", needs=("technique", "task"), may=("benchmark",), tolerance=NOISE)
def published_drop(case: ClaimCase, evidence: Evidence) -> list[Answer]:
    """Share of a score that a technique lost in each published row of a task family, or of short prompts."""
    parts = spelling.parts(case.technique)
    rows = [
        r
        for r in evidence.table.scores
        if r.task == case.task
        and case.benchmark in ("", r.benchmark)
        and r.grade != "C"
        and len(parts) == 1
        and _family(r) == parts[0][0].name
    ]
    if not rows:
        task = "short prompts" if case.task == SHORT else TASKS[case.task].title
        return [unknown(f"no score of {spelling.canonical(case.technique)} on {task} is published in kvplan's table")]
    asked = _asked(parts[0][1])
    return [_row(r, asked) for r in rows]


def _asked(argument: str) -> float | None:
    """Return what a technique's argument leaves, '20%' or '4x', of 1; None where that depends on the model."""
    found = re.match(r"(\d+(?:\.\d+)?)(%|x)", argument)
    if found is None:
        return None
    return float(found[1]) / 100 if found[2] == "%" else 1 / float(found[1])


def _row(score: Score, asked: float | None) -> Answer:
    """Return one published row as a figure; where it leaves another share than `asked`, as a bound of it alone."""
    scores = f"{score.baseline:g} -> {score.compressed:g}, " if score.baseline and score.compressed else ""
    extra = f"{score.model or 'any model'}{f', {score.condition}' if score.condition else ''}"
    lost = 1 - score.retained
    line = f"{extra}: {scores}{show(lost, 'share')} lost"
    if asked is None or score.share is None or abs(score.share / asked - 1) <= ALIKE:
        return replace(exact(lost, line, score.source), extra=extra)
    left, wanted = (show(x, "share") for x in (score.share, asked))
    if score.share < asked:
        reason = f"{line} where {left} is left; with {wanted} left, as claimed, it loses at most that"
        return replace(unknown(reason, score.source, high=lost), extra=extra)
    reason = f"{line} where {left} is left; with {wanted} left, as claimed, it loses at least that"
    return replace(unknown(reason, score.source, low=lost), extra=extra)


def _family(row: Score) -> str:
    """Return the technique a row speaks for: rows of one key/value head stand under gqa, and say so."""
    return "mqa" if row.technique == "gqa" and "MQA" in row.condition else row.technique
