"""End-to-end rows: one steady-state load point of a server each; reading them, and predicting all of them at once."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil
from typing import Any

import numpy as np

from kvplan.architectures.formats import FORMATS, format_named
from kvplan.architectures.reader import DTYPE_BITS
from kvplan.errors import KvplanError, SpecError, shown
from kvplan.kv.budget import Deployment, memory_budget
from kvplan.kv.layout import KVLayout, kv_layout
from kvplan.kv.replica import Parallel, check_parallel, weights
from kvplan.perf import arrays
from kvplan.perf.serving import LENGTH_SPREAD, Load, Passes, Served, Steps, passes, serve, steps
from kvplan.specs.calibration import Calibration, Range
from kvplan.specs.eras import era_of, launch_of
from kvplan.specs.hardware import Engine, Gpu
from kvplan.specs.model import ModelSpec
from kvplan.specs.serving_profile import APART, CHUNK, Identity, calibration, family
from kvplan.units import parse

#: columns every end-to-end row has; the others may be missing or empty
NEEDED = ("model", "gpu", "engine", "isl", "osl", "concurrency", "tp")
TTFT, TPOT = "ttft_ms", "tpot_ms"
TIMES = {"ttft": TTFT, "tpot": TPOT}
#: lengths of published serving benchmarks are drawn between 80 % and 100 % of the nominal ones
MEAN_LENGTH = 0.9
#: requests every slot sends there, the first ones all at once
WAVES = 10.0
#: a server that seems to hold fewer sequences than this did not run with our memory rules: taken to hold all
FEWEST = 4
ENGINES = {"tensorrt-llm": "trtllm", "tensorrt_llm": "trtllm", "trt-llm": "trtllm", "trt": "trtllm"}
#: words of formats inside longer ones, as files of checkpoints write them
INSIDE = (("w4a16", "int4"), ("int4", "int4"), ("w8a16", "int8"), ("int8", "int8"), ("fp8", "fp8"))
#: what names of quantised checkpoints, or of one among several, end in
QUANTISED = re.compile(r"(\s*\[[^\]]*\]|[-.]quantized\.w\d+a\d+|-(gptq|awq|autoround)[-\w]*)$", re.IGNORECASE)
#: how many sequences an engine runs at once unless told: vLLM from 0.8 on by its memory (profiles/engines), before that
#: max_num_seqs = 256; TensorRT-LLM max_batch_size = 2,048; SGLang what its pool holds
OLD_SEQUENCES, MOST_SEQUENCES = 256, {"trtllm": 2048}
#: engines that reserve a request's final length when they admit it (TensorRT-LLM: GUARANTEED_NO_EVICT); the others
#: take it in at its present length and push one back when memory runs out
RESERVING = ("trtllm",)
#: lengths of data sets differ by about their mean; of "+-15 %" by as much each way
DATASET_SPREAD, NEAR_SPREAD = 1.0, 0.3
#: what a drafted token adds to a step: its draft, and its verification
DRAFTED = 0.12
#: numbers of concurrency that are tried for an open loop [1/grid]
GRID = 14
#: part of the work for a sequence that a benchmark inside the engine's process leaves: no HTTP, no stream of tokens. An
#: assumption: scheduling and sampling take a quarter. Llama 3.1 70B in fp8 on two H100s (1,000 tokens in and out) then
#: makes 4,400 tokens/s, as published (TensorRT-LLM 0.17 performance overview)
IN_PROCESS = 0.25
#: between GPUs that no NVLink joins: PCIe 5.0 x16 one way [B/s]
OUTSIDE = 64e9
#: no server has a larger value of any size
LARGEST = 10**9
#: how requests come: a closed loop of users, at a rate of their own, all at once, or one batch that starts together
CLOSED, OPEN, OFFLINE, STATIC = ARRIVALS = ("closed", "poisson", "offline", "static")
#: a calibration of rows side by side states no interval
EXACT = Range(low=1.0, high=1.0)


@dataclass(frozen=True, kw_only=True)
class ServerRow:
    """One row: a server and its load. Lengths [token] are means; times [s] are None where the file has none.

    `form` is the format of weights (None: the checkpoint's), `cache` the width of cache elements where a file states it
    [bit], `notes` what was assumed in reading the row. `arrival` is one of ARRIVALS; an open loop has a `rate` [1/s]
    and, where nobody counted them, a concurrency of 0. `spread` is how far output lengths differ (see perf/serving.py),
    `requests` how many were sent in all (0: not stated). `sped` is what speculative decoding gains: None where nothing
    is said, 0 where it ran and nobody said how well, else a factor. `medians` says that its times are medians,
    `streamed` how much of the work for a sequence in a step is left (less where no server streams its tokens).
    """

    line: int
    model: ModelSpec
    gpu: Gpu
    engine: str
    version: str
    form: str | None
    parallel: Parallel
    prompt: int
    output: float
    concurrency: float
    waves: float
    ttft: float | None = None
    tpot: float | None = None
    cache: float | None = None
    arrival: str = CLOSED
    rate: float = 0.0
    requests: float = 0.0
    spread: float = LENGTH_SPREAD
    sped: float | None = None
    medians: bool = False
    sweep: str = ""
    source: str = ""
    streamed: float = 1.0
    notes: tuple[str, ...] = ()

    @property
    def who(self) -> Identity:
        """What a fit knows the server by at each of its levels."""
        return Identity(
            gpu=self.gpu.name, engine=self.engine, version=self.version, model=family(self.model), sweep=self.sweep,
            source=self.source, architecture=self.gpu.architecture, vendor=self.gpu.vendor,
        )  # fmt: skip

    @property
    def kv_bits(self) -> float:
        """Width of the cache: engines keep that of quantised checkpoints in fp8, SGLang on GPUs with fp4 only. [bit]"""
        if self.cache is not None:
            return self.cache
        quantised = self.form not in (None, "bf16", "fp16") or (
            self.form is None and self.model.quantization is not None
        )
        if quantised and (self.engine != "sglang" or self.gpu.fp4):
            return 8.0
        return min(DTYPE_BITS[self.model.dtype], 16.0)

    @property
    def cycle(self) -> float:
        """Measured time of a request from start to end. [s]"""
        return (self.ttft or 0.0) + (self.output - 1) * (self.tpot or 0.0)

    @property
    def slots(self) -> int:
        """The most sequences its engine runs at once on a rank, unless told otherwise."""
        if self.engine == "vllm" and era_of(self.engine, self.version):
            return OLD_SEQUENCES
        return MOST_SEQUENCES.get(self.engine, LARGEST)


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A row that cannot be predicted, and why."""

    line: int
    reason: str


def read_server(
    entry: Mapping[str, Any], line: int, model: Callable[[str], ModelSpec], gpu: Callable[[str], Gpu], measured: bool
) -> ServerRow | Refused:
    """Return one row, or why it says nothing kvplan can use."""
    try:
        return _server(entry, line, model, gpu, measured)
    except KvplanError as error:
        return Refused(line=line, reason=str(error))


def _server(
    entry: Mapping[str, Any], line: int, model: Callable[[str], ModelSpec], gpu: Callable[[str], Gpu], measured: bool
) -> ServerRow:
    def text(name: str) -> str:
        return str(entry.get(name) or "").strip()

    def size(name: str, default: float | None = None) -> float:
        if not text(name) and default is not None:
            return default
        number = parse(text(name), "1", name)
        if not 0 <= number <= LARGEST or (number == 0 and default is None):
            raise SpecError(f"{name}: expected a number above zero and up to {LARGEST:,}, got {shown(text(name))}")
        return number or (default or 0.0)

    arrival = arrival_of(text("arrival"))
    for name in NEEDED:
        if not text(name) and not (name == "concurrency" and arrival == OPEN):
            raise SpecError(f"{name}: is empty")
    spec, device = known_model(text("model"), model), gpu(text("gpu"))
    engine = ENGINES.get(text("engine").lower(), text("engine").lower())
    form, notes = weight_form(spec, text("gemm_quant") or text("moe_quant") or text("precision"))
    sizes = {name: whole(size(name, 1.0), name) for name in ("tp", "pp", "attention_dp", "moe_tp", "moe_ep")}
    parallel, said = spread_of(sizes)
    if refused := check_parallel(spec, parallel):
        if parallel.pipeline > len(spec.layers):
            raise SpecError(f"pp: {refused}")
        notes = (*notes, f"{refused}; timed all the same")
    shortened, spread = lengths_of(entry, text("lengths"))
    factor = MEAN_LENGTH if shortened else 1.0
    rate = plain(text("rate")) or 0.0
    counted = plain(text("requests")) or 0.0
    if arrival == OPEN and not (rate or text("concurrency")):
        raise SpecError("rate: a load of Poisson arrivals needs requests per second here, or its concurrency")
    concurrency = size("concurrency", 0.0 if arrival == OPEN and rate else None)
    if arrival == OFFLINE and counted:
        concurrency = min(concurrency, counted)
    known = counted > 0 or bool(text("mean_lengths"))
    waves = max(1.0, (counted or WAVES * concurrency) / concurrency) if known and concurrency else WAVES
    if spec.max_context and (size("isl") + size("osl")) * factor > spec.max_context:
        notes = (*notes, f"longer than the {spec.max_context:,} tokens of the model's context")
    if text("request_rate"):
        arrival, notes = OPEN, (*notes, f"open loop: taken as {concurrency:.3g} requests in flight on average")
    times: dict[str, float | None] = {}
    if measured:
        times = {name: size(column) / 1e3 if text(column) else None for name, column in TIMES.items()}
        if not any(times.values()):
            raise SpecError(f"{TPOT}: is empty, and so is {TTFT}")
    return ServerRow(
        line=line,
        model=spec,
        gpu=device,
        engine=engine,
        version=text("engine_version"),
        form=form,
        parallel=parallel,
        prompt=max(1, int(size("isl") * factor)),
        output=max(1.0, size("osl") * factor),
        concurrency=concurrency,
        waves=waves,
        cache=cache_bits(text("kv_dtype"), spec, engine),
        arrival=arrival,
        rate=0.0 if text("request_rate") else rate,
        requests=counted,
        spread=spread,
        sped=sped(text("spec_decode")) if "spec_decode" in entry else None,
        medians=text("ttft_meaning").lower().startswith(("p50", "median")),
        sweep=text("sweep") or text("group"),
        source=text("source").split("@")[0],
        streamed=IN_PROCESS if text("arrival").lower().startswith(OFFLINE) else 1.0,
        notes=(*notes, *said),
        **times,
    )


def known_model(word: str, model: Callable[[str], ModelSpec]) -> ModelSpec:
    """Return a model by its name; without publisher and weights' format if they hide it."""
    try:
        return model(word)
    except KvplanError as error:
        bare = QUANTISED.sub("", word).rsplit("/", 1)[-1]
        if not bare or bare == word:
            raise
        try:
            return model(bare)
        except KvplanError:
            raise error from None


def plain(word: str) -> float | None:
    """Return a number, None for any other text: files say 'inf', 'saturating' or 'not published' too."""
    try:
        number = float(word)
    except ValueError:
        return None
    return number if 0 < number <= LARGEST else None


def arrival_of(word: str) -> str:
    """Return how requests come: a closed loop where nothing is said."""
    low = word.lower()
    if not low:
        return CLOSED
    found = next((a for a in ARRIVALS if low.startswith(a)), OFFLINE if low.startswith(("burst", "batch")) else "")
    if not found:
        raise SpecError(f"arrival: expected one of {', '.join(ARRIVALS)}, got {word!r}")
    return found


def lengths_of(entry: Mapping[str, Any], word: str) -> tuple[bool, float]:
    """Return whether lengths are nominal ones to shorten, and how far output lengths differ.

    Without a word they are as published serving benchmarks take them, 80 % to 100 % of the nominal ones, and as they
    are where the file counts requests (a result file).
    """
    low = word.lower()
    if not low:
        counted = bool(str(entry.get("requests") or entry.get("mean_lengths") or "").strip())
        return not counted, LENGTH_SPREAD
    if low.startswith(("exact", "nominal")):
        return False, 0.0
    if low.startswith("uniform 0.8"):
        return True, LENGTH_SPREAD
    return False, NEAR_SPREAD if "+-" in low else DATASET_SPREAD


def cache_bits(word: str, model: ModelSpec, engine: str) -> float | None:
    """Return the width of the cache a row states, None where it leaves it to the engine and the checkpoint. [bit]"""
    low = word.lower()
    if low in ("", "unknown", "per conf") or (low == "auto" and engine == "trtllm"):
        return None
    if low == "auto":
        own = model.quantization.kv_bits if model.quantization else None
        return float(own or min(DTYPE_BITS[model.dtype], 16.0))
    known = (("fp8", 8.0), ("int8", 8.0), ("nvfp4", 4.0), ("int4", 4.0), ("turbo", 4.0), ("bf16", 16.0), ("fp16", 16.0))
    found = next((bits for name, bits in known if name in low), DTYPE_BITS.get(low))
    if found is None:
        raise SpecError(f"kv_dtype: expected auto, fp8, bf16 or the like, got {word!r}")
    return float(found)


def sped(word: str) -> float:
    """Return what speculative decoding gains: 1 without, 0 where it ran and the row does not say how well.

    Tokens accepted a step, over what a step takes longer for as many drafted ones.
    """
    if not word or word.lower() in ("no", "none", "off", "false"):
        return 1.0
    found = re.search(r"accept\D{0,12}(\d+(?:\.\d+)?)", word) or re.search(r"per_round\W+(\d+(?:\.\d+)?)", word)
    if not found:
        return 0.0
    accepted = max(float(found[1]), 1.0)
    return max(accepted / (1 + DRAFTED * ceil(accepted)), 1.0)


def whole(number: float, name: str) -> int:
    """Return a whole number as an int; SpecError, which names the column, for any other."""
    if number != int(number):
        raise SpecError(f"{name}: expected a whole number, got {number:g}")
    return int(number)


def weight_form(model: ModelSpec, word: str) -> tuple[str | None, tuple[str, ...]]:
    """Return the format of weights a row names; a checkpoint that comes quantised keeps its own of the same kind."""
    low = word.lower()
    if not low or "checkpoint" in low:
        return None, ()
    within = (FORMATS[name] for inside, name in INSIDE if inside in low.split("/")[0])
    form = format_named(low) or next(within, None)
    if form is None:
        raise SpecError(f"gemm_quant: {shown(word)} is not known; write one of {', '.join(FORMATS)}, or leave it empty")
    own = model.quantization.bits if model.quantization and model.quantization.bits else None
    if own and abs(own - form.bits) < 0.6:
        return None, ()
    return form.name, ()


def spread_of(sizes: Mapping[str, int]) -> tuple[Parallel, tuple[str, ...]]:
    """Return how a server is spread.

    Rows that give attention_dp as moe_tp x moe_ep, both being the same number, count the experts' GPUs twice.
    """
    data, expert, tensor = max(sizes["attention_dp"], 1), max(sizes["moe_ep"], 1), max(sizes["tp"], 1)
    notes: tuple[str, ...] = ()
    if data > 1 and expert == sizes["moe_tp"] > 1 and tensor * data == expert**2:
        notes = (f"attention_dp {data} read as {expert}: moe_tp and moe_ep name the same {expert} GPUs",)
        tensor, data = 1, expert
    if expert > 1 and (tensor * data) % expert:
        raise SpecError(f"moe_ep: {expert} expert ranks do not divide tp x attention_dp = {tensor * data} GPUs")
    return Parallel(tensor=tensor, pipeline=max(sizes["pp"], 1), data=data, expert=expert), notes


# -- what a row asks of the model -----------------------------------------------------------------


@lru_cache(maxsize=512)
def layout_of(model: ModelSpec, bits: float) -> KVLayout:
    """Return a model's uncompressed cache with elements of `bits` bits, worked out once."""
    return kv_layout(model, bits)


@dataclass(frozen=True, kw_only=True)
class RankLoad:
    """A row as the serving model sees it: the load on one rank, and its passes; `late` adds to TTFT. [s]"""

    load: Load
    passes: Passes
    notes: tuple[str, ...] = ()
    late: float = 0.0


def load_of(row: ServerRow, engine: Engine, concurrency: float | None = None) -> RankLoad:
    """Return the load and passes of a row, under a concurrency of its own if given; the batch is what memory holds."""
    parallel = row.parallel
    offered_to_all = row.concurrency if concurrency is None else concurrency
    room, notes = room_of(row, engine)
    ranks = parallel.data * parallel.pipeline
    most = min(room, row.slots * ranks)
    batch, offered = max(1.0, min(offered_to_all, most) / ranks), offered_to_all / ranks
    offered = offered if row.arrival == OPEN else max(1.0, offered)
    if batch < 0.99 * offered:
        what = "memory holds" if most == room else "the engine runs"
        notes = (*notes, f"{what} {most} of {offered_to_all:g} requests; the others wait")
    return replace(loads_at(row, batch, offered), notes=notes)


def loads_at(row: ServerRow, batch: Any, offered: Any = None) -> RankLoad:
    """Return a row with so many requests on a rank, `offered` of them in all; both may be arrays."""
    layout = layout_of(row.model, row.kv_bits)
    every = batch if offered is None else offered
    found = passes(
        row.model, layout, layout, weights(row.model, row.form), row.parallel, batch=batch, prompt=row.prompt,
        output=row.output, chunk=CHUNK,
    )  # fmt: skip
    offline = row.arrival == OFFLINE
    load = Load(
        prompt=row.prompt, output=row.output, batch=batch, offered=every,
        waves=every / batch if offline else 0.0 if row.arrival in (OPEN, STATIC) else row.waves,
        chunks=ceil(row.prompt / CHUNK), spread=row.spread, static=float(row.arrival == STATIC),
        offline=float(offline), open=float(row.arrival == OPEN),
    )  # fmt: skip
    return RankLoad(load=load, passes=found)


def room_of(row: ServerRow, engine: Engine) -> tuple[int, tuple[str, ...]]:
    """Return how many of a row's requests memory holds, and what is odd about it.

    Most engines admit a request at its present length: those that run have half of their answers on average.
    """
    layout, parallel = layout_of(row.model, row.kv_bits), row.parallel
    where = Deployment(
        engine=engine, gpu=row.gpu, parallel=replace(parallel, expert=0), weights=row.form, max_num_seqs=256,
        max_num_batched_tokens=int(CHUNK),
    )  # fmt: skip
    length = max(2, int(row.prompt + row.output))
    budget = memory_budget(row.model, layout, where, length)
    held = max(2, int(row.prompt + (1.0 if row.engine in RESERVING else 0.5) * row.output))
    room = budget.sequences(held)
    if budget.sequences(length) < FEWEST * parallel.data:
        return max(ceil(row.concurrency), 1), ("weights leave no room by kvplan's memory rules; taken to fit",)
    return room, ()


# -- many rows at once ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Gpus:
    """The datasheet figures of many rows' GPUs, as arrays; 0 stands for a format a GPU lacks."""

    bandwidth: Any
    wide: Any
    fp8: Any
    fp4: Any
    link: Any


@dataclass(frozen=True, kw_only=True)
class Many:
    """Rows side by side, as arrays: what `perf` works on. `mixes` says whose prompts share steps with decoding."""

    rows: tuple[ServerRow, ...]
    load: Load
    passes: Passes
    gpus: Gpus
    mixes: Any
    launch: Any
    medians: Any
    streamed: Any

    def calibrated(self, values: Mapping[str, Any]) -> Calibration:
        """Return effective rates and overheads of every row, from arrays of its terms' values."""
        said = {"engine": "", "name": "", "tier": "", "tpot": EXACT, "ttft": EXACT, "launch": self.launch}
        return calibration(values, gpu=self.gpus, mixes=self.mixes, **said)

    def served(self, c: Calibration) -> Served:
        """Return every row's means under a calibration of arrays."""
        return serve(self.load, self.steps(c), c)

    def first(self, served: Served) -> Any:
        """Return TTFT as each row states it: the mean, or the median. [s]"""
        return np.where(self.medians, served.median, served.ttft)

    def steps(self, c: Calibration) -> Steps:
        """Return the times of the five steps of every row. [s, row]"""
        return steps(self.passes, c, self.load.batch * self.streamed)


def stack(rows: Sequence[ServerRow], engine: Engine) -> tuple[Many, list[RankLoad]]:
    """Return measured rows as arrays, and the load of each; an open loop has as many in flight as Little's law."""
    each = [load_of(row, engine, in_flight(row)) for row in rows]
    return side_by_side(rows, each), each


def in_flight(row: ServerRow) -> float | None:
    """Return the requests in flight of a measured open loop: rate x time, as far as its run of requests gets there."""
    if row.arrival != OPEN or not row.rate:
        return None
    return max(in_a_run(row.rate * ((row.ttft or 0.0) + row.output * (row.tpot or 0.0)), row.requests), 0.05)


def in_a_run(many: float, requests: float) -> float:
    """Return how many others a request meets in a run that begins and ends empty, where a long one would have `many`.

    In flight on average are N C / (N / R + C) = R C / (1 + R C / N); a request meets what lies halfway to the most.
    """
    return many / (1 + many / (2 * requests)) if requests else many


def mixes(row: ServerRow) -> bool:
    """Return whether prompts share steps with decoding: not under SGLang, nor before vLLM's V1 engine."""
    return row.engine not in APART and not (row.engine == "vllm" and bool(era_of(row.engine, row.version)))


def link_of(gpu: Gpu, parallel: Parallel) -> float:
    """Return the bandwidth between a replica's GPUs: NVLink ends with the node (two cards of an H100 NVL). [B/s]"""
    together = parallel.tensor * parallel.data
    return gpu.link if together <= gpu.gpus_per_node else min(gpu.link, OUTSIDE)


def side_by_side(rows: Sequence[ServerRow], each: Sequence[RankLoad]) -> Many:
    """Return rows with their loads as arrays."""
    load = Load(**{name: np.array([getattr(a.load, name) for a in each], float) for name in Load.__dataclass_fields__})
    stacked = {name: arrays.stack([getattr(a.passes, name) for a in each]) for name in Passes.__dataclass_fields__}
    figures = {f: np.array([getattr(r.gpu, f) or 0.0 for r in rows], float) for f in Gpus.__dataclass_fields__}
    figures["link"] = np.array([link_of(r.gpu, r.parallel) for r in rows])
    return Many(
        rows=tuple(rows),
        load=load,
        passes=Passes(**stacked),
        gpus=Gpus(**figures),
        mixes=np.array([float(mixes(r)) for r in rows]),
        launch=np.array([launch_of(r.engine, r.version, r.gpu.architecture) for r in rows]),
        medians=np.array([r.medians for r in rows]),
        streamed=np.array([r.streamed for r in rows]),
    )
