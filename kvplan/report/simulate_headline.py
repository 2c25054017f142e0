"""What a simulation answers in a few lines: the fleet, the requests, the limits it keeps and what is in the way."""

from collections.abc import Iterator

from kvplan.api.simulate import Simulated
from kvplan.kv.spelling import clause
from kvplan.planning.simulating.results import Bin, Replayed
from kvplan.planning.simulating.server import BLIND
from kvplan.planning.simulating.simulate import BURST, Search
from kvplan.report.blocks import sentence
from kvplan.report.load import are_kept, limit
from kvplan.units import MINUTE, show_count, show_number, show_percent, show_percentile, show_time

#: share of their time at work below which replicas are idle, and room below a limit [share] that is little
IDLE, NEAR = 0.15, 0.1
#: replicas from which on it is said that more of them barely help
MANY = 4


def fleet(o: Replayed) -> str:
    """Return the fleet in words."""
    s = o.asked.server
    if s.split:
        many = f"{show_count(s.split[0], 'prefill replica')} and {show_count(s.split[1], 'decode replica')}"
    else:
        many = show_count(o.replicas, "replica")
    gpus = f"{o.gpus}x {s.site.gpu.title} ({s.parallel} each)"
    return f"{many} of {s.model.title}{clause(s.technique, s.site.weights)} on {gpus} with {s.site.engine.title}"


def changes(o: Replayed) -> list[str]:
    """Return how the fleet changes while it serves: who fails, or how replicas come and go."""
    if a := o.asked.autoscale:
        mean = show_number(o.replica_seconds / o.seconds, 3)
        most = show_count(o.replicas, "replica")
        rule = f"1 for every {show_number(a.target)} requests in flight, from {a.least} to {a.most}"
        return [f"Autoscaled: {rule}, started in {show_time(a.startup)}; {most} at once at most, {mean} on average."]
    return [
        f"Replica {f.replica} is down for {show_time(f.lasts)}, from {show_time(f.at - o.asked.warm)} after the start "
        "on; its requests begin again elsewhere."
        for f in o.asked.failures
        if f.at < o.end
    ]


def stream(o: Replayed) -> str:
    """Return the requests in words."""
    x = o.asked.extent
    if o.asked.concurrency:
        return f"{o.asked.title}: {x.requests:,} requests, {o.asked.concurrency:,} in flight at any time"
    many = f"{show_count(o.requests, 'request')} in {show_time(o.coming)}"
    rate = f"{show_number(o.requests / o.coming if o.coming else 0.0)}/s on average"
    if o.coming >= 2 * MINUTE:
        rate += f", {show_number(x.busiest / MINUTE)}/s in the busiest minute"
    return f"{o.asked.title}: {many}, {rate}; {x.prompt:,.0f} tokens in and {x.output:,.0f} out on average"


def answer(s: Simulated) -> list[str]:
    """Return what was asked for, in a few lines."""
    o = s.outcome
    smallest = s.search.smallest if s.search else None
    beyond = ", the most that were tried" if s.search is not None and smallest is None else ""
    lines = [f"{fleet(o)}{beyond}.", f"{stream(o)}.", *changes(o)]
    if not o.measured:
        return lines
    if s.search is not None and smallest is not None:
        return [*lines, *fewest(s, s.search)]
    return [*lines, *(too_slow(s) if s.refusal else fast_enough(o))]


def kept(o: Replayed) -> tuple[str, str]:
    """Return the limits in words, and the percentile that they are for."""
    return limit(o.asked.limits), show_percentile(o.asked.limits.percentile)


def fewest(s: Simulated, search: Search) -> Iterator[str]:
    """Yield the fewest replicas that keep the limits, and why fewer, or some more, do not."""
    o, less = s.outcome, search.less
    limits, at = kept(o)
    yield f"The fewest replicas that keep {limits} at {at}: {o.replicas} ({show_count(o.gpus, 'GPU')}). {nearest(o)}"
    if s.burst and (b := o.busiest):
        yield f"In {busy_minute(o, b)}{needed(s)}."
    if less is not None:
        yield f"{show_count(less.replicas, 'replica')} would not do: {broken(less)}."
    more = [n for n, other in search.seen.items() if n > o.replicas and not other.kept]
    if more and o.asked.router in BLIND:
        yield (
            f"Nor would {min(more)}: under {o.asked.router} routing it is chance who meets whom on a replica; "
            "take some more, or a router that looks at loads."
        )
    if alone(s):
        yield f"{longest(o)} most of the limit; more replicas barely help: try {faster(o)} or another limit."


def too_slow(s: Simulated) -> Iterator[str]:
    """Yield which limits are broken, and what helps where no number of replicas does."""
    o = s.outcome
    yield sentence(f"{s.refusal}: {broken(o)}" if o.refused and s.search is None else s.refusal)
    if s.search is not None and not o.refused:
        yield f"{longest(o)} longer than that; try {faster(o)} or another limit."


def fast_enough(o: Replayed) -> Iterator[str]:
    """Yield how far the times are below the limits, and where they are not."""
    limits, at = kept(o)
    yield f"{are_kept(limits)} at {at}. {nearest(o)}"
    if (b := o.busiest) and o.surge >= BURST and not o.kept_in_busiest:
        yield f"In {busy_minute(o, b)}."


def nearest(o: Replayed) -> str:
    """Return how far the time that is nearest to its limit is below it, as a sentence."""
    name, time = max(o.measured, key=lambda m: m[1] / m[2])[:2]
    which = ", the nearest to its limit," if len(o.measured) > 1 else ""
    below = f"{show_percent(o.margin)} below {'it' if which else 'its limit'}"
    return f"{show_percentile(o.asked.limits.percentile)} of {name}{which} is {show_time(time)}, {below}."


def alone(s: Simulated) -> bool:
    """Return whether lone requests nearly take a limit: none waits, or fewer replicas are hardly late."""
    o = s.outcome
    if s.search is None or o.replicas < MANY or o.margin >= NEAR:
        return False
    if o.binding == "TTFT" and o.queued.p95 < NEAR * o.ttft.p95:
        return True
    half = max((margin for n, margin in s.search.tried if 2 * n <= o.replicas), default=-1.0)
    less = s.search.less.margin if s.search.less else o.margin
    return half > -NEAR or (o.busy < IDLE and less > -NEAR)


def longest(o: Replayed) -> str:
    """Return what takes most of the nearest limit by itself, and its verb."""
    return {"TTFT": "The longest prompts alone take", "TPOT": "Decoding alone takes"}.get(
        o.binding, "The longest requests alone take"
    )


def faster(o: Replayed) -> str:
    """Return what makes a request that is alone faster: more ranks where the server has room for them."""
    gpu, tp = o.asked.server.site.gpu, o.asked.server.parallel.tensor
    return f"tp={2 * tp}" if 2 * o.asked.server.parallel.gpus <= gpu.gpus_per_node else "a faster GPU"


def busy_minute(o: Replayed, b: Bin) -> str:
    """Return how the requests of the busiest stretch of time fare."""
    span = "minute" if b.seconds == MINUTE else f"stretch of {show_time(b.seconds)}"
    times = f"{show_number(o.surge, 2)} times the average rate"
    return f"the busiest {span}, of {times}, {show_percent(1 - b.late / b.came)} of the requests keep the limits"


def needed(s: Simulated) -> str:
    """Return how many replicas the busiest minute needs."""
    smallest = s.burst.smallest if s.burst else None
    at = f"{show_percent(s.outcome.asked.limits.percentile)} of them"
    if smallest is None:
        return ""
    if smallest.replicas == s.outcome.replicas:
        return ""
    return f"; {show_count(smallest.replicas, 'replica')} would let {at} keep them there too"


def broken(o: Replayed) -> str:
    """Return which limits are broken, and by how much."""
    if o.refused:
        return f"{show_count(o.refused, 'request')} fit no replica's memory"
    at = show_percentile(o.asked.limits.percentile)
    return ", ".join(
        f"{at} of {name} is {show_time(time)}, limit {show_time(bound)}"
        for name, time, bound in o.measured
        if time > bound
    )
