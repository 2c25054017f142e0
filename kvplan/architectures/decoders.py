"""Two frames that most families fill: attention with an MLP a layer, and attention with experts."""

from collections.abc import Callable, Hashable

from kvplan.architectures.attention import attention_weights
from kvplan.architectures.config import Config
from kvplan.architectures.feed_forward import always, mlp, moe
from kvplan.architectures.parts import Body, Part, decoder, linear, vector
from kvplan.specs.model import Attention, Weight


def plain(
    c: Config,
    kinds: list[str],
    attention: Callable[[Hashable], Attention],
    *,
    qkv_bias: bool = False,
    o_bias: bool = False,
    mlp_bias: bool = False,
    gated: bool = True,
    qk_norm: str = "",
    q_gate: bool = False,
    norms: int = 2,
    norm: int = 1,
    final_norm: bool = True,
    positions: int = 0,
    head_bias: bool = False,
    embedding_norm: bool = False,
    inner: int | None = None,
    sinks: int = 0,
    extra_norm: int = 0,
) -> Body:
    """Return a decoder of attention and one MLP a layer, with the given biases and norms."""
    hidden = c.size("hidden_size")
    width = inner or c.size("intermediate_size")

    def mix(kind: Hashable) -> Part:
        a = attention(kind)
        return (a,), attention_weights(
            hidden, a, qkv_bias=qkv_bias, o_bias=o_bias, qk_norm=qk_norm, gated=q_gate, extra=sinks
        )

    def ffn(_: Hashable) -> tuple[Weight, ...]:
        return mlp(hidden, width, gated=gated, bias=mlp_bias) + ((vector("extra", extra_norm),) if extra_norm else ())

    return decoder(
        c,
        kinds,
        mix,
        ["mlp"] * len(kinds),
        ffn,
        norms=norms,
        norm=norm,
        final_norm=final_norm,
        positions=positions,
        head_bias=head_bias,
        embedding_norm=embedding_norm,
    )


def sparse(
    c: Config,
    kinds: list[str],
    attention: Callable[[Hashable], Attention],
    is_moe: Callable[[int], bool],
    experts: tuple[Weight, ...],
    *,
    dense: int = 0,
    qkv_bias: bool = False,
    o_bias: bool = False,
    qk_norm: str = "",
    q_gate: bool = False,
    norms: int = 2,
    norm: int = 1,
    head_bias: bool = False,
    mlp_bias: bool = False,
    sinks: int = 0,
    attention_gate: bool = False,
) -> Body:
    """Return a decoder whose feed-forward is `experts` where is_moe(layer), else an MLP `dense` wide."""
    hidden = c.size("hidden_size")

    def mix(kind: Hashable) -> Part:
        a = attention(kind)
        weights = attention_weights(
            hidden, a, qkv_bias=qkv_bias, o_bias=o_bias, qk_norm=qk_norm, gated=q_gate, extra=sinks
        )
        return (a,), weights + (
            linear("self_attn.gate_proj", a.heads * a.value_dim, hidden, split="heads") if attention_gate else ()
        )

    def ffn(block: Hashable) -> tuple[Weight, ...]:
        return experts if block == "moe" else mlp(hidden, dense, bias=mlp_bias)

    return decoder(
        c,
        kinds,
        mix,
        ["moe" if is_moe(i) else "mlp" for i in range(len(kinds))],
        ffn,
        norms=norms,
        norm=norm,
        head_bias=head_bias,
    )


def sparse_throughout(
    c: Config, layers: tuple[list[str], Callable[[Hashable], Attention]], *, qk_norm: str = "", norm: int = 1,
    head_bias: bool = False,
) -> Body:  # fmt: skip
    """Return a decoder with experts in every layer, whose attention has the biases that the config says."""
    bias = c.flag("attention_bias")
    experts = moe(c, c.size("hidden_size"), c.size("intermediate_size"))
    return sparse(
        c, *layers, always, experts, qkv_bias=bias, o_bias=bias, qk_norm=qk_norm, norm=norm, head_bias=head_bias
    )
