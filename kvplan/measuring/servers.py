"""End-to-end rows: one steady-state load point of a server each; reading them, and predicting all of them at once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil
from typing import Any

import numpy as np

from kvplan.architectures.quantization import FORMATS
from kvplan.architectures.reader import DTYPE_BITS
from kvplan.errors import KvplanError, SpecError, shown
from kvplan.kv.budget import Deployment, Parallel, check_parallel, memory_budget, weights
from kvplan.kv.layout import KVLayout, kv_layout
from kvplan.perf import arrays
from kvplan.perf.serving import Load, Passes, Served, Steps, passes, serve, steps
from kvplan.specs.calibration import Calibration, Range
from kvplan.specs.hardware import Engine, Gpu
from kvplan.specs.model import ModelSpec
from kvplan.specs.serving_profile import APART, CHUNK, calibration
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
SPELLINGS = {
    "fp4": "nvfp4", "fp8_block": "fp8", "fp8_e4m3": "fp8", "fp8-dynamic": "fp8", "fp8-static": "fp8",
    "w4a16_mxfp4": "mxfp4", "int4_wo": "int4", "awq": "int4", "gptq": "int4", "w4a16": "int4", "int8_wo": "int8",
    "w8a8": "int8",
    "bfloat16": "bf16", "float16": "fp16", "float32": "fp32", "half": "fp16",
}  # fmt: skip
ENGINES = {"tensorrt-llm": "trtllm", "tensorrt_llm": "trtllm", "trt-llm": "trtllm", "trt": "trtllm"}
#: no server has a larger value of any size
LARGEST = 10**9
#: a calibration of rows side by side states no interval
EXACT = Range(low=1.0, high=1.0)


@dataclass(frozen=True, kw_only=True)
class Server:
    """One row: a server and its load. Lengths [token] are means; times [s] are None where the file has none.

    `form` is the format of weights (None: the checkpoint's), `notes` what was assumed in reading the row.
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
    notes: tuple[str, ...] = ()

    @property
    def kv_bits(self) -> float:
        """Width of the cache: engines keep that of quantised checkpoints in fp8, SGLang on GPUs with fp4 only. [bit]"""
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


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A row that cannot be predicted, and why."""

    line: int
    reason: str


def read_server(
    entry: Mapping[str, Any], line: int, model: Callable[[str], ModelSpec], gpu: Callable[[str], Gpu], measured: bool
) -> Server | Refused:
    """Return one row, or why it says nothing kvplan can use."""
    try:
        return _server(entry, line, model, gpu, measured)
    except KvplanError as error:
        return Refused(line=line, reason=str(error))


def _server(
    entry: Mapping[str, Any], line: int, model: Callable[[str], ModelSpec], gpu: Callable[[str], Gpu], measured: bool
) -> Server:
    def text(name: str) -> str:
        return str(entry.get(name) or "").strip()

    def size(name: str, default: float | None = None) -> float:
        if not text(name) and default is not None:
            return default
        number = parse(text(name), "1", name)
        if not 0 <= number <= LARGEST or (number == 0 and default is None):
            raise SpecError(f"{name}: expected a number above zero and up to {LARGEST:,}, got {shown(text(name))}")
        return number or (default or 0.0)

    for name in NEEDED:
        if not text(name):
            raise SpecError(f"{name}: is empty")
    spec, device = model(text("model")), gpu(text("gpu"))
    engine = ENGINES.get(text("engine").lower(), text("engine").lower())
    form, notes = weight_form(spec, text("gemm_quant") or text("moe_quant") or text("precision"))
    sizes = {name: whole(size(name, 1.0), name) for name in ("tp", "pp", "attention_dp", "moe_tp", "moe_ep")}
    parallel, said = spread_of(sizes)
    if refused := check_parallel(spec, parallel):
        if parallel.pipeline > len(spec.layers):
            raise SpecError(f"pp: {refused}")
        notes = (*notes, f"{refused}; timed all the same")
    exact = bool(text("requests") or text("mean_lengths"))
    factor, concurrency = 1.0 if exact else MEAN_LENGTH, size("concurrency")
    waves = max(1.0, size("requests", WAVES * concurrency) / concurrency) if exact else WAVES
    if spec.max_context and (size("isl") + size("osl")) * factor > spec.max_context:
        notes = (*notes, f"longer than the {spec.max_context:,} tokens of the model's context")
    if text("request_rate"):
        waves, notes = 0.0, (*notes, f"open loop: taken as {concurrency:.3g} requests in flight on average")
    times: dict[str, float | None] = {}
    if measured:
        times = {name: size(column) / 1e3 if text(column) else None for name, column in TIMES.items()}
        if not any(times.values()):
            raise SpecError(f"{TPOT}: is empty, and so is {TTFT}")
    return Server(
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
        notes=(*notes, *said),
        **times,
    )


def whole(number: float, name: str) -> int:
    if number != int(number):
        raise SpecError(f"{name}: expected a whole number, got {number:g}")
    return int(number)


def weight_form(model: ModelSpec, word: str) -> tuple[str | None, tuple[str, ...]]:
    """Return the format of weights a row names; a checkpoint that comes quantised keeps its own of the same kind."""
    form = SPELLINGS.get(word.lower(), word.lower())
    if not form:
        return None, ()
    if form not in FORMATS:
        raise SpecError(f"gemm_quant: {shown(word)} is not known; write one of {', '.join(FORMATS)}, or leave it empty")
    own = model.quantization.bits if model.quantization and model.quantization.bits else None
    if own and abs(own - FORMATS[form]) < 0.6:
        return None, ()
    return form, ()


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
    return kv_layout(model, bits)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A row as the serving model sees it: the load on one rank, and its passes."""

    load: Load
    passes: Passes
    notes: tuple[str, ...] = ()


def asked(row: Server, engine: Engine) -> Asked:
    """Return the load and passes of a row; the batch is what memory holds."""
    layout, parallel = layout_of(row.model, row.kv_bits), row.parallel
    chunk = int(CHUNK)
    where = Deployment(
        engine=engine, gpu=row.gpu, parallel=replace(parallel, expert=0), weights=row.form, max_num_seqs=256,
        max_num_batched_tokens=chunk,
    )  # fmt: skip
    length = max(2, int(row.prompt + row.output))
    room = memory_budget(row.model, layout, where, length).sequences(length)
    notes: tuple[str, ...] = ()
    if room < FEWEST * parallel.data:
        room, notes = ceil(row.concurrency), ("weights leave no room by kvplan's memory rules; taken to fit",)
    ranks = parallel.data * parallel.pipeline
    batch, offered = max(1.0, min(row.concurrency, room) / ranks), max(1.0, row.concurrency / ranks)
    found = passes(
        row.model, layout, layout, weights(row.model, row.form), parallel, batch=batch, prompt=row.prompt,
        output=row.output, chunk=CHUNK,
    )  # fmt: skip
    if batch < 0.99 * offered:
        notes = (*notes, f"memory holds {room} of {row.concurrency:g} requests; the others wait")
    load = Load(
        prompt=row.prompt, output=row.output, batch=batch, offered=offered, waves=row.waves,
        chunks=ceil(row.prompt / CHUNK),
    )  # fmt: skip
    return Asked(load=load, passes=found, notes=notes)


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

    rows: tuple[Server, ...]
    load: Load
    passes: Passes
    gpus: Gpus
    mixes: Any

    def calibrated(self, values: Mapping[str, Any]) -> Calibration:
        """Return effective rates and overheads of every row, from arrays of its terms' values."""
        said = {"engine": "", "name": "", "tier": "", "tpot": EXACT, "ttft": EXACT}
        return calibration(values, gpu=self.gpus, mixes=self.mixes, **said)  # type: ignore[arg-type]

    def served(self, c: Calibration) -> Served:
        """Return every row's means under a calibration of arrays."""
        return serve(self.load, self.steps(c), c)

    def steps(self, c: Calibration) -> Steps:
        return steps(self.passes, c, self.load.batch)


def stack(rows: Sequence[Server], engine: Engine) -> tuple[Many, list[Asked]]:
    """Return rows as arrays, and each as it was asked."""
    each = [asked(row, engine) for row in rows]
    return side_by_side(rows, each), each


def side_by_side(rows: Sequence[Server], each: Sequence[Asked]) -> Many:
    """Return rows that were asked as arrays."""
    load = Load(**{name: np.array([getattr(a.load, name) for a in each], float) for name in Load.__dataclass_fields__})
    stacked = {name: arrays.stack([getattr(a.passes, name) for a in each]) for name in Passes.__dataclass_fields__}
    figures = {f: np.array([getattr(r.gpu, f) or 0.0 for r in rows], float) for f in Gpus.__dataclass_fields__}
    mixes = np.array([float(r.engine not in APART) for r in rows])
    return Many(rows=tuple(rows), load=load, passes=Passes(**stacked), gpus=Gpus(**figures), mixes=mixes)
