"""Capacity: the most queries a day, and users, that a number of GPUs serves within limits, and what binds."""

from collections.abc import Iterable
from dataclasses import replace

from kvplan import catalog
from kvplan.api import values
from kvplan.api.demands import arrival_notes, demand_of, spares_of, workload_at
from kvplan.api.losses import formats_of, losses_of
from kvplan.api.questions import limits_of
from kvplan.api.sites import ENGINES, PUBLISHED, price_list, site
from kvplan.kv import spelling
from kvplan.planning.capacity import Capacity, surest
from kvplan.planning.capacity import capacity as most
from kvplan.planning.estimate import context_warnings, no_bf16, old_price
from kvplan.planning.plan import Book
from kvplan.planning.remedies import STEP
from kvplan.planning.site import EVEN
from kvplan.planning.suitability import check_context

#: the technique that most servers have, and how much more it must serve to be worth a word
USUAL, MUCH = "fp8", 1.05


def capacity(
    workload: str,
    model: str,
    gpu: str,
    gpus: int,
    *,
    technique: str = spelling.BASELINE,
    weights: str | Iterable[str] = (),
    ttft: float | str | None = None,
    tpot: float | str | None = None,
    e2e: float | str | None = None,
    percentile: float | str | None = None,
    confidence: float | str | None = None,
    spares: int | None = None,
    engine: str = "vllm",
    price: float | str | None = None,
    prices: str | Iterable[str] = (),
    profile: str = PUBLISHED,
    on: str | None = None,
    allow_long_context: bool = False,
) -> Capacity:
    """Return the most queries a day of a workload that `gpus` GPUs serve within its limits: `recommend` read backwards.

    Limits, weight formats, the spare replica and the confidence (unasked 90 %, or the surest there is) are those of
    `recommend`: at the volume named here it needs no more than `gpus`, at one percent more it does. Raises KvplanError
    for names and values that cannot be understood.

        >>> found = kvplan.capacity("chat", "llama3.1-8b", "h100", 8, on="2026-11-24")
        >>> found.plan.gpus <= 8
        True
    """
    spec = catalog.model(values.word(model, "model"))
    day = values.day(on)
    wanted = tuple(values.weight_format(form) for form in values.several(weights, "weights"))
    asked = workload_at(values.word(workload, "workload"), spec, None)
    limits = limits_of(
        asked, ttft=ttft, tpot=tpot, e2e=e2e, percentile=percentile, quality=None, gpus=None, confidence=confidence,
        any_technique=True,
    )  # fmt: skip
    context = int(asked.context(limits.percentile))
    check_context(spec, context, values.flag(allow_long_context, "allow_long_context"), "workload")
    (name,) = values.technique_names(values.word(technique, "technique"), ())
    formats = formats_of(spec, asked.task, context, wanted)
    demand = demand_of(spec, asked, limits, forms=formats.searched, native=not wanted, spares=spares_of(spares, asked))
    word = values.engine(engine, "engine", ENGINES)
    place = site(
        catalog.gpu(values.word(gpu, "gpu")), spec, day, price=values.price(price), listed=price_list(price, prices),
        engine=word, profile=values.word(profile, "profile"), length=asked.context(1.0),
    )  # fmt: skip
    book = Book(demand, losses_of((name, USUAL), spec, asked, context), formats.losses)
    count = values.count(gpus, "gpus", 1, values.MOST_REQUESTS)
    find = surest if confidence is None else most
    question = replace(demand, engine=catalog.engine(word)), book, place
    answer = find(*question, [name], count, list(formats.left))
    warnings = (*context_warnings(spec, context), *spec.notes, *arrival_notes(asked))
    warnings += (*old_price(place, day), *no_bf16(place.gpu, spec))
    if name == spelling.BASELINE and answer.plan and spelling.served_by(USUAL, question[0].engine, question[0].base):
        packed = most(*question, [USUAL], count)
        if packed.queries_per_day > MUCH * answer.queries_per_day:
            served = f"{packed.queries_per_day:,.0f} queries a day with technique={USUAL}"
            warnings += (f"this is the uncompressed cache's most; the same GPUs serve {served}",)
    below = answer.demand.limits.confidence - STEP
    if answer.sought is not None and below >= EVEN - 1e-9:
        lower = replace(demand, limits=replace(limits, confidence=round(below, 2)), engine=question[0].engine)
        more = most(lower, *question[1:], [name], count).queries_per_day
        if more > MUCH * answer.queries_per_day:
            warnings += (f"the same GPUs serve {more:,.0f} queries a day with confidence={below:.0%}",)
    return replace(answer, warnings=tuple(warnings))
