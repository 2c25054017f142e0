"""Result files of benchmark tools as end-to-end rows: `vllm bench serve`, GuideLLM, AIPerf and GenAI-Perf.

Every function takes a parsed document and where it comes from, and returns plain values: times in ms, lengths in
tokens (means over completed requests), rates in requests/s. `concurrency` is the number of requests in flight:

- closed loop: what the tool was told to keep in flight, at most the number of requests there were;
- all requests at once: that number of requests;
- open loop (an arrival rate was given): what the file says was in flight on average, else by Little's law completed
  requests per second x mean end-to-end latency [s], the latency being ttft + (osl - 1) x tpot where a file has none.

GuideLLM's time per output token is a mean over tokens; the others' is a mean over requests.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from kvplan.architectures.formats import split_format
from kvplan.catalog.results import read_results
from kvplan.errors import SpecError, shown
from kvplan.units import parse

Value = str | int | float
Row = dict[str, Value]

TEXTS = ("model", "gpu", "engine", "engine_version", "precision", "gemm_quant", "moe_quant")
MEANS = ("isl", "osl", "concurrency")
COUNTS = ("tp", "pp", "attention_dp", "moe_tp", "moe_ep")
#: the columns of an end-to-end row, in the order of a file of rows
COLUMNS = (*TEXTS, *MEANS, *COUNTS, "ttft_ms", "tpot_ms")
#: what a caller may say of a run
SETTABLE = (*TEXTS, *MEANS, *COUNTS)
PERCENTILES = (50, 90, 95, 99)
#: no time [ms], length [token] or count comes near; beyond it a number is a slip
LARGEST = 1e15
MS = parse("1 ms", "s")

#: columns a row cannot do without: what they are called, and an example to copy
_NEEDED = {
    "model": ("the model", "llama3.1-70b"),
    "gpu": ("the GPU", "h100"),
    "engine": ("the engine", "vllm"),
    "precision": ("the precision", "bf16"),
    "isl": ("the input length", "1024"),
    "osl": ("the output length", "1024"),
    "concurrency": ("the load", "64"),
    "tp": ("the tensor parallelism", "1"),
}
#: what users write as metadata instead of a column's name
_METADATA = {
    "gpu_name": "gpu",
    "version": "engine_version",
    "tensor_parallel_size": "tp",
    "pipeline_parallel_size": "pp",
    "data_parallel_size": "attention_dp",
}
#: engines by what a client calls the protocol it spoke; 'openai' says nothing
_ENGINES = {
    "vllm": "vllm",
    "sglang": "sglang",
    "sglang-native": "sglang",
    "sglang-oai": "sglang",
    "tensorrt-llm": "trtllm",
    "tensorrtllm": "trtllm",
    "tensorrtllm_engine": "trtllm",
    "trt": "trtllm",
}
#: a metric and a statistic of it in one name
_FLAT = re.compile(r"(.+)_(avg|p50|p90|p95|p99)$")


def load_results(word: str, overrides: Mapping[str, Value]) -> list[Row]:
    """Return a result file's load points, one row each; `overrides` (column -> value) win over what the file says.

    Raises SpecError, on one line: where, what, and what to write instead.
    """
    where, documents = read_results(word)
    several = len(documents) > 1
    names = [f"{where}: result {n}" if several else where for n in range(1, len(documents) + 1)]
    points = [p for name, document in zip(names, documents, strict=True) for p in _points(document, name)]
    return _rows(points, overrides, where)


def read_result(document: Mapping[str, Any], where: str, overrides: Mapping[str, Value]) -> list[Row]:
    """Return the rows of one parsed result, whichever tool wrote it; raise SpecError."""
    return _rows(list(_points(document, where)), overrides, where)


def _rows(points: list[tuple[str, Row]], overrides: Mapping[str, Value], where: str) -> list[Row]:
    given = _given(overrides)
    if not points:
        raise SpecError(f"{where}: holds no load; the sweep ended before its first run did")
    if "concurrency" in given and len(points) > 1 and any("concurrency" in said for _, said in points):
        raise SpecError(f"{where}: holds {len(points)} loads; leave out settings=concurrency=..., one for all of them")
    return [_row({**said, **given}, here) for here, said in points]


def _points(document: Mapping[str, Any], where: str) -> Iterator[tuple[str, Row]]:
    """Return an iterator over the load points: where each stands, and the columns that the file fills."""
    if isinstance(document.get("benchmarks"), list):
        return _guidellm(document, where)
    if isinstance(document.get("per_combination_metrics"), list):
        return _aiperf_sweep(document, where)
    if isinstance(document.get("records"), dict):
        return _perf({**document, **document["records"]}, where)
    if isinstance(document.get("time_to_first_token") or document.get("input_config"), dict):
        return _perf(document, where)
    if "mean_ttft_ms" in document or {"completed", "total_input_tokens"} <= set(document):
        return _vllm(document, where)
    raise SpecError(
        f"{where}: is no result file known here; give the JSON of `vllm bench serve --save-result`, GuideLLM "
        "(benchmarks.json), AIPerf (profile_export_aiperf.json) or GenAI-Perf (profile_export_genai_perf.json)"
    )


# -- the tools ------------------------------------------------------------------------------------


def _vllm(document: Mapping[str, Any], where: str) -> Iterator[tuple[str, Row]]:
    """`vllm bench serve` and benchmark_serving.py before it: flat, times in ms, `--metadata` beside the results."""
    completed = _count(document.get("completed"), f"{where}: completed")
    _check_failures(_vllm_failures(document, completed, where), completed, where)
    if document.get("ramp_up_strategy") is not None:
        raise SpecError(f"{where}: ramp_up_strategy: the load changed during the run; give a run at one --request-rate")
    said: Row = {"requests": completed, **_labels(document)}
    _fill_text(said, "model", document.get("model_id"))
    _fill_text(said, "engine", _engine(document.get("backend")))
    for column, total in (("isl", "total_input_tokens"), ("osl", "total_output_tokens")):
        if document.get(total) is not None:
            said[column] = _positive(document[total], f"{where}: {total}") / completed
    for name in ("ttft", "tpot"):
        said[f"{name}_ms"] = _time(document.get(f"mean_{name}_ms"), f"{where}: mean_{name}_ms", name)
        for p in PERCENTILES:
            key = f"median_{name}_ms" if p == 50 and f"p50_{name}_ms" not in document else f"p{p}_{name}_ms"
            _fill_percentile(said, name, p, document.get(key), f"{where}: {key}")
    if document.get("duration") is not None:
        said["duration_s"] = _positive(document["duration"], f"{where}: duration")
    rate, limit = document.get("request_rate"), document.get("max_concurrency")
    rate = None if rate in ("inf", math.inf) else rate
    slots = _positive(limit, f"{where}: max_concurrency") if limit is not None else math.inf
    if rate is None:
        said["concurrency"] = min(slots, completed)
    else:
        said["request_rate"] = _positive(rate, f"{where}: request_rate")
        latency = document.get("mean_e2el_ms", document.get("mean_e2e_latency_ms"))
        latency = _positive(latency, f"{where}: mean_e2el_ms") if latency is not None else None
        said |= _in_flight(said, latency, slots)
    yield where, said


def _vllm_failures(document: Mapping[str, Any], completed: int, where: str) -> int:
    """Return how many requests failed: as counted, else as listed, else those asked for and not completed."""
    if document.get("failed") is not None:
        return _whole(document["failed"], f"{where}: failed")
    if isinstance(document.get("errors"), list):
        return sum(1 for error in document["errors"] if error)
    asked = document.get("num_prompts")
    return max(0, _whole(asked, f"{where}: num_prompts") - completed) if asked is not None else 0


def _guidellm(document: Mapping[str, Any], where: str) -> Iterator[tuple[str, Row]]:
    """GuideLLM from 0.2: one benchmark a load; times of tokens in ms, of requests in s, split by how requests ended."""
    if not document["benchmarks"]:
        raise SpecError(f"{where}: benchmarks: is empty; the run ended before its first benchmark did")
    for n, run in enumerate(document["benchmarks"]):
        here = f"{where}: benchmarks[{n}]"
        said = _labels(_find(document, "config", "metadata", "labels")) | _guidellm_point(run, here)
        for holder in (
            _find(run, "config", "backend"),
            _find(run, "worker"),
            _find(document, "config", "spec", "backend"),
            _find(document, "args", "backend_kwargs"),
            _find(document, "args"),
        ):
            _fill_text(said, "model", _find(holder, "model") or _find(holder, "backend_model"))
        yield here, said | _guidellm_load(run, said, here)


def _guidellm_point(run: Any, here: str) -> Row:
    metrics = _find(run, "metrics")
    if _find(metrics, "time_to_first_token_ms") is None:
        raise SpecError(f"{here}: has no metrics.time_to_first_token_ms; run it again with GuideLLM 0.2 or later")
    totals = _find(metrics, "request_totals") or _find(run, "request_totals")
    completed = _count(_find(totals, "successful"), f"{here}: request_totals.successful")
    _check_failures(_whole(_find(totals, "errored") or 0, f"{here}: request_totals.errored"), completed, here)
    said: Row = {"requests": completed}
    for column, key in (("isl", "prompt_token_count"), ("osl", "output_token_count")):
        value = _find(metrics, key, "successful", "mean")
        if value is not None:
            said[column] = _positive(value, f"{here}: {key}.successful.mean")
    for name, key in (("ttft", "time_to_first_token_ms"), ("tpot", "inter_token_latency_ms")):
        block, place = _find(metrics, key, "successful"), f"{here}: {key}.successful"
        said[f"{name}_ms"] = _time(_find(block, "mean"), f"{place}.mean", name)
        _fill_percentile(said, name, 50, _find(block, "median"), f"{place}.median")
        for p in PERCENTILES[1:]:
            _fill_percentile(said, name, p, _find(block, "percentiles", f"p{p}"), f"{place}.percentiles.p{p}")
    if (duration := _find(run, "duration")) is not None:
        said["duration_s"] = _positive(duration, f"{here}: duration")
    return said


def _guidellm_load(run: Any, said: Row, here: str) -> Row:
    strategy = _find(run, "config", "strategy") or _find(run, "args", "strategy")
    kind, metrics = _find(strategy, "type_"), _find(run, "metrics")
    completed = int(said["requests"])
    if kind == "synchronous":
        return {"concurrency": 1}
    if kind == "concurrent":
        return {"concurrency": min(_count(_find(strategy, "streams"), f"{here}: strategy.streams"), completed)}
    if kind not in ("throughput", "constant", "poisson"):
        raise SpecError(
            f"{here}: strategy.type_: expected synchronous, concurrent, throughput, constant or poisson, "
            f"got {shown(kind)}; only those hold one load"
        )
    found: Row = {}
    limit = _find(strategy, "max_concurrency")
    slots = _positive(limit, f"{here}: strategy.max_concurrency") if limit is not None else math.inf
    if kind != "throughput":
        found["request_rate"] = _positive(_find(strategy, "rate"), f"{here}: strategy.rate")
    for status in ("total", "successful"):
        value = _find(metrics, "request_concurrency", status, "mean")
        if value:
            return found | {"concurrency": _positive(value, f"{here}: request_concurrency.{status}.mean")}
    if kind == "throughput":
        return {"concurrency": min(slots, completed)}
    latency = _find(metrics, "request_latency", "successful", "mean")  # [s], unlike the times of tokens
    known = _positive(latency, f"{here}: request_latency.successful.mean") / MS if latency is not None else None
    return found | _in_flight(said | found, known, slots)


def _aiperf_sweep(document: Mapping[str, Any], where: str) -> Iterator[tuple[str, Row]]:
    """AIPerf's profile_export_aiperf_sweep.json: a combination of parameters each, means over its trials."""
    for n, entry in enumerate(document["per_combination_metrics"]):
        metrics, parameters = _find(entry, "metrics"), _find(entry, "parameters")
        found: dict[str, Any] = {}
        for name, block in metrics.items() if isinstance(metrics, dict) else ():
            mean, flat = _find(block, "mean"), _FLAT.match(name)
            if flat is not None:  # several trials: time_to_first_token_p95: {mean, unit}
                found.setdefault(flat[1], {"unit": _find(block, "unit")})[flat[2]] = mean
            elif isinstance(block, dict):  # one trial: time_to_first_token: {mean, p95, unit}
                found[name] = {"avg": mean, **block}
        counted = _find(found, "request_count", "avg")
        if isinstance(counted, float) and math.isfinite(counted):
            found["request_count"]["avg"] = round(counted)
        load = (
            {name.rsplit(".", 1)[-1]: value for name, value in parameters.items()}
            if isinstance(parameters, dict)
            else {}
        )
        yield from _perf({**found, "input_config": {"loadgen": load}}, f"{where}: per_combination_metrics[{n}]")


def _perf(document: Mapping[str, Any], where: str) -> Iterator[tuple[str, Row]]:
    """AIPerf and GenAI-Perf: one block a metric, each with its unit; the load under `input_config`."""
    if document.get("was_cancelled"):
        raise SpecError(f"{where}: was_cancelled: the run was stopped; give one that ran to its end")
    counted = _find(document, "request_count", "avg")
    if _find(document, "time_to_first_token") is None and counted != 0:
        raise SpecError(f"{where}: has no time_to_first_token; run it again with --streaming")
    completed = _count(counted, f"{where}: request_count.avg") if counted is not None else None
    errors = _find(document, "error_request_count", "avg")
    if errors is None and isinstance(document.get("error_summary"), list):
        errors = sum(_whole(_find(e, "count"), f"{where}: error_summary.count") for e in document["error_summary"])
    failed = math.ceil(_number(errors or 0, f"{where}: error_request_count.avg", "a number"))
    _check_failures(failed, completed or 0, where)
    said: Row = {"requests": completed} if completed else {}
    for column, name in (("isl", "input_sequence_length"), ("osl", "output_sequence_length")):
        value = _find(document, name, "avg")
        if value is not None:
            said[column] = _positive(value, f"{where}: {name}.avg")
    for name, key in (("ttft", "time_to_first_token"), ("tpot", "inter_token_latency")):
        place = f"{where}: {key}"
        mean = _time(_find(document, key, "avg"), f"{place}.avg", name)
        scale = _in_ms(_find(document, key, "unit"), place)
        said[f"{name}_ms"] = _positive(mean * scale, f"{place}.avg")
        for p in PERCENTILES:
            _fill_percentile(said, name, p, _find(document, key, f"p{p}"), f"{place}.p{p}", scale)
    said |= _perf_duration(document, completed, where)
    config = document.get("input_config")
    for names in (_find(config, "models", "items"), _find(config, "models"), _find(config, "endpoint", "model_names")):
        _fill_text(said, "model", _only(names))
    _fill_text(said, "model", _only(_find(config, "model_names")) or _only(_find(config, "model")))
    _fill_text(said, "gpu", _telemetry_gpu(document))
    for holder in (_find(config, "endpoint"), config):
        kind = _find(holder, "service_kind")
        backend = _find(holder, "backend") if kind == "triton" else kind  # for other kinds it is a default, not said
        _fill_text(said, "engine", _engine(backend))
    yield where, said | _perf_load(document, said, where)


def _perf_duration(document: Mapping[str, Any], completed: int | None, where: str) -> Row:
    duration = _find(document, "benchmark_duration", "avg")
    if duration is not None:
        place = f"{where}: benchmark_duration"
        scale = _in_ms(_find(document, "benchmark_duration", "unit"), place) * MS
        return {"duration_s": _positive(duration, f"{place}.avg") * scale}
    rate = _find(document, "request_throughput", "avg")
    if rate is None or completed is None:
        return {}
    return {"duration_s": completed / _positive(rate, f"{where}: request_throughput.avg")}


def _perf_load(document: Mapping[str, Any], said: Row, where: str) -> Row:
    config = document.get("input_config")
    phase = _perf_phase(_find(config, "phases"), where)
    if _find(phase, "type") in ("fixed_schedule", "user_centric") or _find(config, "input", "fixed_schedule") is True:
        raise SpecError(f"{where}: input_config: a replayed schedule holds no one load; give a run at one rate")
    if _find(phase, "rate_series") is not None:
        raise SpecError(f"{where}: input_config: rate_series: the load changed during the run; give a run at one rate")
    holders = (phase, _find(config, "loadgen"), _find(config, "perf_analyzer", "stimulus"), config)
    rates = (_find(h, key) for h in holders for key in ("request_rate", "rate"))
    rate = next((r for r in rates if r not in (None, "")), None)
    limits = (_find(h, "concurrency") for h in holders)
    limit = next((c for c in limits if c not in (None, "")), None)
    slots = _positive(limit, f"{where}: input_config: concurrency") if limit is not None else math.inf
    if rate is None:
        return {"concurrency": min(slots, float(said.get("requests", slots)))} if limit is not None else {}
    found: Row = {"request_rate": _positive(rate, f"{where}: input_config: request_rate")}
    latency = _find(document, "request_latency", "avg")
    if latency is not None:
        place = f"{where}: request_latency"
        latency = _positive(latency, f"{place}.avg") * _in_ms(_find(document, "request_latency", "unit"), place)
    return found | _in_flight(said | found, latency, slots)


def _perf_phase(phases: Any, where: str) -> Any:
    """Return the measured phase of AIPerf's newer configurations, None in older ones."""
    if isinstance(phases, dict):
        return phases.get("profiling")
    if not isinstance(phases, list):
        return None
    measured = [p for p in phases if "profiling" in (_find(p, "kind"), _find(p, "name"))]
    if len(measured) > 1:
        raise SpecError(
            f"{where}: input_config: phases: {len(measured)} loads share these averages; "
            "give phases/<name>/profile_export_aiperf.json, a file for each"
        )
    return measured[0] if measured else None


def _telemetry_gpu(document: Mapping[str, Any]) -> str | None:
    """Return the GPU that telemetry saw, None when it saw none or several kinds."""
    endpoints = _find(document, "telemetry_data", "endpoints")
    if not isinstance(endpoints, dict):
        return None
    gpus = [g for e in endpoints.values() if isinstance(_find(e, "gpus"), dict) for g in e["gpus"].values()]
    seen = {name for g in gpus if isinstance(name := _find(g, "gpu_name"), str)}
    return seen.pop() if len(seen) == 1 else None


# -- what they share ------------------------------------------------------------------------------


def _given(overrides: Mapping[str, Value]) -> Row:
    """Return what the caller said, checked; '' takes a column back to what the file says."""
    for name in overrides:
        if name not in SETTABLE:
            measured = name.endswith("_ms")
            more = "measured times come from the file alone" if measured else f"known: {', '.join(SETTABLE)}"
            raise SpecError(f"settings={name}: no column to set; {more}")
    return {name: value for name, value in overrides.items() if value != ""}


def _row(said: Row, where: str) -> Row:
    """Return a whole row in the order of COLUMNS, optional columns after them; raise SpecError for what is missing."""
    model = said.get("model")
    if "precision" not in said and isinstance(model, str) and (named := split_format(model)):
        said["precision"] = "fp4" if named[1].name.endswith("fp4") else named[1].name
    missing = [name for name in _NEEDED if name not in said]
    if missing:
        what = [_NEEDED[name][0] for name in missing]
        listed = f"{', '.join(what[:-1])} and {what[-1]}" if len(what) > 1 else what[0]
        add = " ".join(f"settings={name}={_NEEDED[name][1]}" for name in missing)
        raise SpecError(f"{where}: says nothing of {listed}; add {add}")
    row: Row = {name: _words(said.get(name, ""), f"{where}: {name}") for name in TEXTS}
    row |= {name: _mean(said[name], f"{where}: {name}") for name in MEANS}
    row |= _parallelism({name: _share(said[name], f"{where}: {name}") for name in COUNTS if name in said}, where)
    row |= {name: said[name] for name in COLUMNS if name not in SETTABLE}
    return row | {name: said[name] for name in said if name not in COLUMNS}


def _parallelism(said: dict[str, int], where: str) -> Row:
    """Return all five degrees; experts are split as layers are (tensor parallelism) unless something else is said."""
    tp, dp = said["tp"], said.get("attention_dp", 1)
    ep = said.get("moe_ep") or (max(1, tp * dp // said["moe_tp"]) if "moe_tp" in said else 1)
    moe_tp = said.get("moe_tp") or max(1, tp * dp // ep)
    if moe_tp * ep != tp * dp:
        raise SpecError(
            f"{where}: moe_tp x moe_ep = {moe_tp} x {ep} must be tp x attention_dp = {tp} x {dp}, the same GPUs; "
            f"add settings=moe_tp={tp * dp} settings=moe_ep=1, or leave both out"
        )
    return {"tp": tp, "pp": said.get("pp", 1), "attention_dp": dp, "moe_tp": moe_tp, "moe_ep": ep}


def _in_flight(said: Row, latency: float | None, slots: float) -> Row:
    """Return the concurrency of an open loop by Little's law; nothing when a length is missing. Latency in ms."""
    if latency is None and "osl" not in said:
        return {}
    if latency is None:
        latency = float(said["ttft_ms"]) + (float(said["osl"]) - 1) * float(said["tpot_ms"])
    if "duration_s" in said and "requests" in said:
        rate = float(said["requests"]) / float(said["duration_s"])
    else:
        rate = float(said["request_rate"])
    return {"concurrency": min(slots, rate * latency * MS)}


def _check_failures(failed: int, completed: int, where: str) -> None:
    if failed:
        raise SpecError(
            f"{where}: {failed} of {completed + failed} requests failed, so the load was lighter than it says; "
            "give a run without failures"
        )


def _find(holder: Any, *keys: str) -> Any:
    """Return what lies under nested keys, None where there is nothing."""
    for key in keys:
        holder = holder.get(key) if isinstance(holder, dict) else None
    return holder


def _labels(holder: Any) -> Row:
    """Return what a user noted beside the results under a column's name, or a common one for it."""
    named = ((_METADATA.get(name, name), value) for name, value in holder.items()) if isinstance(holder, dict) else ()
    return {name: value for name, value in named if name in (*TEXTS, *COUNTS) and value is not None}


def _only(names: Any) -> str | None:
    """Return the one model of a list of names or of {name: ...}, None for several."""
    first = names[0] if isinstance(names, list) and len(names) == 1 else names
    name = _find(first, "name") or first
    return name if isinstance(name, str) else None


def _engine(backend: Any) -> str | None:
    return _ENGINES.get(backend.lower()) if isinstance(backend, str) else None


def _fill_text(said: Row, column: str, value: Any) -> None:
    if isinstance(value, str) and value.strip():
        said.setdefault(column, value)


def _fill_percentile(said: Row, name: str, p: int, value: Any, where: str, scale: float = 1.0) -> None:
    if value is not None:
        said[f"{name}_p{p}_ms"] = _number(value, where, "a time") * scale


def _time(value: Any, where: str, name: str) -> float:
    """Return a mean time; a zero is how tools write that they saw none."""
    if value is None or (value == 0 and not isinstance(value, bool)):
        what = "the first token" if name == "ttft" else "later tokens"
        raise SpecError(
            f"{where}: says nothing of {what}; measure streamed answers of at least 2 tokens, and keep ttft and tpot "
            "among the metrics"
        )
    return _positive(value, where)


def _in_ms(unit: Any, where: str) -> float:
    """Return how many ms one `unit` has."""
    spelled = {"sec": "s", "seconds": "s", "second": "s"}.get(unit, unit) if isinstance(unit, str) else ""
    if spelled not in ("ns", "us", "ms", "s"):
        raise SpecError(f"{where}.unit: expected ns, us, ms or sec, got {shown(unit)}")
    return parse(f"1 {spelled}", "s") / MS


def _number(value: Any, where: str, what: str) -> float:
    """Return a JSON number that is finite and not negative; text is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LARGEST:
        raise SpecError(f"{where}: expected {what}, got {shown(value)}")
    return float(value)


def _positive(value: Any, where: str) -> float:
    number = _number(value, where, "a number above zero")
    if number <= 0:
        raise SpecError(f"{where}: expected a number above zero, got {shown(value)}")
    return number


def _whole(value: Any, where: str) -> int:
    number = _number(value, where, "a whole number")
    if number != int(number):
        raise SpecError(f"{where}: expected a whole number, got {shown(value)}")
    return int(number)


def _count(value: Any, where: str) -> int:
    """Return a number of completed requests or of slots, from 1."""
    count = _whole(value, where)
    if count < 1:
        raise SpecError(f"{where}: nothing was completed; check that the server answered, then run it again")
    return count


def _words(value: Value, where: str) -> str:
    text = str(value).strip() if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    if (not text and value != "") or not text.isprintable():
        raise SpecError(f"{where}: expected a name, got {shown(value)}")
    return text


def _mean(value: Value, where: str) -> float | int:
    """Return a length or a load, from a file or as typed: above zero, whole where it is."""
    number = _positive(parse(value, "1", where) if isinstance(value, str) else value, where)
    return int(number) if number == int(number) else number


def _share(value: Value, where: str) -> int:
    """Return a degree of parallelism, from a file or as typed: whole, from 1."""
    number = _whole(parse(value, "1", where) if isinstance(value, str) else value, where)
    if number < 1:
        raise SpecError(f"{where}: expected a whole number from 1, got {shown(value)}")
    return number
