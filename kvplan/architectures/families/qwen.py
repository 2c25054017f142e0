"""Qwen2, Qwen3 and Qwen3.5: dense, with experts, and with gated delta nets; Lara Mini, which joins them."""

from collections.abc import Callable

from kvplan.architectures.attention import attends, every, full, gqa, layer_kinds, mixed, windowed
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import plain, sparse
from kvplan.architectures.feed_forward import mlp, moe
from kvplan.architectures.parts import Body, Part, decoder, linear, vector
from kvplan.architectures.recurrence import delta_state
from kvplan.architectures.registry import family
from kvplan.specs.model import Weight


def upper(c: Config) -> Callable[[int], str]:
    """Return Qwen's rule: layers from max_window_layers on are windowed, if use_sliding_window."""
    on = c.flag("use_sliding_window") and bool(c.optional("sliding_window"))
    first = c.size("max_window_layers", 0, low=0)
    return lambda i: "sliding" if on and i >= first else "full"


@family("qwen2", "qwen2_vl_text", "qwen2_5_vl_text", "qwen2_5_omni_text")
def qwen2(c: Config) -> Body:
    """Read Qwen2: biases on q, k and v, windows from max_window_layers on where they are switched on."""
    return plain(c, *mixed(c, upper(c)), qkv_bias=True)


@family("qwen3", "qwen3_vl_text")
def qwen3(c: Config) -> Body:
    """Read Qwen3: a norm on each head of q and k, windows as in Qwen2."""
    bias = c.flag("attention_bias")
    return plain(c, *mixed(c, upper(c)), qk_norm="head", qkv_bias=bias, o_bias=bias)


def stepped(c: Config) -> Callable[[int], bool]:
    """Return Qwen's rule: every decoder_sparse_step-th layer, except mlp_only_layers."""
    only = c.entries("mlp_only_layers") or []
    step = c.size("decoder_sparse_step", 1, low=0)
    experts = c.optional("num_experts") or 0
    return lambda i: i not in only and experts > 0 and step > 0 and (i + 1) % step == 0


@family("qwen2_moe", "qwen3_moe", "qwen3_vl_moe_text", "qwen3_omni_moe_text")
def qwen_moe(c: Config) -> Body:
    """Read Qwen2-MoE and Qwen3-MoE: experts by decoder_sparse_step, a gated shared expert in Qwen2."""
    hidden = c.size("hidden_size")
    old = c.model_type == "qwen2_moe"
    bias = c.flag("attention_bias")
    experts = moe(
        c,
        hidden,
        c.size("moe_intermediate_size"),
        shared=c.size("shared_expert_intermediate_size") if old else 0,
        shared_gate=old,
    )
    windows = c.flag("use_sliding_window") and bool(c.optional("sliding_window"))
    below = c.size("max_window_layers", 0, low=0)
    # Qwen2-MoE's class windows every other layer below max_window_layers, the dense Qwens' all layers from it on
    rule = (lambda i: "sliding" if windows and i % 2 == 0 and i < below else "full") if old else upper(c)
    kinds, attention = full(c) if c.model_type in ("qwen3_vl_moe_text", "qwen3_omni_moe_text") else mixed(c, rule)
    return sparse(
        c,
        kinds,
        attention,
        stepped(c),
        experts,
        dense=c.size("intermediate_size"),
        qkv_bias=c.flag("qkv_bias", True) if old else bias,
        o_bias=False if old else bias,
        qk_norm="" if old else "head",
    )


def delta_net(c: Config, hidden: int, *, fused: bool) -> Part:
    """Return a gated delta net (Yang et al. 2024) as in Qwen3-Next and Qwen3.5."""
    kh, vh, kd, vd = (
        c.size(f"linear_{n}") for n in ("num_key_heads", "num_value_heads", "key_head_dim", "value_head_dim")
    )
    keys, values, kernel = kh * kd, vh * vd, c.size("linear_conv_kernel_dim", 4)
    names = ("in_proj_qkvz", "in_proj_ba") if fused else ("in_proj_qkv_z", "in_proj_b_a")
    weights = linear(f"linear_attn.{names[0]}", 2 * keys + 2 * values, hidden, split="inner") + linear(
        f"linear_attn.{names[1]}", 2 * vh, hidden, split="inner"
    )
    weights += (Weight(name="linear_attn.conv1d", shape=(2 * keys + values, kernel), split="inner", matmul=False),)
    weights += (
        vector("linear_attn.dt_A", vh, 2),
        vector("linear_attn.norm", vd),
        *linear("linear_attn.out_proj", hidden, values, split="inner"),
    )
    return (delta_state(c, 2 * keys + values, kernel, vh, kd, vd),), weights


@family("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text")
def qwen_hybrid(c: Config) -> Body:
    """Qwen3-Next and Qwen3.5: three gated delta nets, then one gated attention."""
    hidden = c.size("hidden_size")
    kinds = layer_kinds(c, every(c.size("full_attention_interval", 4), "linear"))
    state = delta_net(c, hidden, fused=c.model_type == "qwen3_next")
    bias = c.flag("attention_bias")
    if c.model_type == "qwen3_5_text":
        ffn = mlp(hidden, c.size("intermediate_size"))
        blocks = ["mlp"] * len(kinds)
    else:
        ffn = moe(
            c,
            hidden,
            c.size("moe_intermediate_size"),
            shared=c.size("shared_expert_intermediate_size"),
            shared_gate=True,
        )
        is_moe = stepped(c) if c.model_type == "qwen3_next" else lambda _: True
        blocks = ["moe" if is_moe(i) else "mlp" for i in range(len(kinds))]
    dense = mlp(hidden, c.size("intermediate_size")) if "mlp" in blocks and c.model_type != "qwen3_5_text" else ffn
    return decoder(
        c,
        kinds,
        lambda k: attends(hidden, gqa(c), bias, qk_norm="head", gated=True) if k == "full" else state,
        blocks,
        lambda b: ffn if b == "moe" else dense,
    )


@family("lara_mini")
def lara_mini(c: Config) -> Body:
    """Read Lara Mini: gated delta nets beside windowed and full attention, experts with a shared one everywhere."""
    hidden, bias = c.size("hidden_size"), c.flag("attention_bias")
    pattern = ("linear", "sliding", "linear", "full", "sliding")
    kinds = layer_kinds(c, lambda i: pattern[i % len(pattern)])
    state, attention = delta_net(c, hidden, fused=False), windowed(c, kinds)
    experts = moe(c, hidden, c.size("moe_intermediate_size"), shared=c.size("shared_expert_intermediate_size"))
    return decoder(
        c,
        kinds,
        lambda k: state if k == "linear" else attends(hidden, attention(k), bias, qk_norm="head"),
        ["moe"] * len(kinds),
        lambda _: experts,
    )
