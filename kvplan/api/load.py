"""One server under load: closed and open loops, percentiles, and the largest load within limits."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from kvplan import catalog
from kvplan.api import values
from kvplan.api.engine_options import running, served, spread
from kvplan.api.idle import RUNNING, Call, idle, reason
from kvplan.api.sites import ENGINES, PUBLISHED, price_list, site
from kvplan.errors import WrongUse
from kvplan.kv import spelling
from kvplan.perf.serving import LENGTH_SPREAD
from kvplan.planning.load import Survey, survey
from kvplan.planning.server import Server, server
from kvplan.planning.site import Limits
from kvplan.planning.speculation import Speculation, speculation
from kvplan.planning.suitability import check_context, lengthened

#: how far answers' lengths differ, by its name: width of a uniform distribution over their mean
LENGTHS = {"spread": LENGTH_SPREAD, "exact": 0.0}
#: more tokens than are drafted a step
MOST_DRAFTED = 64


def load(
    model: str,
    gpu: str,
    isl: int | str,
    osl: int | str,
    *,
    concurrency: int | None = None,
    rate: float | str | None = None,
    burstiness: float | str | None = None,
    engine: str = "vllm",
    technique: str = spelling.BASELINE,
    tp: int | None = None,
    pp: int | None = None,
    dp: int | None = None,
    weights: str | None = None,
    utilization: float | str | None = None,
    prefix_hit: float | str = 0.0,
    lengths: str = "spread",
    speculative: float | str | None = None,
    draft_share: float | str | None = None,
    draft_tokens: int | None = None,
    disaggregated: tuple[int, int] | str | None = None,
    ttft: float | str | None = None,
    tpot: float | str | None = None,
    percentile: float | str = 0.95,
    price: float | str | None = None,
    prices: str | Iterable[str] = (),
    profile: str = PUBLISHED,
    on: str | None = None,
    pp_layers: str | Sequence[int] = (),
    dcp: int = 1,
    kv_cache_memory_bytes: float | str | None = None,
    cpu_offload: float | str | None = None,
    without: str | Iterable[str] = (),
    with_features: str | Iterable[str] = (),
    allow_long_context: bool = False,
) -> Survey:
    """Return a server of one model and GPU over loads, at one closed or open loop, or at the largest within limits.

    Requests have `isl` tokens in, `prefix_hit` of them cached, and `osl` out on average: answers `spread` from 0.9 to
    1.1 of that, as published benchmarks send them, or with `lengths="exact"` all alike, as `simulate` replays them.
    `concurrency` closes the loop, `rate` (per second, with the arrivals' CV as `burstiness`) opens it; times are in
    seconds, `price` is USD per GPU-hour, `prices` are files of your own. `pp_layers`, `dcp`, `kv_cache_memory_bytes`,
    `cpu_offload`, `without` and `with_features` are those of `memory`.
    Raises KvplanError for names and values that cannot be understood, and for a context beyond the model's unless
    `allow_long_context`; Incompatible where nothing fits.

        >>> kvplan.load("llama3.1-8b", "h100", 2000, 200, concurrency=16).points[0].running
        16
    """
    call = dict(locals())
    check_one_loop(concurrency, rate, burstiness)
    server = endpoint(call)
    found = under_load(
        server, concurrency=concurrency, rate=rate, burstiness=burstiness, ttft=ttft, tpot=tpot, on=on
    )  # fmt: skip
    whole = catalog.model(model) if without else server.model
    where = server.site.deployment(server.parallel)
    unused = idle(load, RUNNING, call, _figures, lambda option: reason(option, server.model, where, True, whole))
    return replace(found, warnings=(*found.warnings, *unused)) if unused else found


def _figures(call: Call) -> tuple[object, ...]:
    """Return everything of a server that an option of its engine may change."""
    s = endpoint(call)
    return s.room, s.slots, s.parallel, s.decode_steps


def endpoint(call: Call) -> Server:
    """Return the server that a call of `load` puts under load, of all its parameters by name; no load changes it."""
    at = values.bounded_share(call["percentile"], "percentile", 0.5, 0.9999)
    left_out = values.several(call["without"], "without")
    serving = values.engine(call["engine"], "engine", ENGINES)
    spec = lengthened(served(catalog.model(values.word(call["model"], "model")), left_out), catalog.engine(serving))
    day = values.day(call["on"])
    prompt, output = values.tokens(call["isl"], "isl"), values.tokens(call["osl"], "osl")
    long = values.flag(call["allow_long_context"], "allow_long_context")
    check_context(spec, prompt + output, long, "isl, osl")
    options = running(
        call["dcp"], call["kv_cache_memory_bytes"], call["cpu_offload"], left_out, call["with_features"]
    )  # fmt: skip
    place = site(
        catalog.gpu(values.word(call["gpu"], "gpu")), spec, day, price=values.price(call["price"]),
        listed=price_list(call["price"], call["prices"]), engine=serving,
        profile=values.word(call["profile"], "profile"),
        parallel=spread(call["tp"], call["pp"], call["dp"], call["pp_layers"]),
        weights=values.given(values.weight_format, call["weights"]),
        utilization=values.utilization(call["utilization"], "utilization"), running=options,
        length=prompt + output,
    )  # fmt: skip
    drafts = speculation_of(call["speculative"], call["draft_share"], call["draft_tokens"])
    return server(
        spec, place, technique=values.word(call["technique"], "technique"), prompt=prompt, output=output,
        hit=values.share(call["prefix_hit"], "prefix_hit"), speculation=drafts,
        split=values.given(values.halves, call["disaggregated"], "disaggregated"), percentile=at,
        spread=LENGTHS[values.one_of(call["lengths"], "lengths", LENGTHS)],
    )  # fmt: skip


def under_load(
    served: Server,
    *,
    concurrency: int | None = None,
    rate: float | str | None = None,
    burstiness: float | str | None = None,
    ttft: float | str | None = None,
    tpot: float | str | None = None,
    on: str | None = None,
) -> Survey:
    """Return a server under the load that `load` was asked for."""
    check_one_loop(concurrency, rate, burstiness)
    arrivals = values.given(values.number, burstiness, "burstiness", 0.0, 100.0)
    limits = Limits(ttft=values.limit(ttft, None, "ttft"), tpot=values.limit(tpot, None, "tpot"))
    return survey(
        served, limits, concurrency=values.given(values.count, concurrency, "concurrency", 1, values.MOST_REQUESTS),
        rate=values.given(values.per_second, rate), burstiness=1.0 if arrivals is None else arrivals,
        today=values.day(on),
    )  # fmt: skip


def check_one_loop(concurrency: int | None, rate: float | str | None, burstiness: float | str | None) -> None:
    """Refuse a load that is both a closed and an open loop."""
    if concurrency is not None and rate is not None:
        raise WrongUse("concurrency, rate: give one of them, not both")
    if burstiness is not None and concurrency is not None:
        raise WrongUse("burstiness: a closed loop has no arrivals of its own; give rate instead of concurrency")


def speculation_of(accepted: float | str | None, draft: float | str | None, drafted: int | None) -> Speculation | None:
    """Return the speculative decoding that was asked for, None for none."""
    most = values.given(values.number, accepted, "speculative", 1.0, 65.0)
    slowed = values.given(values.share, draft, "draft_share")
    ahead = values.given(values.count, drafted, "draft_tokens", 0, MOST_DRAFTED)
    if most is not None:
        return speculation(most, slowed or 0.0, ahead)
    if draft is not None or drafted is not None:
        raise WrongUse("draft_share, draft_tokens: say how many tokens are accepted a step with speculative=2")
    return None
