"""Models of constant state alone: RWKV-4 to RWKV-7, and xLSTM."""

from math import ceil

from kvplan.architectures.config import Config
from kvplan.architectures.feed_forward import mlp
from kvplan.architectures.parts import Body, decoder, layer_count, linear, vector
from kvplan.architectures.registry import family
from kvplan.errors import SpecError
from kvplan.specs.model import Recurrent, Weight


def last_tokens(hidden: int) -> Recurrent:
    """Return what token shift keeps: a token before either block, in the model's dtype."""
    return Recurrent(
        name="token shift", conv_channels=0, conv_kernel=1, state=2 * hidden, state_bits=None, transformers_bits=None
    )


def gated(c: Config, state: Recurrent, weights: tuple[Weight, ...], hidden: int, inner: int, count: int) -> Body:
    """Return RWKV-4 to 6: their time mixing, and a channel mixing with a gate."""
    ffn = (
        vector("feed_forward.mix", hidden, 2),
        *linear("feed_forward.key", inner, hidden, split="inner"),
        *linear("feed_forward.receptance", hidden, hidden),
        *linear("feed_forward.value", hidden, inner, split="inner"),
    )
    return decoder(
        c,
        ["rwkv"] * count,
        lambda _: ((last_tokens(hidden), state), weights),
        ["mlp"] * count,
        lambda _: ffn,
        norm=2,
        extra=(vector("pre_ln", hidden, 2),),
    )


@family("rwkv")
def rwkv4(c: Config) -> Body:
    """Read RWKV-4 (arXiv 2305.13048): a layer keeps the last token of both blocks, and three 32-bit sums a channel."""
    hidden, count = c.size("hidden_size"), layer_count(c)
    wide, inner = c.optional("attention_hidden_size") or hidden, c.optional("intermediate_size") or 4 * hidden
    sums = Recurrent(name="rwkv", conv_channels=0, conv_kernel=1, state=3 * wide, state_bits=32)
    weights: tuple[Weight, ...] = (vector("attention.time", wide, 2), vector("attention.mix", hidden, 3))
    for name in ("key", "value", "receptance"):
        weights += linear(f"attention.{name}", wide, hidden, split="inner")
    weights += linear("attention.output", hidden, wide, split="inner")
    return gated(c, sums, weights, hidden, inner, count)


@family("rwkv5", "rwkv6")
def rwkv6(c: Config) -> Body:
    """Read RWKV-5 and 6 (Eagle and Finch, arXiv 2404.05892): a matrix a head, and the last token of both blocks.

    RWKV-6 mixes and decays by low-rank maps of what it reads, 5 x 32 and 64 wide.
    """
    hidden, count, dim = c.size("hidden_size"), layer_count(c), c.size("head_size", 64)
    wide = c.optional("attention_hidden_size") or hidden
    if wide % dim:
        raise SpecError(f"{c.place}: head_size {dim} must divide attention_hidden_size {wide}")
    inner = c.optional("intermediate_size") or int(hidden * 3.5) // 32 * 32
    finch = c.model_type == "rwkv6"
    state = Recurrent(name="rwkv", conv_channels=0, conv_kernel=1, state=wide * dim, state_bits=32)
    weights: tuple[Weight, ...] = (
        vector("attention.mix", hidden, 6 if finch else 4),
        vector("attention.time", wide, 2),
    )
    if finch:
        weights += linear("attention.maa", 2 * 5 * 32, hidden) + linear("attention.decay", 64, hidden + wide)
    for name in ("receptance", "key", "value", "gate"):
        weights += linear(f"attention.{name}", wide, hidden, split="inner")
    weights += (*linear("attention.output", hidden, wide, split="inner"), vector("attention.ln_x", wide, 2))
    return gated(c, state, weights, hidden, inner, count)


@family("rwkv7")
def rwkv7(c: Config) -> Body:
    """Read RWKV-7 (arXiv 2503.14456): a head_dim x head_dim matrix a head, and the last token of both blocks.

    Sizes as flash-linear-attention spells them; the low-rank maps beside the four projections are counted.
    """
    hidden, count, dim = c.size("hidden_size"), layer_count(c), c.size("head_dim", 64)
    if hidden % dim:
        raise SpecError(f"{c.place}: head_dim {dim} must divide hidden_size {hidden}")
    inner = c.optional("intermediate_size") or int(c.real("hidden_ratio", 4.0) * hidden)
    state = Recurrent(name="rwkv7", conv_channels=0, conv_kernel=1, state=hidden * dim, state_bits=32)
    weights: tuple[Weight, ...] = (
        vector("attn.mix", hidden, 6),
        vector("attn.vectors", hidden, 3),
        vector("attn.norm", hidden, 2),
    )
    for name in ("r_proj", "k_proj", "v_proj", "o_proj"):
        weights += linear(f"attn.{name}", hidden, hidden, split="inner")
    for name, usual in (("decay", 64), ("a", 64), ("gate", 128), ("v", 32)):
        low = c.size(f"{name}_low_rank_dim", usual)
        weights += linear(f"attn.{name}_lora", 2 * low + (name != "gate"), hidden)
    ffn = (
        vector("ffn.mix", hidden),
        *linear("ffn.key", inner, hidden, split="inner"),
        *linear("ffn.value", hidden, inner, split="inner"),
    )
    return decoder(
        c,
        ["rwkv"] * count,
        lambda _: ((last_tokens(hidden), state), weights),
        ["mlp"] * count,
        lambda _: ffn,
        norm=2,
        extra=(vector("pre_norm", hidden, 2),),
    )


@family("xlstm")
def xlstm(c: Config) -> Body:
    """Read xLSTM 7B (arXiv 2503.13427): each head keeps a key x value matrix, a key vector and one maximum."""
    hidden, heads = c.size("hidden_size", c.get("embedding_dim", None)), c.size("num_heads")
    count = c.size("num_blocks", None) if c.stated("num_blocks") else layer_count(c)
    keys, values = int(hidden * c.real("qk_dim_factor", 0.5)), int(hidden * c.real("v_dim_factor", 1.0))
    wide = c.size("ffn_round_up_to_multiple_of", 64)
    inner = wide * ceil(hidden * c.real("ffn_proj_factor", 2.667) / wide)
    bits = 32 if c.text("inference_state_dtype", "float32") == "float32" else None
    step = c.size("mlstm_round_up_to_multiple_of", 64)
    held, read = (heads * (step * ceil(size / step) // heads) for size in (keys, values))
    state = Recurrent(
        name="mLSTM", conv_channels=0, conv_kernel=1,
        state=held * read // heads + held + heads, state_bits=bits, transformers_bits=None,
    )  # fmt: skip
    bias = c.flag("use_bias")
    weights = linear("q", keys, hidden, split="inner", bias=bias) + linear("k", keys, hidden, split="inner", bias=bias)
    weights += linear("v", values, hidden, split="inner", bias=bias)
    weights += linear("ogate_preact", values, hidden, split="inner", bias=bias)
    weights += (*linear("gates", 2 * heads, hidden, bias=True), vector("multihead_norm", values * (1 + bias)))
    weights += linear("out_proj", hidden, values, split="inner", bias=bias)
    return decoder(
        c,
        ["mlstm"] * count,
        lambda _: ((state,), weights),
        ["mlp"] * count,
        lambda _: mlp(hidden, inner, bias=bias),
        norm=1 + bias,
        final_norm=False,
        extra=(vector("norm", hidden),),
    )
