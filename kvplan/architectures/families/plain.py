"""A plain decoder: what an unknown architecture is read as where no field hints at anything else."""

from kvplan.architectures.attention import mixed
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import plain, sparse
from kvplan.architectures.feed_forward import first_dense, moe
from kvplan.architectures.parts import Body, linear
from kvplan.architectures.registry import family


@family("plain")
def plain_decoder(c: Config) -> Body:
    """Read an unknown decoder: full attention where layer_types says nothing else, gated feed-forwards or experts."""
    hidden = c.size("hidden_size")
    kinds, attention = mixed(c, lambda _: "full")
    bias = any(c.flag(name) for name in ("attention_bias", "use_bias", "bias"))
    qkv_bias = bias or any(c.flag(name) for name in ("qkv_bias", "use_qkv_bias", "add_qkv_bias"))
    qk_norm = "head" if any(c.flag(name) for name in ("use_qk_norm", "qk_norm", "qk_layernorm")) else ""
    if not (c.optional("num_experts") or 0) > 1:
        inner = c.optional("intermediate_size") or 4 * hidden
        mlp_bias = c.flag("mlp_bias") or c.flag("use_bias")
        return plain(
            c, kinds, attention, qkv_bias=qkv_bias, o_bias=bias, qk_norm=qk_norm, mlp_bias=mlp_bias, inner=inner
        )
    inner = c.optional("moe_intermediate_size") or c.size("intermediate_size")
    several = next((c.optional(n) or 0 for n in ("n_shared_experts", "num_shared_experts") if c.stated(n)), 0)
    shared = c.optional("shared_expert_intermediate_size") or several * inner
    narrow = next((c.optional(n) for n in ("routed_expert_hidden_size", "moe_hidden_size") if c.stated(n)), None)
    experts = moe(c, hidden, inner, shared=shared, read=narrow)
    if narrow:  # experts that work in a latent, as Kimi K3's and Muse Spark's do
        experts += linear("mlp.down_proj", narrow, hidden) + linear("mlp.up_proj", hidden, narrow)
    return sparse(
        c,
        kinds,
        attention,
        first_dense(c),
        experts,
        dense=c.size("intermediate_size", inner),
        qkv_bias=qkv_bias,
        o_bias=bias,
        qk_norm=qk_norm,
    )
