"""The lay of the land: every technique at one context, with bytes, GPUs, time, money and quality."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

from kvplan import catalog
from kvplan.api import values
from kvplan.api.engine_options import running, served, spread
from kvplan.api.idle import RUNNING, Call, idle, reason
from kvplan.api.sites import (
    ENGINES,
    PUBLISHED,
    check_one_gpu,
    gpus_of,
    gpus_with_a_price,
    price_list,
    priced_for_comparison,
    site,
    supported_gpus,
    word_of,
)
from kvplan.kv import spelling
from kvplan.kv.replica import Parallel
from kvplan.planning.estimate import Estimate, survey
from kvplan.planning.points import usual_limits
from kvplan.planning.site import Limits, Query
from kvplan.planning.suitability import lengthened
from kvplan.quality.loss import quality as loss_of
from kvplan.quality.results import Quality
from kvplan.specs.model import ModelSpec

#: the task family whose loss is shown where no workload tells it
USUAL_TASK = "qa-single"
#: tokens generated per query when the user does not say
USUAL_OUTPUT = 512


def estimate(
    model: str,
    context: int | str,
    *,
    output: int | str | None = None,
    ttft: float | str | None = None,
    tpot: float | str | None = None,
    gpus: str | Iterable[str] = (),
    techniques: str | Iterable[str] = (),
    tp: int | None = None,
    pp: int | None = None,
    dp: int | None = None,
    weights: str | None = None,
    as_family: str | None = None,
    utilization: float | str | None = None,
    engine: str = "vllm",
    pp_layers: str | Sequence[int] = (),
    dcp: int = 1,
    kv_cache_memory_bytes: float | str | None = None,
    cpu_offload: float | str | None = None,
    without: str | Iterable[str] = (),
    with_features: str | Iterable[str] = (),
    price: float | str | None = None,
    prices: str | Iterable[str] = (),
    profile: str = PUBLISHED,
    on: str | None = None,
) -> Estimate:
    """Return every technique at one context on the GPUs named, else on the cheapest measured one of those with a price.

    `context` tokens hold prompt and answer, the last `output` of them generated (512, at most half). `ttft` and `tpot`
    limit the mean times of each row's `same_limits` (usually 2 s and a second for every 8,192 prompt tokens, and 50 ms;
    'none' lifts one). `engine` may say a release, as in `vllm@0.19`. `price` is USD per GPU-hour, `prices` are files of
    your own, `on` is their day. `pp_layers`, `dcp`, `kv_cache_memory_bytes`, `cpu_offload`, `without` and
    `with_features` are those of `memory`. A context beyond the model's is answered with a warning. Raises KvplanError
    for names and values that cannot be understood.

        >>> report = kvplan.estimate("llama3.1-70b", "128k", gpus="h200", techniques="fp8", on="2026-11-24")
        >>> [(row.technique, row.reduction, row.fewest_gpus) for row in report.rows]
        [('baseline', 0.0, 2), ('fp8', 0.5, 2)]
    """
    call = dict(locals())
    found = answered(call)
    place, shape = found.sites[0], next((row.parallel for row in found.rows if row.parallel), None)
    where = place.deployment(shape or place.parallel or Parallel())
    whole = whole_model(call)
    unused = idle(
        estimate, RUNNING, call, lambda asked: answered(asked).figures,
        lambda option: reason(option, found.model, where, True, whole),
    )  # fmt: skip
    return replace(found, warnings=(*found.warnings, *unused)) if unused else found


def whole_model(call: Call) -> ModelSpec:
    """Return the model that a call of `estimate` names, with the parts that it leaves out."""
    return catalog.model(
        values.word(call["model"], "model"), values.given(values.word, call["as_family"], "as_family")
    )  # fmt: skip


def answered(call: Call) -> Estimate:
    """Return the answer to a call of `estimate`, of all its parameters by name; options that do nothing go unsaid."""
    left_out = values.several(call["without"], "without")
    spec = served(whole_model(call), left_out)
    day = values.day(call["on"])
    rent = values.price(call["price"])
    length = values.tokens(call["context"], "context")
    answer = values.given(values.tokens, call["output"], "output") or min(USUAL_OUTPUT, max(length // 2, 1))
    query = Query(context=length, output=answer)
    usual = usual_limits(query)
    limits = Limits(
        ttft=values.limit(call["ttft"], usual.ttft, "ttft"), tpot=values.limit(call["tpot"], usual.tpot, "tpot")
    )
    names = values.technique_names(call["techniques"], spelling.compared())
    named = bool(values.several(call["gpus"], "gpus"))
    listed = price_list(call["price"], call["prices"])
    serving = values.engine(call["engine"], "engine", ENGINES)
    spec = lengthened(spec, catalog.engine(serving))
    chosen = gpus_of(call["gpus"]) if named or rent else supported_gpus(gpus_with_a_price(day, listed), serving)
    check_one_gpu(rent, chosen, named)
    options = running(
        call["dcp"], call["kv_cache_memory_bytes"], call["cpu_offload"], left_out, call["with_features"]
    )  # fmt: skip
    sites = [
        site(
            gpu, spec, day, price=rent, listed=listed, profile=values.word(call["profile"], "profile"),
            parallel=spread(call["tp"], call["pp"], call["dp"], call["pp_layers"]),
            weights=values.given(values.weight_format, call["weights"]),
            utilization=values.utilization(call["utilization"], "utilization"), running=options,
            engine=serving, length=length,
        )
        for gpu in chosen.values()
    ]  # fmt: skip
    if not named:
        sites = list(priced_for_comparison({place.gpu.name: place for place in sites}).values())
    losses = partial(expected_loss, model=spec, context=length)
    return survey(spec, query, sites, names, limits, today=day, named=named, losses=losses)


def at_contexts(question: Call, answer: Estimate) -> list[Estimate]:
    """Return the answers at contexts around the one asked, from an eighth to four times, on the first GPU shown.

    Contexts that leave no room for the output, or lie beyond what the model was made for, are left out.
    """
    asked = answer.query.context
    longest = max(answer.model.max_context or asked, asked)
    contexts = [c for c in (int(asked * 2.0**n) for n in range(-3, 3)) if 2 * answer.query.output <= c <= longest]
    fixed = {
        **(estimate.__kwdefaults__ or {}),
        **question,
        "gpus": [word_of(answer.sites[0].gpu.name, question["gpus"])],
        "output": answer.query.output,
    }
    fixed |= {
        name: "none" if limit is None else limit
        for name, limit in (("ttft", answer.limits.ttft), ("tpot", answer.limits.tpot))
    }
    return [answer if c == asked else answered({**fixed, "context": c}) for c in sorted({*contexts, asked})]


def expected_loss(technique: str, model: ModelSpec, context: int) -> Quality:
    """Return what a technique loses where nothing is known of the workload: in questions that come later."""
    return loss_of(technique, model, USUAL_TASK, context, catalog.quality_table(), seen=False)
