"""What a GPU, an engine and a price are."""

from dataclasses import dataclass, field

from kvplan.specs.source import Source


@dataclass(frozen=True, kw_only=True, eq=False)
class Gpu:
    """One GPU as sold, in base units; throughput is dense. `sources` says who gave each figure."""

    name: str
    title: str
    memory: float
    visible_memory: float
    bandwidth: float
    fp16: float
    link: float
    link_kind: str = ""
    gpus_per_node: int = 8
    vendor: str = ""
    architecture: str = ""
    bf16: float | None = None
    fp32: float | None = None
    fp8: float | None = None
    fp4: float | None = None
    int8: float | None = None
    power: float | None = None
    sms: int | None = None
    l2: float | None = None
    sources: dict[str, Source] = field(default_factory=dict, compare=False)

    @property
    def wide(self) -> float:
        """Matrix rate for 16-bit operands. [FLOP/s]"""
        return self.bf16 or self.fp16

    def rate(self, bits: float) -> float:
        """Return the matrix rate for operands of so many bits. [FLOP/s]

        A format the GPU lacks runs at the 16-bit rate.
        """
        if bits <= 4 and self.fp4:
            return self.fp4
        return self.fp8 if bits == 8 and self.fp8 else self.wide


#: unit of every field of a GPU file ('' is text, '#' a whole number)
GPU_FIELDS = {
    "title": "",
    "vendor": "",
    "architecture": "",
    "memory": "B",
    "visible_memory": "B",
    "bandwidth": "B/s",
    "fp32": "FLOP/s",
    "fp16": "FLOP/s",
    "bf16": "FLOP/s",
    "fp8": "FLOP/s",
    "fp4": "FLOP/s",
    "int8": "FLOP/s",
    "link": "B/s",
    "link_kind": "",
    "gpus_per_node": "#",
    "sms": "#",
    "l2": "B",
    "power": "W",
}


#: fields of an engine file, in the order they are shown
ENGINE_FIELDS = (
    "title",
    "version",
    "utilization",
    "block_size",
    "latent_block_size",
    "large_memory",
    "large_except",
    "small",
    "large",
    "sampler_bytes_per_logit",
    "runtime",
)


@dataclass(frozen=True, kw_only=True)
class Engine:
    """How a serving engine divides a GPU's memory, as sourced data for one range of versions.

    `small` and `large` are (max_num_seqs, max_num_batched_tokens), by whether the GPU has `large_memory`.
    `runtime[tp]` is memory outside the allocator (context, NCCL) on each of tp GPUs.
    """

    name: str
    title: str
    version: str
    utilization: float
    block_size: int
    latent_block_size: int
    large_memory: float
    large_except: tuple[str, ...]
    small: tuple[int, int]
    large: tuple[int, int]
    sampler_bytes_per_logit: float
    runtime: dict[int, float]
    sources: dict[str, Source] = field(default_factory=dict, compare=False)

    def limits(self, gpu: Gpu | None) -> tuple[int, int]:
        """Return (max_num_seqs, max_num_batched_tokens) the engine chooses on this GPU; None stands for a large one."""
        if gpu is None:
            return self.large
        is_large = gpu.visible_memory >= self.large_memory and not any(
            gpu.name.startswith(p) for p in self.large_except
        )
        return self.large if is_large else self.small

    def runtime_bytes(self, gpus: int) -> float:
        """Return memory outside the allocator on each of `gpus` GPUs working together. [B]"""
        return self.runtime[max(n for n in self.runtime if n <= max(gpus, 1))]


@dataclass(frozen=True, kw_only=True)
class Price:
    """A dated rental price of one GPU: `price` USD per second, valid from `start` (inclusive) to `end` (exclusive)."""

    gpu: str
    provider: str
    term: str
    price: float
    start: str
    end: str | None
    note: str
    source: Source

    def current(self, day: str) -> bool:
        """Whether the price holds on a day (YYYY-MM-DD)."""
        return self.start <= day and (self.end is None or day < self.end)
