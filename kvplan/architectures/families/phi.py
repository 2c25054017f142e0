"""Phi 1 to 4, Phi-3.5-MoE and Persimmon."""

from kvplan.architectures.attention import full, gqa, uniform
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import plain, sparse_throughout
from kvplan.architectures.parts import Body, head_dim, layer_count
from kvplan.architectures.registry import family


@family("phi")
def phi(c: Config) -> Body:
    """Read Phi 1 to 2: attention and feed-forward side by side under one norm, biases everywhere."""
    norm = c.flag("qk_layernorm")
    return plain(
        c,
        *full(c),
        qkv_bias=True,
        o_bias=True,
        mlp_bias=True,
        gated=False,
        norms=1,
        norm=2,
        head_bias=True,
        inner=c.optional("intermediate_size") or 4 * c.size("hidden_size"),
        extra_norm=4 * head_dim(c) if norm else 0,
    )


@family("persimmon")
def persimmon(c: Config) -> Body:
    """Read Persimmon: every query head has a key/value head of its own, biases everywhere, norms on q and k."""
    kinds = ["full"] * layer_count(c)
    return plain(
        c,
        kinds,
        lambda _: gqa(c, groups=c.size("num_attention_heads")),
        qkv_bias=True,
        o_bias=True,
        mlp_bias=True,
        gated=False,
        norm=2,
        extra_norm=4 * head_dim(c) if c.flag("qk_layernorm", True) else 0,
    )


@family("phimoe")
def phimoe(c: Config) -> Body:
    """Read Phi-3.5-MoE: Mixtral with norms and heads that have biases."""
    return sparse_throughout(c, uniform(c), norm=2, head_bias=c.flag("lm_head_bias"))


@family("phi3")
def phi3(c: Config) -> Body:
    """Read Phi-3 and Phi-4: every layer has the one window of the config, or none."""
    return plain(c, *uniform(c))


@family("phi3small")
def phi3small(c: Config) -> Body:
    """Read Phi-3-small: block-sparse attention in most layers, which keeps all tokens; biases everywhere."""
    return plain(
        c,
        *full(c),
        qkv_bias=True,
        o_bias=True,
        mlp_bias=True,
        norm=2,
        inner=c.size("ff_intermediate_size"),
    )
