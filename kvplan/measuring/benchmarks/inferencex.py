"""Results of InferenceX (InferenceMAX before it): the aggregated JSON of one point, or a list of them."""

from collections.abc import Iterator, Mapping
from typing import Any

from kvplan.errors import SpecError
from kvplan.measuring.benchmarks.fields import (
    MS,
    PERCENTILES,
    Row,
    count,
    engine_of,
    fill_percentile,
    fill_text,
    mean_time,
    positive,
)
from kvplan.measuring.benchmarks.stacks import release_of

#: the benchmark draws lengths from 0.8 of the stated ones on (RANDOM_RANGE_RATIO in its workflows)
LENGTHS = "uniform 0.8-1"


def read_inferencex(document: Mapping[str, Any], origin: str) -> Iterator[tuple[str, Row]]:
    """InferenceX: flat, a closed loop, times in s, nominal lengths, the server's parallelism beside them."""
    if any(str(document.get(key)).lower() == "true" for key in ("disagg", "is_multinode")):
        raise SpecError(
            f"{origin}: disagg: prefill and decode ran on GPUs of their own; give a point of one server that does both"
        )
    row: Row = {"lengths": LENGTHS, **_stack(document)}
    for column in ("isl", "osl"):
        if document.get(column) is not None:
            row[column] = positive(document[column], f"{origin}: {column}")
    row["concurrency"] = count(document.get("conc"), f"{origin}: conc")
    row |= _parallel(document, origin)
    for name in ("ttft", "tpot"):
        mean, median = document.get(f"mean_{name}"), document.get(f"median_{name}")
        stated = "median" if mean is None and median is not None else "mean"
        row[f"{name}_ms"] = mean_time(median if stated == "median" else mean, f"{origin}: {stated}_{name}", name) / MS
        if name == "ttft" and stated == "median":  # a closed loop's median TPOT is its mean within a few per cent
            row["ttft_meaning"] = stated
        for p in PERCENTILES:
            key = f"median_{name}" if p == 50 else f"p{p}_{name}"
            fill_percentile(row, name, p, document.get(key), f"{origin}: {key}", 1 / MS)
    yield origin, row


def _stack(document: Mapping[str, Any]) -> Row:
    """Return what a point says of its server: model, format, engine and release, GPU, and whether drafts ran."""
    row: Row = {}
    fill_text(row, "model", document.get("model"))
    fill_text(row, "precision", document.get("precision"))
    framework, runner = document.get("framework"), document.get("hw", document.get("device"))  # vLLM's own points
    named, release = release_of(document.get("image"))
    fill_text(row, "engine", engine_of(framework) or framework or named)
    fill_text(row, "engine_version", release if named == row.get("engine") else None)
    fill_text(row, "gpu", runner.partition("-")[0] if isinstance(runner, str) else None)  # 'h200-nb_1' is a machine
    drafts = document.get("spec_decoding", document.get("mtp"))
    if drafts is not None:
        fill_text(row, "spec_decode", "none" if str(drafts).lower() in ("none", "off", "") else str(drafts))
    return row


def _parallel(document: Mapping[str, Any], origin: str) -> Row:
    """Return the degrees of parallelism; under data-parallel attention `tp` GPUs hold a copy of it each."""
    if document.get("tp") is None:
        return {}
    gpus = count(document["tp"], f"{origin}: tp")
    degrees: Row = {"tp": gpus}
    if str(document.get("dp_attention")).lower() == "true":
        degrees = {"tp": 1, "attention_dp": gpus}
    for column, key in (("moe_ep", "ep"), ("pp", "pp")):
        if document.get(key) is not None:
            degrees[column] = count(document[key], f"{origin}: {key}")
    for key in ("dcp_size", "pcp_size"):
        if document.get(key) not in (None, 1):
            raise SpecError(f"{origin}: {key}: contexts were split over GPUs; give a point without context parallelism")
    return degrees
