"""What a weight format costs in quality: published scores of models no larger, at prompts no shorter.

Larger models lost less wherever sizes were compared, and 4-bit weights lost more in longer prompts.
"""

from collections.abc import Sequence
from dataclasses import replace

from kvplan.kv.replica import FEWER, bits_of
from kvplan.quality.caveats import distances
from kvplan.quality.estimates import NOISE, ONE_MODEL
from kvplan.quality.loss import WEIGHTS, composed
from kvplan.quality.results import Quality, lossless, unknown
from kvplan.quality.scores import SAME_SIZE
from kvplan.specs.model import ModelSpec
from kvplan.specs.quality import AVERAGE, SHORT, TASKS, QualityTable, Score
from kvplan.units import show_tokens

#: formats that a GPU may be planned with unasked lose no more: MLPerf's target is 99 % of the reference's quality
FREE = 0.01
#: models measured that are smaller than this share of a model are left out where there are nearer ones
NEAR = 1 / 3


def weight_loss(
    form: str | None, model: ModelSpec, task: str, context: int, table: QualityTable, *own: QualityTable
) -> Quality:
    """Return the relative loss of a weight format on a task family at `context` tokens, against the checkpoint.

    Files measured on the user's own model (`own`, first wins) go before the published table.
    """
    name = f"{form} weights"
    if form is None or bits_of(model, form) >= FEWER * bits_of(model, None):
        return lossless(name, task, "reference: no fewer bits")
    for each in (*own, table):
        rows = [s for s in each.scores if s.grade != "C" and s.technique == WEIGHTS + form]
        if rows := speaking(rows, model):
            return estimate(name, rows, model, task, context, each)
    return unknown(name, task, f"no score of {name} on models of this size or smaller was published")


def speaking(rows: Sequence[Score], model: ModelSpec) -> list[Score]:
    """Return the rows that speak for a model: its own, those of models no larger, and those of no one model."""
    return [
        r for r in rows if r.parameters is None or r.model == model.name or SAME_SIZE * r.parameters <= model.parameters
    ]


def unheard(words: Sequence[str], tables: Sequence[QualityTable], model: ModelSpec) -> tuple[str, ...]:
    """Return which of a user's tables, read from files of these names, hold no score that speaks for a model."""
    silent = ((word, others) for word, table in zip(words, tables, strict=True) if (others := _others(table, model)))
    return tuple(f"the scores in {word} are of {others} only: none applies to {model.name}" for word, others in silent)


def _others(table: QualityTable, model: ModelSpec) -> str:
    """Return the models that a table has scores of, as a sentence lists them; '' where some speak for this model."""
    weights = [row for row in table.scores if row.technique.startswith(WEIGHTS)]
    models = {row.model for row in table.scores} | {row.model for row in table.bases}
    if speaking(weights, model) or None in models or model.name in models:
        return ""
    *others, last = sorted(name for name in models if name) or [""]
    return f"{', '.join(others)} and {last}" if others else last


def nearest(rows: Sequence[Score], model: ModelSpec) -> list[Score]:
    """Return the rows of the model itself, else those of its size, else all."""
    own = [r for r in rows if r.model == model.name]
    return own or [r for r in rows if r.parameters is None or r.parameters >= NEAR * model.parameters] or list(rows)


def estimate(
    name: str, rows: Sequence[Score], model: ModelSpec, task: str, context: int, table: QualityTable
) -> Quality:
    """Return the mean of the nearest rows whose prompts reach the context, the shortest of those; all are the range."""
    fitting = [r for r in rows if r.task in (task, AVERAGE) or (r.task == SHORT and length(r) >= context)]
    sources = tuple(dict.fromkeys(r.source for r in fitting or rows))
    if not fitting:
        longest = show_tokens(max(map(length, rows), default=0))
        reason = f"{name} were measured on prompts of up to {longest} only; 4 bits lose more in longer ones"
        return unknown(name, task, reason, source=sources)
    lengths = sorted(set(map(length, fitting)))
    at = min((n for n in lengths if n >= context), default=lengths[-1])
    # a longer prompt loses no less than a short one
    held = [r for r in rows if r in fitting or r.task == SHORT]
    each = {n: spoken(held, n, model, task) for n in sorted(set(map(length, held))) if n <= at}
    chosen, alike = max(each.values(), key=lambda pair: 1 - mean(pair[0]))
    low, drop, high = span(chosen, alike)
    measured = ", ".join(sorted({r.model or "several models" for r in chosen}))
    return Quality(
        technique=name, task=task, drop=drop, low=low, high=high, known=True,
        basis=f"{name} measured on {measured}: {'; '.join(sorted({r.condition for r in chosen if r.condition}))}",
        caveats=tuple(f"{name}: {words}" for words in caveats(chosen, each[at][0], model, task, context, table)),
        source=sources,
    )  # fmt: skip


def length(row: Score) -> int:
    """Return the prompt of a row, 0 where it does not say. [token]"""
    return row.context or 0


def span(chosen: Sequence[Score], alike: Sequence[Score]) -> tuple[float, float, float]:
    """Return the least, the expected and the greatest loss of rows that hold, and of those that give the range."""
    drop = min(max(1 - mean(chosen), 0.0), 1.0)
    several = chosen is alike or len(alike) > 1
    slack = 0.0 if any(r.spread for r in alike) else NOISE if several else ONE_MODEL
    low = max(1 - max(r.retained + r.spread for r in alike) - slack, 0.0)
    high = min(1 - min(r.retained - r.spread for r in alike) + slack, 1.0)
    return min(low, drop), drop, max(high, drop)


def mean(rows: Sequence[Score]) -> float:
    """Return the mean share retained."""
    return sum(r.retained for r in rows) / len(rows)


def spoken(rows: Sequence[Score], tokens: int, model: ModelSpec, task: str) -> tuple[list[Score], list[Score]]:
    """Return the rows at a length of prompt that are expected to hold, and those that give the range."""
    here = [r for r in rows if length(r) == tokens]
    chosen = nearest([r for r in here if r.task == task] or here, model)
    return chosen, chosen if all(r.model == model.name for r in chosen) else here


def caveats(
    chosen: Sequence[Score], longest: Sequence[Score], model: ModelSpec, task: str, context: int, table: QualityTable
) -> tuple[str, ...]:
    """Return what to beware of: averages, short prompts, models and prompts unlike those measured."""
    messages: tuple[str, ...] = ()
    if all(r.task == SHORT for r in chosen):
        messages += ("scores of short questions",)
    elif not any(r.task == task for r in chosen):
        messages += (f"an average over tasks stands for {TASKS[task].title}, which alone may lose more",)
    return (*messages, *distances(longest, model, context, table))


def with_weights(kept: Quality, weights: Quality) -> Quality:
    """Return what a technique and a weight format cost together, under the technique's name."""
    if weights.drop == weights.high == 0:
        return kept
    if kept.drop == kept.high == 0:
        return replace(weights, technique=kept.technique, caveats=(*weights.caveats, *kept.caveats), base=kept.base)
    both = composed((kept, weights), kept.task)
    return replace(both, technique=kept.technique, base=kept.base)
