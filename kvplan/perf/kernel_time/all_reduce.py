"""All-reduce inside one node."""

from dataclasses import dataclass

from kvplan.perf.kernel_time.terms import Number, choice, coefficient, fastest


@dataclass(frozen=True, kw_only=True)
class AllReduceCoefficients:
    """All-reduce inside one node: NCCL's three protocols, and an engine's own kernels where it has them.

    Bandwidths count a ring's traffic, 2 (n - 1) / n of the message; `one_shot` sends it whole to n - 1 others.
    """

    low_latency_start: float = coefficient("s", "NCCL's low-latency protocol: start", 5e-6)
    low_latency_peer: float = coefficient("s", "and for each further GPU", 1.5e-6, optional=True)
    low_latency_bandwidth: float = coefficient("B/s", "and its rate", 0.1, "link")
    middle_start: float = coefficient("s", "NCCL's middle protocol (LL128): start", 8e-6)
    middle_peer: float = coefficient("s", "and for each further GPU", 2e-6, optional=True)
    middle_bandwidth: float = coefficient("B/s", "and its rate", 0.3, "link")
    bulk_start: float = coefficient("s", "NCCL's bulk protocol: start", 2e-5)
    bulk_peer: float = coefficient("s", "and for each further GPU", 5e-6, optional=True)
    bulk_bandwidth_2: float = coefficient("B/s", "and its rate among 2 GPUs", 0.6, "link")
    bulk_bandwidth_4: float = coefficient("B/s", "among 4 (the switch adds up where it can)", 0.7, "link")
    bulk_bandwidth_8: float = coefficient("B/s", "among 8", 0.8, "link")
    one_shot_start: float = coefficient("s", "the engine's kernel, one shot: start", 4e-6, optional=True)
    one_shot_peer: float = coefficient("s", "and for each further GPU", 3e-7, optional=True)
    one_shot_bandwidth: float = coefficient("B/s", "and its rate", 0.5, "link", optional=True)
    two_shot_start: float = coefficient("s", "the engine's kernel, two shots: start", 8e-6, optional=True)
    two_shot_peer: float = coefficient("s", "and for each further GPU", 1e-6, optional=True)
    two_shot_bandwidth: float = coefficient("B/s", "and its rate", 0.5, "link", optional=True)
    own_up_to: float = choice("largest message for the engine's own kernels [B]; 0: it has none", 0.0)


@dataclass(frozen=True)
class AllReduceWork:
    """Counted work of one all-reduce among 1 + `peers` GPUs.

    own: 1 where the engine's kernels may be used; shared: 1 where they share a bus (PCIe): all protocols slow alike.
    """

    message: Number  #: message of each GPU [B]
    ring: Number  #: traffic of a ring: 2 (n - 1) / n of the message [B]
    peers: Number  #: GPUs beside the own
    of_2: Number  #: 1 among 2 GPUs
    of_4: Number  #: 1 among 3 or 4
    of_8: Number  #: 1 among more
    own: Number  #: 1 where the engine's own kernels may be used
    shared: Number  #: 1 where GPUs share a bus (PCIe)


def all_reduce_work(*, gpus: int, message: float, switched: bool, c: AllReduceCoefficients) -> AllReduceWork:
    """Return the work of an all-reduce of `message` bytes; without a switch (PCIe) the GPUs share a bus."""
    return AllReduceWork(
        message=message,
        ring=message * 2 * (gpus - 1) / gpus,
        peers=gpus - 1,
        of_2=float(gpus <= 2),
        of_4=float(2 < gpus <= 4),
        of_8=float(gpus > 4),
        own=float(message <= c.own_up_to),
        shared=float(not switched),
    )


def nccl_algebra(w: AllReduceWork, c: AllReduceCoefficients) -> list[Number]:
    """Return the times of NCCL's three protocols: low latency, middle, bulk. [s]"""
    bulk = w.of_2 / c.bulk_bandwidth_2 + w.of_4 / c.bulk_bandwidth_4 + w.of_8 / c.bulk_bandwidth_8
    slower = 1 + w.shared * (bulk * c.bulk_bandwidth_2 - 1)
    return [
        c.low_latency_start + c.low_latency_peer * w.peers + w.ring * slower / c.low_latency_bandwidth,
        c.middle_start + c.middle_peer * w.peers + w.ring * slower / c.middle_bandwidth,
        c.bulk_start + c.bulk_peer * w.peers + w.ring * bulk,
    ]


def all_reduce_algebra(w: AllReduceWork, c: AllReduceCoefficients) -> Number:
    """Return the time of an all-reduce by the fastest protocol or kernel that may be used. [s]"""
    nccl = nccl_algebra(w, c)
    if not c.own_up_to:
        return fastest(nccl)
    own = [
        c.one_shot_start + c.one_shot_peer * w.peers + w.message * w.peers / c.one_shot_bandwidth,
        c.two_shot_start + c.two_shot_peer * w.peers + w.ring / c.two_shot_bandwidth,
    ]
    return w.own * fastest([*own, *nccl]) + (1 - w.own) * fastest(nccl)
