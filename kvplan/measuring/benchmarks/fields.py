"""What readers of result files share: the columns of a row, and checked values of a parsed document.

`origin` is where a value stands, for messages: the file, and its place in it. What cannot be used raises SpecError.
"""

from typing import Any

from kvplan.errors import SpecError, shown
from kvplan.units import parse

#: what a column holds
Value = str | int | float
#: columns of an end-to-end row, and what else a file states of its load
Row = dict[str, Value]

TEXTS = ("model", "gpu", "engine", "engine_version", "precision", "gemm_quant", "moe_quant")
MEANS = ("isl", "osl", "concurrency")
COUNTS = ("tp", "pp", "attention_dp", "moe_tp", "moe_ep")
#: what a user may say besides: the cache's format, whether drafts ran, and the share of the input that was cached
NOTED = ("kv_dtype", "spec_decode", "prefix_hit")
#: prompts found in a prefix cache beyond this share tell no prefill's time
CACHED = 0.05
#: measured means, of which a file may lack one
TIMES = ("ttft_ms", "tpot_ms")
#: the time of a whole batch, where a tool measures nothing else
LATENCY = "latency_ms"
#: tokens of a request, prompt and answer together, where a file does not part them
TOKENS = "tokens_per_request"
#: what a client spoke to the server, where that does not tell the engine
PROTOCOL = "protocol"
#: the columns of an end-to-end row, in the order of a file of rows
COLUMNS = (*TEXTS, *MEANS, *COUNTS, *TIMES)
#: what a caller may say of a run
SETTABLE = (*TEXTS, *MEANS, *COUNTS, *NOTED)
#: percentiles of times that rows keep where files have them
PERCENTILES = (50, 90, 95, 99)
#: no time [ms], length [token] or count comes near; beyond it a number is a slip
LARGEST = 1e15
#: a millisecond [s]
MS = parse("1 ms", "s")
#: what users write as metadata instead of a column's name
METADATA = {
    "gpu_name": "gpu",
    "version": "engine_version",
    "tensor_parallel_size": "tp",
    "pipeline_parallel_size": "pp",
    "data_parallel_size": "attention_dp",
}
#: engines by what a client calls the protocol it spoke; 'openai' says nothing
ENGINES = {
    "vllm": "vllm",
    "vllm-chat": "vllm",
    "sglang": "sglang",
    "sglang-native": "sglang",
    "sglang-oai": "sglang",
    "sglang-oai-chat": "sglang",
    "tensorrt-llm": "trtllm",
    "tensorrtllm": "trtllm",
    "tensorrtllm_engine": "trtllm",
    "trt": "trtllm",
    "trtllm": "trtllm",
}


def in_flight(row: Row, latency: float | None, slots: float) -> Row:
    """Return the concurrency of an open loop by Little's law; nothing when a length is missing. Latency in ms."""
    if latency is None and "osl" not in row:
        return {}
    if latency is None:
        latency = float(row["ttft_ms"]) + (float(row["osl"]) - 1) * float(row["tpot_ms"])
    if "duration_s" in row and "requests" in row:
        rate = float(row["requests"]) / float(row["duration_s"])
    else:
        rate = float(row["request_rate"])
    return {"concurrency": min(slots, rate * latency * MS)}


def check_failures(failed: int, completed: int, origin: str) -> None:
    """Refuse (SpecError) a run in which requests failed."""
    if failed:
        raise SpecError(
            f"{origin}: {failed} of {completed + failed} requests failed, so the load was lighter than it says; "
            "give a run without failures"
        )


def find(holder: Any, *keys: str) -> Any:
    """Return what lies under nested keys, None where there is nothing."""
    for key in keys:
        holder = holder.get(key) if isinstance(holder, dict) else None
    return holder


def labels(holder: Any) -> Row:
    """Return what a user noted beside the results under a column's name, or a common one for it."""
    named = ((METADATA.get(name, name), value) for name, value in holder.items()) if isinstance(holder, dict) else ()
    return {name: value for name, value in named if name in (*TEXTS, *COUNTS, *NOTED) and value is not None}


def only_model(names: Any) -> str | None:
    """Return the one model of a list of names or of {name: ...}, None for several."""
    first = names[0] if isinstance(names, list) and len(names) == 1 else names
    name = find(first, "name") or first
    return name if isinstance(name, str) else None


def engine_of(backend: Any) -> str | None:
    """Return the engine by what a client calls its protocol, None where that does not tell."""
    return ENGINES.get(backend.lower()) if isinstance(backend, str) else None


def fill_text(row: Row, column: str, value: Any) -> None:
    """Fill a text column that is still empty; a value that is no text stays out."""
    if isinstance(value, str) and value.strip():
        row.setdefault(column, value)


def fill_percentile(row: Row, name: str, p: int, value: Any, origin: str, scale: float = 1.0) -> None:
    """Fill a percentile of ttft or tpot in ms, where the file has it; `scale` is its unit. [ms]"""
    if value is not None:
        row[f"{name}_p{p}_ms"] = not_negative(value, origin, "a time") * scale


def mean_time(value: Any, origin: str, name: str) -> float:
    """Return a mean time; a zero is how tools write that they saw none."""
    if value is None or (value == 0 and not isinstance(value, bool)):
        what = "the first token" if name == "ttft" else "later tokens"
        raise SpecError(
            f"{origin}: says nothing of {what}; measure streamed answers of at least 2 tokens, and keep ttft and tpot "
            "among the metrics"
        )
    return positive(value, origin)


def in_ms(unit: Any, origin: str) -> float:
    """Return how many ms one `unit` has."""
    spelled = {"sec": "s", "seconds": "s", "second": "s"}.get(unit, unit) if isinstance(unit, str) else ""
    if spelled not in ("ns", "us", "ms", "s"):
        raise SpecError(f"{origin}.unit: expected ns, us, ms or sec, got {shown(unit)}")
    return parse(f"1 {spelled}", "s") / MS


def not_negative(value: Any, origin: str, what: str) -> float:
    """Return a JSON number that is finite and not negative; text is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LARGEST:
        raise SpecError(f"{origin}: expected {what}, got {shown(value)}")
    return float(value)


def positive(value: Any, origin: str) -> float:
    """Return a JSON number above zero."""
    number = not_negative(value, origin, "a number above zero")
    if number <= 0:
        raise SpecError(f"{origin}: expected a number above zero, got {shown(value)}")
    return number


def whole(value: Any, origin: str) -> int:
    """Return a whole number that is not negative."""
    number = not_negative(value, origin, "a whole number")
    if number != int(number):
        raise SpecError(f"{origin}: expected a whole number, got {shown(value)}")
    return int(number)


def count(value: Any, origin: str) -> int:
    """Return a number of completed requests or of slots, from 1."""
    number = whole(value, origin)
    if number < 1:
        raise SpecError(f"{origin}: nothing was completed; check that the server answered, then run it again")
    return number
