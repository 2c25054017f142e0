"""How long a device takes for the operators of a step: memory or compute, messages, launches, engine overhead."""

from collections.abc import Iterable

from kvplan.perf.amounts import Amount, larger
from kvplan.perf.operators import CACHE, ELEMENTS, EXPERTS, NETWORK, PROMPT, TINY, WEIGHTS, Operator
from kvplan.specs.calibration import RING_MESSAGE, Calibration

#: how sharply memory and compute time overlap: (a^3 + b^3)^(1/3) is the longer, and 26 % more when they are alike
OVERLAP = 3.0
#: of the host's memory: PCIe 5 x16, 64 GB/s one way, at 80 % (an assumption; 4 x16 has half, NVLink-C2C 7 times) [B/s]
HOST_LINK = 51e9
#: what `overhead` is called in a list of operators
ENGINE_ITSELF = "engine: scheduling, sampling"


def memory_time(o: Operator, c: Calibration) -> Amount:
    """Return how long its bytes take. [s]"""
    if o.limit in (WEIGHTS, EXPERTS):
        faster = c.experts if o.limit == EXPERTS else 1.0
        return o.bytes / (c.weights * c.narrow(o.bits) * faster)
    if o.limit != CACHE:
        return o.bytes / c.elements
    return o.bytes / c.read(o.bits) + larger(o.unpacks / c.processors, o.lags) + o.fixed + o.fetched / HOST_LINK


def compute_time(o: Operator, c: Calibration) -> Amount:
    """Return how long its FLOPs take. [s]"""
    if o.limit in (CACHE, PROMPT):
        return o.flops / c.prompt + o.dense / c.rate16
    return o.flops / (c.rate(o.bits) * (c.experts_rate if o.limit == EXPERTS else 1.0))


def message_time(o: Operator, c: Calibration) -> Amount:
    """Return how long its messages take. [s]"""
    return o.messages * c.message * (1 + crossing(o, c) * (RING_MESSAGE - 1)) + transfer_time(o, c)


def transfer_time(o: Operator, c: Calibration) -> Amount:
    """Return how long the bytes of its messages take; GPUs that PCIe joins share what two of them have. [s]"""
    across = crossing(o, c)
    return o.message / (c.link + across * (c.bridge - c.link)) * (o.ranks / 2) ** across


def crossing(o: Operator, c: Calibration) -> Amount:
    """Return 1 where messages cross PCIe and the host, as they go among more GPUs than a link of their own joins."""
    return 1.0 * (o.ranks > c.joined)


def launch_time(o: Operator, c: Calibration, prompts: bool) -> Amount:
    """Return how long its kernels' launches and small tails take. [s]"""
    if not o.kernels:
        return 0.0
    return o.launches * c.launches(o.kernels) * (c.kernel + (c.eager if prompts else 0.0))


def overlapped(a: Amount, b: Amount) -> Amount:
    """Return the time of two overlapping activities. [s]"""
    return (a**OVERLAP + b**OVERLAP + TINY**OVERLAP) ** (1 / OVERLAP)


def operator_time(o: Operator, c: Calibration, prompts: bool = False) -> Amount:
    """Return an operator's time. [s]

    Source: Williams, Waterman and Patterson, "Roofline", CACM 52(4), 2009, with a smooth corner.
    """
    if o.limit == NETWORK:
        return message_time(o, c) * c.pace
    busy = o.bytes / c.elements if o.limit == ELEMENTS else overlapped(memory_time(o, c), compute_time(o, c))
    return (busy + launch_time(o, c, prompts)) * c.pace


def host_time(operators: Iterable[Operator], c: Calibration) -> Amount:
    """Return how long the host takes to launch a step's kernels and messages one by one; 0 under CUDA graphs. [s]"""
    counts = (o.launches * c.launches(o.kernels) if o.kernels else o.messages for o in operators)
    return c.launch * sum(counts) * c.pace


def overhead(c: Calibration, sequences: Amount) -> Amount:
    """Return what the engine takes for itself in a step: once, and for every sequence that gets a token. [s]"""
    return (c.step + c.sequence * sequences) * c.pace


def device_time(operators: Iterable[Operator], c: Calibration, prompts: bool = False) -> Amount:
    """Return how long the device takes for operators one after the other. [s]"""
    return sum(operator_time(o, c, prompts) for o in operators)


def whole_step(device: Amount, host: Amount, c: Calibration, sequences: Amount) -> Amount:
    """Return the time of a step from its device's and its host's. [s]

    Without CUDA graphs the host launches kernel by kernel while the device works: the longer of the two counts.
    """
    return overlapped(device, host) + overhead(c, sequences)


def step_time(operators: Iterable[Operator], c: Calibration, sequences: Amount, prompts: bool = False) -> Amount:
    """Return the time of one step in which `sequences` sequences get a token. [s]"""
    known = list(operators)
    return whole_step(device_time(known, c, prompts), host_time(known, c), c, sequences)


def bound(o: Operator, c: Calibration, prompts: bool = False) -> str:
    """Return what takes most of an operator's time: memory, compute, network or overhead."""
    if o.limit == NETWORK:
        return "network"
    times = {"memory": memory_time(o, c), "compute": compute_time(o, c), "overhead": launch_time(o, c, prompts)}
    return max(times, key=lambda name: times[name])


def reach(o: Operator, c: Calibration, prompts: bool = False) -> float:
    """Return how much of its time is spent at the limit that binds: 1 when nothing else adds to it."""
    best = transfer_time(o, c) if o.limit == NETWORK else max(memory_time(o, c), compute_time(o, c))
    time = operator_time(o, c, prompts)
    return float(best * c.pace / time) if time else 0.0
