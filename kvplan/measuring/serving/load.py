"""What an end-to-end row asks of the serving model: the load on one rank, and the passes of its steps."""

from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil, inf
from typing import Any

from kvplan.kv.budget import memory_budget
from kvplan.kv.deployment import Deployment
from kvplan.kv.layout import KVLayout
from kvplan.kv.model_cache import kv_layout
from kvplan.kv.replica import Parallel, weights
from kvplan.measuring.serving.rows import OFFLINE, OPEN, STATIC, ServerRow
from kvplan.perf.serving import Load, Passes, passes
from kvplan.specs.hardware import Engine, Gpu
from kvplan.specs.model import ModelSpec
from kvplan.specs.serving_profile import CHUNK
from kvplan.specs.serving_profile import mixes as shares_steps

#: a server that seems to hold fewer sequences than this, and of which a row says how many came, did not run with our
#: memory rules: taken to hold all. Of an open loop those run that fit: nobody counted more
FEWEST = 4
#: requests at once that an open loop's server is taken to run where by these rules none fits
SLOTS = 256
#: engines that reserve a request's final length when they admit it (TensorRT-LLM: GUARANTEED_NO_EVICT); the others
#: take it in at its present length and push one back when memory runs out
RESERVING = ("trtllm",)


@dataclass(frozen=True, kw_only=True)
class RankLoad:
    """A row as the serving model sees it."""

    load: Load  #: the load on one attention-data-parallel rank
    passes: Passes  #: operators of its steps
    notes: tuple[str, ...] = ()  #: what was assumed
    late: float = 0.0  #: added to TTFT, where more requests come than can leave [s]


@lru_cache(maxsize=512)
def layout_of(model: ModelSpec, bits: float) -> KVLayout:
    """Return a model's uncompressed cache with elements of `bits` bits, worked out once."""
    return kv_layout(model, bits)


def load_of(row: ServerRow, engine: Engine, concurrency: float | None = None) -> RankLoad:
    """Return the load and passes of a row, under a concurrency of its own if given; the batch is what memory holds."""
    parallel = row.parallel
    in_flight = row.concurrency if concurrency is None else concurrency
    room, notes = room_of(row, engine)
    ranks = parallel.data * parallel.pipeline
    most = row.running or min(room, row.max_num_seqs * ranks)
    batch, offered = max(1.0, min(in_flight, most) / ranks), in_flight / ranks
    offered = offered if row.arrival == OPEN else max(1.0, offered)
    if batch < 0.99 * offered:
        limit = "memory holds" if most == room else "the engine runs"
        notes = (*notes, f"{limit} {most:g} of {in_flight:g} requests; the others wait")
    return replace(loads_at(row, batch, offered), notes=notes)


def loads_at(row: ServerRow, batch: Any, offered: Any = None) -> RankLoad:
    """Return a row with so many requests on a rank, `offered` of them in all; both may be arrays. [load]"""
    layout = layout_of(row.model, row.kv_bits)
    offered = batch if offered is None else offered
    steps = passes(
        row.model, layout, layout, weights(row.model, row.weight_format), row.parallel, batch=batch, prompt=row.prompt,
        output=row.output, chunk=row.chunk, cached=row.cached, verified=row.verified,
    )  # fmt: skip
    offline = row.arrival == OFFLINE
    load = Load(
        prompt=row.prompt - row.cached, output=row.output, batch=batch, offered=offered,
        waves=offered / batch if offline else 0.0 if row.arrival in (OPEN, STATIC) else row.waves,
        chunks=ceil((row.prompt - row.cached) / row.chunk), spread=row.spread, static=float(row.arrival == STATIC),
        offline=float(offline), open=float(row.arrival == OPEN), recv_interval=row.recv_interval, hold=row.hold,
        cached=row.cached, cold=row.cold,
    )  # fmt: skip
    return RankLoad(load=load, passes=steps)


def room_of(row: ServerRow, engine: Engine) -> tuple[int, tuple[str, ...]]:
    """Return how many of a row's requests memory holds, and what is odd about it.

    Most engines admit a request at its present length: those that run have half of their answers on average.
    """
    layout, parallel = layout_of(row.model, row.kv_bits), row.parallel
    deployment = Deployment(
        engine=engine, gpu=row.gpu, parallel=replace(parallel, expert=0), weights=row.weight_format, max_num_seqs=256,
        max_num_batched_tokens=int(CHUNK), kv_bytes=row.kv_memory or None,
    )  # fmt: skip
    length = max(2, int(row.prompt + row.output))
    budget = memory_budget(row.model, layout, deployment, length)
    held = max(2, int(row.prompt + (1.0 if row.engine in RESERVING else 0.5) * row.output))
    room = budget.sequences(held)
    whole = budget.sequences(length)
    if whole < (FEWEST * parallel.data if row.concurrency else 1):
        least = f"fewer than {FEWEST} requests fit" if row.concurrency else "no request fits"
        few = f"by kvplan's memory rules {least}; taken to run all at once"
        return ceil(row.concurrency) or SLOTS, (few,)
    return room, ()


def in_flight(row: ServerRow) -> float | None:
    """Return the requests in flight of a measured open loop: rate x time, as far as its run of requests gets there.

    None for a closed loop, and for an open one of which they were counted: then the row's own.
    """
    if row.arrival != OPEN or not row.rate or row.concurrency:
        return None
    return max(in_a_run(row.rate * ((row.ttft or 0.0) + row.output * (row.tpot or 0.0)), row.requests), 0.05)


def in_a_run(steady: float, requests: float) -> float:
    """Return how many others a request meets in a run that begins and ends empty, where a long one would have `steady`.

    In flight on average are N C / (N / R + C) = R C / (1 + R C / N); a request meets what lies halfway to the most.
    """
    return min(steady / (1 + steady / (2 * requests)), requests) if requests else steady


def measured_load(row: ServerRow, engine: Engine) -> RankLoad:
    """Return the load of a measured row: an open loop has as many in flight as Little's law, and those too many wait.

    A run of so many requests has no steady queue: a request waits a cycle for every time the slots were filled before.
    """
    flying = in_flight(row)
    load = load_of(row, engine, flying)
    beyond = flying is not None and load.load.offered > load.load.batch
    if not beyond or not row.requests:
        return load
    slots = load.load.batch * row.parallel.data * row.parallel.pipeline
    cycle = row.output * (row.tpot or 0.0)
    late = cycles_before(row, slots) * max(cycle - slots / row.rate, 0.0)
    return replace(load, load=replace(load.load, offered=load.load.batch), late=late)


def cycles_before(row: ServerRow, slots: float) -> float:
    """Return how many cycles a request waits where more come than can leave: one for every time the slots were filled.

    The mean over a run of so many requests, or the median one's.
    """
    filled = row.requests / slots
    if row.medians:
        return float(int(filled / 2))
    full = int(filled)
    return (full * (full - 1) / 2 + (filled - full) * full) / filled if filled else 0.0


def mixes(row: ServerRow) -> bool:
    """Return whether prompts share steps with decoding."""
    return shares_steps(row.engine, row.version)


def link_of(gpu: Gpu, parallel: Parallel) -> float:
    """Return the bandwidth of the link between a replica's GPUs, which ends with the server. [B/s]

    That of cards bridged in pairs is their bridge's, and beyond it messages cross PCIe (`Gpu.joined`).
    """
    within = gpu.joined < inf or parallel.tensor * parallel.data <= gpu.gpus_per_node
    return gpu.link if within else gpu.pcie
