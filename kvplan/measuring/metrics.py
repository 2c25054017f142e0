"""A server's load and times between two looks at its metrics page.

Counters and sums of histograms are taken as differences, so what was before does not count. One that is lower than it
was has begun anew with its server: it counts from there, as Prometheus' rate() has it
(https://prometheus.io/docs/prometheus/latest/querying/functions/, 2026-11). Names of samples: vLLM's
docs/design/metrics.md and SGLang's references/production_metrics (2026-11).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isinf, isnan
from typing import TYPE_CHECKING

from kvplan.errors import SpecError, shown
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
#: when a server's process was started, since 1970 [s]: of Python's own client, on vLLM's pages
STARTED = "process_start_time_seconds"
#: what is said of a count that began anew
AFTER = " after the server was started anew"
#: models that a message names
MOST_NAMED = 5
#: requests that must end between two looks, for their mean to say anything
FEWEST = 5


def gauges_of() -> frozenset[str]:
    """Return the samples that every server has, whatever it has served: requests that run."""
    return frozenset(name for known in NAMES.values() for name in known["running"])


def samples_of() -> frozenset[str]:
    """Return every name of a sample that is looked for, histograms with their endings."""
    timed = ("ttft", "gap", "e2e")
    plain = {n for known in NAMES.values() for what, names in known.items() if what not in timed for n in names}
    whole = {n for known in NAMES.values() for what in timed for n in known[what]}
    return frozenset({STARTED, *plain, *(f"{n}{end}" for n in whole for end in ("_bucket", "_count", "_sum"))})


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
    seconds: float  #: between the looks, or since the restart where the page says when that was [s]
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
    restarted: bool = False  #: whether the server was started anew between the looks: all counts are from then on

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


class _Between:
    """What grew between two looks, over all labels: replicas and ranks of one server are summed."""

    def __init__(self, before: Scrape, after: Scrape, model: str):
        self.grown: defaultdict[str, float] = defaultdict(float)
        self.now: defaultdict[str, float] = defaultdict(float)
        self.buckets: defaultdict[str, defaultdict[float, float]] = defaultdict(lambda: defaultdict(float))
        old, new = series(before, model), series(after, model)
        #: labels of what was started anew: all its counters begin again, also those that are past what they were
        self.anew = {key[1] for key, value in new.items() if counts(key[0]) and value < old.get(key, 0.0)}
        for (name, place, le), value in new.items():
            more = value - (0.0 if place in self.anew else old.get((name, place, le), 0.0))
            self.now[name] += value
            if name.endswith("_bucket"):
                self.buckets[name.removesuffix("_bucket")][float(le)] += more
            else:
                self.grown[name] += more

    def more(self, names: Sequence[str], ending: str = "") -> float:
        """Return how much the first counter that the page has grew, 0 where it has none."""
        return next((self.grown[n + ending] for n in names if n + ending in self.grown), 0.0)

    def last(self, names: Sequence[str]) -> float | None:
        """Return the first gauge that the page has, at the second look."""
        return next((self.now[n] for n in names if n in self.now), None)


def series(scrape: Scrape, model: str) -> dict[tuple[str, frozenset[tuple[str, str]], str], float]:
    """Return the figures of a model by name, labels, and a bucket's bound ('' for what is no bucket)."""
    found: dict[tuple[str, frozenset[tuple[str, str]], str], float] = {}
    for s in scrape.samples:
        if not isnan(s.value) and not (model and s.labels.get("model_name", model) != model):
            place = frozenset((k, v) for k, v in s.labels.items() if k not in ("le", "__name__"))
            found[s.name, place, s.labels.get("le", "")] = s.value
    return found


def counts(name: str) -> bool:
    """Return whether a sample only grows while its server runs: counters, and all of a histogram."""
    return name.endswith(("_total", "_count", "_sum", "_bucket"))


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
        named = ", ".join(shown(model) for model in sorted(models)[:MOST_NAMED])
        raise SpecError(
            f"metrics: the page is about {len(models)} models ({named}); watch the server of one, or one model in a "
            "Prometheus server with select=model_name=NAME"
        )
    return next(iter(models), "")


def observed(before: Scrape, after: Scrape) -> Observed:
    """Return a server's load and times between two looks; raise SpecError where they say too little.

    Of a server that was started anew between them, what came after: for as long as its page says it runs, else over
    the whole time, as Prometheus does.
    """
    engine = engine_of(after)
    names, model = NAMES[engine], model_of(after, engine)
    page = _Between(before, after, model)

    def grown(what: str, ending: str = "") -> float:
        return page.more(names[what], ending)

    count, first_tokens = grown("e2e", "_count"), grown("ttft", "_count")
    seconds, restarted = after.at - before.at, bool(page.anew)
    if restarted:
        seconds = min(seconds, since_start(page, after) or seconds)
    if count < FEWEST or first_tokens < FEWEST:
        raise SpecError(
            f"metrics: {count:.0f} requests ended within {seconds:.0f} s{AFTER if restarted else ''}, at least "
            f"{FEWEST} are needed; look longer: window=5m"
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
        ttft=times(page, names["ttft"], ttft / first_tokens),
        gap=times(page, names["gap"], grown("gap", "_sum") / n) if (n := grown("gap", "_count")) else None,
        tpot=max(e2e / count - ttft / first_tokens, 0.0) / max(output / count - 1.0, 1.0),
        in_flight=e2e / seconds,
        running=page.last(names["running"]) or 0.0,
        waiting=page.last(names["waiting"]) or 0.0,
        usage=page.last(names["usage"]),
        prefix_hit=min(grown("hits") / queries, 1.0) if queries else None,
        preemptions=grown("preemptions"),
        drafted=grown("drafts") > 0,
        restarted=restarted,
    )


def since_start(page: _Between, after: Scrape) -> float | None:
    """Return how long a server has run at the second look, None where its page does not say. [s]"""
    started = page.now.get(STARTED)
    return after.wall - started if started and after.wall is not None and after.wall > started else None


def times(page: _Between, names: Sequence[str], mean: float) -> Latency:
    """Return a histogram's mean and percentiles between two looks."""
    name = next((n for n in names if n in page.buckets), "")
    counted = dict(sorted(page.buckets[name].items()))
    return Latency(mean=mean, p50=percentile(counted, 0.5), p95=percentile(counted, 0.95))


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
