"""Ling and Ring (Bailing): with experts, and with lightning attention or delta nets beside other attention."""

from kvplan.architectures.attention import attends, full, gqa, latent, layer_kinds
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import sparse
from kvplan.architectures.feed_forward import first_dense, mlp, moe
from kvplan.architectures.parts import Body, decoder, layer_count, linear, vector
from kvplan.architectures.registry import family
from kvplan.specs.model import Recurrent


@family("bailing_moe", "bailing_moe_v2")
def bailing(c: Config) -> Body:
    """Read Ling and Ring up to 2.0: ordinary attention, DeepSeek's experts; 2.0 norms the heads of q and k."""
    hidden, inner = c.size("hidden_size"), c.size("moe_intermediate_size")
    wide = c.optional("moe_shared_expert_intermediate_size") or inner
    later = c.model_type == "bailing_moe_v2"
    bias = c.flag("use_bias")
    return sparse(
        c,
        *full(c),
        first_dense(c),
        moe(c, hidden, inner, shared=wide * (c.optional("num_shared_experts") or 0)),
        dense=c.size("intermediate_size"),
        qkv_bias=bias or c.flag("use_qkv_bias"),
        o_bias=bias,
        mlp_bias=bias,
        qk_norm="head" if c.flag("use_qk_norm", later) else "",
    )


@family("bailing_hybrid")
def bailing_hybrid(c: Config) -> Body:
    """Read Ling 3: KDA layers, then one gated latent attention in each group of layer_group_size.

    Ling and Ring 2.5, which name another class, have lightning attention and latents.
    """
    if any(str(named).startswith("BailingMoeV2_5") for named in c.entries("architectures") or []):
        return lightning(c)
    hidden, heads, inner = c.size("hidden_size"), c.size("num_attention_heads"), c.size("moe_intermediate_size")
    group, dim = c.size("layer_group_size"), c.size("linear_head_dim", c.size("head_dim"))
    kinds = layer_kinds(c, lambda i: "linear" if (i + 1) % group else "full")
    kernel, width = c.size("short_conv_kernel_size"), heads * dim
    mixers, weights = latent(c)
    gated = (mixers, weights + linear("self_attn.g_proj", heads, hidden, split="heads"))
    delta = linear("self_attn.qkv_proj", 3 * width, hidden, split="inner")
    delta += (vector("self_attn.conv1d", kernel, 3 * width), vector("self_attn.dt_A", width + heads))
    delta += linear("self_attn.f_proj", width, hidden, split="inner")
    delta += linear("self_attn.b_proj", heads, hidden, split="inner")
    delta += linear("self_attn.g_proj", width, hidden, split="inner")
    delta += (vector("self_attn.o_norm", dim), *linear("self_attn.o_proj", hidden, width, split="inner"))
    state = Recurrent(
        name="KDA", conv_channels=3 * width, conv_kernel=kernel, state=width * dim, state_bits=32, conv_drafts=True
    )
    shared = c.size("num_shared_experts", c.size("n_shared_experts", 0, low=0), low=0)
    experts = moe(c, hidden, inner, shared=inner * shared)
    dense, is_moe = mlp(hidden, c.size("intermediate_size")), first_dense(c)
    return decoder(
        c,
        kinds,
        lambda kind: gated if kind == "full" else ((state,), delta),
        ["moe" if is_moe(i) else "mlp" for i in range(len(kinds))],
        lambda block: experts if block == "moe" else dense,
    )


@family("bailing_moe_linear")
def lightning(c: Config) -> Body:
    """Read Ring Linear 2.0 and Ling and Ring 2.5: lightning attention, then one attention in each layer_group_size.

    That is ordinary attention in 2.0, where layers beyond whole groups have it too, and a latent in 2.5.
    """
    hidden, heads, inner = c.size("hidden_size"), c.size("num_attention_heads"), c.size("moe_intermediate_size")
    group, count, later = c.size("layer_group_size"), layer_count(c), c.model_type == "bailing_hybrid"
    whole = count if later else count // group * group
    kinds = layer_kinds(c, lambda i: "linear" if (i + 1) % group and i < whole else "full")
    a, norm = gqa(c), "head" if c.flag("use_qk_norm", True) else ""
    width = heads * a.key_dim
    weights = linear("self_attn.qkv_proj", 3 * width, hidden, split="heads", bias=c.flag("use_qkv_bias"))
    weights += (*linear("self_attn.g_proj", width, hidden, split="heads"), vector("self_attn.g_norm", width))
    weights += linear("self_attn.dense", hidden, width, split="heads", bias=c.flag("use_bias"))
    weights += (vector("self_attn.qk_norm", a.key_dim, 2),) if norm else ()
    state = Recurrent(name="lightning", conv_channels=0, conv_kernel=1, state=width * a.key_dim)
    bias = c.flag("use_bias") or c.flag("use_qkv_bias")
    full = latent(c) if later else attends(hidden, a, bias, qk_norm=norm)
    wide = c.optional("moe_shared_expert_intermediate_size") or inner
    experts = moe(c, hidden, inner, shared=wide * (c.optional("num_shared_experts") or 0))
    dense, is_moe = mlp(hidden, c.size("intermediate_size")), first_dense(c)
    return decoder(
        c,
        kinds,
        lambda kind: full if kind == "full" else ((state,), weights),
        ["moe" if is_moe(i) else "mlp" for i in range(count)],
        lambda block: experts if block == "moe" else dense,
    )
