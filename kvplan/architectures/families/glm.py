"""GLM, and others that join ordinary attention to DeepSeek's experts; GLM-4.7-Flash and GLM-5 stand with DeepSeek."""

from collections.abc import Callable

from kvplan.architectures.attention import full, mixed
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import plain, sparse
from kvplan.architectures.families.exaone import exaone_rule
from kvplan.architectures.feed_forward import always, first_dense, moe
from kvplan.architectures.parts import Body
from kvplan.architectures.registry import family


@family("glm", "glm4", "glm4v_text")
def glm(c: Config) -> Body:
    """Read GLM: full attention, and four norms a layer from GLM-4 on."""
    return plain(
        c,
        *full(c),
        qkv_bias=c.model_type == "glm4v_text" or c.flag("attention_bias"),
        norms=2 if c.model_type == "glm" else 4,
    )


@family("glm4_moe", "glm4v_moe_text", "dots1", "hy_v3", "solar_open", "exaone_moe", "sarvam_moe")
def deepseek_like(c: Config) -> Body:
    """Ordinary attention with DeepSeek's experts: first layers dense, shared experts beside the routed ones."""
    t, hidden, inner = c.model_type, c.size("hidden_size"), c.size("moe_intermediate_size")
    bias, mlp_bias = c.flag("attention_bias") and t != "exaone_moe", t == "hy_v3" and c.flag("mlp_bias")
    shared = c.size("num_shared_experts" if t in ("exaone_moe", "hy_v3") else "n_shared_experts", 1, low=0) * inner
    qk_norm = (
        "head"
        if t in ("dots1", "hy_v3", "exaone_moe", "sarvam_moe") or (t == "glm4_moe" and c.flag("use_qk_norm"))
        else ""
    )
    kinds, attention = (
        mixed(c, exaone_rule(c)) if t == "exaone_moe" else mixed(c, dots_rule(c)) if t == "dots1" else full(c)
    )
    return sparse(
        c,
        kinds,
        attention,
        always if t == "solar_open" else first_dense(c),
        moe(c, hidden, inner, shared=shared, shared_bias=mlp_bias),
        dense=c.size("intermediate_size", inner),
        mlp_bias=mlp_bias,
        qkv_bias=bias,
        o_bias=bias and t not in ("glm4_moe", "glm4v_moe_text", "solar_open", "sarvam_moe"),
        qk_norm=qk_norm,
    )


def dots_rule(c: Config) -> Callable[[int], str]:
    """Return the rule of dots.llm1: windows from layer max_window_layers on, where there is a window."""
    window, first = c.optional("sliding_window"), c.size("max_window_layers", 0, low=0)
    return lambda i: "sliding" if window and i >= first else "full"
