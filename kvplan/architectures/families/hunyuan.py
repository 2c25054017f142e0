"""HunYuan, dense and with experts."""

from kvplan.architectures.attention import full
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import plain, sparse
from kvplan.architectures.feed_forward import always, moe
from kvplan.architectures.parts import Body
from kvplan.architectures.registry import family


@family("hunyuan_v1_dense")
def hunyuan(c: Config) -> Body:
    """Read dense HunYuan: norms on the heads of q and k."""
    bias = c.flag("attention_bias")
    return plain(c, *full(c), qkv_bias=bias, o_bias=bias, qk_norm="head")


@family("hunyuan_v1_moe")
def hunyuan_moe(c: Config) -> Body:
    """Read HunYuan MoE: experts in every layer, one of them shared, norms on the heads of q and k."""
    bias, inner = c.flag("attention_bias"), c.size("intermediate_size")
    used = c.get("moe_topk", 1)
    experts = moe(
        c,
        c.size("hidden_size"),
        inner,
        used=c.whole("moe_topk", used[0] if isinstance(used, list) else used),
        shared=inner,
    )
    return sparse(c, *full(c), always, experts, qkv_bias=bias, o_bias=bias, qk_norm="head")
