"""Where a prefix's cache can wait for the next question: beside the GPU, on a disk, in another machine."""

from dataclasses import dataclass, replace

from kvplan.specs.source import Source

GB = 1e9


@dataclass(frozen=True, kw_only=True)
class Tier:
    """A memory that keeps prefixes, as much of it as belongs to one GPU."""

    name: str  #: as options spell it
    title: str  #: as reports print it
    room: float  #: of a GPU's part [B]
    bandwidth: float  #: to a GPU [B/s]
    usd: float  #: of a gigabyte and month [USD]
    engines: str  #: what serves it
    source: Source  #: who says so
    common: bool = False  #: whether all replicas read one, not each its own
    stated: bool = False  #: whether its room is part of a host memory that a price states, and paid for with it


def _assumed(text: str) -> Source:
    return Source(kind="assumption", ref=text, date="2026-11-28")


#: what a GPU's neighbours keep. Superchips reach their own memory by NVLink-C2C: `linked`
TIERS = {
    tier.name: tier
    for tier in (
        Tier(
            name="cpu", title="host memory", room=200 * GB, bandwidth=51 * GB, usd=0.17,
            engines="vLLM from 0.11 (kv_offloading_size), SGLang HiCache, TensorRT-LLM, LMCache",
            source=_assumed("2 TB a server of 8 GPUs, a fifth for the rest; PCIe 5 x16 at 80 % of 64 GB/s; 8 USD/GB"),
        ),
        Tier(
            name="ssd", title="local SSD", room=3_000 * GB, bandwidth=6 * GB, usd=0.01,
            engines="LMCache, SGLang HiCache, Mooncake",
            source=_assumed("one 3.84 TB NVMe disk a GPU, PCIe 4 x4 at 6 GB/s; 0.4 USD/GB, 4 years"),
        ),
        Tier(
            name="remote", title="remote store", room=20_000 * GB, bandwidth=25 * GB, usd=0.023,
            engines="Mooncake, LMCache, SGLang HiCache",
            source=_assumed("a network card of 400 Gbit/s a GPU at half its rate; object storage's list price"),
            common=True,
        ),
    )
}  # fmt: skip
#: share of a host's memory left for the system, the engine and the loading of weights: an assumption
RESERVE = 0.2
#: of a superchip's own memory over NVLink-C2C, 450 GB/s one way at 80 % [B/s]
C2C = 360 * GB
#: beginnings of the names of GPUs that have it
SUPERCHIPS = ("gh200", "gb200", "gb300")


def beside(tier: Tier, host: float | None) -> Tier:
    """Return a tier where a GPU's part of the host's memory is known [B], as it is where that is None.

    The price of the GPU or of its server then includes it.
    """
    if tier.name != "cpu" or host is None:
        return tier
    source = replace(tier.source, ref=f"{host / GB:,.0f} GB a GPU, as its price states; a fifth for the rest")
    return replace(tier, room=(1 - RESERVE) * host, usd=0.0, stated=True, source=source)


def bandwidth(tier: Tier, gpu: str) -> float:
    """Return how fast a GPU of this name reads a tier. [B/s]"""
    return C2C if tier.name == "cpu" and gpu.startswith(SUPERCHIPS) else tier.bandwidth
