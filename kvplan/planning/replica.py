"""From one technique at one context on one GPU to the replica that serves it: bytes, time, money."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, hypot

from kvplan.architectures.formats import FORMATS
from kvplan.architectures.reader import DTYPE_BITS
from kvplan.errors import Incompatible
from kvplan.kv import spelling
from kvplan.kv.budget import Budget, memory_budget
from kvplan.kv.layout import KVLayout
from kvplan.kv.model_cache import kv_layout
from kvplan.kv.replica import Parallel, check_parallel, check_ranks, native_formats, replica_shapes, weights
from kvplan.kv.speeds import interval
from kvplan.money.cost import query_cost
from kvplan.money.keeping import keeping
from kvplan.perf.encoder import with_images
from kvplan.perf.lines import LoadLines, TokenLines, load_lines, token_lines
from kvplan.perf.operators import CACHE, Operator
from kvplan.perf.serving import Load, Passes, passes, serve
from kvplan.perf.step_time import operator_time, step_time
from kvplan.planning.evaluation import Evaluation, Timing
from kvplan.planning.site import Query, Site
from kvplan.specs.model import ModelSpec
from kvplan.specs.workload import Workload
from kvplan.units import show_bytes, show_tokens


def default_kv_bits(model: ModelSpec) -> float:
    """Return the width engines cache keys and values in. [bit]

    The checkpoint's own scheme, else its dtype, at most 16 bits.
    """
    if model.quantization and model.quantization.kv_bits:
        return model.quantization.kv_bits
    return min(DTYPE_BITS[model.dtype], 16.0)


@dataclass(frozen=True, kw_only=True)
class Case:
    """What stays the same while techniques are compared: a model, its plain layout, a query and a site."""

    model: ModelSpec  #: the model served
    base: KVLayout  #: what each layer keeps uncompressed
    query: Query  #: one request
    site: Site  #: the GPU, its rates and its prices

    @property
    def chunk(self) -> int:
        """Tokens of prompts that the engine takes into one step. [token]"""
        return int(self.site.calibration.chunk)

    @cached_property
    def _token_lines(self) -> dict[Parallel, TokenLines]:
        return {}

    def token_lines(self, parallel: Parallel) -> TokenLines:
        """Return what a step takes for its tokens on a replica of this shape, worked out once for all techniques."""
        if parallel not in self._token_lines:
            held = weights(self.model, self.site.weights)
            self._token_lines[parallel] = token_lines(self.model, self.base, held, parallel, self.site.calibration)
        return self._token_lines[parallel]

    def budget(self, layout: KVLayout, parallel: Parallel) -> Budget:
        """Return how a GPU's memory is divided on a replica of this shape. [B]"""
        return memory_budget(self.model, layout, self.site.deployment(parallel), self.query.context)

    def peak(self, layout: KVLayout, parallel: Parallel) -> float:
        """Return what a GPU must keep free for the prompt being prefilled, beyond its stored cache. [B]"""
        return (layout.peak(self.query.context, self.chunk) - layout.stored(self.query.context)) / parallel.tensor

    def sequences(self, layout: KVLayout, parallel: Parallel) -> int:
        """Return how many sequences a replica of this shape holds."""
        return self.budget(layout, parallel).sequences(self.query.context, self.peak(layout, parallel))

    def shapes(self, layout: KVLayout) -> list[Parallel]:
        """Return the replica shapes to try, smallest first: the one the user fixed, or all that divide the model."""
        return [self.site.parallel] if self.site.parallel else replica_shapes(self.model, layout, self.site.gpu)


def evaluate(case: Case, technique: str) -> Evaluation:
    """Return one technique's row, on the replica that serves a query with the fewest GPU-seconds."""
    name = spelling.canonical(technique)
    c, context = case.site.calibration, case.query.context
    row = Evaluation(
        technique=name,
        gpu=case.site.gpu.name,
        context=context,
        spread=(c.tpot.low, c.tpot.high),
        ttft_spread=(c.ttft.low, c.ttft.high),
        grounded=c.grounded,
        margin=case.site.margin,
        quality=spelling.quality(name),
        needs=spelling.needs(name) + spelling.remarks(name, case.base),
    )
    try:
        layout = spelling.apply(name, case.base).with_prompt(case.query.prompt)
    except Incompatible as refusal:
        return replace(row, reason=str(refusal).removeprefix(f"{name}: "))
    reduction = 1 - layout.stored(context) / max(case.base.stored(context), 1.0)
    row = replace(row, layout=layout, peak=layout.peak(context, case.chunk), reduction=reduction)
    if lacking := spelling.runs_on(name, case.site.gpu):
        return replace(row, reason=lacking)
    shapes = case.shapes(layout)
    refused = check_parallel(case.model, shapes[0])
    refused = refused or check_ranks(case.model, shapes[0], case.site.running.context_ranks)
    if refused:
        return replace(row, reason=refused)
    fitting = fit(case, layout, shapes)
    if not fitting:
        return replace(row, reason=does_not_fit(case, layout, shapes[-1]), short=True)
    timings = [timed(case, layout, p, n) for p, n in fitting]
    cheapest = min(timings, key=lambda t: (t.gpu_seconds, t.parallel.gpus))
    return filled(case, replace(row, fewest_gpus=fitting[0][0].gpus, full=tuple(timings)), cheapest)


#: requests in flight on one replica at which steps are worked out; those of others lie on straight lines between
LOADS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
#: GPUs a replica may have before it spans nodes
NODE = 8


def fit(case: Case, layout: KVLayout, shapes: Sequence[Parallel]) -> list[tuple[Parallel, int]]:
    """Return the shapes that hold a sequence, and how many; of those larger than a node one at most, if none else."""
    fitting: list[tuple[Parallel, int]] = []
    for parallel in shapes:
        if fitting and parallel.gpus > NODE:
            break
        if count := case.sequences(layout, parallel):
            fitting.append((parallel, count))
    return fitting


def does_not_fit(case: Case, layout: KVLayout, parallel: Parallel) -> str:
    """Say how much is missing on the largest replica tried, and the smallest change that fits."""
    short = case.budget(layout, parallel).shortfall(case.query.context, case.peak(layout, parallel))
    head = f"one sequence does not fit {parallel.gpus}x {case.site.gpu.name} ({parallel})"
    remedy = f"the smallest change that fits is {smallest_change(case, layout, parallel)}"
    return f"{head}: short by {show_bytes(short)} per GPU; {remedy}"


def smallest_change(case: Case, layout: KVLayout, parallel: Parallel) -> str:
    """Return the first of these that fits: another shape or more GPUs, an fp8 cache, lighter weights, less context."""
    for other in replica_shapes(case.model, layout, case.site.gpu):
        if other.gpus >= parallel.gpus and case.sequences(layout, other):
            return f"{other.gpus} GPUs ({other})" if other.gpus > parallel.gpus else f"{other} on as many GPUs"
    try:
        if case.sequences(spelling.apply("fp8", layout), parallel):
            return "an fp8 cache (+fp8)"
    except Incompatible:
        pass
    lighter_ones = [form for form in native_formats(case.model) if FORMATS[form].native(case.site.gpu)]
    for lighter in lighter_ones:
        if replace(case, site=replace(case.site, weights=lighter)).sequences(layout, parallel):
            return f"{lighter} weights"
    length = case.query.context // 2
    while length > 1024:
        if replace(case, query=replace(case.query, context=length)).sequences(layout, parallel):
            return f"a context of {show_tokens(length)}"
        length //= 2
    forms = f"{' or '.join(lighter_ones)} weights" if lighter_ones else "lighter weights"
    return f"a larger GPU (more GPUs, an fp8 cache, {forms} or a shorter context are not enough alone)"


def timed(case: Case, layout: KVLayout, parallel: Parallel, sequences: int) -> Timing:
    """Return the times of a replica kept busy with a full batch: as many requests in flight as it holds."""
    most, _ = case.site.engine.limits(case.site.gpu)
    return at_load(case, layout, parallel, sequences, min(sequences, most * parallel.data))


def lines_of(case: Case, layout: KVLayout, parallel: Parallel) -> LoadLines:
    """Return the steps of a replica under a technique, at any load."""
    query, c = case.query, case.site.calibration
    return load_lines(
        case.model, case.base, layout, parallel, case.token_lines(parallel), c, prompt=query.prompt, output=query.output
    )


def each_of(parallel: Parallel, batch: int) -> float:
    """Return the sequences of one rank and stage: while it prefills a prompt, the others work on other prompts."""
    return max(batch / (parallel.pipeline * parallel.data), 1.0)


def at_load(
    case: Case, layout: KVLayout, parallel: Parallel, sequences: int, batch: int, known: LoadLines | None = None
) -> Timing:
    """Return the times of a replica with `batch` requests in flight; `known` are its steps at any load."""
    query, c = case.query, case.site.calibration
    each, lines = each_of(parallel, batch), known or lines_of(case, layout, parallel)
    chunks = ceil(query.prompt / c.chunk)
    load = Load(prompt=query.prompt, output=query.output, batch=each, offered=each, chunks=chunks)
    served = serve(load, lines.steps(each), c)
    return Timing(parallel=parallel, sequences=sequences, batch=batch, lines=lines, chunks=chunks, served=served)


def passes_of(case: Case, layout: KVLayout, t: Timing) -> Passes:
    """Return the operators of a replica's five steps at its load."""
    query, site = case.query, case.site
    return passes(
        case.model, case.base, layout, weights(case.model, site.weights), t.parallel,
        batch=each_of(t.parallel, t.batch), prompt=query.prompt, output=query.output, chunk=site.calibration.chunk,
    )  # fmt: skip


def spread_of(case: Case, technique: str, decode: Sequence[Operator], each: float) -> tuple[float, float]:
    """Return the 80 % interval of TPOT as factors: the server's, and that of reading a compressed cache beside it."""
    c = case.site.calibration
    cache = sum(float(operator_time(o, c)) for o in decode if o.limit == CACHE)
    part = cache / float(step_time(decode, c, each))
    (low, high), _ = interval(technique)
    return (1 - hypot(1 - c.tpot.low, part * (1 - low)), 1 + hypot(c.tpot.high - 1, part * (high - 1)))


def filled(case: Case, row: Evaluation, t: Timing) -> Evaluation:
    """Return a row with the memory, time and money of its replica.

    A query takes `busy` seconds of the replica for its prompt and its share of the decode steps.
    """
    assert row.layout is not None
    parallel, query, price = t.parallel, case.query, case.site.price
    busy = t.served.prompt_seconds / (parallel.pipeline * parallel.data)
    cost = None
    if price:
        tokens = {"input_tokens": query.prompt, "output_tokens": query.output}
        cost = query_cost(price, parallel.gpus, prefill=busy, decode=t.query_seconds - busy, **tokens)
        if tier := case.site.tier(row.layout.offloads):
            kept = keeping(tier, parallel.gpus)
            line = replace(kept, amount=kept.amount * t.query_seconds)
            cost = replace(cost, lines=(*cost.lines, line))
    known = passes_of(case, row.layout, t)
    return replace(
        row,
        spread=spread_of(case, row.technique, known.decode, each_of(parallel, t.batch)),
        parallel=parallel,
        sequences=t.sequences,
        batch=t.batch,
        budget=case.budget(row.layout, parallel),
        ttft=t.served.ttft,
        tpot=t.served.tpot,
        tokens_per_second=t.batch * query.output / t.served.cycle,
        query_seconds=t.query_seconds,
        cost=cost,
        served=t.served,
        decode=tuple(known.decode),
        prefill=tuple(known.alone),
        chunks=t.chunks,
    )


def case_of(model: ModelSpec, query: Query, site: Site, workload: Workload | None = None) -> Case:
    """Return what stays the same while techniques are compared, the images of a workload's requests included."""
    base = kv_layout(model, default_kv_bits(model))
    return Case(
        model=model, base=base if workload is None else with_images(base, model, workload), query=query, site=site
    )


def evaluations(
    model: ModelSpec, wanted: Sequence[str], query: Query, site: Site, workload: Workload | None = None
) -> list[Evaluation]:
    """Return one row per technique on one site, the baseline first."""
    case = case_of(model, query, site, workload)
    names = dict.fromkeys([spelling.BASELINE, *(spelling.canonical(t) for t in wanted)])
    return [evaluate(case, name) for name in names]


def best(rows: Iterable[Evaluation]) -> Evaluation | None:
    """Return the cheapest feasible row, else the one with the fewest GPUs; None when nothing is feasible."""
    fit = [row for row in rows if row.feasible]
    return min(
        fit, key=lambda r: (r.cost is None, r.cost.per_query * r.margin if r.cost else 0.0, r.gpus or 0), default=None
    )
