"""Files of architectures kvplan does not know: read as a plain decoder where no field hints at anything else.

A plain decoder has grouped-query attention over all tokens, or within a window where layer_types says so, and a gated
feed-forward or routed experts.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kvplan.architectures.config import NESTS, PLAIN, SPELLINGS, SYNONYMS, Defaults
from kvplan.architectures.plain_fields import harmless
from kvplan.errors import SpecError, UnknownName, shown

#: how far the times of a model read as a plain decoder may be off beside everything else: 8 in 10 of the 72 catalogued
#: models that can be read so have parameters within this factor of their own (those without a gate in their
#: feed-forward have too many), and all of them their own cache
PLAIN_ERROR = 1.28

#: fields that decide the cache and the weights; a file that lacks one is no decoder that can be read
DECIDING = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "max_position_embeddings")
#: how the first assumption of such a model begins
UNKNOWN = "assumed: kvplan does not know"
#: values that switch a field off, or say that attention is the plain kind
_OFF = (None, False, 0, "", "full", "full_attention", "gqa", "mha", "mqa", "none", -1)


def decides(raw: Mapping[str, Any]) -> bool:
    """Whether a file, or the language model nested in it, states all that a decoder cannot do without."""
    parts = [raw, *(raw[nest] for nest in NESTS if isinstance(raw.get(nest), Mapping))]
    return any(all(any(part.get(s) for s in SPELLINGS[name]) for name in DECIDING[:4]) for part in parts)


def hints(raw: Mapping[str, Any]) -> Iterator[str]:
    """Yield the fields of a file that are on and not known to leave a plain decoder's cache as it is."""
    windows = raw.get("use_sliding_window", True)
    listed = {"layer_types", "sliding_window"} if says_windows(raw) else set()
    for name, value in raw.items():
        known = name in SPELT or name in listed or harmless(str(name))
        off = switched_off(value) or (not windows and "window" in str(name).lower())
        if not known and not off:
            yield str(name)


def switched_off(value: object) -> bool:
    """Whether a field's value, or every entry of it, is none or says that attention is the plain kind."""
    if isinstance(value, Mapping):
        return all(map(switched_off, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(switched_off, value))
    return value in _OFF


def taken_for_plain(assumed: Sequence[str]) -> bool:
    """Whether a model's assumptions are of an architecture that kvplan does not know."""
    return any(line.startswith(UNKNOWN) for line in assumed)


def says_windows(raw: Mapping[str, Any]) -> bool:
    """Whether a file says of every layer that it is full or has the one window it states."""
    kinds, window = raw.get("layer_types"), raw.get("sliding_window")
    count = next((raw[s] for s in SPELLINGS["num_hidden_layers"] if raw.get(s)), None)
    return (
        isinstance(kinds, (list, tuple))
        and len(kinds) == count
        and all(isinstance(k, str) and k in ("full_attention", "sliding_attention") for k in kinds)
        and ("sliding_attention" not in kinds or (isinstance(window, int) and window > 0))
    )


def read_as(raw: Mapping[str, Any], stated: str, place: str, known: Mapping[str, object], classes: Defaults) -> str:
    """Return PLAIN for a file of an unknown architecture; raise UnknownName where it may be something else."""
    lacking = next((name for name in DECIDING[:4] if not any(raw.get(s) for s in SPELLINGS[name])), "")
    doubtful = list(hints(raw))
    if not lacking and not doubtful and not raw.get("is_encoder_decoder"):
        return PLAIN
    why = f"it states no {lacking}" if lacking else misread(doubtful) if doubtful else "it is an encoder and a decoder"
    near = ", ".join(nearest(raw, known, classes))
    advice = (
        f"nearest by its fields: {near}; as_family=NAME reads it as one of them"
        if near
        else "as_family=NAME reads it as NAME"
    )
    raise UnknownName("architecture", stated, (), f"{why}; {advice}", place)


def misread(fields: Sequence[str], most: int = 4) -> str:
    """Return that fields, the first of which are named, may change the cache."""
    named = (
        " and ".join(", ".join(map(shown, fields[:most])).rsplit(", ", 1))
        if len(fields) <= most
        else (f"{', '.join(map(shown, fields[:most]))} and {len(fields) - most} more")
    )
    whose = "its field" if len(fields) == 1 else "its fields"
    return f"{whose} {named} may mean a cache that kvplan would misread"


def refuse_halves(raw: Mapping[str, Any], stated: str, place: str) -> None:
    """Raise UnknownName for a file of an encoder and a decoder, which caches keys of the source as well."""
    halves = (f"{half}{ending}" for half in ("encoder", "text_encoder") for ending in ("", "_config"))
    if raw.get("is_encoder_decoder") or any(isinstance(raw.get(half), Mapping) for half in halves):
        why = "it is an encoder and a decoder, whose cross-attention kvplan would misread"
        raise UnknownName("architecture", stated, (), f"{why}; as_family=NAME reads it as NAME", place)


def nearest(raw: Mapping[str, Any], known: Mapping[str, object], classes: Defaults, count: int = 3) -> list[str]:
    """Return the families whose fields are most like a file's, best first; a field counts more the fewer have it.

    Fields that change no cache are left out, and of families alike those that most models are of come first.
    """
    fields = deciding(raw)
    own = {family: deciding(classes[family]) for family in classes if family in known}
    held = Counter(name for names in own.values() for name in names)

    def weight(names: set[str]) -> float:
        return sum(1 / held[name] for name in names if name in held)

    alike = {family: weight(names & fields) / weight(names | fields) for family, names in own.items()}
    best = sorted(own, key=lambda f: (-alike[f], USUAL.index(f) if f in USUAL else len(USUAL), f))
    return [family for family in best[:count] if alike[family] > LEAST]


def deciding(raw: Mapping[str, Any]) -> set[str]:
    """Return the fields of a file that may tell its kind of cache, under one spelling each.

    Key/value heads and their width do not: they follow from others where a file does not state them. Nor do dtypes.
    """
    found = {SPELT.get(str(name), str(name)) for name in raw if str(name) in SPELT or not harmless(str(name))}
    return found - {"num_key_value_heads", "head_dim", "dtype", "tie_word_embeddings"}


#: families that most models of their shape are of
USUAL = ("llama", "qwen3", "qwen2", "mistral", "deepseek_v3", "qwen3_moe", "mixtral", "gemma3_text", "qwen3_next")


#: share of weighted fields below which two files are not alike
LEAST = 0.05

#: every spelling of a field, and its canonical name
SPELT = {spelling: name for name, spellings in SPELLINGS.items() for spelling in spellings}


def forced(raw: Mapping[str, Any], family: str, place: str, known: Mapping[str, object]) -> str:
    """Return the family asked for; raise UnknownName where there is none of that name."""
    named = SYNONYMS.get(family, family)
    if named not in known:
        raise UnknownName("architecture", family, known, "see `kvplan list architectures`", "as_family")
    return named


#: models that read text once and keep nothing of it
ENCODERS = re.compile(
    r"^(albert|bert|bert-generation|big_bird|bros|camembert|canine|convbert|data2vec-text|deberta|deberta-v2|distilbert|electra|ernie|"
    r"ernie_m|esm|eurobert|flaubert|fnet|funnel|gte|ibert|jina_embeddings_v3|layoutlm|layoutlmv2|layoutlmv3|lilt|"
    r"longformer|luke|markuplm|megatron-bert|mobilebert|modernbert|mpnet|mra|neomme|new|nomic_bert|nystromformer|qdqbert|"
    r"rembert|roberta|roberta-prelayernorm|roc_bert|roformer|splinter|squeezebert|tapas|ultrabert|xlm-roberta|"
    r"xlm-roberta-xl|xmod|yoso|clip|siglip|siglip2|vit|dinov2|wav2vec2|hubert|wavlm)$"
)


def refuse_encoder(raw: Mapping[str, Any], stated: str, place: str) -> None:
    """Raise SpecError for an encoder, which has no KV cache, unless its file says that it decodes."""
    if ENCODERS.match(stated) and not raw.get("is_decoder"):
        raise SpecError(
            f"{place}: {shown(stated)} is an encoder: it reads a text once and keeps no KV cache; there is nothing "
            "to plan, give the config of a model that generates text"
        )
    if stated == "openai-gpt":
        raise SpecError(f"{place}: GPT-1's code keeps no KV cache, it reads the whole text for every token; see GPT-2")
