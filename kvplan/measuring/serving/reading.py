"""Reading end-to-end rows: from the words of a file to a server and its load."""

import re
from collections.abc import Callable, Mapping
from math import ceil
from typing import Any

from kvplan.catalog.servers.collected import collection_of
from kvplan.errors import KvplanError, SpecError
from kvplan.kv.replica import Parallel, check_parallel
from kvplan.measuring.serving.noted import folder_named, mixed, pooled, uncounted_hits, with_noted
from kvplan.measuring.serving.raw_row import RawRow
from kvplan.measuring.serving.resent import found_before
from kvplan.measuring.serving.row_formats import kv_bits_of, with_weights
from kvplan.measuring.serving.rows import ARRIVALS, CLOSED, OFFLINE, OPEN, Refused, ServerRow
from kvplan.measuring.serving.scheduler import of_collectors, of_oneself, scheduler_of
from kvplan.perf.serving import LENGTH_SPREAD
from kvplan.specs.eras import era_of
from kvplan.specs.hardware import Engine, Gpu
from kvplan.specs.identity import family
from kvplan.specs.model import ModelSpec
from kvplan.units import GIB

#: columns every end-to-end row has; the others may be missing or empty
NEEDED = ("model", "gpu", "engine", "isl", "osl", "concurrency", "tp")
TTFT, TPOT, LATENCY = "ttft_ms", "tpot_ms", "latency_ms"
TIMES = {"ttft": TTFT, "tpot": TPOT}
#: lengths of published serving benchmarks are drawn between 80 % and 100 % of the nominal ones
MEAN_LENGTH = 0.9
#: requests every slot sends there, the first ones all at once
WAVES = 10.0
ENGINES = {"tensorrt-llm": "trtllm", "tensorrt_llm": "trtllm", "trt-llm": "trtllm", "trt": "trtllm"}
#: inside the engine's process texts become tokens, before V1 of vLLM, on the thread that runs its steps, which stands
#: still for so much of a request's overhead: assumed, from replays
OCCUPIED = 0.4
#: what names of quantised checkpoints, or of one among several, end in
QUANTISED = re.compile(
    r"(\s*\[[^\]]*\]|[-.]quantized\.w\d+a\d+|(-int\d)*-mixed-(gptq|awq)|-(gptq|awq|autoround)[-\w]*)$", re.IGNORECASE
)
#: words for an engine's release that nobody stated
UNSTATED = ("", "-", "?", "unknown", "n/a", "na", "none", "not stated", "latest", "nightly", "main", "master")
#: words for no speculative decoding
PLAIN = ("", "-", "0", "no", "none", "off", "false", "disabled", "n/a", "na")
#: times that are neither means nor medians, by how a column that says what they mean begins
TAIL = re.compile(r"(p(?!50\b)\d|max|min)", re.IGNORECASE)
#: lengths between two shares of the nominal ones
UNIFORM = re.compile(r"uniform (\d?\.?\d+) ?(?:-|to) ?(\d?\.?\d+)\b")
#: lengths of data sets differ by about their mean; of "+-15 %" by as much each way
DATASET_SPREAD, NEAR_SPREAD = 1.0, 0.3
#: a model's folder in a cache of the hub
CACHED = re.compile(r"models--([\w.-]+?)--([\w.-]+?)/snapshots/[0-9a-f]+$")
#: why a row tells nothing
MIXED_SERVERS = "its section has rows of a baseline on another engine under the same command; nothing tells them apart"
UNCOUNTED_HITS = "prompts were partly in a prefix cache, by how much nobody counted; write it as prefix_hit, 0 to 1"
#: what drafting takes over a step that verifies, assumed: a model's own layer, once for every token, 2 to 10 % of it; a
#: small model that writes them all at once (DFlash) is one pass of a few layers
DRAFTED, BLOCK, AT_ONCE = 0.05, 0.1, "dflash"
#: how many tokens a row says are drafted for a step
DRAFTS = re.compile(r"(?:\"k\"|num_speculative_tokens\"?)\W+(\d{1,3})|\b(?:mtp|eagle)[- ]?(\d{1,2})\b", re.IGNORECASE)
#: what a row says of those accepted: a step's own token left out, or a number of tokens or share of them
PER_ROUND, ACCEPTED = re.compile(r"per_round\W+(\d+(?:\.\d+)?)"), re.compile(r"accept\D{0,20}(\d+(?:\.\d+)?)( ?%)?")
#: part of the work for a sequence that a benchmark inside the engine's process leaves: no HTTP, no stream of tokens. An
#: assumption: scheduling and sampling take a quarter. Llama 3.1 70B in fp8 on two H100s (1,000 tokens in and out) then
#: makes 4,400 tokens/s, as published (TensorRT-LLM 0.17 performance overview)
IN_PROCESS = 0.25


def not_described(name: str, version: str) -> Engine | None:
    """Return no rules, whatever the engine and release."""
    return None


def read_server(
    values: Mapping[str, Any],
    line: int,
    model: Callable[[str], ModelSpec],
    gpu: Callable[[str], Gpu],
    measured: bool,
    rules: Callable[[str, str], Engine | None] = not_described,
) -> ServerRow | Refused:
    """Return one row, or why it says nothing kvplan can use.

    `model` and `gpu` read these by their names, `rules` an engine's by its name and release, None where it has none;
    times are read where they are `measured`.
    """
    try:
        return _server(RawRow(with_release(with_noted(values))), line, model, gpu, measured, rules)
    except KvplanError as error:
        return Refused(line=line, reason=str(error))


def with_release(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row's columns without an engine's version where its word names none: that is no release of its own."""
    stated = str(values.get("engine_version") or "").strip().lower() not in UNSTATED
    return {**values, "engine_version": values["engine_version"] if stated else ""}


def _server(
    entry: RawRow,
    line: int,
    model: Callable[[str], ModelSpec],
    gpu: Callable[[str], Gpu],
    measured: bool,
    rules: Callable[[str, str], Engine | None],
) -> ServerRow:
    arrival = arrival_of(entry.text("arrival"))
    for column in NEEDED:
        if not entry.text(column) and not (column == "concurrency" and arrival == OPEN):
            raise SpecError(f"{column}: is empty")
    device = gpu(entry.text("gpu"))
    engine = ENGINES.get(entry.text("engine").lower(), entry.text("engine").lower())
    precision = entry.text("gemm_quant") or entry.text("moe_quant") or entry.text("precision")
    spec, weight_format = with_weights(known_model(entry.text("model"), model), precision)
    parallel, misread = parallel_of(entry)
    infeasible = infeasibility(spec, parallel)
    again = found_before(entry, spec, device, engine, parallel, weight_format) if arrival == OPEN else 0.0
    load, unusual = load_columns(entry, arrival, spec, again)
    scheduler, scheduled = scheduler_of(entry, spec, device, engine, parallel, weight_format)
    if described := rules(engine, entry.text("engine_version")):
        length, told = load["prompt"] + load["output"], int(scheduler.get("chunk", 0.0))
        scheduler["chunk"] = float(described.prompt_tokens(device, length, parallel.data, told, spec.max_context or 0))
    times: dict[str, Any] = {}
    if measured:
        times = {**times_of(entry), "medians": states_median(entry) or median_alone(entry, TTFT)}
        check_origin(entry, spec, model)
        times = of_answers(times, load) if uncounted_hits(entry.values) else times
    return ServerRow(
        line=line,
        model=spec,
        gpu=device,
        engine=engine,
        version=entry.text("engine_version"),
        weight_format=weight_format,
        parallel=parallel,
        stated_kv_bits=kv_bits_of(entry.text("kv_dtype"), spec, engine),
        own=of_oneself(entry, engine),
        sweep=entry.text("sweep") or entry.text("group"),
        source=entry.text("source").split("@")[0],
        host_work=IN_PROCESS if entry.text("arrival").lower().startswith(OFFLINE) else 1.0,
        occupied=occupied(entry, engine),
        notes=(*infeasible, *unusual, *misread, *scheduled),
        **{"medians": states_median(entry), **load, **scheduler, **times},
        **(speculation(entry.text("spec_decode")) if "spec_decode" in entry.values else {}),
    )


def states_median(entry: RawRow) -> bool:
    """Return whether a row says that its TTFT is a median."""
    return entry.text("ttft_meaning").lower().startswith(("p50", "median"))


def occupied(entry: RawRow, engine: str) -> float:
    """Return for what share of a request's overhead the engine itself stands still."""
    old = engine == "vllm" and bool(era_of(engine, entry.text("engine_version")))
    made = collection_of(entry.values) if old else None
    return OCCUPIED if made is not None and made.in_process else 0.0


def load_columns(entry: RawRow, arrival: str, model: ModelSpec, again: float) -> tuple[dict[str, Any], list[str]]:
    """Return the fields of a row's load, and what is odd about it; `again`: the share of prompts found in a cache."""
    factor, spread = length_spread(entry)
    replicas = entry.size("replicas", 1.0)
    rate, requests, concurrency = requests_of(entry, arrival, replicas)
    prompt, output = entry.size("isl"), entry.size("osl")
    mean = max(1, int(prompt * factor))
    hit = entry.size("prefix_hit", again)
    if hit > 1:
        raise SpecError(f"prefix_hit: expected the share of a prompt that is cached, 0 to 1, got {hit:g}")
    notes = [f"one of {replicas:g} replicas, with its part of the requests"] if replicas > 1 else []
    notes += ["sent before: its prompts are in the prefix cache"] if again and not entry.text("prefix_hit") else []
    if model.max_context and (prompt + output) * factor > model.max_context:
        notes.append(f"longer than the {model.max_context:,} tokens of the model's context")
    if counted := bool(entry.text("request_rate")):  # a result file's open loop
        notes.append(f"open loop: taken as {concurrency:.3g} requests in flight on average")
    load = {
        "prompt": mean,
        "cached": min(int(hit * mean), mean - 1),
        "running": entry.size("running", 0.0) / replicas,
        "kv_memory": entry.size("kv_memory_gib", 0.0) * GIB,
        "stated_num_seqs": int(entry.size("max_num_seqs", 0.0)),
        "output": max(1.0, output * factor),
        "spread": spread,
        "arrival": OPEN if counted else arrival,
        "rate": 0.0 if counted else rate,
        "requests": requests,
        "concurrency": concurrency,
        "waves": waves_of(entry, requests, concurrency),
    }
    return load, notes


def requests_of(entry: RawRow, arrival: str, replicas: float) -> tuple[float, float, float]:
    """Return a replica's part of a row's load: requests per second, requests in all, and those in flight.

    0 stands for what is not stated; a load of Poisson arrivals needs the first or the last.
    """
    rate, requests = (entry.loosely(column) / replicas for column in ("rate", "requests"))
    requests /= pooled(entry.values)
    if arrival == OPEN and not (rate or entry.text("concurrency")):
        raise SpecError("rate: a load of Poisson arrivals needs requests per second here, or its concurrency")
    concurrency = entry.size("concurrency", 0.0 if arrival == OPEN and rate else None) / replicas
    return rate, requests, min(concurrency, requests) if arrival == OFFLINE and requests else concurrency


def waves_of(entry: RawRow, requests: float, concurrency: float) -> float:
    """Return how many requests each slot sends after the other, as published benchmarks do where nobody counted."""
    known = requests > 0 or bool(entry.text("mean_lengths"))
    return max(1.0, (requests or WAVES * concurrency) / concurrency) if known and concurrency else WAVES


def times_of(entry: RawRow) -> dict[str, Any]:
    """Return a row's measured TTFT and TPOT, or only the time of a whole batch; None for what it has not. [s]"""
    columns = {name: median_of(c) if median_alone(entry, c) else c for name, c in TIMES.items()}
    columns["latency"] = LATENCY
    tails = {c for c in TIMES.values() if tail(entry, c)}
    read = {name: column for name, column in columns.items() if entry.text(column) and column not in tails}
    times = {name: entry.size(read[name]) / 1e3 if name in read else None for name in columns}
    if not any(times.values()) and tails:
        raise SpecError("ttft_meaning, tpot_meaning: expected means or medians, which predictions are compared with")
    if not any(times.values()):
        raise SpecError(f"{TPOT}: is empty, and so is {TTFT}")
    return times


def median_of(column: str) -> str:
    """Return the column of a time's median."""
    return column.replace("_ms", "_p50_ms")


def tail(entry: RawRow, column: str) -> bool:
    """Return whether a time is another percentile than the median, which no mean is compared with."""
    return bool(TAIL.match(entry.text(column.replace("_ms", "_meaning"))))


def median_alone(entry: RawRow, column: str) -> bool:
    """Return whether a row has the median of a time, and neither its mean nor what it calls its time."""
    return bool(entry.text(median_of(column))) and (not entry.text(column) or tail(entry, column))


def check_origin(entry: RawRow, spec: ModelSpec, model: Callable[[str], ModelSpec]) -> None:
    """Raise SpecError where what a row says of its origin contradicts it, or cannot tell it from another server's."""
    if mixed(entry.values):
        raise SpecError(MIXED_SERVERS)
    place = folder_named(entry.text("source"))
    try:
        other = model(place) if place else spec
    except KvplanError:
        return  # the folder is called by no model
    if family(other) != family(spec):
        raise SpecError(f"source: is a file about {other.name}, and the row is of {spec.name}")


def of_answers(times: Mapping[str, Any], load: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row's times without what tells of its prompts, which were partly cached by nobody knows how much.

    That is TTFT; and TPOT where prompts are longer than answers, so that reading them is much of it.
    """
    if not times["tpot"] or load["prompt"] > load["output"]:
        raise SpecError(UNCOUNTED_HITS)
    return {**times, "ttft": None, "latency": None}


def known_model(word: str, model: Callable[[str], ModelSpec]) -> ModelSpec:
    """Return a model by its name, or by the path that a server elsewhere had it at.

    The last part of a path is its name, that of a folder in the hub's cache its publisher and name; where they hide
    it, the weights' format is left out.
    """
    tried = [word]
    path = word.replace("\\", "/").rstrip("/")
    if match := CACHED.search(path):
        tried.append(f"{match[1]}/{match[2]}")
    last = tried[-1].replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    tried += [last, QUANTISED.sub("", last)]
    first: KvplanError | None = None
    for name in dict.fromkeys(filter(None, tried)):
        try:
            return model(name)
        except KvplanError as error:
            first = first or error
    assert first is not None
    raise first


def arrival_of(word: str) -> str:
    """Return how requests come, one of ARRIVALS: a closed loop where nothing is stated."""
    low = word.lower()
    if not low:
        return CLOSED
    arrival = next((a for a in ARRIVALS if low.startswith(a)), OFFLINE if low.startswith(("burst", "batch")) else "")
    if not arrival:
        raise SpecError(f"arrival: expected one of {', '.join(ARRIVALS)}, got {word!r}")
    return arrival


def length_spread(entry: RawRow) -> tuple[float, float]:
    """Return what mean lengths are of the nominal ones, and how far output lengths differ.

    Without a word they are as published serving benchmarks take them, 80 % to 100 % of the nominal ones, and as they
    are where the file counts requests (a result file). The latter is the width of their distribution over their mean.
    Runs without a day that are called by their model were taken with exact lengths by those who collected the rows.
    """
    word = entry.text("lengths").lower()
    if not word and of_collectors(entry):
        return 1.0, 0.0
    if not word:
        return 1.0 if entry.text("requests") or entry.text("mean_lengths") else MEAN_LENGTH, LENGTH_SPREAD
    if word.startswith(("exact", "nominal", "fixed", "constant")):
        return 1.0, 0.0
    ends = UNIFORM.match(word)
    if word.startswith("uniform 0.8") and (not ends or float(ends[2]) == 1.0):
        return MEAN_LENGTH, LENGTH_SPREAD
    if ends and 0 < (mean := (float(ends[1]) + float(ends[2])) / 2) <= 2:
        return mean, abs(float(ends[2]) - float(ends[1])) / mean
    return 1.0, NEAR_SPREAD if "+-" in word else DATASET_SPREAD


def speculation(word: str) -> dict[str, Any]:
    """Return what speculative decoding does, as fields of a row: its gain, and the tokens that a step verifies.

    A gain of 1 is none, 0 one that nobody stated. It is tokens a step over what drafting adds to the step; that more
    tokens are multiplied for is in the step's operators.
    """
    if word.lower() in PLAIN:
        return {"speculation_gain": 1.0}
    match = DRAFTS.search(word)
    drafted = int(match[1] or match[2]) if match else 0
    tokens = yielded(word, drafted)
    if not tokens:
        return {"speculation_gain": 0.0}
    drafted = max(drafted, ceil(tokens - 1))
    draft = BLOCK if AT_ONCE in word.lower() else DRAFTED * drafted
    return {"speculation_gain": tokens / (1 + draft), "verified": 1.0 + drafted}


def yielded(word: str, drafted: int) -> float:
    """Return how many tokens a step yields, its own included; 0 where a row does not say."""
    if others := PER_ROUND.search(word):
        return 1 + float(others[1])
    stated = ACCEPTED.search(word)
    number = float(stated[1]) / (100 if stated[2] else 1) if stated else 0.0
    return number if number >= 1 and not (stated and stated[2]) else 1 + number * drafted if stated and drafted else 0.0


def whole(number: float, column: str) -> int:
    """Return a whole number as an int; SpecError, which names the column, for any other."""
    if number != int(number):
        raise SpecError(f"{column}: expected a whole number, got {number:g}")
    return int(number)


def parallel_of(entry: RawRow) -> tuple[Parallel, tuple[str, ...]]:
    """Return how a server is spread over GPUs, and what is odd about it.

    Rows that give attention_dp as moe_tp x moe_ep, both being the same number, count the experts' GPUs twice.
    """
    degrees = {name: whole(entry.size(name, 1.0), name) for name in ("tp", "pp", "attention_dp", "moe_tp", "moe_ep")}
    data, expert, tensor = max(degrees["attention_dp"], 1), max(degrees["moe_ep"], 1), max(degrees["tp"], 1)
    notes: tuple[str, ...] = ()
    if data > 1 and expert == degrees["moe_tp"] > 1 and tensor * data == expert**2:
        notes = (f"attention_dp {data} read as {expert}: moe_tp and moe_ep name the same {expert} GPUs",)
        tensor, data = 1, expert
    if expert > 1 and (tensor * data) % expert:
        raise SpecError(f"moe_ep: {expert} expert ranks do not divide tp x attention_dp = {tensor * data} GPUs")
    return Parallel(tensor=tensor, pipeline=max(degrees["pp"], 1), data=data, expert=expert), notes


def infeasibility(model: ModelSpec, parallel: Parallel) -> tuple[str, ...]:
    """Return why a model cannot be spread so, as a note; raise SpecError for more stages than layers."""
    reason = check_parallel(model, parallel)
    if reason and parallel.pipeline > len(model.layers):
        raise SpecError(f"pp: {reason}")
    return (f"{reason}; timed all the same",) if reason else ()
