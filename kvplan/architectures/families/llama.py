"""Llama, and what differs from it in windows, biases and activations only."""

from collections.abc import Callable

from kvplan.architectures.attention import full, mixed
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import plain
from kvplan.architectures.parts import Body, head_dim
from kvplan.architectures.registry import family


@family("llama", "internlm3", "yi", "aquila", "exaone", "solar", "iquestcoder", "internlm", "xverse")
def llama(c: Config) -> Body:
    """Read Llama and its kin: full attention and a gated feed-forward, biases where the config has them."""
    t = c.model_type
    every_bias = t in ("internlm", "internlm3") and c.flag("bias")
    bias = c.flag("attention_bias") or every_bias
    if t == "internlm":  # biases on the attention alone
        return plain(c, *full(c), qkv_bias=bias, o_bias=bias)
    return plain(
        c,
        *full(c),
        qkv_bias=bias or (t not in ("llama", "exaone") and c.flag("qkv_bias")),
        o_bias=bias,
        mlp_bias=c.flag("mlp_bias") or every_bias,
    )


@family("granite", "seed_oss", "helium", "cwm", "granite_swa", "ministral", "smollm3")
def llama_like(c: Config) -> Body:
    """Read what differs from Llama in windows and biases only."""
    t = c.model_type
    bias = c.flag("attention_bias") and t not in ("cwm", "ministral")  # their classes have none
    o_bias = {"seed_oss": c.flag("attention_out_bias"), "helium": False}.get(t, bias)
    rules: dict[str, Callable[[int], str]] = {
        "cwm": lambda i: "full" if i % 4 == 0 else "sliding",
        "granite_swa": lambda i: "full" if i % 4 == 0 else "sliding",
        "ministral": lambda i: "sliding" if c.optional("sliding_window") else "full",
    }
    kinds, attention = (
        mixed(c, rules[c.model_type])
        if c.model_type in rules
        else mixed(c, smollm3_rule(c))
        if c.model_type == "smollm3"
        else full(c)
    )
    sinks = c.size("num_attention_heads") if c.model_type == "granite_swa" else 0
    return plain(
        c, kinds, attention, qkv_bias=bias, o_bias=o_bias, mlp_bias=c.flag("mlp_bias") and t != "ministral", sinks=sinks
    )


def smollm3_rule(c: Config) -> Callable[[int], str]:
    """SmolLM3's layers without RoPE are windowed only when use_sliding_window is set (it never is)."""
    rotated = c.entries("no_rope_layers")
    on = c.flag("use_sliding_window") and bool(c.optional("sliding_window"))
    period = c.size("no_rope_layer_interval", 4)
    return lambda i: "sliding" if on and not (rotated[i] if rotated else (i + 1) % period) else "full"


@family("orion")
def orion(c: Config) -> Body:
    """Read Orion: Llama whose norms have biases."""
    bias = c.flag("attention_bias")
    return plain(c, *full(c), qkv_bias=bias, o_bias=bias, norm=2)


@family("arcee")
def arcee(c: Config) -> Body:
    """Read Arcee: Llama with a feed-forward of two matrices."""
    return plain(
        c,
        *full(c),
        gated=False,
        qkv_bias=c.flag("attention_bias"),
        o_bias=c.flag("attention_bias"),
        mlp_bias=c.flag("mlp_bias"),
    )


@family("apertus", "apertus1p5_text")
def apertus(c: Config) -> Body:
    """Apertus' xIELU activation has two learned scalars a layer."""
    return plain(
        c,
        *full(c),
        gated=False,
        qk_norm="head",
        qkv_bias=c.flag("attention_bias"),
        o_bias=c.flag("attention_bias"),
        extra_norm=2,
    )


@family("bitnet")
def bitnet(c: Config) -> Body:
    """BitNet norms what goes into the last matrix of attention and feed-forward too."""
    bias = c.flag("attention_bias")
    inner = c.size("hidden_size") + c.size("intermediate_size")
    return plain(c, *full(c), qkv_bias=bias, o_bias=bias, extra_norm=inner)


@family("diffllama")
def diffllama(c: Config) -> Body:
    """Differential attention has four vectors a layer, of a head's width, and caches as Llama does."""
    bias = c.flag("attention_bias")
    return plain(c, *full(c), qkv_bias=bias, o_bias=bias, extra_norm=4 * head_dim(c))


@family("hyperclovax")
def hyperclovax(c: Config) -> Body:
    """Read HyperCLOVA X: Llama, with norms behind each part where use_post_norm says so."""
    bias = c.flag("attention_bias")
    norms = 4 if c.flag("use_post_norm") else 2
    return plain(c, *full(c), qkv_bias=bias, o_bias=bias, mlp_bias=c.flag("mlp_bias"), norms=norms)
