"""Checks of bytes: the cache of a sequence, what a technique saves of it, and what fits in the room it takes."""

from collections.abc import Callable
from dataclasses import replace

from kvplan.claims.checks import Answer, Evidence, check, exact, need, unknown
from kvplan.claims.figures import show
from kvplan.errors import Incompatible, UnknownName
from kvplan.kv import spelling
from kvplan.kv.layout import KVLayout, equation
from kvplan.kv.model_cache import kv_layout
from kvplan.kv.replica import weights
from kvplan.planning.replica import default_kv_bits
from kvplan.specs.claims import ClaimCase
from kvplan.specs.model import Attention, Mixer, ModelSpec
from kvplan.units import show_bytes, show_tokens

#: no answer is looked for beyond this context [token]
LONGEST = 2**24
#: what a cache without a longest context is said to be
UNLIMITED = "the cache stops growing: it sets no limit to the context"
#: fields that change a model's cache
CACHE = ("technique", "kv_heads")


def with_kv_heads(model: ModelSpec, heads: int | None) -> ModelSpec:
    """Return a model with another number of key/value heads in every layer, as if it had been trained so.

    Raises Incompatible where it stores none.
    """
    if heads is None:
        return model
    if not any(isinstance(m, Attention) and m.stored for x in model.layers for m in x.mixers):
        raise Incompatible(f"{model.title} stores no key/value heads")

    def change(mixer: Mixer) -> Mixer:
        return replace(mixer, kv_heads=heads) if isinstance(mixer, Attention) and mixer.stored else mixer

    return replace(model, layers=tuple(replace(x, mixers=tuple(map(change, x.mixers))) for x in model.layers))


def layouts(case: ClaimCase) -> tuple[KVLayout, KVLayout]:
    """Return the plain and the compressed cache; raise Incompatible where the technique cannot act on the model."""
    model = with_kv_heads(need(case.model), case.kv_heads)
    base = kv_layout(model, default_kv_bits(model))
    return base, spelling.apply(case.technique, base)


def byte_sum(layout: KVLayout, context: int) -> str:
    """Return the sum of a cache's bytes with its numbers."""
    terms = [line.split(" = ")[0].split(maxsplit=1)[1] for line in equation(layout, context)][:-1]
    total = layout.stored(context)
    return f"{' + '.join(terms)} = {show_bytes(total)} ({show(total, 'B')})"


def longest(fits: Callable[[int], bool]) -> int:
    """Return the greatest length that fits, 0 if none does, at most LONGEST. [token]"""
    low, high = 0, LONGEST + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


@check(unit="B", needs=("model", "context"), may=CACHE)
def kv_bytes(case: ClaimCase, evidence: Evidence) -> list[Answer]:
    """Cache of one sequence. [B]"""
    _, after = layouts(case)
    context = need(case.context)
    return [exact(after.stored(context), byte_sum(after, context), need(case.model).source)]


@check(unit="share", needs=("model", "context"), may=CACHE)
def kv_reduction(case: ClaimCase, evidence: Evidence) -> list[Answer]:
    """Share of the uncompressed cache that a technique saves."""
    base, after = layouts(case)
    context = need(case.context)
    a = after.stored(context)
    b = base.stored(context)
    line = f"1 - {show_bytes(a)} / {show_bytes(b)} = {show(1 - a / b, 'share')}"
    return [exact(1 - a / b, line, need(case.model).source)]


@check(unit="share", needs=("model", "context", "of"), may=(*CACHE, "batch", "weights"))
def read_reduction(case: ClaimCase, evidence: Evidence) -> list[Answer]:
    """Share of the bytes read per decode step that a technique saves, of the cache or of the whole step."""
    if case.of not in ("cache", "step"):
        raise UnknownName("part", case.of, ("cache", "step"), "write of: cache, or of: step for weights too")
    base, after = layouts(case)
    context = need(case.context)
    model = need(case.model)
    weight_bytes = (
        weights(model, case.weights).total * model.active_parameters / model.parameters if case.of == "step" else 0.0
    )
    a, b = (weight_bytes + (case.batch or 1) * x.read(context) for x in (after, base))
    line = f"1 - {show_bytes(a)} / {show_bytes(b)} read per step = {show(1 - a / b, 'share')}"
    return [exact(1 - a / b, line, model.source)]


@check(unit="ratio", needs=("model", "context"), may=CACHE)
def kv_growth(case: ClaimCase, evidence: Evidence) -> list[Answer]:
    """Cache of twice the context over the cache of the context."""
    _, after = layouts(case)
    context = need(case.context)
    a, b = after.stored(2 * context), after.stored(context)
    line = f"{show_bytes(a)} at {show_tokens(2 * context)} / {show_bytes(b)} = {show(a / b, 'ratio')}"
    return [exact(a / b, line, need(case.model).source)]


@check(unit="ratio", needs=("model", "context", "technique"), may=("kv_heads",))
def context_ratio(case: ClaimCase, evidence: Evidence) -> list[Answer]:
    """Longest context whose compressed cache fits where the uncompressed one of `context` does, over `context`."""
    base, after = layouts(case)
    context = need(case.context)
    room = base.stored(context)
    most = longest(lambda n: after.stored(n) <= room)
    if most >= LONGEST:
        return [unknown(UNLIMITED)]
    line = f"{show_bytes(room)} hold {show_tokens(context)} tokens uncompressed, {most:,} compressed"
    return [exact(most / context, line, need(case.model).source)]


@check(unit="ratio", needs=("against_workload",), may=("workload", "context"))
def length_ratio(case: ClaimCase, evidence: Evidence) -> list[Answer]:
    """Tokens of a context, or of a workload's mean request, over those of another's: their plain caches' ratio."""
    one = case.workload
    other = need(case.against_workload)
    a = one.input.mean + one.output.mean if one else float(need(case.context))
    b = other.input.mean + other.output.mean
    line = f"{a:,.0f} / {b:,.0f} tokens = {show(a / b, 'ratio')}"
    return [exact(a / b, line, *((one.source,) if one else ()), other.source)]
