"""From a quality table to a curve: which published rows speak for a model, and the score retained at a share left.

A published row stands for a model of the same attention that is no smaller: larger models lost less wherever
sizes were compared, smaller ones more.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from math import log2

from kvplan.errors import KvplanError
from kvplan.kv import spelling
from kvplan.kv.layout import Group, KVLayout
from kvplan.kv.model_cache import kv_layout
from kvplan.kv.techniques import Technique
from kvplan.specs.model import Attention, Compressed, Latent, ModelSpec
from kvplan.specs.quality import AVERAGE, LEADING, LEADS, SHORT, TASKS, QualityTable, Score

#: families measured in place of one nobody published; they act on the same factor and go further
STAND_INS = {"fp8": "int4", "int8": "int4", "turboquant": "int4", "mqa": "gqa"}
#: a model this share of the smallest one measured still counts as of its size
SAME_SIZE = 0.8
#: below this smaller models lose more (sizes.yaml: accuracy 0.34, 0.75 and 0.91 at 1B, 8B and 14B); scores of larger
#: models are carried down to it with a wider range, and not beyond
SMALL = 8e9


@dataclass(frozen=True)
class Evidenced:
    """Published rows that speak for a technique on a model, and what carrying them there takes."""

    rows: tuple[Score, ...]  #: of one technique and one state of the question
    very: bool  #: whether they are of the very model asked about
    label: str = ""  #: what is carried from elsewhere, in words


def pools(
    table: QualityTable, kind: Technique, name: str, model: ModelSpec, context: int, *, seen: bool
) -> tuple[list[Evidenced], str]:
    """Return the rows that speak for a technique on a model, the nearest first, or none and why.

    Rows of the spelling go before those of its family, rows of the very model before others', and where the question
    was seen rows measured so before others. What needs the question and was measured with it alone says nothing of
    caches that are compressed without.
    """
    if table.own:
        mine = [s for s in table.usable if s.technique.partition(":")[0] == kind.name and s.model in (None, model.name)]
        rows = placed(mine, model, context)
        return ([Evidenced(rows, very=True)] if rows else []), ""
    evidence: list[Evidenced] = []
    reasons: list[str] = []
    for family in dict.fromkeys((name, kind.name, STAND_INS.get(kind.name, ""))):
        rows = placed(table.answering.get(family, ()), model, context)
        by_state = by_query(rows, kind, seen=seen)
        for some, label in by_state:
            same = tuple(r for r in some if r.model == model.name)
            others, why_none = alike(some, kind, model, table)
            nearest_first = ((same, True), (tuple(others), False))
            evidence += [Evidenced(those, very=very, label=label) for those, very in nearest_first if those]
            reasons += [why_none] if why_none else []
        if rows and not by_state:
            reasons.append(
                f"{kind.title} was measured only where the question was known when the cache was compressed, "
                "which it is not here"
            )
    return evidence, "" if evidence else next(iter(reasons), f"no score of {kind.title} alone was published")


def by_query(rows: Sequence[Score], kind: Technique, *, seen: bool) -> list[tuple[list[Score], str]]:
    """Return rows by the state of the question, with a label where it is another than is asked for.

    Only what chooses by what it has seen (`aware`) is told apart.
    """
    if kind.query != "aware":
        return [(list(rows), "")] if rows else []
    without = [r for r in rows if r.query == "unseen"]
    within = [r for r in rows if r.query != "unseen"]
    label = f"{kind.title} was measured with the question unseen, which is harder than here"
    known = [(within, ""), (without, label if within or seen else "")] if seen else [(without, "")]
    return [(some, words) for some, words in known if some]


def alike(rows: Sequence[Score], kind: Technique, model: ModelSpec, table: QualityTable) -> tuple[list[Score], str]:
    """Return the rows of models that share keys and values as this one does and are no larger, or none and why."""
    sharing = attention(model)
    same = [r for r in rows if r.attention == sharing or (r.attention is None and sharing in ("mha", "gqa"))]
    if not same:
        measured = " and ".join(sorted({(r.attention or "").upper() for r in rows if r.attention}))
        what = {"latent": "caches a latent", "none": "caches no keys and values"}.get(sharing, f"is {sharing.upper()}")
        return [], f"{kind.title} was measured on {measured} models only; {model.title} {what}"
    long = [r for r in same if r.task != SHORT] or same
    smallest = min((r.parameters for r in long if r.parameters), default=0.0)
    if model.parameters < SAME_SIZE * min(smallest, SMALL):
        return [], _too_small(kind, model, smallest, table)
    return same, ""


def placed(rows: Iterable[Score], model: ModelSpec, context: int) -> tuple[Score, ...]:
    """Return rows with their share of the factor: stated, or that of their own spelling; compositions are left out."""
    each = (row if row.share is not None else _shared(row, model, row.context or context) for row in rows)
    return tuple(row for row in each if row is not None)


@lru_cache(maxsize=4096)
def _shared(row: Score, model: ModelSpec, context: int) -> Score | None:
    """Return a row with the share that its own spelling leaves of the factor, None for a composition."""
    try:
        parts = spelling.parts(row.technique)
        return replace(row, share=share_left(row.technique, model, context)) if len(parts) == 1 else None
    except KvplanError:
        return None


def _too_small(kind: Technique, model: ModelSpec, smallest: float, table: QualityTable) -> str:
    reason = (
        f"{kind.title} by itself was measured on models of {smallest / 1e9:g}B and more; {model.title} has "
        f"{model.parameters / 1e9:.1f}B, and smaller models lose more"
    )
    series = [s for s in table.sizes if s.what == table.sizes[0].what]
    accuracies = ", ".join(f"{s.accuracy:.2f} at {s.parameters / 1e9:g}B" for s in series)
    return f"{reason} ({series[0].what}: accuracy {accuracies})" if series else reason


def attention(model: ModelSpec) -> str:
    """Return how a model shares keys and values between query heads: mha, gqa, mqa, latent or none."""
    if any(isinstance(m, (Latent, Compressed)) for m in model.mixers):
        return "latent"
    stored = [m for m in model.mixers if isinstance(m, Attention) and m.stored]
    if not stored:
        return "none"
    if all(m.kv_heads == m.heads for m in stored):
        return "mha"
    return "mqa" if all(m.kv_heads == 1 for m in stored) else "gqa"


# -- shares and curves ------------------------------------------------------------------------------


def share_left(name: str, model: ModelSpec, context: int, answer: int | None = None) -> float:
    """Return what one technique leaves of the factor it acts on, at `context` tokens; Incompatible where it cannot act.

    Of several kinds of layer, the one that loses most. What evicts of the answer alone is told its length; without it
    all of the context is taken for the answer.
    """
    kind, argument = spelling.parts(name)[0]
    if kind.left is not None:
        return kind.left(argument)
    base = _layout(model)
    factor = kind.factor
    after = spelling.apply(name, base)
    # layers that a technique leaves alone or adds come after those it found
    pairs = [(a, b) for a, b in zip(after.groups, base.groups, strict=False) if b.vectors and a != b]
    if factor == "layers":
        return after.stored(context) / base.stored(context)
    shares = {
        "tokens": [kept_of(g, context, answer) for g in after.groups if g.keep.evicts],
        "bits": [a.bits / b.bits for a, b in pairs if a.bits < b.bits],
        "reads": [min(a.reads or context, context) / context for a, _ in pairs],
    }
    narrower = [a.vectors * a.width / (b.vectors * b.width) for a, b in pairs]
    return min(shares.get(factor, narrower), default=1.0)


def kept_of(g: Group, context: int, answer: int | None) -> float:
    """Return the share of its tokens that an evicting group keeps, of those of the answer where it evicts only them."""
    if g.keep.answer_budget is None:
        return g.keep.tokens(context) / context
    generated = min(context if answer is None else max(answer, 1), context)
    return min(g.keep.answer_budget, generated) / generated


@lru_cache(maxsize=256)
def _layout(model: ModelSpec) -> KVLayout:
    return kv_layout(model, 16.0)


@dataclass(frozen=True)
class Retained:
    """Score retained at what a technique leaves of its factor; all of 1."""

    share: float  #: left of the factor
    retained: float  #: expected, the mean of the models measured
    low: float  #: the worst of the models measured
    high: float  #: the best of the models measured


def curve(rows: Sequence[Score]) -> tuple[Retained, ...]:
    """Return points from the mildest to the harshest, the uncompressed cache first; harsher is never better."""
    points = [Retained(1.0, 1.0, 1.0, 1.0)]
    for share in sorted({r.share for r in rows if r.share}, reverse=True):
        here = [r for r in rows if r.share == share]
        last = points[-1]
        scores = [r.retained for r in here]
        points.append(
            Retained(
                share,
                min(last.retained, sum(scores) / len(scores)),
                min(last.low, *(r.retained - r.spread for r in here)),
                min(last.high, max(r.retained + r.spread for r in here)),
            )
        )
    return tuple(points)


def retained_at(points: Sequence[Retained], share: float) -> Retained:
    """Return the point at a share, linear in the logarithm of the ratio; beyond the harshest, the harshest."""
    for a, b in pairwise(points):
        if b.share <= share <= a.share:
            t = log2(a.share / share) / log2(a.share / b.share)
            mix = [x + t * (y - x) for x, y in ((a.retained, b.retained), (a.low, b.low), (a.high, b.high))]
            return Retained(share, *mix)
    return points[-1]


def by_family(rows: Sequence[Score]) -> list[list[Score]]:
    """Return rows by task family, averages left out."""
    return [matching for task in (*TASKS, SHORT) if (matching := [r for r in rows if r.task == task])]


def leading(rows: Sequence[Score], task: str, *, stands_in: bool) -> list[Score]:
    """Return the rows that answer for a task family: of the benchmark that leads for it if it can, the family's own.

    Averages answer where they may stand in. Between two benchmarks the leading one's average goes before the other's
    own rows of the family, of one benchmark its own rows go before its average.
    """
    lead = LEADS.get(task, LEADING if TASKS[task].averaged else "")
    for some in ([r for r in rows if r.benchmark == lead], list(rows)):
        exact = [r for r in some if r.task == task]
        averages = [r for r in some if r.task == AVERAGE] if stands_in else []
        if scores := exact or averages:
            return scores
    return []
