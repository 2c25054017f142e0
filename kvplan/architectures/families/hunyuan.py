"""HunYuan, dense and with experts."""

from kvplan.architectures.attention import attends, full, gqa
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import plain, sparse
from kvplan.architectures.feed_forward import always, mlp, moe
from kvplan.architectures.parts import Body, decoder, layer_count
from kvplan.architectures.registry import family
from kvplan.errors import SpecError


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


@family("hunyuan")
def hunyuan_large(c: Config) -> Body:
    """Hunyuan-Large: layers read the keys and values of the first of each cla_share_factor, experts everywhere."""
    hidden, count, inner = c.size("hidden_size"), layer_count(c), c.size("intermediate_size")
    share = c.size("cla_share_factor", 2) if c.flag("use_cla") else 1
    bias, norm = c.flag("attention_bias"), "head" if c.flag("use_qk_norm") else ""
    own, read = gqa(c), gqa(c, stored=False)
    experts = first(c, "num_experts", 1)
    ffn = mlp(hidden, inner)
    if experts > 1:
        shared = first(c, "num_shared_expert", 1) * inner if c.flag("use_mixed_mlp_moe") else 0
        width = first(c, "moe_intermediate_size", inner)
        ffn = moe(c, hidden, width, experts=experts, used=first(c, "moe_topk", 1), shared=shared)
    return decoder(
        c,
        ["full" if i % share == 0 else "shared" for i in range(count)],
        lambda kind: attends(hidden, own if kind == "full" else read, bias, qk_norm=norm),
        ["ffn"] * count,
        lambda _: ffn,
    )


def first(c: Config, name: str, unsaid: int) -> int:
    """Return a size that files give as one number or, alike, for each layer."""
    value = c.get(name, None)
    if isinstance(value, list) and any(v != value[0] for v in value):
        raise SpecError(f"{c.place}: {name} differs between layers, which kvplan does not read")
    value = value[0] if isinstance(value, list) and value else value
    return unsaid if value is None else c.whole(name, value)
