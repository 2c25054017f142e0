"""Results of llama-bench (llama.cpp): JSON, JSON lines or CSV."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from kvplan.errors import SpecError
from kvplan.measuring.benchmarks.fields import MS, Row, fill_text, positive, whole
from kvplan.units import parse

#: a test's own time is in nanoseconds [s]
NS = parse("1 ns", "s")
#: what ends the name of a GGUF file: its format, and a part's number
ENDING = re.compile(r"[-._](i?q\d\w*|tq\d\w*|bf16|f16|f32|mxfp4\w*)?([-._]\d{5}-of-\d{5})?\.gguf$", re.IGNORECASE)
#: weight formats by what llama-bench calls them; K-quants mix widths, so that the user says which is near
FORMATS = {"F32": "fp32", "F16": "fp16", "BF16": "bf16", "Q8_0": "int8", "MXFP4": "mxfp4"}


def read_llama_bench(document: Mapping[str, Any], origin: str) -> Iterator[tuple[str, Row]]:
    """llama-bench: one test, a batch of one. Prompt tests tell TTFT, generation tests the time per output token.

    A generation test starts after `n_depth` tokens, which are the input. Tests of a prompt and its generation together,
    and of prompts after a depth, tell neither.
    """
    prompt, output = (whole(_number(document.get(key)), f"{origin}: {key}") for key in ("n_prompt", "n_gen"))
    depth = whole(_number(document.get("n_depth", 0)), f"{origin}: n_depth")
    spent = positive(_number(document.get("avg_ns")), f"{origin}: avg_ns") * NS / MS
    if (prompt and output) or (prompt and depth) or not (prompt or output):
        return
    row: Row = {"engine": "llama.cpp", "arrival": "static", "lengths": "exact", "concurrency": 1, "tp": 1}
    row |= {"isl": prompt, "osl": 1, "ttft_ms": spent} if prompt else {}
    row |= {"isl": max(depth, 1), "osl": output, "tpot_ms": spent / output} if output else {}
    row |= _server(document, origin)
    yield origin, row


def _server(document: Mapping[str, Any], origin: str) -> Row:
    row: Row = {}
    name = document.get("model_filename")
    if isinstance(name, str):
        bare = re.split(r"[/\\]", name)[-1]
        fill_text(row, "model", ENDING.sub("", bare).removesuffix(".gguf"))
    kind = document.get("model_type")
    if isinstance(kind, str) and (form := FORMATS.get(kind.split(" - ")[0].rsplit(" ", 1)[-1])):
        row["precision"] = form
    gpus = document.get("gpu_info")
    if isinstance(gpus, str) and gpus.strip():
        names = [name.strip() for name in gpus.split(",")]
        if len(names) > 1:
            raise SpecError(
                f"{origin}: gpu_info: names {len(names)} GPUs, which work one after another; give a run on one GPU, as "
                "with -sm none"
            )
        fill_text(row, "gpu", names[0])
    number = document.get("build_number")
    if number not in (None, ""):
        fill_text(row, "engine_version", f"b{number}")
    return row


def _number(value: Any) -> Any:
    """Return a number that a CSV file holds as text, any other value as it is."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
