"""Bytes only: weights, cache by layer, and what a GPU's memory is divided into."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from kvplan import catalog
from kvplan.api import values
from kvplan.api.engine_options import running, served, spread
from kvplan.api.idle import DIVIDING, Call, idle, reason
from kvplan.catalog.fields import named
from kvplan.catalog.lookup import as_path
from kvplan.errors import KvplanError, SpecError, UnknownName, meant
from kvplan.kv import drafts, spelling
from kvplan.kv.deployment import Deployment, Draft
from kvplan.kv.replica import Parallel
from kvplan.planning.memory import KV_DTYPES, LAYOUTS, Ask, Memory, rooms, with_kv_dtype
from kvplan.planning.memory import memory as planned
from kvplan.specs.model import ModelSpec

#: what drafts beside a smaller model
DRAFTS = ("mtp", "eagle3")
#: options that may change nothing of a model or an engine
OPTIONS = (*DIVIDING, "encoder_tokens", "speculative")
#: more tokens than a page has
MOST_BLOCK = 65_536
#: more tokens than are drafted for a step
MOST_DRAFTED = 64


def memory(
    model: str,
    context: int | str,
    *,
    batch: int = 1,
    kv_dtype: str | None = None,
    technique: str = spelling.BASELINE,
    layout: str = "architecture",
    encoder_tokens: int | str | None = None,
    gpu: str | None = None,
    tp: int | None = None,
    pp: int | None = None,
    dp: int | None = None,
    weights: str | None = None,
    as_family: str | None = None,
    utilization: float | str | None = None,
    max_model_len: int | str | None = None,
    block_size: int | None = None,
    max_num_seqs: int | None = None,
    max_num_batched_tokens: int | str | None = None,
    engine: str = "vllm",
    speculative: str | None = None,
    pp_layers: str | Sequence[int] = (),
    dcp: int = 1,
    kv_cache_memory_bytes: float | str | None = None,
    cpu_offload: float | str | None = None,
    without: str | Iterable[str] = (),
    with_features: str | Iterable[str] = (),
) -> Memory:
    """Return what a model holds at one context and batch; with a GPU, also how its memory is divided.

    `layout` is architecture (what the model needs), engine (the pages an engine reserves) or transformers (what its
    cache holds after a prefill). `engine` names whose rules divide the memory, the newest release known unless it
    says one, as in `vllm@0.19`. `speculative` is mtp, eagle3 or a draft model, and may end in the tokens drafted for a
    step (`mtp:3`), for each of which a recurrent state takes one more page. `pp_layers` are the layers of each pipeline
    stage, `dcp` GPUs of a tensor-parallel group divide a request's tokens, the cache has `kv_cache_memory_bytes` and
    `cpu_offload` bytes of weights stay in the host's memory, on each GPU; the engine runs `without` prefix-caching,
    hybrid (the manager that frees what windows no longer see), graphs (the memory set aside for CUDA graphs), compile
    (what compiling takes at a start without a compile cache), image-profiling (what is kept free for encoding an image)
    or towers (vision and audio), or `with_features` (prefix-caching) that it would not have by itself for the model. A
    context beyond the model's is answered with a warning.
    Raises KvplanError for names and values that cannot be understood.

        >>> kvplan.memory("llama3.1-8b", "8k", technique="fp8").bytes_per_token
        65536.0
    """
    call = dict(locals())
    whole = catalog.model(values.word(model, "model"), values.given(values.word, as_family, "as_family"))
    answer = _answer(whole, call, listed=True)
    paged = answer.ask.reading == "engine"

    def why(option: str) -> str:
        return reason(option, answer.model, answer.deployment, paged, whole)

    return replace(answer, idle=idle(memory, OPTIONS, call, lambda asked: _answer(whole, asked).figures, why))


def _answer(whole: ModelSpec, call: Call, listed: bool = False) -> Memory:
    """Return the answer to a call of `memory`, of all its parameters by name, about a model.

    `listed` says what other releases of the engine leave for the cache as well.
    """
    dtype = values.given(values.one_of, call["kv_dtype"], "kv_dtype", KV_DTYPES)
    technique_named, bits = with_kv_dtype(values.word(call["technique"], "technique"), dtype)
    left_out = values.several(call["without"], "without")
    spec, form = served(whole, left_out), values.given(values.weight_format, call["weights"])
    ask = Ask(
        context=values.tokens(call["context"], "context"),
        batch=values.count(call["batch"], "batch", 1, values.MOST_REQUESTS),
        technique=technique_named,
        kv_bits=bits,
        reading=values.one_of(call["layout"], "layout", LAYOUTS),
        encoder_tokens=values.given(values.tokens, call["encoder_tokens"], "encoder_tokens"),
        max_model_len=values.given(values.tokens, call["max_model_len"], "max_model_len"),
    )
    location = Deployment(
        engine=named(catalog.engine, values.word(call["engine"], "engine"), "engine"),
        gpu=None if call["gpu"] is None else catalog.gpu(values.word(call["gpu"], "gpu")),
        parallel=spread(call["tp"], call["pp"], call["dp"], call["pp_layers"]) or Parallel(),
        weights=form,
        utilization=values.utilization(call["utilization"], "utilization"),
        block_size=values.given(values.count, call["block_size"], "block_size", 1, MOST_BLOCK),
        max_num_seqs=values.given(values.count, call["max_num_seqs"], "max_num_seqs", 1, values.MOST_REQUESTS),
        max_num_batched_tokens=values.given(values.tokens, call["max_num_batched_tokens"], "max_num_batched_tokens"),
        **vars(
            running(call["dcp"], call["kv_cache_memory_bytes"], call["cpu_offload"], left_out, call["with_features"])
        ),
        draft=values.given(drafting, call["speculative"], spec, form),
    )
    answer = planned(spec, ask, location)
    if answer.budget is None or not listed:
        return answer
    releases = catalog.described_releases(call["engine"])
    return replace(answer, rooms=rooms(spec, ask, location, map(catalog.engine, releases)))


def drafting(word: str, model: ModelSpec, form: str | None) -> Draft:
    """Return what drafts tokens for a model: its own next-token layers, an EAGLE-3 head, or a smaller model.

    The word may end in the tokens drafted for a step, as in `mtp:3`.
    """
    kind, many = counted(values.word(word, "speculative"))
    if kind == "mtp":
        draft = drafts.mtp(model, form)
    elif kind in ("eagle3", "eagle"):
        draft = drafts.eagle3(model)
    else:
        draft = smaller(kind)
    return draft if many is None else replace(draft, drafted=many)


def smaller(word: str) -> Draft:
    """Return a smaller model as a draft; UnknownName names the draft that was meant, where one is near."""
    try:
        return drafts.smaller(named(catalog.model, word, "speculative"))
    except KvplanError as refusal:
        if as_path(word) is None and meant(word, DRAFTS):
            raise UnknownName("draft", word, DRAFTS, location="speculative") from None
        if as_path(word) is None:
            raise SpecError(f"{refusal}; or write {' or '.join(DRAFTS)}") from None
        raise


def counted(word: str) -> tuple[str, int | None]:
    """Return what drafts and the tokens drafted for a step, None where it says none: `eagle3:3`."""
    name, colon, count = word.rpartition(":")
    if not (colon and count.isascii() and count.isdecimal()):
        return word, None
    return name, values.count(int(count[:9]), "speculative", 1, MOST_DRAFTED)
