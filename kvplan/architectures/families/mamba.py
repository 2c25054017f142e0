"""Mamba, Mamba-2, Zamba and Zamba2."""

from math import ceil

from kvplan.architectures.attention import attention_weights, layer_kinds
from kvplan.architectures.config import Config
from kvplan.architectures.feed_forward import mlp
from kvplan.architectures.parts import Body, Part, decoder, kv_heads, layer_count, linear, vector
from kvplan.architectures.recurrence import mamba1, mamba2, rank, state_bits
from kvplan.architectures.registry import family
from kvplan.errors import SpecError
from kvplan.specs.model import Attention, Recurrent, Weight


@family("mamba", "falcon_mamba")
def mamba(c: Config) -> Body:
    """Read Mamba: every layer a selective state space (arXiv 2312.00752), no cache per token."""
    hidden, count = c.size("hidden_size"), layer_count(c)
    inner = c.optional("intermediate_size") or c.size("expand", 2) * hidden
    part = mamba1(
        c,
        hidden=hidden,
        inner=inner,
        state=c.size("state_size"),
        kernel=c.size("conv_kernel"),
        dt_rank=rank(c, "time_step_rank", hidden),
        conv_bias=c.flag("use_conv_bias", True),
        bias=c.flag("use_bias"),
        prefix="mixer",
    )
    return decoder(c, ["mamba"] * count, lambda _: part, ["none"] * count, lambda _: (), norms=1)


@family("mamba2")
def mamba_2(c: Config) -> Body:
    """Read Mamba-2: every layer a state space with heads (arXiv 2405.21060), no cache per token."""
    hidden, count, heads = c.size("hidden_size"), layer_count(c), c.size("num_heads")
    part = mamba2(
        c,
        hidden=hidden,
        inner=c.size("expand", 2) * hidden,
        heads=heads,
        groups=c.size("n_groups"),
        state=c.size("state_size"),
        kernel=c.size("conv_kernel"),
        conv_bias=c.flag("use_conv_bias", True),
        bias=c.flag("use_bias"),
        prefix="mixer",
    )
    return decoder(c, ["mamba"] * count, lambda _: part, ["none"] * count, lambda _: (), norms=1)


@family("zamba")
def zamba(c: Config) -> Body:
    """Zamba: Mamba with heads everywhere; every attn_layer_period-th layer also runs one shared attention block.

    The block reads [hidden, embedding]; its weights are held once, its cache in each layer that runs it.
    """
    hidden, count, heads = c.size("hidden_size"), layer_count(c), c.size("num_attention_heads")
    period, offset = c.size("attn_layer_period", 6), c.size("attn_layer_offset", 4, low=0)
    listed = c.stated("layers_block_type") and c.get("layers_block_type") is not None
    kinds = layer_kinds(
        c,
        lambda i: "hybrid" if i == 2 or (i > 2 and (i - 3) % period == offset) else "mamba",
        field="layers_block_type" if listed else "layer_types",
    )
    kinds = ["hybrid" if k == "hybrid" else "mamba" for k in kinds]
    dim = c.optional("attention_head_dim") or 2 * hidden // heads
    a = Attention(heads=heads, kv_heads=kv_heads(c), key_dim=dim, value_dim=dim, rope=False)
    inner, states = c.size("mamba_expand", 2) * hidden, c.size("mamba_d_state", 16)
    groups, kernel = c.size("n_mamba_heads", 2), c.size("mamba_d_conv", 4)
    step = rank(c, "mamba_dt_rank", hidden)
    mixer = Recurrent(
        name="mamba", conv_channels=inner, conv_kernel=kernel, state=inner * states, state_bits=state_bits(c)
    )
    bias = c.flag("mamba_proj_bias")
    own = linear("mamba.in_proj", 2 * inner, hidden, split="inner", bias=bias)
    own += (
        Weight(
            name="mamba.conv1d", shape=(inner, kernel + c.flag("mamba_conv_bias", True)), split="inner", matmul=False
        ),
        Weight(name="mamba.x_proj", shape=(groups * (step + 2 * states), inner // groups), split="inner"),
        Weight(name="mamba.dt_proj", shape=(inner, step + 1), split="inner", matmul=False),
        Weight(name="mamba.A_D", shape=(inner, states + 1), split="inner", matmul=False),
        *linear("mamba.out_proj", hidden, inner, split="inner", bias=bias),
        vector("input_layernorm", hidden),
    )
    block = attention_weights(2 * hidden, a, prefix="shared.self_attn")[:-1]
    block += linear("shared.self_attn.o_proj", hidden, heads * dim, split="heads")
    block += mlp(hidden, c.size("intermediate_size"), prefix="shared.feed_forward")
    block += (vector("shared.norms", 3 * hidden),)
    return decoder(
        c,
        kinds,
        lambda k: ((a, mixer), own + linear("linear", hidden, hidden)) if k == "hybrid" else ((mixer,), own),
        ["none"] * count,
        lambda _: (),
        norms=0,
        extra=block if "hybrid" in kinds else (),
    )


@family("zamba2")
def zamba2(c: Config) -> Body:
    """Zamba2: Mamba-2 everywhere; `hybrid` layers also run a shared attention block.

    It is one of num_mem_blocks, over [hidden, embedding].
    """
    hidden, count, heads = c.size("hidden_size"), layer_count(c), c.size("num_attention_heads")
    ids = c.entries("hybrid_layer_ids")
    kinds = layer_kinds(
        c,
        lambda i: "hybrid" if ids and i in ids else "mamba",
        field="layers_block_type" if c.stated("layers_block_type") else "layer_types",
    )
    blocks, inner, adapter = (
        c.size("num_mem_blocks", 1),
        c.size("intermediate_size", 4 * hidden),
        c.size("adapter_rank", 128),
    )
    dim = 2 * hidden // heads
    a = Attention(heads=heads, kv_heads=kv_heads(c), key_dim=dim, value_dim=dim, rope=c.flag("use_mem_rope"))
    mixers, weights = mamba2(
        c,
        hidden=hidden,
        inner=c.size("mamba_expand", 2) * hidden,
        heads=c.size("n_mamba_heads", 8),
        groups=c.size("mamba_ngroups", 1),
        state=c.size("mamba_d_state", 64),
        kernel=c.size("mamba_d_conv", 4),
        conv_bias=True,
        bias=c.flag("add_bias_linear"),
    )
    hybrids = sum(k == "hybrid" for k in kinds)
    norm = (vector("input_layernorm", hidden),)
    shared = linear("shared.qkv", 2 * hidden + 2 * a.kv_heads * dim, 2 * hidden)
    shared += linear("shared.o_proj", hidden, 2 * hidden) + mlp(
        hidden, inner, bias=c.flag("add_bias_linear"), prefix="shared.feed_forward"
    )
    shared += (vector("shared.norms", 3 * hidden),)
    extra = tuple(
        Weight(name=f"{w.name}.{b}", shape=w.shape, matmul=w.matmul)
        for b in range(min(blocks, max(hybrids, 0)))
        for w in shared
    )
    own = (
        linear("linear", hidden, hidden)
        + linear("adapter_in", adapter, hidden)
        + linear("adapter_out", 2 * inner, adapter)
    )
    if c.flag("use_shared_attention_adapter"):
        own += linear("attention_adapter_in", 3 * adapter, 2 * hidden) + linear(
            "attention_adapter_out", 3 * 2 * hidden, adapter
        )
    return decoder(
        c,
        kinds,
        lambda k: ((a, *mixers), weights + norm + own) if k == "hybrid" else (mixers, weights + norm),
        ["none"] * count,
        lambda _: (),
        norms=0,
        extra=extra,
    )


@family("mamba_ssm")
def mamba_original(c: Config) -> Body:
    """Read Mamba's own format: d_model, n_layer and ssm_cfg, attention in the layers of attn_layer_idx."""
    hidden, count = c.size("hidden_size"), layer_count(c)
    sizes = c.nested("ssm_cfg", model_type="mamba_ssm")
    inner, kernel = sizes.size("expand", 2) * hidden, sizes.size("d_conv", 4)
    if sizes.text("layer", "Mamba1") == "Mamba2":
        part = mamba2(
            c, hidden=hidden, inner=inner, heads=max(inner // sizes.size("headdim", 64), 1),
            groups=sizes.size("ngroups", 1), state=sizes.size("d_state", 128), kernel=kernel, conv_bias=True,
            bias=False, prefix="mixer",
        )  # fmt: skip
    else:
        part = mamba1(
            c, hidden=hidden, inner=inner, state=sizes.size("d_state", 16), kernel=kernel,
            dt_rank=rank(sizes, "dt_rank", hidden), conv_bias=True, bias=False, prefix="mixer",
        )  # fmt: skip
    among = c.entries("attn_layer_idx") or []
    kinds = ["attention" if i in among else "mamba" for i in range(count)]
    attention = original_attention(c, hidden) if among else part
    wide = c.optional("d_intermediate") or 0
    block = mlp(hidden, ceil(wide / ROUNDED) * ROUNDED) if wide else ()
    return decoder(
        c,
        kinds,
        lambda k: attention if k == "attention" else part,
        ["mlp" if wide else "none"] * count,
        lambda _: block,
        norms=2 if wide else 1,
    )


#: the feed-forwards of Mamba's own format are a multiple of it wide
ROUNDED = 128


def original_attention(c: Config, hidden: int) -> Part:
    """Return the attention of Mamba's own format, before which a short convolution mixes q, k and v (d_conv)."""
    sizes = c.nested("attn_cfg", model_type="mamba_ssm")
    heads = sizes.size("num_heads")
    keys = sizes.optional("num_heads_kv") or heads
    if heads % keys:
        raise SpecError(f"{c.place}: attn_cfg: num_heads_kv {keys} must divide num_heads {heads}")
    dim, kernel = sizes.optional("head_dim") or hidden // heads, sizes.optional("d_conv") or 0
    a = Attention(heads=heads, kv_heads=keys, key_dim=dim, value_dim=dim, rope=bool(sizes.optional("rotary_emb_dim")))
    weights = attention_weights(
        hidden, a, qkv_bias=sizes.flag("qkv_proj_bias", True), o_bias=sizes.flag("out_proj_bias", True)
    )
    if not kernel:
        return (a,), weights
    channels = dim * (heads + 2 * keys)
    tail = Recurrent(name="convolution", conv_channels=channels, conv_kernel=kernel, state=0)
    return (a, tail), (*weights, Weight(name="self_attn.conv1d", shape=(channels, kernel + 1), matmul=False))
