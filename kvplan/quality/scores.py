"""From a quality table to a curve: which published rows speak for a model, and the score retained at a share left.

A published row stands for a model of the same attention that is no smaller: larger models lost less wherever
sizes were compared, smaller ones more.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from math import log2

from kvplan.errors import KvplanError
from kvplan.kv import spelling
from kvplan.kv.layout import KVLayout
from kvplan.kv.model_cache import kv_layout
from kvplan.kv.techniques import Technique
from kvplan.specs.model import Attention, Compressed, Latent, ModelSpec
from kvplan.specs.quality import TASKS, QualityTable, Score

#: families measured in place of one nobody published; they act on the same factor and go further
STAND_INS = {"fp8": "int4", "int8": "int4", "mqa": "gqa"}
#: a model this share of the smallest one measured still counts as of its size
SAME_SIZE = 0.8


def rows_for(table: QualityTable, kind: Technique, model: ModelSpec, context: int) -> tuple[list[Score], str]:
    """Return the rows that speak for a technique on a model, or none and why."""
    named = [s for s in table.scores if s.grade != "C" and s.technique.partition(":")[0] == kind.name]
    named = named or [s for s in table.scores if s.grade != "C" and s.technique == STAND_INS.get(kind.name)]
    rows = [s for s in (_placed(row, model, context) for row in named) if s is not None]
    if table.own:
        return [r for r in rows if r.model in (None, model.name)], ""
    same = [r for r in rows if r.model == model.name]
    if same:
        return same, ""
    if not rows:
        return [], f"no score of {kind.title} alone was published"
    sharing = attention(model)
    alike = [r for r in rows if r.attention == sharing or (r.attention is None and sharing in ("mha", "gqa"))]
    if not alike:
        measured = " and ".join(sorted({(r.attention or "").upper() for r in rows if r.attention}))
        what = {"latent": "caches a latent", "none": "caches no keys and values"}.get(sharing, f"is {sharing.upper()}")
        return [], f"{kind.title} was measured on {measured} models only; {model.title} {what}"
    smallest = min((r.parameters for r in alike if r.parameters), default=0.0)
    if model.parameters < SAME_SIZE * smallest:
        return [], _too_small(kind, model, smallest, table)
    return alike, ""


def _placed(row: Score, model: ModelSpec, context: int) -> Score | None:
    """Return a row with its share of the factor: stated, or that of its own spelling; None for a composition."""
    if row.share is not None:
        return row
    try:
        parts = spelling.parts(row.technique)
        return replace(row, share=share_left(row.technique, model, row.context or context)) if len(parts) == 1 else None
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
    mixers = [m for layer in model.layers for m in layer.mixers]
    if any(isinstance(m, (Latent, Compressed)) for m in mixers):
        return "latent"
    stored = [m for m in mixers if isinstance(m, Attention) and m.stored]
    if not stored:
        return "none"
    if all(m.kv_heads == m.heads for m in stored):
        return "mha"
    return "mqa" if all(m.kv_heads == 1 for m in stored) else "gqa"


# -- shares and curves ------------------------------------------------------------------------------


def share_left(name: str, model: ModelSpec, context: int) -> float:
    """Return what one technique leaves of the factor it acts on, at `context` tokens; Incompatible where it cannot act.

    Of several kinds of layer, the one that loses most.
    """
    base = _layout(model)
    after = spelling.apply(name, base)
    factor = spelling.parts(name)[0][0].factor
    if factor == "tokens":
        return min((g.keep.tokens(context) / context for g in after.groups if g.keep.evicts), default=1.0)
    pairs = [(a, b) for a, b in zip(after.groups, base.groups, strict=True) if b.vectors and a != b]
    if factor == "bits":
        return min((a.bits / b.bits for a, b in pairs), default=1.0)
    return min((a.vectors * a.width / (b.vectors * b.width) for a, b in pairs), default=1.0)


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
        last, scores = points[-1], [r.retained for r in here]
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
    """Return rows by task family, averages and short prompts left out."""
    return [matching for task in TASKS if (matching := [r for r in rows if r.task == task])]
