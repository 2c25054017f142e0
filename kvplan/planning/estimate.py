"""`kvplan estimate`: every technique at one context on one GPU: bytes, replicas, time, money, quality."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from kvplan.errors import Incompatible
from kvplan.kv import techniques
from kvplan.kv.budget import Budget, Parallel, memory_budget, tensor_sizes, weights
from kvplan.kv.layout import KVLayout, kv_layout
from kvplan.money.cost import QueryCost, query_cost
from kvplan.perf.operators import Operator, decode_step, prefill, total_time
from kvplan.specs.calibration import Calibration
from kvplan.specs.hardware import Engine, Gpu, Price
from kvplan.specs.model import ModelSpec
from kvplan.specs.reader import DTYPE_BITS
from kvplan.units import show_bytes, show_tokens


@dataclass(frozen=True, kw_only=True)
class Query:
    """One request: `context` tokens in all, the last `output` of them generated."""

    context: int
    output: int

    @property
    def prompt(self) -> int:
        return self.context - self.output


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where it runs: a GPU, its calibration, its price (None: unknown), an engine, and what the user fixed."""

    gpu: Gpu
    calibration: Calibration
    price: Price | None
    engine: Engine
    parallel: Parallel | None = None
    weights: str | None = None
    utilization: float | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One technique on one GPU. `reason` says why it is infeasible, '' when it is not; unknown figures are None.

    `grounded` is whether kernel measurements of this GPU stand behind its times.
    """

    technique: str
    gpu: str
    bytes_per_token: float | None = None
    bytes_per_sequence: float | None = None
    read_per_step: float | None = None
    peak_prefill: float | None = None
    shared: float | None = None
    extra_parameters: float = 0.0
    reduction: float | None = None
    parallel: Parallel | None = None
    sequences: int = 0
    ttft: float | None = None
    tpot: float | None = None
    tokens_per_second: float | None = None
    cost: QueryCost | None = None
    layout: KVLayout | None = None
    budget: Budget | None = None
    decode: tuple[Operator, ...] = ()
    prefill: tuple[Operator, ...] = ()
    spread: tuple[float, float] = (1.0, 1.0)
    grounded: bool = True
    quality: str = ""
    risk: str = ""
    needs: tuple[str, ...] = ()
    reason: str = ""

    @property
    def feasible(self) -> bool:
        return not self.reason

    @property
    def gpus(self) -> int | None:
        return self.parallel.gpus if self.parallel else None


def default_kv_bits(model: ModelSpec) -> float:
    """Return the width engines cache keys and values in: the checkpoint's own scheme, else its dtype, at most 16 bits."""
    if model.quantization and model.quantization.kv_bits:
        return model.quantization.kv_bits
    return min(DTYPE_BITS[model.dtype], 16.0)


def evaluate(model: ModelSpec, base: KVLayout, technique: str, query: Query, site: Site) -> Row:
    """Return one technique's row: the smallest replica that holds one sequence, and what it does when full."""
    name = techniques.canonical(technique)
    row = Row(
        technique=name,
        gpu=site.gpu.name,
        spread=site.calibration.spread,
        grounded=site.calibration.grounded,
        quality=techniques.quality(name),
        risk=techniques.risk(name),
        needs=techniques.needs(name),
    )
    try:
        layout = techniques.apply(name, base)
    except Incompatible as refusal:
        return replace(row, reason=str(refusal).removeprefix(f"{name}: "))
    whole, stored = base.stored(query.context), layout.stored(query.context)
    row = replace(
        row,
        layout=layout,
        bytes_per_token=layout.growth(query.context),
        bytes_per_sequence=stored,
        read_per_step=layout.read(query.context),
        peak_prefill=layout.peak(query.context),
        shared=layout.shared(query.context),
        extra_parameters=layout.parameters,
        reduction=1 - stored / whole if whole else 0.0,
    )
    placed = place(model, layout, query, site)
    if isinstance(placed, str):
        return replace(row, reason=placed)
    parallel, budget, count = placed
    return timed(model, base, layout, query, site, replace(row, parallel=parallel, budget=budget, sequences=count))


def place(model: ModelSpec, layout: KVLayout, query: Query, site: Site) -> tuple[Parallel, Budget, int] | str:
    """Return the smallest replica that holds one sequence with its prefill peak, or the reason why none does."""
    options = [site.parallel] if site.parallel else tensor_sizes(model, site.gpu)
    budget = None
    for parallel in options:
        budget = memory_budget(
            model,
            layout,
            site.gpu,
            site.engine,
            parallel=parallel,
            wanted=site.weights,
            length=query.context,
            utilization=site.utilization,
        )
        count = budget.sequences(query.context, prefill_peak(layout, query, parallel))
        if count:
            return parallel, budget, count
    if budget is None:
        return f"no way to spread this model over {site.gpu.name} GPUs"
    return does_not_fit(model, layout, query, site, options[-1], budget)


def prefill_peak(layout: KVLayout, query: Query, parallel: Parallel) -> float:
    """Return what a GPU must keep free for the prompt being prefilled, beyond its stored cache. [B]"""
    return (layout.peak(query.context) - layout.stored(query.context)) / parallel.tensor


def does_not_fit(
    model: ModelSpec, layout: KVLayout, query: Query, site: Site, parallel: Parallel, budget: Budget
) -> str:
    """Say how much is missing on the largest replica tried, and the smallest change that fits."""
    short = budget.shortfall(query.context, prefill_peak(layout, query, parallel))
    return f"does not fit {parallel.gpus}x {site.gpu.name} ({parallel}), short by {show_bytes(short)} per GPU; smallest change that fits: {smallest_change(model, layout, query, site, parallel)}"


def smallest_change(model: ModelSpec, layout: KVLayout, query: Query, site: Site, parallel: Parallel) -> str:
    """Return the first of: more GPUs, an fp8 cache, fp8 weights, int4 weights, a shorter context."""

    def fits(layout: KVLayout, site: Site, length: int, shape: Parallel) -> bool:
        budget = memory_budget(
            model,
            layout,
            site.gpu,
            site.engine,
            parallel=shape,
            wanted=site.weights,
            length=length,
            utilization=site.utilization,
        )
        return budget.sequences(length, prefill_peak(layout, replace(query, context=length), shape)) > 0

    for larger in tensor_sizes(model, site.gpu):
        if larger.gpus > parallel.gpus and fits(layout, site, query.context, larger):
            return f"{larger.gpus} GPUs ({larger})"
    try:
        if fits(techniques.apply("fp8", layout), site, query.context, parallel):
            return "an fp8 cache (+fp8)"
    except Incompatible:
        pass
    for lighter in ("fp8", "int4"):
        if fits(layout, replace(site, weights=lighter), query.context, parallel):
            return f"{lighter} weights"
    length = query.context
    while length > 1024:
        length //= 2
        if fits(layout, site, length, parallel):
            return f"a context of {show_tokens(length)}"
    return "a larger GPU (more GPUs, an fp8 cache, fp8 or int4 weights and shorter contexts each fall short)"


def timed(model: ModelSpec, base: KVLayout, layout: KVLayout, query: Query, site: Site, row: Row) -> Row:
    """Add time and money: TTFT alone on the replica, TPOT with it full, cost with it kept busy."""
    assert row.parallel is not None
    parallel, held, c = row.parallel, weights(model, site.weights), site.calibration
    chunk = site.engine.limits(site.gpu)[1]
    before = prefill(model, base, layout, held, parallel, tokens=query.prompt, chunk=chunk)
    after = decode_step(model, layout, held, parallel, batch=row.sequences, length=query.context - query.output // 2)
    ttft, tpot = total_time(before, c), total_time(after, c)
    # while one stage of a pipeline prefills, the others work for other prompts
    busy = ttft / parallel.pipeline
    share = tpot * query.output / row.sequences
    cost = (
        query_cost(
            site.price, parallel.gpus, prefill=busy, decode=share, input_tokens=query.prompt, output_tokens=query.output
        )
        if site.price
        else None
    )
    return replace(
        row,
        ttft=ttft,
        tpot=tpot,
        tokens_per_second=query.output / (busy + share),
        cost=cost,
        decode=tuple(after),
        prefill=tuple(before),
    )


def estimate(model: ModelSpec, wanted: Sequence[str], query: Query, site: Site) -> list[Row]:
    """Return one row per technique on one site, the baseline first."""
    base = kv_layout(model, default_kv_bits(model))
    names = list(dict.fromkeys([techniques.BASELINE, *(techniques.canonical(t) for t in wanted)]))
    return [evaluate(model, base, name, query, site) for name in names]


def best(rows: Iterable[Row]) -> Row | None:
    """Return the cheapest feasible row, else the one with the fewest GPUs; None when nothing is feasible."""
    fit = [row for row in rows if row.feasible]
    return min(fit, key=lambda r: (r.cost is None, r.cost.per_query if r.cost else 0.0, r.gpus or 0), default=None)
