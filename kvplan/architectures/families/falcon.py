"""Falcon: grouped heads, and Falcon-H1 with a state space beside attention."""

from kvplan.architectures.attention import attends, gqa
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import plain
from kvplan.architectures.feed_forward import mlp
from kvplan.architectures.parts import Body, decoder, layer_count, vector
from kvplan.architectures.recurrence import mamba2
from kvplan.architectures.registry import family
from kvplan.errors import SpecError
from kvplan.specs.model import Attention


@family("falcon")
def falcon(c: Config) -> Body:
    """Falcon-7B: one KV head; Falcon-40B and 180B: groups of heads.

    The latter say new_decoder_architecture; transformers stores their groups broadcast.
    """
    heads, hidden, bias = c.size("num_attention_heads"), c.size("hidden_size"), c.flag("bias")
    width, stated = c.size("hidden_size") // heads, c.optional("num_key_value_heads")
    # the first Falcon-40B files say only n_head_kv
    legacy = not c.stated("new_decoder_architecture") and not c.stated("multi_query") and stated not in (None, 1, heads)
    new = c.flag("new_decoder_architecture") or legacy
    groups = (stated or heads) if new else 1 if c.flag("multi_query", True) else heads
    if heads % groups:
        raise SpecError(f"{c.place}: n_head_kv {groups} must divide n_head {heads}")
    a = gqa(c, dim=max(width, 1), groups=groups, rope=not c.flag("alibi"))
    if new:
        a = Attention(
            heads=heads,
            kv_heads=groups,
            key_dim=width,
            value_dim=width,
            rope=a.rope,
            in_transformers=gqa(c, dim=width, groups=heads),
        )
    parallel = c.flag("parallel_attn", True)
    norms = 2 if not parallel or (c.optional("num_ln_in_parallel_attn") or (2 if new else 1)) == 2 else 1
    return plain(
        c,
        ["full"] * layer_count(c),
        lambda _: a,
        qkv_bias=bias,
        o_bias=bias,
        mlp_bias=bias,
        gated=False,
        norms=norms,
        norm=2,
        inner=c.optional("intermediate_size") or 4 * hidden,
    )


@family("falcon_h1")
def falcon_h1(c: Config) -> Body:
    """Falcon-H1: every layer has attention and Mamba-2 side by side."""
    hidden, count = c.size("hidden_size"), layer_count(c)
    inner = c.optional("mamba_d_ssm") or c.size("mamba_expand", 2) * hidden
    a = attends(hidden, gqa(c), c.flag("attention_bias"))
    mixers, weights = mamba2(
        c,
        hidden=hidden,
        inner=inner,
        heads=c.size("mamba_n_heads"),
        groups=c.size("mamba_n_groups"),
        state=c.size("mamba_d_state"),
        kernel=c.size("mamba_d_conv"),
        conv_bias=c.flag("mamba_conv_bias", True),
        bias=c.flag("mamba_proj_bias"),
        norm=c.flag("mamba_rms_norm"),
    )
    if c.flag("projectors_bias") != c.flag("mamba_proj_bias"):
        weights = tuple(w for w in weights if w.name != "mamba.out_proj.bias") + (
            (vector("mamba.out_proj.bias", hidden),) if c.flag("projectors_bias") else ()
        )
    inner_mlp = mlp(hidden, c.size("intermediate_size"), bias=c.flag("mlp_bias"))
    return decoder(c, ["both"] * count, lambda _: (a[0] + mixers, a[1] + weights), ["mlp"] * count, lambda _: inner_mlp)
