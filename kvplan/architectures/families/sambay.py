"""SambaY (Phi-4-mini-flash): state spaces and windows below, one shared cache above."""

from collections.abc import Hashable
from dataclasses import replace

from kvplan.architectures.attention import attention_weights, gqa
from kvplan.architectures.config import Config
from kvplan.architectures.feed_forward import mlp
from kvplan.architectures.parts import Body, Part, decoder, layer_count, linear, vector
from kvplan.architectures.recurrence import mamba1, rank
from kvplan.architectures.registry import family


@family("phi4flash")
def phi4flash(c: Config) -> Body:
    """Read SambaY (arXiv 2507.06607): layers alternate between a state space and differential attention.

    In the lower half attention has windows. One layer above it sees all tokens and stores them; the attention after it
    reads that cache, and the state spaces after it become gates over the last one's output.
    """
    hidden, count = c.size("hidden_size"), layer_count(c)
    period, half = c.size("mb_per_layer", 2), count // 2
    kinds = [place(i, half, period) for i in range(count)]
    width = c.get("sliding_window", 512)
    window = next((w for w in width if w), 512) if isinstance(width, (list, tuple)) else width
    a, windowed = gqa(c), gqa(c, window=c.whole("sliding_window", window))
    inner = c.size("mamba_expand", 2) * hidden
    space = mamba1(
        c, hidden=hidden, inner=inner, state=c.size("mamba_d_state", 16), kernel=c.size("mamba_d_conv", 4),
        dt_rank=rank(c, "mamba_dt_rank", hidden), conv_bias=c.flag("mamba_conv_bias", True),
        bias=c.flag("mamba_proj_bias"),
    )  # fmt: skip
    gate = linear("gmu.in_proj", inner, hidden, split="inner") + linear("gmu.out_proj", hidden, inner, split="inner")

    def mix(kind: Hashable) -> Part:
        if kind in ("space", "gate"):
            return space if kind == "space" else ((), gate)
        own = {"sliding": windowed, "full": a, "shared": replace(a, stored=False)}[str(kind)]
        halves = vector("self_attn.differential", 4 * (a.key_dim // 2) + a.key_dim)
        return (own,), (*attention_weights(hidden, own, qkv_bias=True, o_bias=True), halves)

    dense = mlp(hidden, c.size("intermediate_size"))
    return decoder(c, kinds, mix, ["mlp"] * count, lambda _: dense, norm=2, head_bias=c.flag("lm_head_bias"))


def place(layer: int, half: int, period: int) -> str:
    """Return what a layer mixes tokens with: space, gate, sliding, full, or shared (reads the full layer's cache)."""
    if period and layer % period == 0:
        return "space" if layer < half + 2 else "gate"
    return "sliding" if layer < half else "full" if layer < half + 2 else "shared"
