"""Result files of benchmark tools as end-to-end rows, whichever tool wrote them: told by their fields.

Every function takes a parsed document and where it comes from, and returns plain values: times in ms, lengths in
tokens (means over completed requests), rates in requests/s. `concurrency` is the number of requests in flight:

- closed loop: what the tool was told to keep in flight, at most the number of requests there were;
- all requests at once: that number of requests;
- open loop (an arrival rate was given): what the file says was in flight on average, else by Little's law completed
  requests per second x mean end-to-end latency [s], the latency being ttft + (osl - 1) x tpot where a file has none.

GuideLLM's time per output token is a mean over tokens; the others' is a mean over requests.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kvplan.architectures.formats import split_format
from kvplan.catalog.fields import enumerated
from kvplan.catalog.rows.results import read_results
from kvplan.errors import SpecError, shown
from kvplan.measuring.benchmarks.aiperf import read_aiperf_sweep, read_perf
from kvplan.measuring.benchmarks.fields import (
    CACHED,
    COLUMNS,
    COUNTS,
    LATENCY,
    MEANS,
    MS,
    PROTOCOL,
    TEXTS,
    TIMES,
    TOKENS,
    Row,
    Value,
    positive,
    whole,
)
from kvplan.measuring.benchmarks.guidellm import read_guidellm
from kvplan.measuring.benchmarks.inference_perf import read_inference_perf
from kvplan.measuring.benchmarks.inferencex import read_inferencex
from kvplan.measuring.benchmarks.llama_cpp import read_llama_bench, read_llama_table
from kvplan.measuring.benchmarks.llmd import read_llmd
from kvplan.measuring.benchmarks.llmperf import read_llmperf
from kvplan.measuring.benchmarks.sglang import read_one_batch, read_sglang
from kvplan.measuring.benchmarks.stated import check_stated
from kvplan.measuring.benchmarks.trtllm import read_trtllm
from kvplan.measuring.benchmarks.vllm import read_summary, read_vllm
from kvplan.measuring.benchmarks.vllm_offline import read_vllm_latency, read_vllm_record, read_vllm_throughput
from kvplan.units import parse

#: a parsed result
Document = Mapping[str, Any]
#: what reads it: (document, where it comes from) -> (where a load stands, the columns that the file fills)
Reader = Callable[[Document, str], Iterator[tuple[str, Row]]]

#: columns a row cannot do without: what they are called, and an example to copy
NEEDED = {
    "model": ("the model", "llama3.1-70b"),
    "gpu": ("the GPU", "h100"),
    "engine": ("the engine", "vllm"),
    "precision": ("the precision", "bf16"),
    "isl": ("the input length", "1024"),
    "osl": ("the output length", "1024"),
    "concurrency": ("the load", "64"),
    "tp": ("the tensor parallelism", "1"),
}
#: a request's stated length may be this much off the file's own, as prompts of benchmarks are
FAR = 0.2


def load_results(word: str, overrides: Mapping[str, Value]) -> list[Row]:
    """Return a result file's load points, one row each; `overrides` (column -> value) win over what the file says.

    Raises SpecError, on one line: origin, what, and what to write instead.
    """
    origin, documents = read_results(word)
    several = len(documents) > 1
    names = [f"{origin}: result {n}" if several else origin for n in range(1, len(documents) + 1)]
    points = [p for name, document in zip(names, documents, strict=True) for p in _points(document, name)]
    return _rows(points, overrides, origin)


def read_result(document: Mapping[str, Any], origin: str, overrides: Mapping[str, Value]) -> list[Row]:
    """Return the rows of one parsed result, whichever tool wrote it; raise SpecError."""
    return _rows(list(_points(document, origin)), overrides, origin)


def _rows(points: list[tuple[str, Row]], overrides: Mapping[str, Value], origin: str) -> list[Row]:
    given = _given(overrides)
    if not points:
        raise SpecError(f"{origin}: holds no load that tells TTFT or TPOT; was the run stopped early?")
    if "concurrency" in given and len(points) > 1 and any("concurrency" in stated for _, stated in points):
        raise SpecError(f"{origin}: holds {len(points)} loads; leave out settings=concurrency=..., one for all of them")
    return [_row({**stated, **given}, here) for here, stated in points]


def _read_records(document: Document, origin: str) -> Iterator[tuple[str, Row]]:
    """AIPerf 0.1, whose metrics stand under records."""
    return read_perf({**document, **document["records"]}, origin)


#: formats in the order in which they are tried: what only they hold, and their reader. A new one is one line here
FORMATS: tuple[tuple[Callable[[Document], bool], Reader], ...] = (
    (lambda d: isinstance(d.get("benchmarks"), list), read_guidellm),
    (lambda d: isinstance(d.get("per_combination_metrics"), list), read_aiperf_sweep),
    (lambda d: isinstance(d.get("records"), dict), _read_records),
    (lambda d: isinstance(d.get("time_to_first_token") or d.get("input_config"), dict), read_perf),
    (lambda d: isinstance(d.get("successes"), dict) and isinstance(d.get("load_summary"), dict), read_inference_perf),
    (lambda d: "results_ttft_s_mean" in d or "results_num_completed_requests" in d, read_llmperf),
    (lambda d: isinstance(d.get("performance"), dict) and isinstance(d.get("world_info"), dict), read_trtllm),
    (lambda d: "conc" in d and not d.keys().isdisjoint(("mean_ttft", "median_ttft")), read_inferencex),
    (lambda d: {"n_prompt", "n_gen", "avg_ns"} <= set(d), read_llama_bench),
    (lambda d: {"model", "test", "t/s"} <= set(d), read_llama_table),
    (lambda d: isinstance(d.get("scenario"), dict) and isinstance(d.get("metrics"), dict), read_llmd),
    (lambda d: isinstance(d.get("scenario"), dict) and isinstance(d.get("results"), dict), read_llmd),
    (lambda d: d.get("printed") == "serving", read_summary),
    (lambda d: {"batch_size", "input_len", "output_len"} <= set(d) and "overall_throughput" in d, read_one_batch),
    (lambda d: isinstance(d.get("server_info"), dict) and "completed" in d, read_sglang),
    (lambda d: "mean_ttft_ms" in d or {"completed", "total_input_tokens"} <= set(d), read_vllm),
    (lambda d: {"avg_latency", "percentiles"} <= set(d), read_vllm_latency),
    (lambda d: {"elapsed_time", "num_requests", "total_num_tokens"} <= set(d), read_vllm_throughput),
    (lambda d: all(isinstance(d.get(key), dict) for key in ("benchmark", "model", "metric")), read_vllm_record),
)


def _points(document: Document, origin: str) -> Iterator[tuple[str, Row]]:
    """Return an iterator over the load points: where each stands, and the columns that the file fills."""
    for holds, read in FORMATS:
        if holds(document):
            return read(document, origin)
    if command := answer_of(document):
        raise SpecError(
            f"{origin}: is an answer of kvplan {command}, no measurement; give a benchmark tool's result file, or a "
            "CSV file of measured rows (docs/files.md)"
        )
    raise SpecError(
        f"{origin}: is no result file known here; give what vllm bench serve, SGLang's bench_serving or "
        "bench_one_batch, GuideLLM, AIPerf, GenAI-Perf, inference-perf, LLMPerf, trtllm-bench, InferenceX, llama-bench "
        "or llm-d-benchmark saved"
    )


def answer_of(document: Document) -> str:
    """Return the command whose answer a document of kvplan is, '' for any other."""
    command = document.get("command")
    return command if "schema" in document and isinstance(command, str) and command.isalpha() else ""


def _given(overrides: Mapping[str, Value]) -> Row:
    """Return what the caller stated, checked; '' takes a column back to what the file says."""
    check_stated(overrides)
    return {name: value for name, value in overrides.items() if value != ""}


def _row(stated: Row, origin: str) -> Row:
    """Return a whole row in the order of COLUMNS, optional columns after them; raise SpecError for what is missing."""
    model = stated.get("model")
    if "precision" not in stated and isinstance(model, str) and (named := split_format(model)):
        stated["precision"] = "fp4" if named[1].name.endswith("fp4") else named[1].name
    spoken = stated.pop(PROTOCOL, None)
    stated = _parted(stated, origin)
    _complete(stated, spoken, origin)
    stated = _without_cached(_with_latency(_by_littles_law(stated, origin), origin), origin)
    row: Row = {name: _words(stated.get(name, ""), f"{origin}: {name}") for name in TEXTS}
    row |= {name: _mean(stated[name], f"{origin}: {name}") for name in MEANS}
    row |= _parallelism({name: _share(stated[name], f"{origin}: {name}") for name in COUNTS if name in stated}, origin)
    row |= {name: stated[name] for name in TIMES if name in stated}
    return row | {name: stated[name] for name in stated if name not in COLUMNS}


def _complete(stated: Row, spoken: Value | None, origin: str) -> None:
    """Raise SpecError that names all that a row cannot do without and lacks; `spoken` is the protocol it states."""
    missing = [name for name in NEEDED if name not in stated]
    if missing:
        add = " ".join(f"settings={name}={NEEDED[name][1]}" for name in missing)
        protocol = f" (backend {shown(spoken)} is a protocol that many engines speak)" if spoken else ""
        named = enumerated([NEEDED[name][0] for name in missing])
        raise SpecError(f"{origin}: says nothing of {named}{protocol if 'engine' in missing else ''}; add {add}")


def _parted(stated: Row, origin: str) -> Row:
    """Return a load whose tokens a request are parted into prompt and answer, where one of the two is known."""
    if TOKENS not in stated:
        return stated
    row = {name: value for name, value in stated.items() if name != TOKENS}
    total, given = float(stated[TOKENS]), [name for name in ("isl", "osl") if name in stated]
    if not given:
        return row
    known = sum(_mean(stated[name], f"{origin}: {name}") for name in given)
    if (len(given) == 1 and known >= total) or (len(given) == 2 and abs(known / total - 1) > FAR):
        raise SpecError(f"{origin}: {' + '.join(given)} = {known:,.0f}, but its requests have {total:,.0f} tokens each")
    return row | {name: total - known for name in ("isl", "osl") if name not in given}


def _by_littles_law(stated: Row, origin: str) -> Row:
    """Return a load of which only the length of the run is known with a request's mean time, N in flight over rate."""
    if LATENCY in stated or any(name in stated for name in TIMES):
        return stated
    flying = min(_mean(stated["concurrency"], f"{origin}: concurrency"), float(stated["requests"]))
    took = float(stated["duration_s"]) / MS * flying / float(stated["requests"])
    return {**stated, "concurrency": flying, LATENCY: took}


def _with_latency(stated: Row, origin: str) -> Row:
    """Return a load with the time of a whole batch as its TTFT where answers have one token; else as it is."""
    if LATENCY not in stated or _mean(stated["osl"], f"{origin}: osl") > 1:
        return stated
    return {**{name: value for name, value in stated.items() if name != LATENCY}, "ttft_ms": stated[LATENCY]}


def _without_cached(stated: Row, origin: str) -> Row:
    """Return a load without its TTFT where prompts came from the prefix cache: that tells no prefill's time."""
    if "prefix_hit" not in stated or "tpot_ms" not in stated:
        return stated
    hit = stated["prefix_hit"]
    share = parse(hit, "1", f"{origin}: prefix_hit") if isinstance(hit, str) else float(hit)
    return {n: v for n, v in stated.items() if not n.startswith("ttft")} if share > CACHED else stated


def _parallelism(stated: dict[str, int], origin: str) -> Row:
    """Return all five degrees; experts are split as layers are (tensor parallelism) unless something else is stated."""
    tp, dp = stated["tp"], stated.get("attention_dp", 1)
    ep = stated.get("moe_ep") or (max(1, tp * dp // stated["moe_tp"]) if "moe_tp" in stated else 1)
    moe_tp = stated.get("moe_tp") or max(1, tp * dp // ep)
    if moe_tp * ep != tp * dp:
        raise SpecError(
            f"{origin}: moe_tp x moe_ep = {moe_tp} x {ep} must be tp x attention_dp = {tp} x {dp}, the same GPUs; "
            f"add settings=moe_tp={tp * dp} settings=moe_ep=1, or leave both out"
        )
    return {"tp": tp, "pp": stated.get("pp", 1), "attention_dp": dp, "moe_tp": moe_tp, "moe_ep": ep}


def _words(value: Value, origin: str) -> str:
    text = str(value).strip() if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    if (not text and value != "") or not text.isprintable():
        raise SpecError(f"{origin}: expected a name, got {shown(value)}")
    return text


def _mean(value: Value, origin: str) -> float | int:
    """Return a length or a load, from a file or as typed: above zero, whole where it is."""
    number = positive(parse(value, "1", origin) if isinstance(value, str) else value, origin)
    return int(number) if number == int(number) else number


def _share(value: Value, origin: str) -> int:
    """Return a degree of parallelism, from a file or as typed: whole, from 1."""
    number = whole(parse(value, "1", origin) if isinstance(value, str) else value, origin)
    if number < 1:
        raise SpecError(f"{origin}: expected a whole number from 1, got {shown(value)}")
    return number
