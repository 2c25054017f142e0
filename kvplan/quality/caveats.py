"""What to beware of: what a technique cannot do for a task, and how far the scores are from what is asked."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import log2

from kvplan.kv.techniques import Technique
from kvplan.quality.results import Base
from kvplan.specs.model import Attention, ModelSpec
from kvplan.specs.quality import TASKS, BaseScore, QualityTable, Score
from kvplan.units import show_percent, show_tokens


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
    rows = [r for r in table.answering.get(kind.name, ()) if r.technique == kind.name and r.share is None]
    return (
        ()
        if table.own
        else tuple(
            f"published with other changes: {show_percent(1 - r.retained, 1)} lost on {r.model} ({r.condition})"
            for r in rows
        )
    )


def averaged(task: str) -> str:
    """Return that an average stands for a task family."""
    return f"an average over task families stands for {TASKS[task].title}, which alone may lose more"


def too_long(longest: int, context: int) -> str:
    """Return that prompts are longer than those measured."""
    return f"measured on prompts of at most {longest:,} tokens; how the loss grows to {context:,} tokens is not known"


def distances(rows: Sequence[Score], model: ModelSpec, context: int, table: QualityTable) -> tuple[str, ...]:
    """Return how far the model and the prompt are from what was measured."""
    longest = max((r.context or 0 for r in rows), default=0)
    remarks: tuple[str, ...] = (too_long(longest, context),) if 0 < longest < context else ()
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
