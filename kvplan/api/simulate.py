"""A simulation: a trace, or a workload's own arrivals, served by a fleet step by step."""

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from time import perf_counter

from kvplan import catalog
from kvplan.api import values
from kvplan.api.load import speculation_of
from kvplan.api.sites import ENGINES, PUBLISHED, price_list, site
from kvplan.api.streams import RequestStream, requests_of
from kvplan.catalog.compiled import compiled_folder, is_kept
from kvplan.catalog.files import distinct
from kvplan.catalog.rows.traces import requests_file
from kvplan.errors import SpecError, WrongUse, shown
from kvplan.kv import spelling
from kvplan.kv.budget import Running
from kvplan.kv.tiers import TIERS
from kvplan.perf.simulate import compiled
from kvplan.perf.simulate.state import Records
from kvplan.planning.estimate import warnings
from kvplan.planning.scaling import Autoscale, Failure
from kvplan.planning.server import Server, server
from kvplan.planning.simulate import MOST_REPLICAS, Search, fewest, through_burst
from kvplan.planning.simulate import simulate as simulated
from kvplan.planning.simulated import FOREVER, Asked, Replayed
from kvplan.planning.simulated_server import BLIND, ROUTERS, holding
from kvplan.planning.site import Limits
from kvplan.planning.suitability import check_context
from kvplan.specs.result import Result
from kvplan.units import show_count, show_time, written_above

#: from the decision to start a replica to its first request, where nobody says [s]
STARTUP = 180.0
#: numbers of replicas below the fewest that are tried where a router does not look at loads, and each is a draw
BELOW = 2


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
        at = f"at P{limits.percentile * 100:g}"
        if self.search is not None:
            if self.search.smallest is not None:
                return ""
            if o.refused:
                return f"{o.refused:,} requests fit no replica's memory; give it more GPUs with tp="
            return (
                f"no number of replicas keeps the limits: that of {o.binding} is broken {at} whatever their number"
                f"{nearest(o)}"
            )
        return "" if o.kept or not o.measured else f"the limit of {o.binding} is broken {at}{nearest(o)}"


def nearest(o: Replayed) -> str:
    """Return the times of an outcome that breaks limits, and limits that it keeps; '' where memory alone is short."""
    names = {"TTFT": "ttft", "TPOT": "tpot", "end to end": "e2e"}
    over = [(name, time) for name, time, limit in o.measured if time > limit]
    times = " and ".join(f"{name} is {show_time(time)}" for name, time in over)
    write = " and ".join(f"{names[name]}={written_above(time)}" for name, time in over)
    on = show_count(o.replicas, "replica")
    return "" if not over else f"; on {on} {times}: write {write} or more, or GPUs or weights that take less time"


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
    told = values.given(values.called, told, "told")
    find_replicas = values.flag(find_replicas, "find_replicas")
    begun = perf_counter()
    spec = catalog.model(values.word(model, "model"))
    day = values.day(on)
    device = catalog.gpu(values.word(gpu, "gpu"))
    seed = values.count(seed, "seed", 0, 2**32 - 1)
    stream = requests_of(
        trace, workload, spec, queries_per_day=queries_per_day, rate=rate, duration=duration, scale=scale, speed=speed,
        seed=seed,
    )  # fmt: skip
    limits = limits_of(stream, ttft, tpot, e2e, percentile)
    if find_replicas and limits.ttft is None and limits.tpot is None and limits.e2e is None:
        raise SpecError("find_replicas: for which limits? Give ttft=2s, tpot=50ms or e2e=30s")
    x, prefix_cache = stream.extent, values.flag(prefix_cache, "prefix_cache")
    whose = "trace" if trace else "workload"
    check_context(spec, x.longest, values.flag(allow_long_context, "allow_long_context"), whose)
    place = site(
        device, spec, day, price=values.price(price), listed=price_list(price, prices), power=True,
        engine=values.engine(engine, "engine", ENGINES), profile=values.word(profile, "profile"),
        parallel=values.parallel(tp, pp, dp), weights=values.given(values.weight_format, weights),
        utilization=values.utilization(utilization, "utilization"),
        length=x.longest,
        running=Running(prefix_caching=None if prefix_cache and not x.chain else bool(prefix_cache)),
    )  # fmt: skip
    fleet = fleet_size(replicas, find_replicas, disaggregated, autoscale, fail)
    endpoint = server(
        spec, place, technique=values.word(technique, "technique"), prompt=max(round(x.prompt), 1),
        output=max(x.output, 1.0), percentile=limits.percentile, split=fleet.split,
        speculation=speculation_of(speculative, draft_share, draft_tokens),
    )  # fmt: skip
    endpoint = holding(endpoint, x)
    usual = "prefix-aware" if x.chain and prefix_cache and not fleet.split else "least-loaded"
    closed = values.given(values.count, concurrency, "concurrency", 1, values.MOST_REQUESTS)
    warm = 0.0 if closed else stream.warm
    asked = Asked(
        server=endpoint, extent=x, source=stream.source, limits=limits, title=stream.title,
        warm=warm, until=FOREVER if closed else stream.until,
        router=usual if router is None else values.one_of(router, "router", tuple(ROUTERS)),
        prefix_cache=prefix_cache, tiers=tier_names(tiers, endpoint),
        concurrency=closed or 0, seed=seed, autoscale=fleet.scaled,
        failures=tuple(replace(f, at=f.at + warm) for f in fleet.failures), told=told,
        progress=values.given(values.called, progress, "progress"),
    )  # fmt: skip
    folder = compiled_folder(compiled.digest())
    compiled.keep(folder, is_kept(folder))
    path = values.given(values.word, per_request, "per_request")
    distinct([trace] if trace else [], path)
    with nullcontext() if path is None else requests_file(path) as write:  # a closed path is told before a search
        search = fewest(asked, below=BELOW if asked.router in BLIND else 0) if find_replicas else None
        burst = through_burst(asked, search) if search else None
        outcome = replay(asked, search, fleet, write)
    said = (*warnings(spec, round(x.prompt + x.output), [place], day), *stream.notes, *cautions(outcome))
    return Simulated(
        outcome=outcome, search=search, burst=burst, requests=stream, warnings=said, wall=perf_counter() - begun
    )


def replay(
    asked: Asked, search: Search | None, fleet: "FleetSize", write: Callable[[Records, int], None] | None
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


@dataclass(frozen=True, kw_only=True)
class FleetSize:
    """How many replicas serve: a number, prefill and decode apart, or as many as the load asks for at the time."""

    replicas: int | None  #: replicas that serve whole requests, None where nobody says
    split: tuple[int, int] | None  #: replicas of prefill and of decode
    scaled: Autoscale | None  #: replicas that come and go
    failures: tuple[Failure, ...]  #: replicas that fail, and when [s after the first counted request]


def fleet_size(
    replicas: int | None,
    find: bool,
    disaggregated: tuple[int, int] | str | None,
    autoscale: str | None,
    fail: str | Iterable[str],
) -> FleetSize:
    """Return how many replicas serve; refuse ways to say so that exclude each other."""
    split = values.given(values.halves, disaggregated, "disaggregated")
    scaled = values.given(read_autoscale, autoscale)
    many = values.given(values.count, replicas, "replicas", 1, MOST_REPLICAS)
    check_one_size(find, many, split, scaled)
    check_failures_allowed(fail, find, split, scaled)
    return FleetSize(replicas=many, split=split, scaled=scaled, failures=read_failures(fail, many or 1))


def tier_names(words: str | Iterable[str] | None, server: Server) -> tuple[str, ...]:
    """Return the tiers that keep prefixes, the nearest first: those named, as in 'cpu,ssd', and the technique's own."""
    named = [x.strip() for word in values.several(words or (), "tiers") for x in word.split(",")]
    for name in named:
        values.one_of(name, "tiers", tuple(TIERS))
    return tuple(name for name in TIERS if name in named or name == server.layout.offloads)


def check_one_size(find: bool, replicas: int | None, split: tuple[int, int] | None, scaled: Autoscale | None) -> None:
    """Refuse ways to say how many replicas there are that exclude each other."""
    given = {"replicas": replicas, "find_replicas": find or None, "disaggregated": split, "autoscale": scaled}
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise WrongUse(f"{', '.join(names)}: each says how many replicas there are; give one of them")


def check_failures_allowed(
    fail: str | Iterable[str], find: bool, split: tuple[int, int] | None, scaled: Autoscale | None
) -> None:
    """Refuse failures where it is not said how many replicas there are that could stand in for each other."""
    given = {"find_replicas": find or None, "disaggregated": split, "autoscale": scaled}
    if fail and (name := next((name for name, value in given.items() if value is not None), "")):
        raise WrongUse(
            f"fail, {name}: a failure names one of a fixed number of replicas that serve whole requests; "
            "give replicas=2 or more instead"
        )


def read_autoscale(word: object) -> Autoscale:
    """Return replicas that come and go, of '1:8@16+3min': 1 to 8, 16 requests in flight each, started in 3 minutes."""
    span, _, rest = values.word(word, "autoscale").partition("@")
    target, _, startup = rest.partition("+")
    if not target:
        raise SpecError(f"autoscale: write fewest:most@requests+start-up, as in 1:8@16+3min, got {shown(word)}")
    least, most = values.halves(span, "autoscale", "fewest:most")
    if least > most:
        raise SpecError(f"autoscale: write the fewest replicas first, as in {most}:{least}@{rest}")
    return Autoscale(
        least=least, most=most, target=values.number(target, "autoscale", 0.01, values.MOST_REQUESTS),
        startup=values.seconds(startup, "autoscale") if startup else STARTUP,
    )  # fmt: skip


def read_failures(words: str | Iterable[str], replicas: int) -> tuple[Failure, ...]:
    """Return the failures that were asked for, as in '0@10min+5min'."""
    failures = []
    for word in values.several(words, "fail"):
        number, _, times = word.partition("@")
        at, plus, lasts = times.partition("+")
        if not number.strip().isdecimal() or not plus:
            raise SpecError(f"fail: write replica@time+duration, as in 0@10min+5min, got {shown(word)}")
        if replicas < 2:
            raise SpecError(
                "fail: with one replica nobody could take the requests of the one that fails; write replicas=2 or more"
            )
        if int(number) >= replicas:
            raise SpecError(
                f"fail: there is no replica {shown(number)}; the {replicas} have the numbers 0 to {replicas - 1}"
            )
        failures.append(Failure(replica=int(number), at=values.moment(at, "fail"), lasts=values.seconds(lasts, "fail")))
    for one in failures:
        down = {other.replica for other in failures if other.at <= one.at < other.at + other.lasts}
        if len(down) == replicas:
            raise SpecError(
                f"fail: all {replicas} replicas are down {show_time(one.at)} after the start; leave one to serve"
            )
    return tuple(failures)


def cautions(o: Replayed) -> list[str]:
    """Return what to know of a simulation before its figures are used."""
    s = o.asked.server
    said = []
    said += [
        f"replica {f.replica} does not fail: the last request leaves {show_time(o.end - o.asked.warm)} after the "
        f"start, before {show_time(f.at - o.asked.warm)}"
        for f in o.asked.failures
        if f.at >= o.end
    ]
    if o.parted >= 1:
        first = show_count(o.asked.concurrency, "answer")
        said.append(
            f"answers are all of one length: the first {first} end up to {o.parted:,.0f} tokens early, which parts "
            "requests as a server's host does"
        )
    if o.refused:
        fit, be = ("fits", "was") if o.refused == 1 else ("fit", "were")
        of = f"{o.refused:,} of {show_count(o.requests, 'request')}"
        said.append(f"{of} {fit} no replica's memory and {be} sent away")
    if o.rules.width > 1 and not o.rules.sharing and o.asked.prefix_cache:
        said.append(f"{s.technique} leaves no cache that a shared prefix can be read from: no hits are simulated")
    elif o.asked.tiers and not o.rules.sharing:
        why = "no request shares a prefix with another" if o.asked.prefix_cache else "the prefix cache is off"
        said.append(f"{why}: tiers keep nothing that is asked for")
    if o.completed and o.completed * (1 - o.asked.limits.percentile) < 10 and o.measured:
        at = f"P{o.asked.limits.percentile * 100:g}"
        few = "1 request says" if o.completed == 1 else f"{o.completed:,} requests say"
        said.append(f"{few} little of {at}; simulate more of them")
    if o.end > 1.2 * o.asked.extent.span + 60 and not o.asked.concurrency:
        said.append("requests pile up: the fleet is slower than they come, and waits grow with the trace's length")
    return said
