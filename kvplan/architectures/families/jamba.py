"""Jamba: Mamba-1, attention and experts by period."""

from collections.abc import Callable

from kvplan.architectures.attention import attends, gqa, layer_kinds
from kvplan.architectures.config import Config
from kvplan.architectures.feed_forward import mlp, moe
from kvplan.architectures.parts import Body, decoder
from kvplan.architectures.recurrence import mamba1, rank
from kvplan.architectures.registry import family


@family("jamba")
def jamba(c: Config) -> Body:
    """Jamba: Mamba-1 with inner norms, attention without RoPE once a period, experts on every other layer."""
    hidden, inner = c.size("hidden_size"), c.size("intermediate_size")
    kinds = layer_kinds(c, periodic(c, "attn_layer", "full", "mamba"))
    blocks = periodic(c, "expert_layer", "moe", "mlp")
    state = mamba1(
        c,
        hidden=hidden,
        inner=c.size("mamba_expand", 2) * hidden,
        state=c.size("mamba_d_state"),
        kernel=c.size("mamba_d_conv"),
        dt_rank=rank(c, "mamba_dt_rank", hidden),
        conv_bias=c.flag("mamba_conv_bias", True),
        bias=c.flag("mamba_proj_bias"),
        norms=True,
    )
    experts, dense = (moe(c, hidden, inner) if c.size("num_experts") > 1 else mlp(hidden, inner)), mlp(hidden, inner)
    return decoder(
        c,
        kinds,
        lambda k: attends(hidden, gqa(c, rope=False)) if k == "full" else state,
        [blocks(i) for i in range(len(kinds))],
        lambda b: experts if b == "moe" else dense,
    )


def periodic(c: Config, name: str, inside: str, outside: str) -> Callable[[int], str]:
    """Return the rule: layers from {name}_offset on, every {name}_period, are `inside`, others `outside`."""
    period, offset = c.size(f"{name}_period"), c.size(f"{name}_offset", low=0)
    return lambda i: inside if i % period == offset else outside
