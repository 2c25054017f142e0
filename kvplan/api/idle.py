"""Options that change nothing of an answer: found by asking again without each, and with another value; and why."""

from collections.abc import Callable, Iterable, Mapping
from inspect import signature
from typing import Any

from kvplan.api import values
from kvplan.errors import KvplanError
from kvplan.kv.deployment import Deployment
from kvplan.specs.hardware import Engine
from kvplan.specs.model import Attention, Compressed, Cross, ModelSpec, Recurrent

#: a question's parameters by name
Call = Mapping[str, Any]

#: options that are lists, each of whose words is an option of its own
LISTED = ("without", "with_features")
#: options that say how a server's engine is run
RUNNING = ("utilization", "dcp", "kv_cache_memory_bytes", "cpu_offload", *LISTED)
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
    "router": lambda given: "round-robin" if given == "random" else "random",
}

#: why any_technique, and why a cache of prefixes, change nothing
SERVED_ANYHOW = "every technique that is tried is served anyhow"
UNSHARED = "no request shares a prefix with another"


def idle(
    question: Callable[..., object], options: Iterable[str], asked: Call, figures: Callable[[Call], object],
    why: Callable[[str], str],
) -> tuple[str, ...]:  # fmt: skip
    """Return what to say of options without which, and with another value of which, a question has the same answer.

    `figures` answers a call with all that these options may change, and `why` says it of 'block_size=32'.
    """
    usual = {name: one.default for name, one in signature(question).parameters.items() if name in options}
    found = None
    notes = []
    for name, word, others in _variants(asked, usual):
        found = found if found is not None else figures(asked)
        if all(_same(found, other, figures) for other in others):
            notes.append(f"the option {name}={word} changes nothing: {why(f'{name}={word}')}")
    return tuple(notes)


def _variants(asked: Call, usual: Call) -> list[tuple[str, object, list[Call]]]:
    """Return (option, its value, the questions without it and with another value) of every option that was given."""
    found: list[tuple[str, object, list[Call]]] = []
    for name, default in usual.items():
        if name in LISTED:
            words = values.several(asked[name], name)
            found += [(name, w, [{**asked, name: tuple(o for o in words if o != w)}]) for w in dict.fromkeys(words)]
        elif asked[name] not in (None, "", (), default) and not (name in RANKS and asked[name] == 1):
            others: list[Call] = [{**asked, name: default}]
            if name in TRIED:
                others.append({**asked, name: TRIED[name](asked[name])})
            found.append((name, asked[name], others))
    return found


def _same(found: object, other: Call, figures: Callable[[Call], object]) -> bool:
    try:
        return figures(other) == found
    except KvplanError:  # refused without it: it matters
        return False


#: options, whether something holds for which they change nothing, and that in words
Why = tuple[tuple[str, ...], bool, str]


def reason(option: str, model: ModelSpec, deployment: Deployment, paged: bool, whole: ModelSpec) -> str:
    """Return why an option changes nothing of what a model takes; `paged`: the cache was counted in an engine's pages.

    `whole` is the model with the parts that an option left out.
    """
    name, engine = option.partition("=")[0], deployment.engine
    known = (*_lacking(model, whole), *_asked(deployment, paged), *_by_engine(model, engine), *_sizes(engine))
    usual = f"another part of what {engine.title} {engine.version} takes for {model.title} decides"
    if deployment.gpu is None:
        usual = "the pages of the cache are the same; give gpu=NAME for what each GPU holds"
    return next((why for options, holds, why in known if holds and (option in options or name in options)), usual)


def _lacking(model: ModelSpec, whole: ModelSpec) -> tuple[Why, ...]:
    """Return the options of parts that a model does not have."""
    crosses = any(isinstance(m, Cross) for m in model.mixers)
    unseen = f"no vision or audio tower of {whole.title} is counted"
    return (
        (("encoder_tokens",), not crosses, f"{model.title} has no cross-attention"),
        (("without=towers", "without=image-profiling"), not whole.sees, unseen),
    )


def _asked(deployment: Deployment, paged: bool) -> tuple[Why, ...]:
    """Return the options that what is asked leaves no part in: without a GPU, or with the size of the cache fixed."""
    alone, fixed = deployment.gpu is None, deployment.kv_bytes is not None
    features = ("without=graphs", "without=compile", "without=image-profiling")
    same = "what the architecture needs is the same; give gpu=NAME"
    return (
        (("without=towers",), alone, "the pages of the cache are the same; give gpu=NAME for what each GPU holds"),
        (PAGED, alone and not paged, f"{same} or layout=engine"),
        (tuple(name for name in DIVIDING if name not in PAGED), alone, same),
        (("utilization", *features), fixed, "the cache has its kv_cache_memory_bytes=, whatever else is taken"),
    )


def _by_engine(model: ModelSpec, engine: Engine) -> tuple[Why, ...]:
    """Return the features that an engine has anyhow, or does not have for a model."""
    serving = f"{engine.title} {engine.version}"
    states = any(isinstance(m, Recurrent) for m in model.mixers)
    windows = any(isinstance(m, Compressed) or (isinstance(m, Attention) and m.window) for m in model.mixers)
    cached = f"{serving} caches prefixes of {model.title} by itself"
    moved = f"it moves what recurrent states take, and {model.title} has none"
    seen = f"{model.title} has no windows, chunks or recurrent states whose pages it would free"
    embedded = "a start that compiles holds no second embedding of a model with a vision or audio tower"
    return (
        (("with_features=flashinfer",), True, f"{serving} samples in as little without it, or another part is larger"),
        (("with_features=prefix-caching",), engine.hybrid_prefixes or not states, cached),
        (("without=prefix-caching",), not states, moved),
        (("without=hybrid",), not (states or windows), seen),
        (("without=graphs",), not engine.graph_bytes, f"{serving} sets nothing aside for CUDA graphs"),
        (("without=compile",), not engine.compile_copies, f"a start of {serving} that compiles takes no more"),
        (("without=compile",), model.sees, embedded),
    )


def _sizes(engine: Engine) -> tuple[Why, ...]:
    """Return the sizes of pages and steps that do not count."""
    steps = ("max_num_seqs", "max_num_batched_tokens")
    return (
        (("block_size",), engine.contiguous, f"{engine.title} keeps a cache in one piece, not in pages"),
        (steps, True, "another part of a step is larger, which the budget names"),
    )
