"""OLMo, dense, with experts, and with delta nets."""

from kvplan.architectures.attention import attends, every, full, gqa, layer_kinds, mixed
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import plain, sparse_throughout
from kvplan.architectures.feed_forward import mlp
from kvplan.architectures.parts import Body, decoder, linear, vector
from kvplan.architectures.recurrence import delta_state
from kvplan.architectures.registry import family


@family("olmo", "olmo2", "olmo3")
def olmo(c: Config) -> Body:
    """OLMo: norms without parameters. OLMo 2 and 3: norms after each block, and on whole q and k."""
    bias = c.flag("attention_bias")
    if c.model_type == "olmo":
        return plain(c, *full(c), qkv_bias=bias, o_bias=bias, norm=0, final_norm=False)
    kinds, attention = mixed(c, every(4, "sliding")) if c.model_type == "olmo3" else full(c)
    return plain(c, kinds, attention, qkv_bias=bias, o_bias=bias, qk_norm="full")


@family("olmoe", "flex_olmo")
def olmoe(c: Config) -> Body:
    """Read OLMoE and FlexOlmo: experts in every layer, norms over all heads of q and k."""
    return sparse_throughout(c, full(c), qk_norm="full")


@family("olmo_hybrid")
def olmo_hybrid(c: Config) -> Body:
    """OLMo hybrid: delta nets with separate projections, every fourth layer attention with norms after."""
    hidden, heads = c.size("hidden_size"), c.size("num_attention_heads")
    kinds = layer_kinds(c, every(4, "linear"))
    if not c.stated("layer_types") and "full" not in kinds:
        kinds[-1] = "full"  # a model of under four layers still ends in attention
    kh, vh = c.size("linear_num_key_heads", heads), c.size("linear_num_value_heads", heads)
    kd = c.size("linear_key_head_dim", int(0.75 * hidden / kh))
    vd = c.size("linear_value_head_dim", 2 * kd)
    keys, values, kernel = kh * kd, vh * vd, c.size("linear_conv_kernel_dim", 4)
    weights = linear("linear_attn.qkv", 2 * keys + values, hidden, split="inner") + linear(
        "linear_attn.ab", 2 * vh, hidden, split="inner"
    )
    weights += linear("linear_attn.g_proj", values, hidden, split="inner") + linear(
        "linear_attn.o_proj", hidden, values, split="inner"
    )
    weights += (
        vector("linear_attn.conv1d", kernel, 2 * keys + values),
        vector("linear_attn.dt_A", vh, 2),
        vector("linear_attn.o_norm", vd),
    )
    state = delta_state(c, 2 * keys + values, kernel, vh, kd, vd)
    ffn = mlp(hidden, c.size("intermediate_size"))
    bias = c.flag("attention_bias")
    return decoder(
        c,
        kinds,
        lambda k: attends(hidden, gqa(c), bias, qk_norm="full") if k == "full" else ((state,), weights),
        ["mlp"] * len(kinds),
        lambda _: ffn,
    )
