"""Which tensor of a quantised checkpoint is stored how: module names as checkpoints and configs spell them."""

import re
from fnmatch import fnmatchcase
from functools import lru_cache

from kvplan.errors import SpecError, shown
from kvplan.specs.model import Quantization, Weight

#: methods whose files keep embeddings, norms, routers and the output head as they are
_ALWAYS = ("embed", "norm", "lm_head", "router")


def tensor_bits(name: str, weight: Weight, dtype_bits: float, how: Quantization | None) -> float:
    """Return the bits per element of one tensor. [bit]"""
    if how is None:
        return dtype_bits
    outer = (how.head and name == "lm_head") or (how.embedding and name == "embed_tokens")
    outer = outer or any(name == pattern for pattern, _ in how.overrides)
    if not outer and (not weight.matmul or any(word in name for word in _ALWAYS)):
        return dtype_bits
    if any(_matches(pattern, name) for pattern in how.skip):
        return dtype_bits
    for pattern, bits in how.overrides:
        if _matches(pattern, name):
            return bits
    if how.bits is None:
        return dtype_bits
    columns = weight.shape[-1]
    return how.bits + how.row_bits / columns + how.matrix_bits / (weight.shape[0] * columns)


#: repetitions in one pattern of module names, and a repeated group, whose matching can take exponential time
_REPEATED, _NESTED = re.compile(r"[*+{]"), re.compile(r"\)[*+{]")
MOST_REPEATS = 4


def checked_pattern(pattern: str, place: str) -> str:
    """Return a pattern that can be matched; refuse a broken regular expression."""
    if pattern.startswith("re:"):
        try:
            re.compile(pattern[3:])
            if len(_REPEATED.findall(pattern)) > MOST_REPEATS or _NESTED.search(pattern):
                raise re.error("repeats within repeats take forever")
        except (re.error, RecursionError, OverflowError) as error:
            raise SpecError(
                f"{place}: quantization_config: {shown(pattern)} is no regular expression ({error})"
            ) from None
    return pattern


@lru_cache(maxsize=100_000)
def _matches(pattern: str, name: str) -> bool:
    """Match a module name or part of one, with * or 're:' patterns as the formats write them."""
    if pattern.startswith("re:"):
        return re.match(pattern[3:], name) is not None or re.match(renamed(pattern[3:]), name) is not None
    plain = renamed(pattern)
    if any(mark in plain for mark in "*?["):
        return fnmatchcase(name, f"*{plain}*") or fnmatchcase(name, plain)
    inside = not plain.startswith("model.") and f".{plain}." in f".{name}."
    return name == plain or name.startswith(f"{plain}.") or inside


def renamed(module: str) -> str:
    """Return a module's name, or a pattern of names, as kvplan has it."""
    for spelled, ours in NESTINGS:
        module = module.replace(spelled, ours)
    for written, ours in WRITTEN:
        module = written.sub(ours, module)
    return module


#: modules that checkpoints' own classes call otherwise, or that are one matrix here: MiniMax, Qwen, DeepSeek-V4
WRITTEN = tuple(
    (re.compile(written), ours)
    for written, ours in (
        (r"\bblock_sparse_moe\b", "mlp"),
        (r"\bshared_expert\b", "shared_experts"),
        (r"\bindex_([qk]_proj)\b", r"indexer.\1"),
        (r"\bin_proj_(?:qkv|z)\b", "in_proj_qkv_z"),
        (r"\bin_proj_[ab]\b", "in_proj_b_a"),
        (r"(?<=\.)ffn(?=\.)", "mlp"),
        (r"(?<=\.)attn(?=\.)", "self_attn"),
    )
)


#: how checkpoints of multimodal and hybrid classes spell what is model.layers here
NESTINGS = (
    ("model.language_model.", "model."),
    ("language_model.model.", "model."),
    ("language_model.", ""),
    ("backbone.", "model."),
)
