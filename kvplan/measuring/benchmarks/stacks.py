"""What result files state of the server itself, in the words of engines: container images, options, formats."""

import re
from collections.abc import Mapping
from typing import Any

from kvplan.architectures.formats import FORMATS, UPLOADED, format_named
from kvplan.measuring.benchmarks.fields import Row, fill_text, find

#: engines by a word of the image they come in, in the order they are tried
IMAGES = (
    ("vllm", "vllm"),
    ("sglang", "sglang"),
    ("sgl-dev", "sglang"),
    ("tensorrt-llm", "trtllm"),
    ("tensorrtllm", "trtllm"),
    ("trtllm", "trtllm"),
)
#: images whose tag is their maker's release, not the engine's
WRAPPED = ("dynamo", "llm-d")
#: a release at the beginning of an image's tag; nightly builds and tags by name or commit state none
RELEASE = re.compile(r"(?:(?:vllm|sglang|trtllm)[-_])?v?(\d+\.\d+(?:\.\d+)?(?:\.?(?:rc|post|dev)\d+)*)(?![\w.])")
#: formats of weights by engines' and tools' names for a method, where these are not kvplan's
METHODS = {
    "fp8-block-scales": "fp8", "w8a8-fp8": "fp8", "fbgemm-fp8": "fp8", "modelopt": "fp8", "modelopt-fp8": "fp8",
    "modelopt-fp4": "nvfp4", "w4a4-nvfp4": "nvfp4", "w4a8-awq": "int4", "w4a16-awq": "int4", "w4a16-gptq": "int4",
    "awq-marlin": "int4", "gptq-marlin": "int4", "w8a8-int8": "int8", "w8a16-gptq": "int8", "w4a16-mxfp4": "mxfp4",
    "w4a8-mxfp4-fp8": "mxfp4", "w4a8-mxfp4-mxfp8": "mxfp4",
}  # fmt: skip
#: as a checkpoint stores its weights: where a server was told nothing else
OWN = "checkpoint"
#: options of engines and the columns that they fill
OPTIONS = {
    "tensor-parallel-size": "tp",
    "pipeline-parallel-size": "pp",
    "max-num-batched-tokens": "max_num_batched_tokens",
}


def release_of(image: Any) -> tuple[str | None, str | None]:
    """Return (engine, its release) of a container image such as vllm/vllm-openai:v0.19.0; None for what it hides."""
    if not isinstance(image, str):
        return None, None
    name, _, tag = image.lower().partition("@")[0].rpartition(":")
    name, tag = (name, tag) if name and "/" not in tag else (image.lower(), "")
    wrapped = any(word in name for word in WRAPPED)
    engine = next((engine for word, engine in IMAGES if word in name), "vllm" if "llm-d" in name else None)
    match = None if wrapped or engine is None else RELEASE.match(tag)
    return engine, match[1] if match else None


def format_of(method: Any) -> str:
    """Return the format of weights that an engine's name for a quantisation method means.

    That of the checkpoint where it names none, or a family of several (compressed-tensors, AutoRound, GGUF, Quark).
    """
    named = str(method or "").strip().lower().replace("_", "-").replace(" ", "-")
    known = format_named(named)
    return METHODS.get(named) or (known.name if known else named if named in {**FORMATS, **UPLOADED} else OWN)


def fill_cache(row: Row, dtype: Any) -> None:
    """Fill the format of the cache, where it is stated."""
    if isinstance(dtype, str) and dtype.lower() not in ("", "none", "null"):
        row.setdefault("kv_dtype", "nvfp4" if "fp4" in dtype.lower() else dtype.lower())


def fill_count(row: Row, column: str, value: Any) -> None:
    """Fill a column with a whole number above zero; tools write -1, 0 or nothing for what is left to the engine."""
    number = int(value) if isinstance(value, str) and value.strip().isdecimal() else value
    if isinstance(number, int) and not isinstance(number, bool) and number > 0:
        row.setdefault(column, number)


def fill_options(row: Row, arguments: Any) -> None:
    """Fill what an engine's command line states: {option, with or without its dashes: value}."""
    if not isinstance(arguments, Mapping):
        return
    options = {str(name).lstrip("-").replace("_", "-"): value for name, value in arguments.items()}
    for name, column in OPTIONS.items():
        fill_count(row, column, options.get(name))
    fill_cache(row, options.get("kv-cache-dtype"))
    if options.get("quantization"):
        fill_text(row, "precision", format_of(options["quantization"]))
    if options.get("speculative-config"):
        row.setdefault("spec_decode", "yes")


def fill_accepted(row: Row, accepted: Any) -> None:
    """Fill how many tokens a step of speculative decoding yields, where a file has a number above zero for it."""
    if isinstance(accepted, int | float) and not isinstance(accepted, bool) and 0 < accepted < 1000:
        row["spec_decode"] = f"accepted {accepted:g}"


def fill_cached(row: Row, cached: Any, total: Any) -> None:
    """Fill the share of prompts that came from a prefix cache; 0 is also how tools write that nobody counted."""
    if all(isinstance(n, int | float) and not isinstance(n, bool) and 0 < n < 1e15 for n in (cached, total)):
        row.setdefault("prefix_hit", min(1.0, cached / total))


def first_of(value: Any, key: str) -> Any:
    """Return the first entry of a list under a key, None where there is none."""
    entries = find(value, key)
    return entries[0] if isinstance(entries, list) and entries else None
