"""Cohere's Command models, dense and with experts."""

from kvplan.architectures.attention import every, gqa, layer_kinds, windowed
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import plain, sparse
from kvplan.architectures.feed_forward import first_dense, moe
from kvplan.architectures.parts import Body, layer_count
from kvplan.architectures.registry import family
from kvplan.errors import SpecError


@family("cohere", "cohere2", "cohere_compass_text")
def cohere(c: Config) -> Body:
    """Cohere: attention and MLP in parallel behind one norm; Command R+ norms every head by itself.

    Compass (North Micro Vision) has windows where its file lists them.
    """
    bias = c.flag("attention_bias")
    kinds = ["full"] * layer_count(c)
    if c.model_type == "cohere2":
        kinds = layer_kinds(c, every(c.size("sliding_window_pattern", 4), "sliding"))
    elif c.model_type == "cohere_compass_text":
        kinds = layer_kinds(c, lambda _: "full")
    window = c.optional("sliding_window")
    if "sliding" in kinds and not window:
        raise SpecError(f"{c.place}: sliding layers without a sliding_window; state its size in tokens")
    return plain(
        c,
        kinds,
        lambda kind: gqa(c, window=window if kind == "sliding" else None),
        qkv_bias=bias,
        o_bias=bias,
        norms=1,
        qk_norm="heads" if c.model_type == "cohere" and c.flag("use_qk_norm") else "",
    )


@family("cohere2_moe")
def cohere2_moe(c: Config) -> Body:
    """Read Cohere 2 MoE: dense layers, then experts, full attention by a period in each part."""
    hidden, bias = c.size("hidden_size"), c.flag("attention_bias")
    first, period, early = (
        c.size("first_k_dense_replace", 0, low=0),
        c.size("sliding_window_pattern", 4),
        c.size("prefix_dense_sliding_window_pattern", 4),
    )
    kinds = layer_kinds(c, lambda i: every(early, "sliding")(i) if i < first else every(period, "sliding")(i - first))
    inner = c.size("intermediate_size")
    shared = c.size("num_shared_experts", 0, low=0) * inner
    return sparse(
        c,
        kinds,
        windowed(c, kinds),
        first_dense(c),
        moe(c, hidden, inner, shared=shared),
        dense=c.size("prefix_dense_intermediate_size", inner),
        qkv_bias=bias,
        o_bias=bias,
        norms=1,
    )
