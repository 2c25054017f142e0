"""Gemma 1 and 2, and RecurrentGemma (Griffin)."""

from kvplan.architectures.attention import attention_weights, every, full, gqa, mixed
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import plain
from kvplan.architectures.feed_forward import mlp
from kvplan.architectures.parts import Body, decoder, layer_count, linear, vector
from kvplan.architectures.registry import family
from kvplan.specs.model import Recurrent


@family("gemma")
def gemma(c: Config) -> Body:
    """Read Gemma: full attention in every layer."""
    bias = c.flag("attention_bias")
    return plain(c, *full(c), qkv_bias=bias, o_bias=bias)


@family("gemma2", "vaultgemma")
def gemma2(c: Config) -> Body:
    """Read Gemma 2 and VaultGemma: every other layer full, four norms a layer in Gemma 2."""
    bias = c.flag("attention_bias")
    return plain(
        c, *mixed(c, every(2, "sliding")), qkv_bias=bias, o_bias=bias, norms=4 if c.model_type == "gemma2" else 2
    )


@family("recurrent_gemma")
def recurrent_gemma(c: Config) -> Body:
    """RecurrentGemma (Griffin): RG-LRU blocks and local attention, as block_types repeats."""
    hidden, heads, count = c.size("hidden_size"), c.size("num_attention_heads"), layer_count(c)
    pattern = (
        c.entries("block_types", None) or c.entries("_block_types", None) or ["recurrent", "recurrent", "attention"]
    )
    kinds = ["full" if pattern[i % len(pattern)] == "attention" else "recurrent" for i in range(count)]
    width = c.optional("lru_width") or hidden
    kernel = c.size("conv1d_width", 4)
    gates = 2 * (width * width // heads + width)
    weights = linear("temporal_block.linear_y", width, hidden, bias=True) + linear(
        "temporal_block.linear_x", width, hidden, bias=True
    )
    weights += (
        *linear("temporal_block.linear_out", hidden, width, bias=True),
        vector("temporal_block.conv_1d", (kernel + 1) * width),
        vector("temporal_block.rg_lru", width + gates),
    )
    state = Recurrent(
        name="RG-LRU", conv_channels=width, conv_kernel=kernel, state=width, state_bits=32, in_transformers=False
    )
    a = gqa(c, window=c.size("attention_window_size", 2048))
    inner = c.size("intermediate_size") // 2
    ffn = mlp(hidden, inner, bias=True)
    attention = (a,), attention_weights(hidden, a, qkv_bias=c.flag("attention_bias"), o_bias=True)
    return decoder(
        c, kinds, lambda k: attention if k == "full" else ((state,), weights), ["mlp"] * count, lambda _: ffn
    )
