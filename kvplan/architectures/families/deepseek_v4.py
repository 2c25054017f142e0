"""DeepSeek-V4: windows, compressed attention of two ratios, and hyper-connections between layers."""

from dataclasses import replace

from kvplan.architectures.config import Config
from kvplan.architectures.feed_forward import moe
from kvplan.architectures.parts import Body, Part, decoder, layer_count, linear, vector
from kvplan.architectures.registry import family
from kvplan.errors import SpecError, shown
from kvplan.specs.model import Compressed, Weight

#: layer_types and the ratios they stand for, unless compress_rates says otherwise
RATIOS = {"sliding_attention": 0, "compressed_sparse_attention": 4, "heavily_compressed_attention": 128}
SPARSE = "compressed_sparse_attention"


@family("deepseek_v4")
def deepseek_v4(c: Config) -> Body:
    """Read DeepSeek-V4: every layer sees a window, most also compressed vectors, of 4 tokens (by an indexer) or 128."""
    hidden, count, inner = c.size("hidden_size"), layer_count(c), c.size("moe_intermediate_size")
    kinds, rates = layer_types(c, count), ratios(c)
    experts = moe(c, hidden, inner, shared=inner)  # one expert as wide, whatever n_shared_experts says
    streams = c.size("hc_mult")
    mixing = (2 + streams) * streams
    connection = (
        Weight(name="hyper_connections.fn", shape=(2, mixing, streams * hidden), matmul=False),
        vector("hyper_connections.base", mixing + 3, 2),
    )
    head = (
        Weight(name="hyper_connections.head", shape=(streams, streams * hidden), matmul=False),
        vector("hyper_connections.base", streams + 1),
    )
    return decoder(
        c,
        kinds,
        lambda kind: attention(c, hidden, str(kind), rates[str(kind)]),
        ["moe"] * count,
        lambda _: experts + connection,
        extra=head,
    )


def layer_types(c: Config, count: int) -> list[str]:
    """Return each layer's kind: as layer_types lists them, else by compress_ratios, else 128 and 4 in turn."""
    listed = c.entries("layer_types")
    if listed is None and (numbers := c.entries("compress_ratios")) is not None:
        named = {ratio: name for name, ratio in RATIOS.items()}
        unknown = [n for n in numbers if n not in named]
        if unknown:
            raise SpecError(f"{c.place}: compress_ratios has {shown(unknown[0])}; kvplan knows 0, 4 and 128")
        listed = [named[n] for n in numbers]  # the layers that draft tokens follow the others
    if listed is None:
        listed = ["heavily_compressed_attention" if i < 2 or i % 2 == 0 else SPARSE for i in range(count)]
    if len(listed) < count or any(kind not in RATIOS for kind in listed):
        raise SpecError(f"{c.place}: layer_types must name one of {', '.join(RATIOS)} for each of {count} layers")
    return listed[:count]


def ratios(c: Config) -> dict[str, int]:
    """Return the tokens to a compressed vector by kind of layer."""
    stated = c.get("compress_rates", None) or {}
    if not isinstance(stated, dict):
        raise SpecError(f"{c.place}: compress_rates must be an object, got {shown(stated)}")
    return {kind: c.whole("compress_rates", stated.get(kind, ratio), low=0) for kind, ratio in RATIOS.items()}


def attention(c: Config, hidden: int, kind: str, ratio: int) -> Part:
    """Return a layer's attention: low-rank queries, one key-value vector, grouped low-rank output, its compressors."""
    heads, dim, rank = c.size("num_attention_heads"), c.size("head_dim"), c.size("q_lora_rank")
    groups, narrow = c.size("o_groups"), c.size("o_lora_rank")
    if heads * dim % groups:
        raise SpecError(f"{c.place}: o_groups {groups} must divide num_attention_heads x head_dim {heads * dim}")
    weights = (*linear("self_attn.q_a_proj", rank, hidden), vector("self_attn.q_a_norm", rank))
    weights += linear("self_attn.q_b_proj", heads * dim, rank, split="heads")
    weights += (*linear("self_attn.kv_proj", dim, hidden), vector("self_attn.kv_norm", dim))
    weights += linear("self_attn.o_a_proj", groups * narrow, heads * dim // groups, split="heads")
    weights += linear("self_attn.o_b_proj", hidden, groups * narrow, split="heads")
    weights += (vector("self_attn.sinks", heads),)
    mixer = Compressed(
        heads=heads,
        dim=dim,
        rope_dim=c.optional("qk_rope_head_dim")
        or int(dim * (c.real("partial_rotary_factor") if c.get("partial_rotary_factor", None) else 0.125)),
        window=c.size("sliding_window"),
        ratio=ratio,
    )
    if not ratio:
        return (mixer,), weights
    if kind != SPARSE:
        return (mixer,), weights + compressor("self_attn.compressor", hidden, dim, ratio, 1)
    index, index_heads = c.size("index_head_dim"), c.size("index_n_heads")
    weights += compressor("self_attn.compressor", hidden, dim, ratio, 2)
    weights += compressor("self_attn.indexer", hidden, index, ratio, 2)
    weights += linear("self_attn.indexer.q_b_proj", index_heads * index, rank)
    weights += linear("self_attn.indexer.weights_proj", index_heads, hidden)
    return (
        replace(mixer, overlap=2, index_dim=index, index_heads=index_heads, index_top=c.size("index_topk")),
    ), weights


def compressor(prefix: str, hidden: int, dim: int, ratio: int, overlap: int) -> tuple[Weight, ...]:
    """Return what makes one vector of `ratio` tokens: projections, gates, a bias a place, and a norm."""
    return (
        *linear(f"{prefix}.kv_proj", overlap * dim, hidden),
        *linear(f"{prefix}.gate_proj", overlap * dim, hidden),
        vector(f"{prefix}.position_bias", overlap * dim, ratio),
        vector(f"{prefix}.kv_norm", dim),
    )
