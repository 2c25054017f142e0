"""Result files of benchmark tools as end-to-end rows: `vllm bench serve`, GuideLLM, AIPerf and GenAI-Perf.

Every function takes a parsed document and where it comes from, and returns plain values: times in ms, lengths in
tokens (means over completed requests), rates in requests/s. `concurrency` is the number of requests in flight:

- closed loop: what the tool was told to keep in flight, at most the number of requests there were;
- all requests at once: that number of requests;
- open loop (an arrival rate was given): what the file says was in flight on average, else by Little's law completed
  requests per second x mean end-to-end latency [s], the latency being ttft + (osl - 1) x tpot where a file has none.

GuideLLM's time per output token is a mean over tokens; the others' is a mean over requests.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from kvplan.architectures.formats import split_format
from kvplan.catalog.results import read_results
from kvplan.errors import SpecError, shown
from kvplan.measuring.benchmarks.aiperf import read_aiperf_sweep, read_perf
from kvplan.measuring.benchmarks.fields import (
    COLUMNS,
    COUNTS,
    MEANS,
    SETTABLE,
    TEXTS,
    Row,
    Value,
    positive,
    whole,
)
from kvplan.measuring.benchmarks.guidellm import read_guidellm
from kvplan.measuring.benchmarks.vllm import read_vllm
from kvplan.units import parse

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
        raise SpecError(f"{origin}: holds no load; the sweep ended before its first run did")
    if "concurrency" in given and len(points) > 1 and any("concurrency" in stated for _, stated in points):
        raise SpecError(f"{origin}: holds {len(points)} loads; leave out settings=concurrency=..., one for all of them")
    return [_row({**stated, **given}, here) for here, stated in points]


def _points(document: Mapping[str, Any], origin: str) -> Iterator[tuple[str, Row]]:
    """Return an iterator over the load points: where each stands, and the columns that the file fills."""
    if isinstance(document.get("benchmarks"), list):
        return read_guidellm(document, origin)
    if isinstance(document.get("per_combination_metrics"), list):
        return read_aiperf_sweep(document, origin)
    if isinstance(document.get("records"), dict):
        return read_perf({**document, **document["records"]}, origin)
    if isinstance(document.get("time_to_first_token") or document.get("input_config"), dict):
        return read_perf(document, origin)
    if "mean_ttft_ms" in document or {"completed", "total_input_tokens"} <= set(document):
        return read_vllm(document, origin)
    raise SpecError(
        f"{origin}: is no result file known here; give the JSON of `vllm bench serve --save-result`, GuideLLM "
        "(benchmarks.json), AIPerf (profile_export_aiperf.json) or GenAI-Perf (profile_export_genai_perf.json)"
    )


def _given(overrides: Mapping[str, Value]) -> Row:
    """Return what the caller stated, checked; '' takes a column back to what the file says."""
    for name in overrides:
        if name not in SETTABLE:
            measured = name.endswith("_ms")
            more = "measured times come from the file alone" if measured else f"known: {', '.join(SETTABLE)}"
            raise SpecError(f"settings={name}: no column to set; {more}")
    return {name: value for name, value in overrides.items() if value != ""}


def _row(stated: Row, origin: str) -> Row:
    """Return a whole row in the order of COLUMNS, optional columns after them; raise SpecError for what is missing."""
    model = stated.get("model")
    if "precision" not in stated and isinstance(model, str) and (named := split_format(model)):
        stated["precision"] = "fp4" if named[1].name.endswith("fp4") else named[1].name
    missing = [name for name in NEEDED if name not in stated]
    if missing:
        what = [NEEDED[name][0] for name in missing]
        listed = f"{', '.join(what[:-1])} and {what[-1]}" if len(what) > 1 else what[0]
        add = " ".join(f"settings={name}={NEEDED[name][1]}" for name in missing)
        raise SpecError(f"{origin}: says nothing of {listed}; add {add}")
    row: Row = {name: _words(stated.get(name, ""), f"{origin}: {name}") for name in TEXTS}
    row |= {name: _mean(stated[name], f"{origin}: {name}") for name in MEANS}
    row |= _parallelism({name: _share(stated[name], f"{origin}: {name}") for name in COUNTS if name in stated}, origin)
    row |= {name: stated[name] for name in COLUMNS if name not in SETTABLE}
    return row | {name: stated[name] for name in stated if name not in COLUMNS}


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
