"""Results of llama-bench (llama.cpp): JSON, JSON lines, CSV, or the table that it prints."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from kvplan.architectures.formats import GGUF
from kvplan.errors import SpecError, shown
from kvplan.measuring.benchmarks.fields import MS, Row, fill_text, positive, whole
from kvplan.measuring.benchmarks.stacks import fill_cache
from kvplan.units import MILLION, TERA, parse

#: a test's own time is in nanoseconds [s]
NS = parse("1 ns", "s")
#: what ends the name of a GGUF file: its format, and a part's number
ENDING = re.compile(
    r"[-._]((?:ud-|i1-)?(?:i?q\d\w*|tq\d\w*|bf16|f16|f32|mxfp4\w*))?([-._]\d{5}-of-\d{5})?\.gguf$", re.IGNORECASE
)
#: weight formats by what llama-bench calls them, beside those of GGUF
FORMATS = {"F32": "fp32", "F16": "fp16", "BF16": "bf16", "MXFP4": "mxfp4"}
#: a format in llama-bench's words: 'Q4_K - Medium', 'IQ4_XS - 4.25 bpw', 'MXFP4 MoE'
KIND = re.compile(r"(?:^| )((?:I?Q|TQ)\d\w*|BF16|F16|F32|MXFP4)(?: - (Small|Medium|Large))?(?= |$)")

#: a test in the words of a printed table: 'pp512', 'tg128 @ d4096', 'pp512+tg128'
TEST = re.compile(r"(?:pp ?(\d+))?\+?(?:tg ?(\d+))?(?: @ d(\d+))?")  # with a blank before 2024
#: what stands between a rate and its deviation, as printed and as typed
DEVIATION = re.compile(r"±|\+/-")
#: columns of a printed table by their names in the other formats
COLUMNS = {
    "model": "model_type", "ngl": "n_gpu_layers", "ncmoe": "n_cpu_moe", "nkvo": "no_kv_offload", "sm": "split_mode",
    "mg": "main_gpu",
}  # fmt: skip
#: what the table counts weights in
COUNTS = {"T": TERA, "B": 1e9, "M": MILLION}


def read_llama_table(document: Mapping[str, Any], origin: str) -> Iterator[tuple[str, Row]]:
    """A line of the table that llama-bench prints: a test, and its tokens per second."""
    test, rate = TEST.fullmatch(document["test"]), DEVIATION.split(document["t/s"])[0].strip()
    if test is None or not any(test.groups()[:2]):
        raise SpecError(
            f"{origin}: test: expected one such as pp512, tg128 or tg128 @ d4096, got {shown(document['test'])}"
        )
    prompt, output, depth = (int(part or 0) for part in test.groups())
    seconds = (prompt + output) / positive(_number(rate), f"{origin}: t/s")
    stated = {new: document[old] for old, new in COLUMNS.items() if old in document}
    size, (count, _, unit) = document.get("size"), str(document.get("params", "")).partition(" ")
    stated["model_size"] = parse(size, "B", f"{origin}: size") if size else None
    weights = _number(count)
    stated["model_n_params"] = weights * COUNTS[unit] if isinstance(weights, float) and unit in COUNTS else None
    tests = {"n_prompt": prompt, "n_gen": output, "n_depth": depth, "avg_ns": seconds / NS}
    yield from read_llama_bench({**document, **stated, **tests}, origin)


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
    fill_text(row, "precision", _precision(document))
    _on_gpu(document, origin)
    fill_text(row, "gpu", _gpu(document, origin))
    keys, values = document.get("type_k"), document.get("type_v")
    fill_cache(row, keys if keys == values or not isinstance(values, str) else f"{keys}/{values}")
    number = document.get("build_number")
    if number not in (None, "", 0, "0"):
        fill_text(row, "engine_version", f"b{number}")
    return row


def _precision(document: Mapping[str, Any]) -> str | None:
    """Return the format of the weights by the file's type, else what a weight takes on average: bytes over weights."""
    kind = document.get("model_type")
    found = KIND.search(kind.removesuffix(" (guessed)")) if isinstance(kind, str) else None
    if found:
        named = f"{found[1]}_{found[2][0]}" if found[2] else found[1]
        plain = named.lower().replace("_", "-")
        if form := FORMATS.get(named) or next((f for f in (plain, plain.removesuffix("-m")) if f in GGUF), None):
            return form.replace("-", "_")
    size, weights = (_number(document.get(key)) for key in ("model_size", "model_n_params"))
    if all(isinstance(n, int | float) and not isinstance(n, bool) and n > 0 for n in (size, weights)):
        return f"{8 * size / weights:.2f} bpw"
    return None


def _on_gpu(document: Mapping[str, Any], origin: str) -> None:
    """Refuse a run that left part of the model, or its cache, to the CPU."""
    layers, experts = (_number(document.get(key)) for key in ("n_gpu_layers", "n_cpu_moe"))
    cached = str(document.get("no_kv_offload")).lower() in ("true", "1")
    part = "weights" if layers == 0 else "experts" if experts else "the cache" if cached else ""
    if part and document.get("gpu_info"):
        raise SpecError(f"{origin}: {part} stayed on the CPU; give a run with all on the GPU, as with -ngl 99")


def _gpu(document: Mapping[str, Any], origin: str) -> str | None:
    """Return the GPU that worked: the only one, or the main one where the model was not split."""
    gpus = document.get("gpu_info")
    names = [name.strip() for name in gpus.split(",") if name.strip()] if isinstance(gpus, str) else []
    alone = document.get("split_mode") == "none"
    main = _number(document.get("main_gpu")) if alone else None
    if len(names) > 1 and not alone:
        raise SpecError(
            f"{origin}: gpu_info: names {len(names)} GPUs, which work one after another; give a run on one GPU, as "
            "with -sm none"
        )
    known = isinstance(main, int | float) and not isinstance(main, bool) and main in range(len(names))
    return names[int(main) if known and main is not None else 0] if names else None


def _number(value: Any) -> Any:
    """Return a number that a CSV file holds as text, any other value as it is."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
