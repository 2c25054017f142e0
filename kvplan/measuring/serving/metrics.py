"""A server's load and times between two looks at its metrics page.

Counters and sums of histograms are taken as differences, so what was before does not count. Names of samples:
vLLM's docs/design/metrics.md and SGLang's references/production_metrics (2026-11).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isinf, isnan
from typing import TYPE_CHECKING

from kvplan.errors import SpecError
from kvplan.measuring.benchmarks.fields import CACHED
from kvplan.specs.metrics import Scrape

if TYPE_CHECKING:
    from kvplan.measuring.device.nvml import Reading

#: engine -> what we look for -> names of its samples, the newest first; histograms without their ending
NAMES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "vllm": {
        "ttft": ("vllm:time_to_first_token_seconds",),
        "gap": ("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"),
        "e2e": ("vllm:e2e_request_latency_seconds",),
        "prompt": ("vllm:prompt_tokens_total",),
        "output": ("vllm:generation_tokens_total",),
        "running": ("vllm:num_requests_running",),
        "waiting": ("vllm:num_requests_waiting",),
        "usage": ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
        "hits": ("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"),
        "queries": ("vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total"),
        "preemptions": ("vllm:num_preemptions_total",),
        "drafts": ("vllm:spec_decode_num_draft_tokens_total",),
    },
    "sglang": {
        "ttft": ("sglang:time_to_first_token_seconds",),
        "gap": ("sglang:inter_token_latency_seconds", "sglang:time_per_output_token_seconds"),
        "e2e": ("sglang:e2e_request_latency_seconds",),
        "prompt": ("sglang:prompt_tokens_total",),
        "output": ("sglang:generation_tokens_total",),
        "running": ("sglang:num_running_reqs",),
        "waiting": ("sglang:num_queue_reqs",),
        "usage": ("sglang:token_usage",),
        "hits": ("sglang:cached_tokens_total",),
        "queries": ("sglang:prompt_tokens_total",),
        "preemptions": ("sglang:num_retracted_requests_total", "sglang:num_retractions_total"),
        "drafts": (),
    },
}
#: requests that must end between two looks, for their mean to say anything
FEWEST = 5


def samples_of() -> frozenset[str]:
    """Return every name of a sample that is looked for, histograms with their endings."""
    timed = ("ttft", "gap", "e2e")
    plain = {n for known in NAMES.values() for what, names in known.items() if what not in timed for n in names}
    whole = {n for known in NAMES.values() for what in timed for n in known[what]}
    return frozenset({*plain, *(f"{n}{end}" for n in whole for end in ("_bucket", "_count", "_sum"))})


@dataclass(frozen=True, kw_only=True)
class Latency:
    """A time's mean and percentiles, by the buckets of its histogram. [s]"""

    mean: float  #: sum over count
    p50: float | None  #: interpolated within its bucket, None beyond the last one
    p95: float | None  #: likewise


@dataclass(frozen=True, kw_only=True)
class Observed:
    """A server between two looks."""

    engine: str  #: vllm or sglang
    model: str  #: the name it serves the model under, '' where it says none
    seconds: float  #: between the looks [s]
    requests: float  #: that ended between them
    prompt: float  #: mean input, cached or not [token]
    output: float  #: mean output [token]
    ttft: Latency  #: from arrival to the first token
    gap: Latency | None  #: between tokens, None where the engine does not say
    tpot: float  #: of a request after its first token, mean [s/token]
    in_flight: float  #: requests inside the server on average, by Little's law
    running: float  #: at the second look
    waiting: float  #: at the second look
    usage: float | None  #: share of the cache in use at the second look
    prefix_hit: float | None  #: share of the input found in the prefix cache
    preemptions: float  #: between the looks
    drafted: bool  #: whether speculative decoding ran

    @property
    def rate(self) -> float:
        """Requests that ended. [1/s]"""
        return self.requests / self.seconds


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What GPUs took in a window."""

    gpus: int  #: that were read
    power: float  #: mean of all of them together [W]
    energy: float  #: of an output token [J]


def spent(o: Observed, before: "Sequence[Reading]", after: "Sequence[Reading]") -> Spent | None:
    """Return the power of GPUs between two readings, and the energy of an output token; None where one says neither.

    By the counter of energy, or by the mean of the two powers where there is none.
    """
    taken = [joules(a, b, o.seconds) for a, b in zip(before, after, strict=True)]
    known = [j for j in taken if j is not None]
    if not known or len(known) < len(taken):
        return None
    return Spent(gpus=len(known), power=sum(known) / o.seconds, energy=sum(known) / (o.output * o.requests))


def joules(before: "Reading", after: "Reading", seconds: float) -> float | None:
    """Return the energy of a GPU between two readings, None where it does not say. [J]"""
    if before.energy is not None and after.energy is not None and after.energy > before.energy:
        return after.energy - before.energy
    if before.power is None or after.power is None:
        return None
    return (before.power + after.power) / 2 * seconds


class _Page:
    """Figures of one look, over all labels: replicas and ranks of one server are summed."""

    def __init__(self, scrape: Scrape, model: str):
        self.values: defaultdict[str, float] = defaultdict(float)
        self.buckets: defaultdict[str, defaultdict[float, float]] = defaultdict(lambda: defaultdict(float))
        for s in scrape.samples:
            if isnan(s.value) or (model and s.labels.get("model_name", model) != model):
                continue
            if s.name.endswith("_bucket"):
                self.buckets[s.name.removesuffix("_bucket")][float(s.labels["le"])] += s.value
            else:
                self.values[s.name] += s.value

    def first(self, names: Sequence[str], ending: str = "") -> float | None:
        """Return the figure of the first name the page has."""
        return next((self.values[n + ending] for n in names if n + ending in self.values), None)


def engine_of(scrape: Scrape) -> str:
    """Return whose page it is; raise SpecError for one without a known engine's metrics."""
    names = {s.name.partition(":")[0] for s in scrape.samples}
    engine = next((engine for engine in NAMES if engine in names), None)
    if engine is None:
        raise SpecError("metrics: the page has neither vLLM's nor SGLang's metrics; SGLang needs --enable-metrics")
    return engine


def model_of(scrape: Scrape, engine: str) -> str:
    """Return the one model a page is about, '' where it names none; raise SpecError for several."""
    models = {s.labels["model_name"] for s in scrape.samples if s.name.startswith(engine) and "model_name" in s.labels}
    if len(models) > 1:
        raise SpecError(f"metrics: the page is about {len(models)} models; watch the server of one")
    return next(iter(models), "")


def observed(before: Scrape, after: Scrape) -> Observed:
    """Return a server's load and times between two looks; raise SpecError where they say too little."""
    engine = engine_of(after)
    names, model = NAMES[engine], model_of(after, engine)
    old, new = _Page(before, model), _Page(after, model)

    def grown(what: str, ending: str = "") -> float:
        first, last = old.first(names[what], ending) or 0.0, new.first(names[what], ending) or 0.0
        if last < first:
            raise SpecError("metrics: the server was started anew between two looks; look again")
        return last - first

    count, first_tokens = grown("e2e", "_count"), grown("ttft", "_count")
    seconds = after.at - before.at
    if count < FEWEST or first_tokens < FEWEST:
        raise SpecError(
            f"metrics: {count:.0f} requests ended within {seconds:.0f} s, at least {FEWEST} are needed; "
            "look longer: window=5m"
        )
    prompt, output, e2e, ttft = grown("prompt"), grown("output"), grown("e2e", "_sum"), grown("ttft", "_sum")
    queries = grown("queries")
    return Observed(
        engine=engine,
        model=model,
        seconds=seconds,
        requests=count,
        prompt=prompt / first_tokens,
        output=max(output / count, 1.0),
        ttft=times(old, new, names["ttft"], ttft / first_tokens),
        gap=times(old, new, names["gap"], grown("gap", "_sum") / n) if (n := grown("gap", "_count")) else None,
        tpot=max(e2e / count - ttft / first_tokens, 0.0) / max(output / count - 1.0, 1.0),
        in_flight=e2e / seconds,
        running=new.first(names["running"]) or 0.0,
        waiting=new.first(names["waiting"]) or 0.0,
        usage=new.first(names["usage"]),
        prefix_hit=min(grown("hits") / queries, 1.0) if queries else None,
        preemptions=grown("preemptions"),
        drafted=grown("drafts") > 0,
    )


def times(old: _Page, new: _Page, names: Sequence[str], mean: float) -> Latency:
    """Return a histogram's mean and percentiles between two looks."""
    name = next((n for n in names if n in new.buckets), "")
    counts = {le: total - old.buckets[name][le] for le, total in sorted(new.buckets[name].items())}
    return Latency(mean=mean, p50=percentile(counts, 0.5), p95=percentile(counts, 0.95))


def percentile(counts: Mapping[float, float], share: float) -> float | None:
    """Return a percentile of cumulative counts by upper bound, straight within its bucket, as Prometheus does.

    None without counts, and where it lies beyond the last finite bound.
    """
    total = max(counts.values(), default=0.0)
    wanted = share * total
    for (low, below), (high, upto) in pairwise([(0.0, 0.0), *counts.items()]):
        if upto >= wanted > 0:
            return None if isinf(high) else low + (high - low) * (wanted - below) / (upto - below)
    return None


def row_of(o: Observed) -> dict[str, str]:
    """Return what was observed as an end-to-end row: Poisson arrivals at the rate requests ended with.

    Without TTFT where prompts came from the prefix cache: that tells no prefill's time.
    """
    hit = o.prefix_hit or 0.0
    return {
        "model": o.model,
        "engine": o.engine,
        "isl": f"{o.prompt:.6g}",
        "osl": f"{o.output:.6g}",
        "concurrency": f"{o.in_flight:.6g}",
        "arrival": "poisson",
        "rate": f"{o.rate:.6g}",
        "requests": f"{o.requests:.6g}",
        "lengths": "as served",
        "spec_decode": "yes" if o.drafted else "no",
        "ttft_ms": "" if hit > CACHED else f"{o.ttft.mean * 1e3:.6g}",
        "tpot_ms": f"{o.tpot * 1e3:.6g}",
    }
