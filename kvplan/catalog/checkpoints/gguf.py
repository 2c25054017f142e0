"""The header of a GGUF file: what it says of the model, and how its tensors are stored. Tensors are never read.

Source: ggml's docs/gguf.md (version 3) and the block sizes of ggml-common.h.
"""

import re
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from kvplan.catalog.checkpoints.gguf_layers import LAYERED, WINDOWS, Said, windows
from kvplan.catalog.files import called
from kvplan.errors import SpecError, shown
from kvplan.specs.model import Quantization

#: bounds of a header that real files keep by far: bytes, entries, tensors, letters of a text, elements of a list
MOST_BYTES, MOST_ENTRIES, MOST_TENSORS, MOST_LETTERS, MOST_ELEMENTS = 1 << 27, 4096, 100_000, 1 << 20, 1 << 24
#: lists that are kept: longer ones (vocabularies) are only counted
KEPT = 4096
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _LIST = 8, 9
#: (elements of a block, its bytes) by ggml's type of tensor
BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66),
    17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136),
    24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54),
    35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18), 42: (64, 18),
}  # fmt: skip


@dataclass(frozen=True)
class Header:
    """What the header of a GGUF file says."""

    config: dict[str, Any]  #: as a config.json
    quantization: Quantization | None  #: how its matrices are stored, None: in 16 or 32 bits
    notes: tuple[str, ...] = ()  #: remarks for the user


class _Reader:
    """Reads numbers and texts off a file; raises SpecError at its end or beyond MOST_BYTES."""

    def __init__(self, file: BinaryIO, location: str):
        self.file, self.where, self.left = file, location, MOST_BYTES

    def bytes(self, count: int) -> bytes:
        """Return the next `count` bytes of the file."""
        self.left -= count
        data = self.file.read(count) if self.left >= 0 else b""
        if self.left < 0:
            raise SpecError(f"{self.where}: no GGUF header: it is longer than any real one")
        if len(data) != count:
            raise SpecError(f"{self.where}: the GGUF header ends early: the file is cut; download it again")
        return data

    def number(self, code: str) -> Any:
        """Return the next number, of a format character of `struct`, in little-endian order."""
        return struct.unpack(f"<{code}", self.bytes(struct.calcsize(f"<{code}")))[0]

    def count(self, most: int, what: str) -> int:
        """Return the next count, of `what`; SpecError where it is above `most`."""
        length: int = self.number("Q")
        if length > most:
            raise SpecError(f"{self.where}: no GGUF header: it has {length:,} {what}, more than any real one")
        return length

    def text(self) -> str:
        """Return the next text: its length in bytes, then UTF-8."""
        return self.bytes(self.count(MOST_LETTERS, "letters in a text")).decode("utf-8", "replace")

    def value(self, kind: int, depth: int = 0) -> Any:
        """Return a value; a long list is its length."""
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind])
        if kind == _TEXT:
            return self.text()
        if kind != _LIST or depth > 1:
            raise SpecError(f"{self.where}: no GGUF header: a value of type {kind}")
        inner, count = self.number("I"), self.count(MOST_ELEMENTS, "elements in a list")
        if inner in _NUMBERS and count > KEPT:
            size = struct.calcsize(f"<{_NUMBERS[inner]}")
            for start in range(0, count, KEPT):
                self.bytes(size * min(KEPT, count - start))
            return count
        values = []
        for _ in range(count):
            element = self.value(inner, depth + 1)
            if count <= KEPT:
                values.append(element)
        return values if count <= KEPT else count


#: a part of a split file by its name, and the most parts
PART, MOST_PARTS = re.compile(r"(.+-)(\d{5})(-of-\d{5}\.gguf)"), 1000


def read_gguf(path: Path) -> Header:
    """Return what the header of a GGUF file says; raise SpecError where it is none or its model cannot be told.

    The first part of a split file says all of the model; tensors are those of the parts beside it.
    """
    location, (said, held) = called(path), _header(path)
    missing = 0
    parts, name = said.get("split.count"), PART.fullmatch(path.name)
    if isinstance(parts, int) and 1 < parts <= MOST_PARTS and name:
        if said.get("split.no"):
            raise SpecError(f"{location}: a later part of a split file; give its first, {name[1]}00001{name[3]}")
        others = [path.with_name(f"{name[1]}{n:05d}{name[3]}") for n in range(2, parts + 1)]
        missing = sum(not other.is_file() for other in others)
        for other in filter(Path.is_file, others):
            held |= _header(other)[1]
    config = config_of(said, held, location)
    if not missing:
        return Header(config=config, quantization=stored(held, location))
    config["tie_word_embeddings"] = False  # where a part lacks, its head may be there
    note = f"{missing} of {parts} parts of the file are not beside it: bits are those of the tensors in the others"
    return Header(config=config, quantization=stored(held, location), notes=(note,))


def _header(path: Path) -> tuple[dict[str, Any], dict[str, tuple[tuple[int, ...], int]]]:
    """Return a header's entries, and the shape and type of every tensor; raise SpecError where a file has none."""
    location = called(path)
    with path.open("rb") as file:
        reader = _Reader(file, location)
        if reader.bytes(4) != b"GGUF":
            raise SpecError(f"{location}: no GGUF file: it does not begin with 'GGUF'")
        version = reader.number("I")
        if version not in (2, 3):
            raise SpecError(f"{location}: GGUF version {version}; kvplan reads 2 and 3")
        tensors = reader.count(MOST_TENSORS, "tensors")
        entries = reader.count(MOST_ENTRIES, "entries")
        said = {}
        for _ in range(entries):
            key = reader.text()
            said[key] = reader.value(reader.number("I"))
        held = {}
        for _ in range(tensors):
            name, dims = reader.text(), reader.number("I")
            if dims > 8:
                raise SpecError(f"{location}: no GGUF header: a tensor of {dims} dimensions")
            shape = tuple(reader.number("Q") for _ in range(dims))
            held[name] = (shape, reader.number("I"))
            reader.number("Q")
    return said, held


#: architectures by their names in GGUF files; others are read by what they state
FAMILIES = {
    "qwen2moe": "qwen2_moe", "qwen3moe": "qwen3_moe", "gemma3": "gemma3_text", "gpt-oss": "gpt_oss",
    "command-r": "cohere", "deepseek2": "deepseek_v3", "mistral3": "ministral3", "glm4moe": "glm4_moe",
    "granitemoe": "granitemoe", "phi2": "phi", "gptneox": "gpt_neox", "chatglm": "glm", "minimax-m2": "minimax_m2",
    "hunyuan-moe": "hunyuan_v1_moe", "hunyuan-dense": "hunyuan_v1_dense", "qwen2vl": "qwen2_vl_text",
    "qwen3vl": "qwen3_vl_text", "qwen3vlmoe": "qwen3_vl_moe_text", "qwen3next": "qwen3_next", "qwen35": "qwen3_5_text",
    "qwen35moe": "qwen3_5_moe_text", "deepseek32": "deepseek_v32", "glm-dsa": "glm_moe_dsa", "grok": "grok-1",
}  # fmt: skip
#: GGUF's keys (without the architecture) and config.json's
KEYS = {
    "block_count": "num_hidden_layers", "embedding_length": "hidden_size", "feed_forward_length": "intermediate_size",
    "context_length": "max_position_embeddings", "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads", "attention.key_length": "head_dim", "vocab_size": "vocab_size",
    "expert_count": "num_experts", "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_feed_forward_length": "shared_expert_intermediate_size", "expert_shared_count": "n_shared_experts",
    "leading_dense_block_count": "first_k_dense_replace", "attention.sliding_window": "sliding_window",
    "attention.kv_lora_rank": "kv_lora_rank", "attention.q_lora_rank": "q_lora_rank",
    "attention.sliding_window_pattern": "sliding_window_pattern",
}  # fmt: skip
#: keys that say nothing of the cache
_ASIDE = (
    "rope.", "attention.layer_norm", "attention.value_length", "attention.key_length_mla", "attention.scale",
    "expert_weights", "expert_gating",
    "vocab_size", "swiglu_clamp", "activation_sparsity_scale", "deepstack_mapping", "nextn_predict_layers",
    "logit_scale", "embedding_scale", "residual_scale", "attn_logit_softcapping", "final_logit_softcapping",
)  # fmt: skip


def config_of(said: Mapping[str, Any], held: Mapping[str, Any], location: str) -> dict[str, Any]:
    """Return a config.json that says what a GGUF header does."""
    named = said.get("general.architecture")
    if not isinstance(named, str) or not named:
        raise SpecError(f"{location}: states no general.architecture, so its model cannot be told")
    own = {k.removeprefix(f"{named}."): v for k, v in said.items() if k.startswith(f"{named}.")}
    own, count = _without_drafts(own)
    entries = Said(own=own, count=count, tensors=held.keys(), location=location)
    read, understood = LAYERED.get(named, (None, ()))
    config: dict[str, Any] = {"model_type": FAMILIES.get(named, named), "torch_dtype": "float16"}
    config |= _fields(entries, named, understood)
    tokens = said.get("tokenizer.ggml.tokens")
    if tokens is not None:
        config.setdefault("vocab_size", len(tokens) if isinstance(tokens, list) else tokens)
    config["tie_word_embeddings"] = "output.weight" not in held
    config["attention_bias"] = "blk.0.attn_q.bias" in held
    if not config.get("num_experts"):
        config.pop("num_experts", None)
    elif named == "llama":
        config["model_type"] = "mixtral"
    if "kv_lora_rank" in config:
        config |= _latent_widths(own)
        config.pop("head_dim", None)
    if any(key.startswith("ssm.") for key in own):
        config["mamba_ssm_cache_dtype"] = "float32"  # llama.cpp keeps recurrent states so
    return config | read(entries) if read else config


def _fields(entries: Said, named: str, understood: Collection[str]) -> dict[str, Any]:
    """Return a header's entries as fields of a config.json; SpecError for one that differs between layers."""
    fields: dict[str, Any] = {}
    for key, value in entries.own.items():
        if key == WINDOWS and isinstance(value, list) and all(isinstance(v, bool | int) for v in value):
            fields["layer_types"] = windows(entries)
            continue
        if key.startswith(_ASIDE) and key not in KEYS:
            continue
        if isinstance(value, list):
            if not value or (len(set(map(str, value))) > 1 and key not in understood):
                raise SpecError(
                    f"{entries.location}: {named}.{key} differs between layers in a way kvplan does not know; give its "
                    "config.json"
                )
            value = value[0]
        fields[KEYS.get(key, key.replace(".", "_"))] = value
    return fields


#: a latent's width -> the keys that state it, the first that is there, and what it is where none is [element]
LATENT_WIDTHS = {
    "rope": (("rope.dimension_count",), 64),
    "key": (("attention.key_length_mla", "attention.key_length"), 192),
    "value": (("attention.value_length_mla", "attention.value_length"), 128),
}


def _latent_widths(own: Mapping[str, Any]) -> dict[str, int]:
    """Return the widths of a latent's heads (MLA) as fields of a config.json: rotated, plain, and the values'."""
    width = {
        part: next((own[key] for key in keys if isinstance(own.get(key), int)), unsaid)
        for part, (keys, unsaid) in LATENT_WIDTHS.items()
    }
    return {
        "qk_rope_head_dim": width["rope"],
        "qk_nope_head_dim": width["key"] - width["rope"],
        "v_head_dim": width["value"],
    }


def _without_drafts(own: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """Return a header's entries without the layers that draft tokens, and how many layers are left.

    Those stand behind the others, and are counted among them.
    """
    count, drafts = own.get("block_count"), own.get("nextn_predict_layers")
    if not isinstance(count, int) or isinstance(count, bool) or not isinstance(drafts, int) or not 0 < drafts < count:
        return dict(own), count if isinstance(count, int) else 0
    left = count - drafts
    cut = {k: v[:left] if isinstance(v, list) and len(v) == count else v for k, v in own.items()}
    return cut | {"block_count": left}, left


def stored(held: Mapping[str, tuple[tuple[int, ...], int]], location: str) -> Quantization | None:
    """Return how matrices are stored: their mean bits, the embedding's and the head's; None for 16 bits and more."""

    def bits(names: list[str]) -> float | None:
        """Return the mean bits per element of some tensors. [bit]"""
        elements, size = 0, 0.0
        for name in names:
            shape, kind = held[name]
            if kind not in BLOCKS:
                raise SpecError(
                    f"{location}: tensor {shown(name)} is of ggml type {kind}, whose size kvplan does not know"
                )
            block, held_bytes = BLOCKS[kind]
            elements += prod(shape)
            size += prod(shape) / block * held_bytes
        return 8 * size / elements if elements else None

    outer = {"token_embd.weight": "embed_tokens", "output.weight": "lm_head"}
    inner = bits([name for name, (shape, _) in held.items() if len(shape) > 1 and name not in outer])
    if inner is None or inner >= 16:
        return None
    pairs = tuple(
        (ours, theirs) for name, ours in outer.items() if name in held and (theirs := bits([name])) is not None
    )
    return Quantization(method="gguf", bits=inner, overrides=pairs, head=True, embedding=True)
