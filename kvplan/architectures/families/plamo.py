"""PLaMo: a decoder with one norm a layer; PLaMo 2: Mamba and windowed attention in turn (Samba's kin)."""

from collections.abc import Hashable
from math import ceil

from kvplan.architectures.attention import attends, gqa
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import plain
from kvplan.architectures.feed_forward import mlp
from kvplan.architectures.parts import Body, Part, decoder, layer_count, linear, vector
from kvplan.architectures.recurrence import state_bits
from kvplan.architectures.registry import family
from kvplan.errors import SpecError
from kvplan.specs.model import Recurrent, Weight


@family("plamo")
def plamo(c: Config) -> Body:
    """Read PLaMo 1: n_shared_head query heads share a key/value head, whatever num_key_value_heads says.

    Attention and feed-forward read one norm's output (modeling_plamo.py; llama.cpp's conversion: five heads of 40).
    """
    heads = c.size("num_attention_heads")
    a = gqa(c, dim=max(c.size("hidden_size") // heads, 1), groups=ceil(heads / c.size("n_shared_head", 8)))
    return plain(c, ["full"] * layer_count(c), lambda _: a, norms=1)


@family("plamo2")
def plamo2(c: Config) -> Body:
    """Read PLaMo 2: one layer of every mamba_step attends, within a window unless full_attention_idx names it."""
    hidden, count, dim = c.size("hidden_size"), layer_count(c), c.size("hidden_size_per_head", 128)
    step, window = c.size("mamba_step", 2), c.optional("attention_window_size")
    whole = {c.whole("full_attention_idx", i, low=0) for i in c.entries("full_attention_idx") or []}
    if any(i >= count for i in whole):
        raise SpecError(f"{c.place}: full_attention_idx names a layer beyond the {count} there are")

    def kind(i: int) -> str:
        attending = i == count - 1 if count <= step // 2 else i % step == step // 2
        if not attending and c.flag("mamba_enabled", True):
            return "mamba"
        return "full" if window is None or i in whole else "sliding"

    def mix(k: Hashable) -> Part:
        if k == "mamba":
            return selective(c, hidden, dim)
        return attends(hidden, gqa(c, dim=dim, window=window if k == "sliding" else None), qk_norm="full")

    dense = mlp(hidden, c.size("intermediate_size"))
    return decoder(c, [kind(i) for i in range(count)], mix, ["mlp"] * count, lambda _: dense, norms=4)


def selective(c: Config, hidden: int, dim: int) -> Part:
    """Return PLaMo's Mamba: heads share their state's inputs, a step for each head."""
    heads, states, kernel = c.size("mamba_num_heads", 64), c.size("mamba_d_state", 64), c.size("mamba_d_conv", 4)
    inner, rank = heads * dim, max(64, hidden // 16)
    weights = linear("mixer.in_proj", 2 * inner, hidden, split="inner")
    weights += (Weight(name="mixer.conv1d", shape=(inner, kernel), split="inner", matmul=False),)
    weights += linear("mixer.bcdt_proj", rank + 2 * states, inner, split="inner")
    weights += linear("mixer.dt_proj", heads, rank, split="inner")
    weights += (vector("mixer.dt_A_D", heads, 3), vector("mixer.norms", rank + 2 * states))
    weights += linear("mixer.out_proj", hidden, inner, split="inner")
    state = Recurrent(
        name="mamba", conv_channels=inner, conv_kernel=kernel, state=inner * states, state_bits=state_bits(c)
    )
    return (state,), weights
