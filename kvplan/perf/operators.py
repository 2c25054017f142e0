"""One forward pass as a list of operators: bytes moved, FLOPs done, messages sent, per GPU."""

from dataclasses import dataclass, replace
from math import ceil

from kvplan.kv.budget import Parallel, Sizes, Weights
from kvplan.kv.engine import share
from kvplan.kv.layout import KVLayout
from kvplan.specs.calibration import Calibration
from kvplan.specs.model import Layer, ModelSpec


@dataclass(frozen=True, kw_only=True)
class Operator:
    """What one GPU does in one part of a pass.

    `bits` is the width of the operands (weights) or cache elements (attention).
    """

    name: str
    bytes: float = 0.0
    flops: float = 0.0
    bits: float = 16.0
    messages: int = 0
    message: float = 0.0
    starts: int = 0

    def time(self, c: Calibration) -> float:
        """Return its time: memory or compute, whichever binds, plus messages and start-up. [s]

        Source: Williams, Waterman and Patterson, "Roofline", CACM 52(4), 2009.
        """
        return max(self.moving(c), self.computing(c)) + self.sending(c) + self.starts * c.layer_start

    def moving(self, c: Calibration) -> float:
        return self.bytes / (c.cache_bandwidth(self.bits) if self.name.startswith("attention") else c.weights)

    def computing(self, c: Calibration) -> float:
        return self.flops / (c.attention_rate if self.name.startswith("attention") else c.rate(self.bits))

    def sending(self, c: Calibration) -> float:
        return self.messages * (c.link_start + self.message / c.link)

    def bound(self, c: Calibration) -> str:
        """Return what takes most of its time: memory, compute, network or overhead."""
        times = {
            "memory": self.moving(c),
            "compute": self.computing(c),
            "network": self.sending(c),
            "overhead": self.starts * c.layer_start,
        }
        return max(times, key=lambda name: times[name])


def touched(experts: int, used: float, tokens: float) -> float:
    """Return the expected number of distinct experts `tokens` tokens pick, `used` each, at random. [expert]"""
    missed: float = (1 - used / experts) ** tokens
    return experts * (1 - missed)


def decode_step(
    model: ModelSpec, layout: KVLayout, held: Weights, parallel: Parallel, *, batch: float, length: int
) -> list[Operator]:
    """Return one decode step of `batch` sequences of `length` tokens.

    Attention-data-parallel ranks and pipeline stages each work on their share of the batch at a time.
    """
    wave = max(batch / parallel.pipeline / parallel.data, 1.0)
    bits = max((g.bits for g in layout.groups if g.vectors), default=16.0)
    read = sum(g.count * g.read(length) * share(g, parallel.tensor) for g in layout.groups)
    flops = layout.flops(length) / parallel.tensor
    attention = Operator(name="attention", bytes=wave * read, flops=wave * flops, bits=bits)
    return [*matrices(model, held, parallel, tokens=wave, logits=wave), attention, *messages(model, parallel, wave)]


def prefill(
    model: ModelSpec, base: KVLayout, layout: KVLayout, held: Weights, parallel: Parallel, *, tokens: int, chunk: int
) -> list[Operator]:
    """Return the prefill of one prompt in chunks; attention works on keys and values before they are compressed."""
    chunks = ceil(tokens / chunk)
    once = matrices(model, held, parallel, tokens=tokens / chunks, logits=1)
    repeated = [replace(o, bytes=o.bytes * chunks, flops=o.flops * chunks, starts=o.starts * chunks) for o in once]
    flops = base.prefill(tokens) * layout.prefill_flops / parallel.tensor
    attention = Operator(name="attention (prefill)", flops=flops)
    return [*repeated, attention, *messages(model, parallel, tokens / chunks, chunks)]


def matrices(model: ModelSpec, held: Weights, parallel: Parallel, *, tokens: float, logits: float) -> list[Operator]:
    """Return the matrix products of a pass over `tokens` tokens on one rank, `logits` of which get an output row."""
    kinds: dict[tuple[int, float], tuple[Layer, Sizes, int]] = {}
    for layer, sizes in zip(model.layers, held.layers, strict=True):
        key = (id(layer), sizes.total)
        kinds[key] = (layer, sizes, kinds[key][2] + 1 if key in kinds else 1)
    bits = float(held.how.compute) if held.how else held.dtype_bits
    parts = [layer_matrices(layer, sizes, held, parallel, tokens) for layer, sizes, _ in kinds.values()]
    counts = [count for *_, count in kinds.values()]
    dense, dense_flops, experts, expert_flops = (
        sum(count * part[i] for count, part in zip(counts, parts, strict=True)) for i in range(4)
    )
    head = model.vocab * model.hidden / parallel.tensor
    found = [Operator(name="dense weights", bytes=dense, flops=dense_flops, bits=bits, starts=len(model.layers))]
    if experts:
        found.append(Operator(name="experts", bytes=experts, flops=expert_flops, bits=bits))
    width = held.dtype_bits
    return [*found, Operator(name="output head", bytes=head * width / 8, flops=2 * logits * head, bits=width)]


def layer_matrices(
    layer: Layer, sizes: Sizes, held: Weights, parallel: Parallel, tokens: float
) -> tuple[float, float, float, float]:
    """Return one layer's (dense bytes, dense FLOPs, expert bytes, expert FLOPs) on one GPU for `tokens` tokens a rank.

    Experts see the tokens of all attention-data-parallel ranks.
    """
    routed = [w for w in layer.weights if w.copies > 1 and w.used]
    together = parallel.tensor * parallel.data
    part = touched(routed[0].copies, routed[0].used, tokens * parallel.data) / routed[0].copies if routed else 0.0
    experts = sizes.routed / together
    dense = sizes.per_gpu(parallel, held.kv_heads) - experts
    parameters = sum(w.parameters for w in layer.weights if w.copies == 1)
    active = sum(w.active_parameters for w in routed)
    return dense, 2 * tokens * parameters / parallel.tensor, experts * part, 2 * tokens * active / parallel.tensor


def messages(model: ModelSpec, parallel: Parallel, tokens: float, passes: int = 1) -> list[Operator]:
    """Return the all-reduces of tensor parallelism (two a layer), the all-to-alls of experts, and stage hand-overs.

    A ring all-reduce sends 2 (n - 1) / n of the message each way (Thakur et al., IJHPCA 19(1), 2005); an all-to-all
    sends a token to each rank that holds one of its experts, and back.
    """
    found = []
    size = tokens * model.hidden * 2.0
    if parallel.tensor > 1:
        ring = size * 2 * (parallel.tensor - 1) / parallel.tensor
        found.append(Operator(name="all-reduce", messages=2 * len(model.layers) * passes, message=ring))
    used = [
        max(w.used for w in x.weights if w.copies > 1) for x in model.layers if any(w.copies > 1 for w in x.weights)
    ]
    if parallel.data > 1 and used:
        away = min(max(used), parallel.data) * (parallel.data - 1) / parallel.data
        found.append(Operator(name="all-to-all", messages=2 * len(used) * passes, message=size * away))
    if parallel.pipeline > 1:
        found.append(Operator(name="stage hand-over", messages=(parallel.pipeline - 1) * passes, message=size))
    return found


def total_time(operators: list[Operator], c: Calibration, passes: int = 1) -> float:
    """Return the time of `passes` passes whose operators are given together. [s]"""
    return sum(o.time(c) for o in operators) + passes * c.step_start
