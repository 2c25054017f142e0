"""One forward pass as a list of operators: bytes moved, FLOPs done, messages sent, per GPU."""

from dataclasses import dataclass
from math import ceil

from kvplan.kv.budget import Parallel, Weights
from kvplan.kv.engine import share
from kvplan.kv.layout import KVLayout
from kvplan.specs.calibration import Calibration
from kvplan.specs.model import ModelSpec


@dataclass(frozen=True, kw_only=True)
class Operator:
    """What one GPU does in one part of a pass. `bits` is the width of the operands (weights) or cache elements (attention)."""

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
    """Return one decode step of `batch` sequences of `length` tokens. Pipeline stages each see batch / stages at a time."""
    wave = max(batch / parallel.pipeline, 1.0)
    operators = matrices(model, held, parallel, tokens=wave)
    bits = max((g.bits for g in layout.groups if g.vectors), default=16.0)
    read = sum(g.count * g.read(length) * share(g, parallel.tensor) for g in layout.groups)
    operators.append(
        Operator(name="attention", bytes=wave * read, flops=wave * layout.flops(length) / parallel.tensor, bits=bits)
    )
    return [*operators, *messages(model, parallel, wave)]


def prefill(
    model: ModelSpec, base: KVLayout, layout: KVLayout, held: Weights, parallel: Parallel, *, tokens: int, chunk: int
) -> list[Operator]:
    """Return the prefill of one prompt in chunks; attention works on keys and values as computed, before compression."""
    chunks = ceil(tokens / chunk)
    operators = [
        Operator(name=o.name, bytes=o.bytes * chunks, flops=o.flops * chunks, bits=o.bits)
        for o in matrices(model, held, parallel, tokens=tokens / chunks)
    ]
    extra = base.prefill(tokens) * layout.prefill_flops / parallel.tensor
    operators.append(Operator(name="attention (prefill)", flops=extra))
    return [*operators, *messages(model, parallel, tokens / chunks, chunks)]


def matrices(model: ModelSpec, held: Weights, parallel: Parallel, *, tokens: float) -> list[Operator]:
    """Return the matrix products of one pass over `tokens` tokens: dense weights, experts, output head."""
    made: dict[int, tuple[float, float, float, float]] = {}
    dense_bytes = dense_flops = expert_bytes = expert_flops = 0.0
    for layer, sizes in zip(model.layers, held.layers, strict=True):
        if id(layer) not in made:
            routed = [w for w in layer.weights if w.copies > 1]
            active = sum(w.active_parameters for w in routed)
            part = touched(routed[0].copies, routed[0].used, tokens) / routed[0].copies if routed else 0.0
            whole = sizes.per_gpu(parallel.tensor, held.kv_heads)
            experts = sizes.routed / parallel.tensor
            parameters = sum(w.parameters for w in layer.weights if w.copies == 1)
            made[id(layer)] = (
                whole - experts,
                2 * tokens * parameters / parallel.tensor,
                experts * part,
                2 * tokens * active / parallel.tensor,
            )
        a, b, c, d = made[id(layer)]
        dense_bytes, dense_flops, expert_bytes, expert_flops = (
            dense_bytes + a,
            dense_flops + b,
            expert_bytes + c,
            expert_flops + d,
        )
    head = model.vocab * model.hidden / parallel.tensor
    bits = float(held.how.compute) if held.how else held.dtype_bits
    found = [Operator(name="dense weights", bytes=dense_bytes, flops=dense_flops, bits=bits, starts=len(model.layers))]
    if expert_bytes:
        found.append(Operator(name="experts", bytes=expert_bytes, flops=expert_flops, bits=bits))
    return [
        *found,
        Operator(name="output head", bytes=head * held.dtype_bits / 8, flops=2 * head, bits=held.dtype_bits),
    ]


def messages(model: ModelSpec, parallel: Parallel, tokens: float, passes: int = 1) -> list[Operator]:
    """Return the all-reduces of tensor parallelism (two a layer) and the hand-overs of pipeline stages.

    A ring all-reduce sends 2 (n - 1) / n of the message each way (Thakur et al., IJHPCA 19(1), 2005).
    """
    found = []
    size = tokens * model.hidden * 2.0
    if parallel.tensor > 1:
        found.append(
            Operator(
                name="all-reduce",
                messages=2 * len(model.layers) * passes,
                message=size * 2 * (parallel.tensor - 1) / parallel.tensor,
            )
        )
    if parallel.pipeline > 1:
        found.append(Operator(name="stage hand-over", messages=(parallel.pipeline - 1) * passes, message=size))
    return found


def total_time(operators: list[Operator], c: Calibration) -> float:
    """Return the time of one pass. [s]"""
    return sum(o.time(c) for o in operators) + c.step_start
