"""What a GPU, an engine and a price are."""

from dataclasses import dataclass, field, fields

from kvplan.specs.fields import about, described
from kvplan.specs.source import Source


@dataclass(frozen=True, kw_only=True, eq=False)
class Gpu:
    """One GPU as sold, in base units. Throughput is dense."""

    name: str  #: as files and options spell it
    title: str = field(metadata=about("its name in reports"))
    vendor: str = field(default="", metadata=about("who makes it"))
    architecture: str = field(default="", metadata=about("its generation"))
    memory: float = field(metadata=about("memory as sold", "B"))
    visible_memory: float = field(metadata=about("memory that the driver reports", "B"))
    bandwidth: float = field(metadata=about("of its memory", "B/s"))
    fp32: float | None = field(default=None, metadata=about("rate outside the matrix units", "FLOP/s"))
    fp16: float = field(metadata=about("matrix rate", "FLOP/s"))
    bf16: float | None = field(default=None, metadata=about("matrix rate; None: as fp16", "FLOP/s"))
    fp8: float | None = field(default=None, metadata=about("matrix rate, None without such units", "FLOP/s"))
    fp4: float | None = field(default=None, metadata=about("matrix rate, None without such units", "FLOP/s"))
    int8: float | None = field(default=None, metadata=about("matrix rate, None without such units", "FLOP/s"))
    link: float = field(metadata=about("to the other GPUs of its node, one way", "B/s"))
    link_kind: str = field(default="", metadata=about("name of the link"))
    gpus_per_node: int = field(default=8, metadata=about("GPUs that the link joins", "#"))
    sms: int | None = field(default=None, metadata=about("streaming multiprocessors", "#"))
    l2: float | None = field(default=None, metadata=about("last-level cache", "B"))
    power: float | None = field(default=None, metadata=about("rated power", "W"))
    sources: dict[str, Source] = field(default_factory=dict, compare=False)  #: who gave each figure

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
GPU_FIELDS = {name: meta["unit"] for name, meta in described(Gpu).items()}


@dataclass(frozen=True, kw_only=True)
class Engine:
    """How a serving engine divides a GPU's memory, as sourced data for one range of versions."""

    name: str  #: as files and options spell it
    title: str  #: as reports print it
    version: str  #: range of versions that the figures hold for
    utilization: float  #: share of the GPU's memory that it uses, of 1
    block_size: int  #: tokens of a page [token]
    latent_block_size: int  #: tokens of a page where the cache is a latent [token]
    large_memory: float  #: GPUs with at least this much take the `large` limits [B]
    large_except: tuple[str, ...]  #: beginnings of names of GPUs that take the `small` ones all the same
    small: tuple[int, int]  #: (max_num_seqs, max_num_batched_tokens) of a step
    large: tuple[int, int]  #: (max_num_seqs, max_num_batched_tokens) of a step
    sampler_bytes_per_logit: float  #: at the sampler's peak [B]
    runtime: dict[int, float]  #: GPUs working together -> memory outside the allocator (context, NCCL) on each [B]
    sources: dict[str, Source] = field(default_factory=dict, compare=False)  #: who gave each figure

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


#: fields of an engine file, in the order they are shown
ENGINE_FIELDS = tuple(f.name for f in fields(Engine) if f.name not in ("name", "sources"))


@dataclass(frozen=True, kw_only=True)
class Price:
    """A dated rental price of one GPU."""

    gpu: str  #: its name in the catalogue
    provider: str  #: who lets it
    term: str  #: on-demand, spot, reserved-3y, ...
    price: float  #: of one GPU [USD/s]
    start: str  #: first day it holds, YYYY-MM-DD; '' where no day is stated
    end: str | None  #: first day it no longer holds, None while it does
    note: str  #: a remark for the reader
    source: Source  #: where it was seen
    gpus: int = 1  #: GPUs that are let together, the fewest one can have
    yours: bool = False  #: whether it is the user's own, not one of several offers

    def current(self, day: str) -> bool:
        """Whether the price holds on a day (YYYY-MM-DD)."""
        return self.start <= day and (self.end is None or day < self.end)
