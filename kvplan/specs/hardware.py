"""What a GPU, an engine and a price are."""

from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from math import inf

from kvplan.specs.fields import about, described
from kvplan.specs.launch import LaunchOptions
from kvplan.specs.source import Source

#: generations whose NVLink has no multicast
BEFORE_SHARP = ("volta", "turing", "ampere", "ada")
#: generations that Triton's kernels of MXFP4 experts do not serve: Marlin's do
BEFORE_HOPPER = BEFORE_SHARP
#: GPUs of a server whose own link joins them all
SERVER = 8
#: between GPUs that no NVLink joins: PCIe 5.0 x16 one way [B/s]
OUTSIDE = 64e9


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
    assumed: tuple[str, ...] = ()  #: figures its file does not state, and what they were taken for

    @property
    def wide(self) -> float:
        """Matrix rate for 16-bit operands. [FLOP/s]"""
        return self.bf16 or self.fp16

    @property
    def multicast(self) -> bool:
        """Whether its link carries one message to several GPUs at once (NVLink SHARP); other makers' are taken to.

        Engines set buffers aside for it. It is what a switch does: bridges between two or four GPUs do not.
        """
        before = self.link_kind == "NVLink" and (self.architecture in BEFORE_SHARP or self.joined < SERVER)
        return not (self.link_kind == "PCIe" or before)

    @property
    def joined(self) -> float:
        """How many GPUs a link of their own joins: messages among more cross what is `pcie`.

        One of a PCIe card, the pair or four under a bridge, or in a server of so few, beyond which is a network that is
        no faster. That of a server of eight or more counts as without an end.
        """
        if self.link_kind == "PCIe":
            return 1.0
        return float(self.gpus_per_node) if 1 < self.gpus_per_node < SERVER else inf

    @property
    def pcie(self) -> float:
        """One-way bandwidth between GPUs that no link of their own joins. [B/s]"""
        return self.link if self.link_kind == "PCIe" else min(self.link, OUTSIDE)

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
class StepSize:
    """The largest step that an engine takes on GPUs of some memory."""

    memory: float  #: of the smallest such GPU [B]
    sequences: int  #: max_num_seqs
    tokens: int  #: max_num_batched_tokens [token]
    graph: int = 512  #: sequences of the largest CUDA graph
    wide_graph: int = 512  #: the same over four GPUs and more

    def __str__(self) -> str:
        at = f" from {self.memory / 2**30:g} GiB" if self.memory else ""
        return f"{self.sequences:,} sequences, {self.tokens:,} tokens{at}"


@dataclass(frozen=True, kw_only=True)
class Reserve:
    """What an engine leaves free of a GPU when nobody says which share it takes."""

    constant: float  #: whatever the step [B]
    token: float  #: for a token of the largest step [B]
    graph: float  #: for a sequence of the largest CUDA graph [B]
    gpu: float  #: for a GPU of the replica [B]
    latent: float  #: besides where the cache is a latent [B]
    least: float  #: on a large GPU [B]
    large: float  #: memory of a GPU that is large [B]


@dataclass(frozen=True, kw_only=True)
class TowerShare:
    """How an engine cuts the share it takes of a GPU beside a vision tower."""

    share: float  #: of that share, beside a tower of the usual size, of 1
    layers: float  #: of the usual tower, and where a config says none
    hidden: float  #: its width, likewise
    slope: float  #: less of it for every time that a tower has the usual one's size besides, of 1
    least: float  #: of what the slope may leave, of 1
    most: float  #: of what it may leave beside a smaller tower, of 1

    def factor(self, layers: float, hidden: float) -> float:
        """Return what is left of the share beside a tower of so many layers of a width, of 1."""
        size = float(layers * hidden**2) / (self.layers * self.hidden**2)
        return self.share * max(self.least, min(self.most, 1 - self.slope * (size - 1)))


#: memory of the GPU that stands for one not named [B]
USUAL = 80e9

#: what a second runner serves besides the models it names
SERVES = ("named", "dense", "all")


@dataclass(frozen=True, kw_only=True)
class Runner:
    """Another model runner of an engine's release (vLLM's V2)."""

    models: tuple[str, ...]  #: model types that it serves
    serves: str  #: named, dense (also every model without experts and states) or all
    rules: dict[str, float]  #: figures of the Engine that it has otherwise

    def __str__(self) -> str:
        also = {"named": "", "dense": " and all without experts and states", "all": "all models"}[self.serves]
        rules = ", ".join(f"{name} {value:g}" for name, value in self.rules.items())
        return f"{', '.join(self.models) * (self.serves != 'all')}{also}: {rules}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Engine:
    """How one release of a serving engine divides a GPU's memory, as sourced data.

    `pool` says what the share `utilization` is of: `profiled` is vLLM's rule (the share of the GPU, less weights,
    activations and all the rest), `static` SGLang's (the share of what is free before weights, less weights:
    activations live in the remainder), `free` TensorRT-LLM's (the share of what is free after weights and activations).
    """

    name: str  #: as files and options spell it
    title: str  #: as reports print it
    release: str  #: first release that the figures hold for
    version: str  #: the releases they hold for, in words
    named: str = ""  #: the release that was asked for, '' where none was
    pool: str  #: profiled, static or free
    utilization: float | None = None  #: share of the memory, of 1; None: what `reserve` leaves
    reserve: Reserve | None = None  #: left free where no share is set
    vision: TowerShare | None = None  #: how the share that leaves is cut beside a vision tower; None: it is not
    block_size: int  #: tokens of a page [token]
    latent_block_size: int  #: tokens of a page where the cache is a latent [token]
    contiguous: bool = False  #: whether a slot has rows of its own in every layer, rounded up to blocks, and no pages
    steps: tuple[StepSize, ...]  #: largest steps by the GPU's memory, smallest GPU first
    window_share: float | None = None  #: tokens in the pool of windows, of those in the other layers', of 1
    window_models: tuple[str, ...] = ()  #: parts of the model types whose windows have such a pool; others keep all
    state_share: float | None = None  #: memory of the pool of recurrent states, of what the tokens take, of 1
    steps_ahead: int = 1  #: steps scheduled before their windows' pages are freed
    whole_prompts: int = 0  #: prompts of up to so many tokens are not cut: a step takes a whole one [token]
    stated_length: bool = False  #: whether it takes the length a file states where YaRN's factor would lengthen it
    divided_step: bool = False  #: whether the tokens of a step are those of all attention-data-parallel ranks together
    second_runner: Runner | None = None  #: another model runner, the models it serves and its own figures
    host_counts: tuple[str, ...] = ()  #: beginnings of names of GPUs whose free memory is what the host has available
    host_growth: float = 0.0  #: what the host's processes and page cache grow by there while it starts [B]
    graph_vendors: tuple[str, ...] = ()  #: makers of the GPUs that it sets memory aside for graphs on, (): all
    whole_kinds: tuple[str, ...] = ()  #: layers that see a part of a request and keep all of it (chunked, sliding)
    first_step: tuple[str, ...] = ()  #: beginnings of names of GPUs that take the first step whatever their memory
    sampler_bytes_per_logit: float  #: at the sampler's peak [B]
    keeps_deepstack: bool = False  #: whether what a vision tower hands to several layers has buffers of a step
    flashinfer_bytes_per_logit: float = 0.0  #: as sampler_bytes_per_logit where FlashInfer samples, 0: the same [B]
    kept_bytes_per_logit: float = 0.0  #: kept for each of max_num_seqs x vocabulary (counts for penalties) [B]
    compile_copies: int = 0  #: copies of the embedding that a start without a compile cache holds while it compiles
    live_hidden: float  #: hidden states of a step that live beside its widest feed-forward
    activation_base: float = 0.0  #: live beside the sampler whatever the model [B]
    expert_chunk: int | None = None  #: tokens whose experts are computed at once, None: all of a step [token]
    keeps_workspaces: bool = False  #: whether buffers of experts and image embeddings stay allocated
    runtime: dict[int, float]  #: GPUs working together -> memory outside the allocator (context, NCCL) on each [B]
    stage_runtime: float | None = None  #: the same on a pipeline stage of one GPU; None: as without stages [B]
    plain_runtime: dict[int, float] | None = None  #: as runtime, of GPUs without NVLink SHARP; None: the same [B]
    encoder_models: tuple[str, ...] = ()  #: parts of the model types whose vision tower the profiling run fills
    encoder_patches: int = 0  #: patches of the largest image they take, which it is filled with
    encoder_copies: float = 1.0  #: times that the image's embeddings are held beside it
    encoder_live: float = 0.0  #: elements that live for a patch, over the tower's width
    encoder_counted: tuple[str, ...] = ()  #: parts of the model types whose tower's layers are counted in its place
    capacity: str = "requests"  #: what the tokens it logs are of: requests that fit, or blocks shared out (even)
    index_gather: int = 0  #: longest requests whose indexer keys (sparse attention) it gathers at once, in 8 bits
    long_index_gather: int = 0  #: the same of requests longer than `long_index_from`, 0: as of others
    long_index_from: int = 0  #: requests that are long [token]
    graph_bytes: float = 0.0  #: reserved for a CUDA graph of one layer [B]
    expert_graph_bytes: float = 0.0  #: reserved besides for a CUDA graph of a model with experts [B]
    attention_workspace: float = 0.0  #: of FlashInfer's attention, allocated with the first whole graph [B]
    flashinfer_gpus: tuple[str, ...] = ()  #: beginnings of names of GPUs where that attention is the first choice
    flashinfer_narrow: tuple[str, ...] = ()  #: generations of GPUs where it serves caches of less than 16 bits
    rank_graph_bytes: float = 0.0  #: the same of data-parallel ranks, for a hidden element of a layer's graph [B]
    rank_graph_size: float = 0.0  #: layers x hidden size of the one model whose log gave it
    state_pages: int = 1  #: pages a sequence pins for a recurrent state while prefixes are cached
    hybrid_prefixes: bool = False  #: whether it caches prefixes of models with recurrent states unless told otherwise
    checkpoint_states: tuple[str, ...] = ()  #: recurrences that pin one page more then, to export states of a prefill
    flash_checkpoint_states: tuple[str, ...] = ()  #: the same on GPUs of `flash_architectures`, whose kernels do it
    flash_architectures: tuple[str, ...] = ()  #: generations of GPUs whose prefill kernels export states on the way
    draft_models: bool = False  #: whether it starts with a smaller model that drafts
    eagle3_models: tuple[str, ...] = ()  #: parts of the model types that it starts EAGLE-3 heads for; (): no list known
    mtp_models: tuple[str, ...] = ()  #: the same of a model's own next-token layers
    #: cache formats that it serves where the cache is a latent (MLA), (): all that it serves elsewhere
    latent_formats: tuple[str, ...] = ()
    vendors: tuple[str, ...] = ()  #: makers of the GPUs that it runs on, (): any
    unserved_models: tuple[str, ...] = ()  #: model types that it is known not to serve; others it may or may not
    needs_slots: bool = False  #: whether it refuses to start with fewer state pages than max_num_seqs
    expert_padding: int = 1  #: the inner width of MXFP4 experts on a GPU is padded to a multiple of it
    marlin_padding: int = 0  #: the same of Marlin's kernels, on GPUs before Hopper; 0: as on others
    marlin_width: int = 1  #: the width of the model in such experts is padded to a multiple of it
    expert_scale_bytes: float = 0.0  #: of an FP4 expert's scale that it keeps besides on GPUs without FP4 units [B]
    block_scale_bytes: float = 0.0  #: of a scale of 128 FP8 weights of an expert on GPUs without FP8 units [B]
    rope_table_bytes: float = 0.0  #: of a cosine or sine in the tables of rotary positions, 0 without tables [B]
    image_positions: int = 1  #: its tables of rotary positions of images (M-RoPE) have so many times the positions
    absorbed_bytes: float = 0.0  #: of an element of a latent's up-projection, kept a second time to absorb it [B]
    allocation_step: float = 0.0  #: its allocator rounds large tensors up to multiples of it, 0: it does not [B]
    launch: LaunchOptions | None = None  #: how its server is started, None where that is not known
    sources: dict[str, Source] = field(default_factory=dict, compare=False)  #: who gave each figure

    def bars(self, gpu: Gpu) -> str:
        """Return why the engine does not run on a GPU, '' where it does or the GPU's maker is not known."""
        if not self.vendors or not gpu.vendor or gpu.vendor in self.vendors:
            return ""
        return f"{self.title} runs on GPUs of {' and '.join(v.upper() for v in self.vendors)} alone"

    def refuses(self, model_type: str) -> str:
        """Return that the engine does not serve a type of models, '' where nothing says so."""
        if model_type not in self.unserved_models:
            return ""
        served = f"models of type {model_type} are not served by {self.title} {self.version}"
        return f"{served}: the figures are arithmetic, not those of a server"

    def shares(self, gpu: Gpu | None) -> bool:
        """Return whether it takes what the host has available for the free memory of a GPU."""
        return gpu is not None and gpu.name.startswith(self.host_counts)

    @property
    def newest(self) -> bool:
        """Whether the figures hold for its newest releases."""
        return self.version.endswith("and later")

    @property
    def spelled(self) -> str:
        """The engine and the release whose rules these are, as options spell them."""
        return f"{self.name}@{self.release}"

    @property
    def asked(self) -> str:
        """The engine as it was asked for, with its release where one was named."""
        return f"{self.name}@{self.named}" if self.named else self.name

    @lru_cache(maxsize=1024)  # noqa: B019 (engines are few and live as long as the process)
    def step(self, gpu: Gpu | None) -> StepSize:
        """Return the largest step the engine takes on this GPU; None stands for one of 80 GB."""
        if gpu is not None and any(gpu.name.startswith(p) for p in self.first_step):
            return self.steps[0]
        memory = USUAL if gpu is None else gpu.visible_memory
        return [s for s in self.steps if s.memory <= memory or s is self.steps[0]][-1]

    def limits(self, gpu: Gpu | None) -> tuple[int, int]:
        """Return (max_num_seqs, max_num_batched_tokens) the engine chooses here; None stands for a GPU of 80 GB."""
        step = self.step(gpu)
        return step.sequences, step.tokens

    def prompt_tokens(
        self, gpu: Gpu | None, length: float = 0.0, ranks: int = 1, told: int = 0, context: int = 0
    ) -> int:
        """Return the tokens of prompts that one step takes on each of so many attention-data-parallel ranks. [token]

        A request of that `length` whose prompt the engine does not cut makes them as many, and so does the whole
        `context` of a model none of whose prompts it cuts; `told` is what its option says, 0 where that is left out.
        """
        tokens = told or self.limits(gpu)[1]
        each = max(tokens // ranks if self.divided_step else tokens, 1)
        return each if told else self.uncut(each, length, context)

    def uncut(self, tokens: int, *lengths: float) -> int:
        """Return the tokens of a step of so many, or of the longest of these requests whose prompts it does not cut."""
        return max(tokens, *(int(n) for n in (0.0, *lengths) if n <= self.whole_prompts), 1)

    def taking(self, sequences: int) -> "Engine":
        """Return the engine with so many sequences in a step on every GPU."""
        return replace(self, steps=tuple(replace(s, sequences=sequences) for s in self.steps))

    def share(self, gpu: Gpu | None, tensor: int, pipeline: int, latent: bool = False) -> float:
        """Return the share of its memory that the engine takes of a GPU of such a replica, of 1."""
        if self.utilization is not None:
            return self.utilization
        assert gpu is not None and self.reserve is not None
        step, r = self.step(gpu), self.reserve
        graph = step.wide_graph if tensor >= 4 else step.graph
        kept = r.constant + r.token * step.tokens + r.graph * graph + r.gpu * tensor * pipeline + r.latent * latent
        kept = max(kept, r.least) if gpu.visible_memory > r.large else kept
        return max(round(1 - kept / gpu.visible_memory, 3), 0.0)

    def runtime_bytes(self, gpus: int, pipeline: int = 1, gpu: Gpu | None = None) -> float:
        """Return memory outside the allocator on each of `gpus` GPUs that work together on a stage. [B]

        On a GPU that shares the host's memory what the host takes meanwhile counts, too.
        """
        grown = self.host_growth if self.shares(gpu) else 0.0
        if gpus <= 1 and pipeline > 1 and self.stage_runtime is not None:
            return self.stage_runtime + grown
        plain = self.plain_runtime if gpu is not None and not gpu.multicast else None
        known = {n: size for n, size in (plain or {}).items() if n <= max(gpus, 1)} or self.runtime
        return known[max(n for n in known if n <= max(gpus, 1))] + grown


@lru_cache
def captured(sequences: int) -> int:
    """Return how many batch sizes vLLM captures as CUDA graphs: 1, 2, 4, by 8 to 256 and by 16 to 512."""
    most = min(2 * sequences, 512)
    return sum(n <= most for n in (1, 2, 4, *range(8, 256, 8), *range(256, 513, 16)))


#: fields of an engine file, in the order they are shown
ENGINE_FIELDS = tuple(f.name for f in fields(Engine) if f.name not in ("name", "named", "sources", "launch"))


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
    host_memory: float | None = None  #: memory of the server, a GPU's part, None where the offer does not say [B]

    def current(self, day: str) -> bool:
        """Whether the price holds on a day (YYYY-MM-DD)."""
        return self.start <= day and (self.end is None or day < self.end)
