"""A simulation: a trace, or a workload's own arrivals, served by a fleet step by step."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from time import perf_counter

from kvplan import catalog
from kvplan.api import values
from kvplan.api.fleet_size import FleetSize, fleet_size
from kvplan.api.idle import UNSHARED, Call, idle
from kvplan.api.load import speculation_of
from kvplan.api.sites import ENGINES, PUBLISHED, price_list, site
from kvplan.api.streams import RequestStream, requests_of
from kvplan.catalog.compiled import compiled_folder, is_kept
from kvplan.catalog.files import distinct
from kvplan.catalog.rows.traces import requests_file
from kvplan.errors import SpecError
from kvplan.kv import spelling
from kvplan.kv.deployment import Running
from kvplan.kv.tiers import TIERS
from kvplan.perf.simulate import compiled
from kvplan.perf.simulate.state import Records
from kvplan.planning.estimate import warnings
from kvplan.planning.load import at_concurrency
from kvplan.planning.server import Server, server
from kvplan.planning.simulating.results import FOREVER, Asked, Replayed
from kvplan.planning.simulating.server import BLIND, ROUTERS, holding, memory_of, shares_of
from kvplan.planning.simulating.simulate import Search, fewest, through_burst
from kvplan.planning.simulating.simulate import simulate as simulated
from kvplan.planning.site import Limits
from kvplan.planning.suitability import check_context
from kvplan.specs.model import ModelSpec
from kvplan.specs.result import Result
from kvplan.units import show_count, show_percentile, show_time, written_above

#: numbers of replicas below the fewest that are tried where a router does not look at loads, and each is a draw
BELOW = 2
#: options that may change nothing of a model, its requests or a fleet
OPTIONS = ("prefix_cache", "router", "tiers")
#: the greatest number that a generator of random numbers begins from
MOST_SEED = 2**32 - 1


@dataclass(frozen=True, kw_only=True)
class Simulated(Result, of="simulate"):
    """What `simulate` found: what became of the requests, and how the replicas were found if they were sought."""

    outcome: Replayed  #: of the replicas asked for, or of the fewest that keep the limits
    search: Search | None  #: how the fewest were found, None where their number was given
    burst: Search | None  #: the same for the busiest minute alone, None where it is not much busier than the others
    requests: RequestStream  #: where the requests come from
    warnings: tuple[str, ...]  #: what to know of the model, price, calibration and simulation
    wall: float  #: time that it took [s]

    @property
    def refusal(self) -> str:
        """Why the answer is a 'no', '' when it is none."""
        o, limits = self.outcome, self.outcome.asked.limits
        at = f"at {show_percentile(limits.percentile)}"
        if self.search is not None:
            if self.search.smallest is not None:
                return ""
            if o.refused:
                return f"{o.refused:,} requests fit no replica's memory; give it more GPUs with tp="
            return (
                f"no number of replicas keeps the limits: that of {o.binding} is broken {at} whatever their number"
                f"{nearest(o)}"
            )
        if o.kept or not o.measured:
            return ""
        over = [name for name, time, limit in o.measured if time > limit] or [o.binding]
        which = f"limits of {' and '.join(over)} are" if len(over) > 1 else f"limit of {over[0]} is"
        return f"the {which} broken {at}{nearest(o, other=True)}"


def nearest(o: Replayed, other: bool = False) -> str:
    """Return the times of an outcome that breaks limits, and what keeps them; '' where memory alone is short.

    `other` numbers of replicas are proposed too, where one may look for them.
    """
    names = {"TTFT": "ttft", "TPOT": "tpot", "end to end": "e2e"}
    over = [(name, time, limit) for name, time, limit in o.measured if time > limit]
    if not over:
        return ""
    asked = o.asked
    fixed = asked.server.split or asked.autoscale or asked.failures or asked.concurrency
    times = " and ".join(f"{name} is {show_time(time)} (limit {show_time(limit)})" for name, time, limit in over)
    write = " and ".join(f"{names[name]}={written_above(time)}" for name, time, _ in over)
    more = ", find_replicas=true for more replicas" if other and not fixed and kept_alone(asked) else ""
    on = show_count(o.replicas, "replica")
    return f"; on {on} {times}: write {write} or more{more}, or GPUs or weights that take less time"


def kept_alone(asked: Asked) -> bool:
    """Return whether a request alone keeps the limits of TTFT and TPOT, without which no number of replicas does.

    TTFT is not judged where prefixes are cached: a prompt that hits takes less than one alone.
    """
    lone, limits = at_concurrency(asked.server, 1), asked.limits
    ttft = None if asked.prefix_cache and asked.extent.chain else limits.ttft
    both = ((lone.ttft, ttft), (lone.tpot, limits.tpot))
    return all(limit is None or times.mean <= limit for times, limit in both)


def simulate(
    model: str,
    gpu: str,
    *,
    trace: str | None = None,
    workload: str | None = None,
    queries_per_day: float | str | None = None,
    rate: float | str | None = None,
    duration: float | str | None = None,
    scale: float | str = 1.0,
    speed: float | str = 1.0,
    seed: int = 0,
    concurrency: int | None = None,
    replicas: int | None = None,
    find_replicas: bool = False,
    router: str | None = None,
    prefix_cache: bool = True,
    tiers: str | Iterable[str] | None = None,
    engine: str = "vllm",
    technique: str = spelling.BASELINE,
    tp: int | None = None,
    pp: int | None = None,
    dp: int | None = None,
    weights: str | None = None,
    utilization: float | str | None = None,
    speculative: float | str | None = None,
    draft_share: float | str | None = None,
    draft_tokens: int | None = None,
    disaggregated: tuple[int, int] | str | None = None,
    autoscale: str | None = None,
    fail: str | Iterable[str] = (),
    ttft: float | str | None = None,
    tpot: float | str | None = None,
    e2e: float | str | None = None,
    percentile: float | str | None = None,
    per_request: str | None = None,
    price: float | str | None = None,
    prices: str | Iterable[str] = (),
    profile: str = PUBLISHED,
    on: str | None = None,
    allow_long_context: bool = False,
    told: Callable[[str], None] | None = None,
    progress: Callable[[float, str], object] | None = None,
) -> Simulated:
    """Return what users of a fleet feel, request by request: a trace replayed, or a workload's busiest hour.

    Give a `trace` (a file) or a `workload`, and `replicas` (1) or `find_replicas` with limits. A workload comes at its
    own volume or another, for its busiest hour or the first `duration` of a day; its limits stand where none is given.
    `scale` multiplies a trace's requests and `speed` divides its times. `fail` is as in '0@10min+5min': replica 0, ten
    minutes after the start, for five; `autoscale` as in '1:8@16+3min': 1 to 8 replicas, 16 requests in flight each,
    started in three minutes; `tiers` as in 'cpu,ssd': prefixes are kept there besides. Times are in seconds, `price` is
    USD per GPU-hour; `per_request` names a CSV file for every request; `told` hears what takes long, `progress` how far
    each simulation is (share, in words). Raises KvplanError
    for names and values that cannot be understood, and for a trace that cannot be read, line by line; Incompatible
    where nothing fits.

        >>> kvplan.simulate("llama3.1-8b", "h100", workload="chat", rate=4, duration="3min").outcome.replicas
        1
    """
    call = dict(locals())
    begun = perf_counter()
    finds = values.flag(find_replicas, "find_replicas")
    spec = catalog.model(values.word(model, "model"))
    stream = requests_of(
        trace, workload, spec, queries_per_day=queries_per_day, rate=rate, duration=duration, scale=scale, speed=speed,
        seed=values.count(seed, "seed", 0, MOST_SEED),
    )  # fmt: skip
    fleet = fleet_size(replicas, finds, disaggregated, autoscale, fail)
    asked = asked_of(call, spec, stream, fleet)
    if finds and not asked.limits.times:
        raise SpecError("find_replicas: for which limits? Give ttft=2s, tpot=50ms or e2e=30s")
    folder = compiled_folder(compiled.digest())
    compiled.keep(folder, is_kept(folder))
    path = values.given(values.word, per_request, "per_request")
    distinct([trace] if trace else [], path)
    with nullcontext() if path is None else requests_file(path) as write:  # a closed path is told before a search
        search = fewest(asked, below=BELOW if asked.router in BLIND else 0) if finds else None
        burst = through_burst(asked, search) if search else None
        outcome = replay(asked, search, fleet, write)
    place = asked.server.site
    context = round(stream.extent.prompt + stream.extent.output)
    unused = idle(
        simulate, OPTIONS, call, lambda other: inputs(asked_of(other, spec, stream, fleet), fleet, finds),
        lambda option: why_unused(option, asked),
    )  # fmt: skip
    said = (*warnings(spec, context, [place], values.day(on)), *stream.notes, *cautions(outcome), *unused)
    return Simulated(
        outcome=outcome, search=search, burst=burst, requests=stream, warnings=said, wall=perf_counter() - begun
    )


def asked_of(call: Call, spec: ModelSpec, stream: RequestStream, fleet: FleetSize) -> Asked:
    """Return what a call of `simulate`, of all its parameters by name, simulates of a stream on a fleet."""
    x, caches = stream.extent, values.flag(call["prefix_cache"], "prefix_cache")
    limits = limits_of(stream, call["ttft"], call["tpot"], call["e2e"], call["percentile"])
    longer = values.flag(call["allow_long_context"], "allow_long_context")
    check_context(spec, x.longest, longer, "trace" if call["trace"] else "workload")
    place = site(
        catalog.gpu(values.word(call["gpu"], "gpu")), spec, values.day(call["on"]), price=values.price(call["price"]),
        listed=price_list(call["price"], call["prices"]), power=True,
        engine=values.engine(call["engine"], "engine", ENGINES), profile=values.word(call["profile"], "profile"),
        parallel=values.parallel(call["tp"], call["pp"], call["dp"]),
        weights=values.given(values.weight_format, call["weights"]),
        utilization=values.utilization(call["utilization"], "utilization"), length=x.longest,
        running=Running(prefix_caching=None if caches and not x.chain else caches),
    )  # fmt: skip
    endpoint = server(
        spec, place, technique=values.word(call["technique"], "technique"), prompt=max(round(x.prompt), 1),
        output=max(x.output, 1.0), percentile=limits.percentile, split=fleet.split,
        speculation=speculation_of(call["speculative"], call["draft_share"], call["draft_tokens"]),
    )  # fmt: skip
    endpoint = holding(endpoint, x)
    usual = "prefix-aware" if x.chain and caches and not fleet.split else "least-loaded"
    router = usual if call["router"] is None else values.one_of(call["router"], "router", tuple(ROUTERS))
    closed = values.given(values.count, call["concurrency"], "concurrency", 1, values.MOST_REQUESTS)
    warm = 0.0 if closed else stream.warm
    return Asked(
        server=endpoint, extent=x, source=stream.source, limits=limits, title=stream.title,
        warm=warm, until=FOREVER if closed else stream.until, router=router,
        prefix_cache=caches, tiers=tier_names(call["tiers"], endpoint),
        concurrency=closed or 0, seed=call["seed"], autoscale=fleet.scaled,
        failures=tuple(replace(f, at=f.at + warm) for f in fleet.failures),
        told=values.given(values.called, call["told"], "told"),
        progress=values.given(values.called, call["progress"], "progress"),
    )  # fmt: skip


def inputs(asked: Asked, fleet: FleetSize, finds: bool) -> tuple[object, ...]:
    """Return all that OPTIONS may change of a simulation: routers choose among lanes, tiers keep what is shared."""
    s, memory = asked.server, memory_of(asked.server)
    shared = shares_of(s, asked.extent, memory, asked.prefix_cache)
    most = max(fleet.split or (fleet.scaled.most if fleet.scaled else fleet.replicas or 1,))
    router = asked.router if finds or most * s.ranks > 1 else ""
    return s.parallel, s.room, s.slots, memory, shared, asked.tiers if shared else (), router


def why_unused(option: str, asked: Asked) -> str:
    """Return why an option of a simulation changes nothing."""
    if option.startswith("router="):
        return "there is one replica, to which all requests go"
    if asked.tiers and shares_of(asked.server, asked.extent, memory_of(asked.server), asked.prefix_cache):
        return f"{asked.server.technique} keeps prefixes there by itself"
    return not_shared(replace(asked, prefix_cache=True) if option.startswith("prefix_cache=") else asked)


def not_shared(asked: Asked) -> str:
    """Return why no request finds another's prefix in a cache."""
    if not asked.extent.chain:
        return UNSHARED
    if not asked.prefix_cache:
        return "the prefix cache is off"
    return f"{asked.server.technique} leaves no cache that a shared prefix can be read from"


def replay(
    asked: Asked, search: Search | None, fleet: FleetSize, write: Callable[[Records, int], None] | None
) -> Replayed:
    """Return what became of the requests, each written to a file if there is one."""
    found = search.smallest or search.less if search else None
    if write is not None:
        return simulated(replace(asked, watch=write), found.replicas if found else fleet.replicas or 1)
    return found or simulated(asked, fleet.replicas or (fleet.scaled.least if fleet.scaled else 1))


def limits_of(
    stream: RequestStream,
    ttft: float | str | None,
    tpot: float | str | None,
    e2e: float | str | None,
    percentile: float | str | None,
) -> Limits:
    """Return the limits that were given, a workload's own in place of those that were not."""
    slo = stream.workload.slo if stream.workload else None
    share = percentile if percentile is not None else slo.percentile if slo else 0.95
    return Limits(
        ttft=values.limit(ttft, slo.ttft if slo else None, "ttft"),
        tpot=values.limit(tpot, slo.tpot if slo else None, "tpot"),
        e2e=values.limit(e2e, slo.e2e if slo else None, "e2e"),
        percentile=values.bounded_share(share, "percentile", 0.5, 0.9999),
    )


def tier_names(words: str | Iterable[str] | None, server: Server) -> tuple[str, ...]:
    """Return the tiers that keep prefixes, the nearest first: those named, as in 'cpu,ssd', and the technique's own."""
    named = [x.strip() for word in values.several(words or (), "tiers") for x in word.split(",")]
    for name in named:
        values.one_of(name, "tiers", tuple(TIERS))
    return tuple(name for name in TIERS if name in named or name == server.layout.offloads)


def cautions(o: Replayed) -> Iterator[str]:
    """Yield what to know of a simulation before its figures are used."""
    s, asked = o.asked.server, o.asked
    for f in asked.failures:
        if f.at >= o.end:
            yield (
                f"replica {f.replica} does not fail: the last request leaves {show_time(o.end - asked.warm)} after the "
                f"start, before {show_time(f.at - asked.warm)}"
            )
    if o.parted >= 1:
        first = show_count(asked.concurrency, "answer")
        yield (
            f"answers are all of one length: the first {first} end up to {o.parted:,.0f} tokens early, which parts "
            "requests as a server's host does"
        )
    if o.refused:
        fit, be = ("fits", "was") if o.refused == 1 else ("fit", "were")
        of = f"{o.refused:,} of {show_count(o.requests, 'request')}"
        yield f"{of} {fit} no replica's memory and {be} sent away"
    if o.rules.width > 1 and not o.rules.sharing and asked.prefix_cache:
        yield f"{not_shared(asked)}: no hits are simulated"
    elif s.layout.offloads and not o.rules.sharing:
        yield f"{not_shared(asked)}: {s.technique} keeps nothing in tiers that is asked for"
    if o.completed and o.completed * (1 - asked.limits.percentile) < 10 and o.measured:
        few = "1 request says" if o.completed == 1 else f"{o.completed:,} requests say"
        yield f"{few} little of {show_percentile(asked.limits.percentile)}; simulate more of them"
    if o.end > 1.2 * asked.extent.span + 60 and not asked.concurrency:
        yield "requests pile up: the fleet is slower than they come, and waits grow with the trace's length"
