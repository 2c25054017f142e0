"""Checks of what fits GPUs and how fast it runs: GPUs, contexts and sequences, latency, throughput."""

from math import inf

from kvplan.claims.checks import Answer, Evidence, check, exact, need, unknown
from kvplan.claims.figures import show, show_span
from kvplan.claims.memory import LONGEST, UNLIMITED, longest
from kvplan.claims.replicas import (
    PLACE,
    RUN,
    busy_server,
    change,
    from_times,
    on_same_gpus,
    query,
    refusal,
    run,
    site_sources,
)
from kvplan.kv.replica import Parallel, weights
from kvplan.planning.evaluation import Evaluation
from kvplan.planning.site import Query
from kvplan.planning.speculation import speculation
from kvplan.specs.claims import ClaimCase
from kvplan.units import show_apart, show_bytes, show_count, show_percent, show_time

#: what a time is of, in words
MEASURES = {"ttft": "TTFT", "tpot": "TPOT", "e2e": "end-to-end latency"}
#: fields of a check that compares memory, not times
HOLD = ("context", "output", "workload", "technique", "weights")


@check(unit="count", needs=PLACE, may=HOLD)
def gpus(case: ClaimCase, evidence: Evidence) -> list[Answer]:
    """Fewest GPUs that hold the weights and one sequence."""
    row = run(case, evidence, case.technique)
    if row.layout is None:
        return [refusal(row)]
    weight_size = show_bytes(weights(need(case.model), case.weights).total)
    line = f"{weight_size} of weights + {show_bytes(row.stored or 0)} of KV cache: "
    sources = (need(case.model).source, evidence.sites[need(case.gpu).name].engine.sources["sampler_bytes_per_logit"])
    if not row.feasible:
        return [exact(inf, f"{line}fits no replica", *sources)]
    count = need(row.fewest_gpus)
    return [exact(float(count), f"{line}{show_count(count, 'GPU')}", *sources)]


@check(unit="token", needs=PLACE, may=("technique", "weights", "tp"))
def longest_context(case: ClaimCase, evidence: Evidence) -> list[Answer]:
    """Longest context of which a replica holds one sequence. [token]"""
    parallel = Parallel(tensor=case.tp or 1)
    first = run(case, evidence, case.technique, parallel=parallel, context=2)
    if not first.feasible:
        return [exact(0.0, first.reason, need(case.model).source)]
    most = longest(lambda n: n < 2 or run(case, evidence, case.technique, parallel=parallel, context=n).feasible)
    if most >= LONGEST:
        return [unknown(UNLIMITED)]
    weight_size = show_bytes(weights(need(case.model), case.weights).total)
    line = f"beside {weight_size} of weights, {most:,} tokens fit {parallel.gpus}x {need(case.gpu).name}"
    return [exact(float(most), line, need(case.model).source)]


@check(unit="ratio", needs=PLACE, may=(*HOLD, "tp", "against"))
def sequences_ratio(case: ClaimCase, evidence: Evidence) -> list[Answer]:
    """Sequences that the same GPUs hold under a technique, over those without."""
    pair = on_same_gpus(case, evidence)
    if isinstance(pair, Answer):
        return [pair]
    before, after = pair
    line = f"{after.sequences:,} / {before.sequences:,} sequences on {before.gpus}x {before.gpu}"
    return [exact(after.sequences / before.sequences, line, need(case.model).source)]


# -- latency ----------------------------------------------------------------------------------------


def seconds(row: Evaluation, measure: str, request: Query) -> float:
    """Return a row's ttft, tpot or time of a whole answer. [s]"""
    first, each = need(row.ttft), need(row.tpot)
    return {"ttft": first, "tpot": each}.get(measure, first + (request.output - 1) * each)


def spread_of(row: Evaluation, measure: str) -> tuple[float, float]:
    """Return the factors between which a row's time lies; a whole answer is a slot's time, as TPOT and cost are."""
    return row.ttft_spread if measure == "ttft" else row.spread


@check(unit="s", needs=(*PLACE, "measure"), may=RUN)
def latency(case: ClaimCase, evidence: Evidence) -> list[Answer]:
    """Time to the first token, per token, or of a whole answer; of a full replica unless `batch` is given. [s]"""
    row = run(case, evidence, case.technique)
    if not row.feasible:
        return [refusal(row)]
    time = seconds(row, case.measure, query(case))
    low, high = (time * s for s in spread_of(row, case.measure))
    span = show_span(low, high, "s")
    place = f"{row.gpus}x {row.gpu} at batch {row.batch}"
    line = f"{MEASURES[case.measure]} {show_time(time)} {span} on {place}"
    return [from_times(time, low, high, line, site_sources(case, evidence), row)]


@check(unit="ratio", needs=(*PLACE, "measure", "batch"), may=(*RUN, "against"), tolerance=0.05)
def latency_ratio(case: ClaimCase, evidence: Evidence) -> list[Answer]:
    """Time under a technique over the time without, same GPUs and same batch."""
    pair = on_same_gpus(case, evidence)
    if isinstance(pair, Answer):
        return [pair]
    before, after = pair
    if before.batch != after.batch:
        batches = f"{before.gpus}x {before.gpu} run a batch of {before.batch} without it and {after.batch} with it"
        return [unknown(f"{batches}; ask for a smaller batch")]
    a, b = (seconds(r, case.measure, query(case)) for r in (after, before))
    low, high = change(a, b, spread_of(after, case.measure))
    ratio = f"{show(a / b, 'ratio')} {show_span(low, high, 'ratio')}"
    line = f"{MEASURES[case.measure]} {' / '.join(show_apart(a, b, show_time))} = {ratio}"
    return [from_times(a / b, low, high, line, site_sources(case, evidence), after)]


# -- throughput -------------------------------------------------------------------------------------


def tokens_per_gpu(row: Evaluation) -> float:
    """Return the output of a full replica for each of its GPUs. [token/s]"""
    return need(row.tokens_per_second) / need(row.gpus)


@check(unit="ratio", needs=PLACE, may=(*RUN, "against", "against_gpu"))
def throughput_ratio(case: ClaimCase, evidence: Evidence) -> list[Answer]:
    """Output tokens per second and GPU over those of another technique or GPU, replicas full."""
    other = (case.against_gpu or need(case.gpu)).name
    # another GPU is compared under the same technique, unless the claim names one
    against = case.against if "against" in case.words or other == need(case.gpu).name else case.technique
    before, after = run(case, evidence, against, gpu=other), run(case, evidence, case.technique)
    for row in (before, after):
        if not row.feasible:
            return [refusal(row, f"on {row.gpu}: ")]
    a, b = tokens_per_gpu(after), tokens_per_gpu(before)
    low, high = change(a, b, after.spread) if other == after.gpu else _across(a / b, after, before)
    line = f"{a:,.1f} / {b:,.1f} tokens/s per GPU = {show(a / b, 'ratio')} {show_span(low, high, 'ratio')}"
    sources = site_sources(case, evidence, after.gpu, other)
    return [from_times(a / b, low, high, line, sources, after, before)]


def _across(ratio: float, after: Evaluation, before: Evaluation) -> tuple[float, float]:
    """Return the range of a ratio of two estimates that have no error in common."""
    return ratio * after.spread[0] / before.spread[1], ratio * after.spread[1] / before.spread[0]


@check(unit="ratio", needs=(*PLACE, "against_gpu", "technique"), may=RUN)
def generation_gain(case: ClaimCase, evidence: Evidence) -> list[Answer]:
    """Throughput per GPU over another GPU's under a technique, over the same ratio of the uncompressed cache."""
    newer, older = need(case.gpu).name, need(case.against_gpu).name
    rows = {
        (gpu, technique): run(case, evidence, technique, gpu=gpu)
        for gpu in (newer, older)
        for technique in (case.against, case.technique)
    }
    for row in rows.values():
        if not row.feasible:
            return [refusal(row, f"{row.technique} on {row.gpu}: ")]
    speeds = {key: tokens_per_gpu(row) for key, row in rows.items()}
    # on one GPU what both caches have in common cancels; the two GPUs have no error in common
    gains, spans = {}, {}
    for gpu in (newer, older):
        after, before = speeds[gpu, case.technique], speeds[gpu, case.against]
        gains[gpu], spans[gpu] = after / before, change(after, before, rows[gpu, case.technique].spread)
    value = gains[newer] / gains[older]
    low, high = spans[newer][0] / spans[older][1], spans[newer][1] / spans[older][0]
    parts = []
    for technique, name in ((case.technique, "compressed"), (case.against, "uncompressed")):
        a, b = speeds[newer, technique], speeds[older, technique]
        parts.append(f"{name} {a:,.1f} / {b:,.1f} tokens/s per GPU = {show(a / b, 'ratio')}")
    line = f"{', '.join(parts)}; beyond it {show(value, 'ratio')} {show_span(low, high, 'ratio')}"
    sources = site_sources(case, evidence, newer, older)
    return [from_times(value, low, high, line, sources, *rows.values())]


@check(unit="ratio", needs=(*PLACE, "accepted"), may=(*RUN, "draft", "against"))
def speculative_ratio(case: ClaimCase, evidence: Evidence) -> list[Answer]:
    """Output tokens per second under a technique with speculative decoding, over those without both, same GPUs."""
    pair = on_same_gpus(case, evidence)
    if isinstance(pair, Answer):
        return [pair]
    before, after = pair
    drafting = speculation(need(case.accepted), case.draft, None)
    plain, fast = busy_server(case, evidence, before), busy_server(case, evidence, after, speculation=drafting)
    a, b = (s.full_rate * s.output for s in (fast, plain))
    low, high = change(a, b, after.spread)
    drafts = f"{show_count(drafting.drafted, 'token')} drafted at {show_percent(case.draft)} of a step"
    ratio = f"{show(a / b, 'ratio')} {show_span(low, high, 'ratio')}"
    line = f"{a:,.1f} tokens/s at batch {after.batch} ({drafts}) / {b:,.1f} at batch {before.batch} = {ratio}"
    return [from_times(a / b, low, high, line, site_sources(case, evidence), after)]
