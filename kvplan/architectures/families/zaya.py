"""ZAYA."""

from collections.abc import Hashable

from kvplan.architectures.attention import gqa, layer_kinds
from kvplan.architectures.config import Config
from kvplan.architectures.feed_forward import moe
from kvplan.architectures.parts import Body, Part, decoder, layer_count, linear, vector
from kvplan.architectures.registry import family
from kvplan.specs.model import Recurrent, Weight


@family("zaya")
def zaya(c: Config) -> Body:
    """Read ZAYA: convolved queries and keys (arXiv 2510.04476), half of each value a token late, a routing network.

    Beside keys and values a layer keeps the convolutions' last tokens and one late half of the values.
    """
    hidden, count, heads = c.size("hidden_size"), layer_count(c), c.size("num_attention_heads")
    kinds = layer_kinds(c, lambda _: "hybrid")
    a, window, route = gqa(c), c.optional("sliding_window"), c.size("router_hidden_size", 256)
    groups, dim, times = a.kv_heads, a.key_dim, (c.size("cca_time0", 2), c.size("cca_time1", 2))
    channels = (heads + groups) * dim
    late = Recurrent(
        name="late values", conv_channels=channels, conv_kernel=sum(times) - 2,
        state=groups * dim // 2, transformers_bits=None,
    )  # fmt: skip
    bias = c.flag("attention_bias")
    weights = linear("q_proj", heads * dim, hidden, split="heads", bias=bias)
    weights += linear("k_proj", groups * dim, hidden, split="kv", bias=bias)
    weights += linear("v_proj", groups * dim, hidden, split="kv", bias=bias)
    weights += linear("o_proj", hidden, heads * dim, split="heads", bias=bias)
    weights += (
        Weight(name="conv_depthwise", shape=(channels, times[0] + 1), split="inner", matmul=False),
        Weight(name="conv_grouped", shape=(channels, dim * times[1] + 1), split="inner", matmul=False),
        vector("qk_norm", groups),
        vector("scales", hidden, 8),
    )

    def mix(kind: Hashable) -> Part:
        own = gqa(c, window=window) if kind == "hybrid_sliding" else a
        return (own, late), weights

    experts = c.size("num_experts")
    routed = tuple(w for w in moe(c, hidden, c.size("moe_intermediate_size")) if w.name != "mlp.gate")
    router = (
        *linear("router.down_proj", route, hidden, bias=True),
        *linear("router.fc1", route, route, bias=True),
        *linear("router.fc2", route, route, bias=True),
        *linear("router.out_proj", experts + 1, route),
        vector("router.norm", route),
    )
    later = (vector("router.states_scale", route),)
    return decoder(
        c,
        kinds,
        mix,
        [i > 0 for i in range(count)],
        lambda after: routed + router + (later if after else ()),
        extra=(vector("input_scale", hidden, 2),),
        head_bias=c.flag("lm_head_bias"),
    )
