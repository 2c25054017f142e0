"""Options that change nothing of an answer: found by asking again without each, and with another value; and why."""

from collections.abc import Callable, Mapping
from typing import Any

from kvplan.api import values
from kvplan.errors import KvplanError
from kvplan.kv.budget import Deployment
from kvplan.specs.model import Attention, Compressed, Cross, ModelSpec, Recurrent

#: options that are lists, each of whose words is an option of its own
LISTED = ("without", "with_features")
#: options that pages depend on, and all that say how a GPU's memory is divided
PAGED = ("tp", "pp", "dp", "dcp", "pp_layers", "engine", "block_size", "max_num_batched_tokens", *LISTED)
DIVIDING = (*PAGED, "utilization", "max_num_seqs", "kv_cache_memory_bytes", "cpu_offload")
#: options of which 1 is what nobody has to say
RANKS = ("tp", "pp", "dp")
#: values that some options are tried with besides: one that only says what holds anyhow is not idle
TRIED: Mapping[str, Callable[[Any], Any]] = {
    "block_size": lambda given: 7 + values.count(given, "block_size", 1, 16_384),  # no multiple of it
    "max_num_seqs": lambda given: 2 * values.count(given, "max_num_seqs", 1, values.MOST_REQUESTS),
    "max_num_batched_tokens": lambda given: 2 * values.tokens(given, "max_num_batched_tokens"),
    "utilization": lambda _: 0.5,
    "engine": lambda given: "sglang" if str(given).strip().lower().startswith("vllm") else "vllm",
    "encoder_tokens": lambda given: 2 * values.tokens(given, "encoder_tokens"),
}


def idle(
    asked: Mapping[str, Any], usual: Mapping[str, Any], figures: Callable[[Mapping[str, Any]], object],
    why: Callable[[str], str],
) -> tuple[str, ...]:  # fmt: skip
    """Return what to say of options without which, and with another value of which, the answer is the same.

    `asked` are a question's parameters by name and `usual` the defaults of those that are tried; `figures` answers a
    question, and `why` says it of 'block_size=32'.
    """
    found = None
    notes = []
    for name, word, others in _variants(asked, usual):
        found = found if found is not None else figures(asked)
        if all(_same(found, other, figures) for other in others):
            notes.append(f"the option {name}={word} changes nothing: {why(f'{name}={word}')}")
    return tuple(notes)


def _variants(asked: Mapping[str, Any], usual: Mapping[str, Any]) -> list[tuple[str, object, list[Mapping[str, Any]]]]:
    """Return (option, its value, the questions without it and with another value) of every option that was given."""
    found: list[tuple[str, object, list[Mapping[str, Any]]]] = []
    for name, default in usual.items():
        if name in LISTED:
            words = values.several(asked[name], name)
            found += [(name, w, [{**asked, name: tuple(o for o in words if o != w)}]) for w in dict.fromkeys(words)]
        elif asked[name] not in (None, "", (), default) and not (name in RANKS and asked[name] == 1):
            others: list[Mapping[str, Any]] = [{**asked, name: default}]
            if name in TRIED:
                others.append({**asked, name: TRIED[name](asked[name])})
            found.append((name, asked[name], others))
    return found


def _same(found: object, other: Mapping[str, Any], figures: Callable[[Mapping[str, Any]], object]) -> bool:
    try:
        return figures(other) == found
    except KvplanError:  # refused without it: it matters
        return False


def reason(option: str, model: ModelSpec, deployment: Deployment, paged: bool, whole: ModelSpec) -> str:
    """Return why an option changes nothing of what a model takes; `paged`: the cache was counted in an engine's pages.

    `whole` is the model with the parts that an option left out.
    """
    name, _, word = option.partition("=")
    engine, gpu = deployment.engine, deployment.gpu
    mixers = model.mixers
    states = any(isinstance(m, Recurrent) for m in mixers)
    windows = any(isinstance(m, Compressed) or (isinstance(m, Attention) and m.window) for m in mixers)
    if name == "encoder_tokens" and not any(isinstance(m, Cross) for m in mixers):
        return f"{model.title} has no cross-attention"
    if word in ("towers", "image-profiling") and not whole.sees:
        return f"no vision or audio tower of {whole.title} is counted"
    if word != "towers" and gpu is None and name in DIVIDING and not (paged and name in PAGED):
        pages = " or layout=engine" if name in PAGED else ""
        return f"what the architecture needs is the same; give gpu=NAME{pages}"
    if word == "flashinfer":
        return f"{engine.title} {engine.version} samples in as little without it, or another part is larger"
    if option == "with_features=prefix-caching" and (engine.hybrid_prefixes or not states):
        return f"{engine.title} {engine.version} caches prefixes of {model.title} by itself"
    if deployment.kv_bytes and (name == "utilization" or word in ("graphs", "compile", "image-profiling")):
        return "the cache has its kv_cache_memory_bytes, whatever else is taken"
    if word == "prefix-caching" and not states:
        return f"it moves what recurrent states take, and {model.title} has none"
    if word == "hybrid" and not states and not windows:
        return f"{model.title} has no windows, chunks or recurrent states whose pages it would free"
    if word == "graphs" and not engine.graph_bytes:
        return f"{engine.title} {engine.version} sets nothing aside for CUDA graphs"
    if word == "compile" and not engine.compile_copies:
        return f"a start of {engine.title} {engine.version} that compiles takes no more"
    if word == "compile" and model.sees:
        return "a start that compiles holds no second embedding of a model with a vision or audio tower"
    if name == "block_size" and engine.contiguous:
        return f"{engine.title} keeps a cache in one piece, not in pages"
    if name in ("max_num_seqs", "max_num_batched_tokens"):
        return "another part of a step is larger, which the budget names"
    if gpu is None:
        return "the pages of the cache are the same; give gpu=NAME for what each GPU holds"
    return f"another part of what {engine.title} {engine.version} takes for {model.title} decides"
