"""End-to-end rows: one steady-state load point of a server each."""

from dataclasses import dataclass

from kvplan.kv.replica import Parallel
from kvplan.measuring.serving.row_formats import kv_bits_kept, weight_bits
from kvplan.perf.serving import LENGTH_SPREAD
from kvplan.specs.eras import era_of
from kvplan.specs.hardware import Gpu
from kvplan.specs.identity import Identity, family, mixture, number_format
from kvplan.specs.model import ModelSpec
from kvplan.specs.serving_profile import CHUNK

#: no server has a larger value of any size
LARGEST = 10**9
#: how requests come: a closed loop of users, at a rate of their own, all at once, or one batch that starts together
CLOSED, OPEN, OFFLINE, STATIC = ARRIVALS = ("closed", "poisson", "offline", "static")
#: how many sequences an engine runs at once unless told: vLLM from 0.8 on by its memory (profiles/engines), before that
#: max_num_seqs = 256; TensorRT-LLM max_batch_size = 2,048; SGLang what its pool holds
OLD_SEQUENCES, MOST_SEQUENCES = 256, {"trtllm": 2048}


@dataclass(frozen=True, kw_only=True)
class ServerRow:
    """One row: a server, its load, and what was measured of it."""

    line: int  #: its line in the file, or its place among the loads of a result file, from 1
    model: ModelSpec  #: the model served
    gpu: Gpu  #: the GPU it ran on
    engine: str  #: the engine's name in the catalogue
    version: str  #: the engine's release as stated, '' where it is not
    weight_format: str | None  #: format of weights, None for the checkpoint's own
    parallel: Parallel  #: how the server is spread over GPUs
    prompt: int  #: mean prompt [token]
    output: float  #: mean output [token]
    concurrency: float  #: requests in flight; 0 for an open loop in which nobody counted them
    waves: float  #: requests each slot sends after all started together
    ttft: float | None = None  #: measured TTFT, None where the file has none [s]
    tpot: float | None = None  #: measured TPOT, None where the file has none [s]
    latency: float | None = None  #: measured time of a whole batch, where nothing else was [s]
    stated_kv_bits: float | None = None  #: width of cache elements, None where the file does not state it [bit]
    own: bool = False  #: whether whoever reads the file took it, of a server started by no published script
    arrival: str = CLOSED  #: how requests come, one of ARRIVALS
    rate: float = 0.0  #: requests that come in an open loop, 0 where not stated [1/s]
    requests: float = 0.0  #: requests sent in all, 0 where not stated
    spread: float = LENGTH_SPREAD  #: width of the output lengths' uniform distribution over their mean
    #: what speculative decoding gains, as a factor; None: not stated, 0: it ran, and nobody stated how well
    speculation_gain: float | None = None
    verified: float = 1.0  #: tokens of every sequence that a decode step multiplies for: drafted ones, and its own
    medians: bool = False  #: whether the TTFT is a median, not a mean
    sweep: str = ""  #: benchmark run it is from
    source: str = ""  #: collection it is from, '' for rows of a known script
    recv_interval: float = 1.0  #: decode steps from one look of the scheduler for new requests to the next
    hold: float = 0.0  #: decode steps for which a prompt is held for others to be read with it
    host_work: float = 1.0  #: share left of the host's work for a sequence: less where no server streams its tokens
    chunk: float = CHUNK  #: prompt tokens that one step takes [token]
    cached: int = 0  #: tokens of the mean prompt that a prefix cache holds [token]
    running: float = 0.0  #: requests that ran at once on average, where somebody counted them, else 0
    kv_memory: float = 0.0  #: memory for the cache on a GPU, where the server logged it, else 0 [B]
    stated_num_seqs: int = 0  #: most sequences at once on a rank, where a row says, else 0
    occupied: float = 0.0  #: share of a request's overhead for which the engine itself stands still
    cold: float = 0.0  #: 1: nobody warmed the server up before its run
    notes: tuple[str, ...] = ()  #: what was assumed in reading it

    @property
    def identity(self) -> Identity:
        """What a fit knows the server by at each of its levels."""
        return Identity(
            gpu=self.gpu.name, engine=self.engine, version=self.version, model=family(self.model), sweep=self.sweep,
            source=self.source, architecture=self.gpu.architecture, vendor=self.gpu.vendor,
            number_format=number_format(self.gpu, self.weight_bits), mixture=mixture(self.model),
        )  # fmt: skip

    @property
    def weight_bits(self) -> float:
        """Width of its quantised weights, 16 where it has none. [bit]"""
        return weight_bits(self.model, self.weight_format)

    @property
    def kv_bits(self) -> float:
        """Width of the cache: the engine's default, or as published benchmarks keep it. [bit]

        These keep that of quantised checkpoints in fp8, with SGLang on GPUs with fp4 only.
        """
        if self.stated_kv_bits is not None:
            return self.stated_kv_bits
        quantised = self.weight_format not in (None, "bf16", "fp16") or (
            self.weight_format is None and self.model.quantization is not None
        )
        if not self.own and quantised and (self.engine != "sglang" or self.gpu.fp4):
            return 8.0
        return kv_bits_kept(self.model, self.weight_format)

    @property
    def max_num_seqs(self) -> int:
        """The most sequences its engine runs at once on a rank."""
        if self.stated_num_seqs:
            return self.stated_num_seqs
        if self.engine == "vllm" and era_of(self.engine, self.version):
            return OLD_SEQUENCES
        return MOST_SEQUENCES.get(self.engine, LARGEST)


def overrun(row: ServerRow) -> str:
    """Return why a measured row tells no steady state, '' where it does: an open loop that its server could not follow.

    Its requests waited more than half of the time of sending them all. How many run, and how long the caches are that
    they fill memory with, changes until the last has come.
    """
    if row.arrival != OPEN or not (row.rate and row.requests):
        return ""
    waited, sent = row.ttft or 0.0, row.requests / row.rate
    if waited <= sent / 2:
        return ""
    return f"its requests waited {waited:.3g} s, all sent within {sent:.3g} s: no steady state"


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A row that cannot be predicted, and why."""

    line: int  #: its line in the file, or its place among the loads of a result file, from 1
    reason: str  #: one line for the user
