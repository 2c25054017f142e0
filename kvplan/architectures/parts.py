"""What every decoder is made of: sizes, vectors and matrices, embeddings, and the frame around its layers."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from kvplan.architectures.config import Config
from kvplan.errors import SpecError
from kvplan.specs.model import Layer, Mixer, Weight

Part = tuple[tuple[Mixer, ...], tuple[Weight, ...]]


@dataclass(frozen=True)
class Body:
    """What a family's reader returns."""

    layers: tuple[Layer, ...]  #: in order
    outer: tuple[Weight, ...]  #: tensors outside the layers
    notes: tuple[str, ...] = ()  #: remarks for the user


def vector(name: str, size: int, count: int = 1) -> Weight:
    """Return `count` replicated vectors of one size (norms, gates, scales)."""
    return Weight(name=name, shape=(count, size), matmul=False)


def linear(
    name: str, rows: int, cols: int, *, split: str = "none", bias: bool = False, copies: int = 1, used: float = 1.0
) -> tuple[Weight, ...]:
    """Return a matrix (rows x cols) and, when it has one, its bias."""
    weight = Weight(name=name, shape=(rows, cols), split=split, copies=copies, used=used)
    if not bias:
        return (weight,)
    return (weight, Weight(name=f"{name}.bias", shape=(rows,), split=split, copies=copies, used=used, matmul=False))


MAX_LAYERS = 2000
#: fields of a config that count multi-token-prediction (next-token) layers
MTP_KEYS = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules", "num_mtp_layers", "mtp_num_layers")
#: such layers of checkpoints whose files do not count them: Qwen3-Next's index lists mtp.layers.0
UNSTATED_MTP = {"qwen3_next": 1}

#: classes that divide hidden_size by the heads whatever head_dim says
DIVIDED = {
    "cohere_compass_text",
    "qwen2_vl_text",
    "qwen2_5_vl_text",
    "glm4v_text",
    "mllama_text_model",
    "dbrx",
    "persimmon",
    "stablelm",
}


def layer_count(c: Config) -> int:
    """Return num_hidden_layers; raise SpecError beyond MAX_LAYERS."""
    count = c.size("num_hidden_layers")
    if count > MAX_LAYERS:
        raise SpecError(f"{c.place}: num_hidden_layers must be from 1 to {MAX_LAYERS:,}, got {count}")
    return count


def drafting(c: Config) -> tuple[str, ...]:
    """Return the remark that a file's multi-token-prediction layers are not counted, none where it has none."""
    counts = (h.optional(key) for h in (c, c.parent) if h for key in MTP_KEYS if key == MTP_KEYS[0] or h.stated(key))
    count = next(filter(None, counts), UNSTATED_MTP.get(c.model_type, 0))
    if not count:
        return ()
    many, them = ("s", "them") if count > 1 else ("", "it")
    return (f"{count} multi-token-prediction layer{many} not counted: speculative decoding alone runs {them}",)


def head_dim(c: Config) -> int:
    """Return head_dim as stated, else hidden / heads."""
    stated = None if c.model_type in DIVIDED else c.optional("head_dim")
    if stated:
        return stated
    hidden, heads = c.size("hidden_size"), c.size("num_attention_heads")
    if hidden < heads:
        raise SpecError(f"{c.place}: hidden_size {hidden} is smaller than num_attention_heads {heads}; state head_dim")
    return hidden // heads


def kv_heads(c: Config) -> int:
    """Return the number of key/value heads; absent or null means one per query head."""
    heads = c.size("num_attention_heads")
    stated = c.optional("num_key_value_heads")
    if stated is None or (not c.stated("num_key_value_heads") and heads % stated):
        return heads
    if stated < 1 or heads % stated:
        raise SpecError(f"{c.place}: num_key_value_heads {stated} must divide num_attention_heads {heads}")
    return stated


def decoder(
    c: Config,
    kinds: Sequence[Hashable],
    mix: Callable[[Hashable], Part],
    ffns: Sequence[Hashable],
    ffn: Callable[[Hashable], tuple[Weight, ...]],
    *,
    norms: int | Callable[[Hashable], int] = 2,
    norm: int = 1,
    final_norm: bool = True,
    positions: int = 0,
    head_bias: bool = False,
    embedding_norm: bool = False,
    extra: tuple[Weight, ...] = (),
    notes: tuple[str, ...] = (),
    hidden: int | None = None,
) -> Body:
    """Assemble a decoder: kinds[i] chooses layer i's mixer, ffns[i] its feed-forward; alike layers share one object.

    norms: norm vectors a layer; norm: parameters a norm has per channel (1 RMSNorm, 2 LayerNorm, 0 none);
    positions: rows of a learned position table.
    """
    width = hidden or c.size("hidden_size")
    layers: dict[tuple[Hashable, Hashable], Layer] = {}
    for kind, block in zip(kinds, ffns, strict=True):
        if (kind, block) not in layers:
            mixers, weights = mix(kind)
            count = norms(kind) if callable(norms) else norms
            rest = (vector("norms", width, count * norm),) if count * norm else ()
            layers[kind, block] = Layer(mixers=mixers, weights=weights + ffn(block) + rest)
    return Body(
        tuple(layers[pair] for pair in zip(kinds, ffns, strict=True)),
        embeddings(
            c,
            width,
            norm=norm if final_norm else 0,
            positions=positions,
            head_bias=head_bias,
            embedding_norm=embedding_norm,
        )
        + extra,
        notes,
    )


def embeddings(
    c: Config, hidden: int, *, norm: int = 1, positions: int = 0, head_bias: bool = False, embedding_norm: bool = False
) -> tuple[Weight, ...]:
    """Return token (and position) embeddings, final norm and output head; a tied head is counted once."""
    vocab = c.size("vocab_size")
    weights: tuple[Weight, ...] = (Weight(name="embed_tokens", shape=(vocab, hidden), split="vocab", matmul=False),)
    if positions:
        weights += (Weight(name="embed_positions", shape=(positions, hidden), matmul=False),)
    if embedding_norm:
        weights += (vector("embed_norm", hidden, 2),)
    if norm:
        weights += (vector("norm", hidden, norm),)
    if not is_tied(c):
        weights += (Weight(name="lm_head", shape=(vocab, hidden), split="vocab", matmul=False),)
    return weights + ((Weight(name="lm_head.bias", shape=(vocab,), split="vocab", matmul=False),) if head_bias else ())


#: classes that keep a head of their own whatever tie_word_embeddings says
UNTIED = {
    "bailing_hybrid",
    "inkling_text",
    "inkling2_text",
    "inkling2_loop_text",
    "kimi_linear",
    "nemotron_h",
    "mllama_text_model",
    "xlstm",
}
#: classes outside transformers that keep a head of their own unless tie_word_embeddings says otherwise
APART = {
    "aquila",
    "arctic",
    "deci",
    "orion",
    "ouro",
    "telechat",
    "xverse",
    "baichuan",
    "Dream",
    "llada",
    "sdar",
    "bailing_moe",
    "bailing_moe_linear",
    "bailing_moe_v2",
    "chatglm",
    "hunyuan",
    "internlm",
    "mimo",
    "mimo_v2",
    "plain",
    "qwen",
    "step3_text",
    "step3p5",
    "step3",
    "rwkv5",
    "rwkv6",
    "rwkv7",
    "ernie4_5_moe_vl",
}


def is_tied(c: Config) -> bool:
    """Whether input and output embeddings are one tensor. A multimodal file states it outside its text part."""
    if c.model_type in UNTIED:
        return False
    if c.parent is not None and "tie_word_embeddings" in c.parent.raw:
        return c.parent.flag("tie_word_embeddings")
    return c.flag("tie_word_embeddings", not c.defaults and c.model_type not in APART)
