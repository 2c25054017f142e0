"""Feed-forward blocks: one MLP, or routed experts, and which layers have which."""

from collections.abc import Callable

from kvplan.architectures.config import Config
from kvplan.architectures.parts import layer_count, linear, vector
from kvplan.errors import SpecError
from kvplan.specs.model import Weight


def mlp(hidden: int, inner: int, *, gated: bool = True, bias: bool = False, prefix: str = "mlp") -> tuple[Weight, ...]:
    """Return a feed-forward block: up, down and, when gated, gate."""
    first = linear(f"{prefix}.gate_proj", inner, hidden, split="inner", bias=bias) if gated else ()
    up = linear(f"{prefix}.up_proj", inner, hidden, split="inner", bias=bias)
    return first + up + linear(f"{prefix}.down_proj", hidden, inner, split="inner", bias=bias)


def moe(
    c: Config,
    hidden: int,
    inner: int,
    *,
    experts: int | None = None,
    used: int | None = None,
    shared: int = 0,
    shared_gate: bool = False,
    gated: bool = True,
    bias: bool = False,
    router_bias: bool = False,
    prefix: str = "mlp",
    idle: int = 0,
    read: int | None = None,
    shared_bias: bool = False,
) -> tuple[Weight, ...]:
    """Return a mixture of experts: router, routed experts, and a shared expert `shared` wide.

    `idle` counts zero experts the router can pick; `read` is the width experts work in when not hidden.
    """
    experts = experts if experts is not None else c.size("num_experts")
    used = used if used is not None else c.size("num_experts_per_tok")
    if used > experts:
        raise SpecError(f"{c.place}: num_experts_per_tok {used} is larger than the number of experts {experts}")
    width = read or hidden
    weights: tuple[Weight, ...] = (Weight(name=f"{prefix}.gate", shape=(experts + idle, hidden), matmul=False),)
    if router_bias:
        weights += (vector(f"{prefix}.gate.bias", experts),)
    weights += linear(
        f"{prefix}.experts.gate_up_proj",
        (2 if gated else 1) * inner,
        width,
        split="expert",
        bias=bias,
        copies=experts,
        used=used,
    )
    weights += linear(f"{prefix}.experts.down_proj", width, inner, split="expert", bias=bias, copies=experts, used=used)
    if shared:
        weights += mlp(hidden, shared, gated=gated, bias=shared_bias, prefix=f"{prefix}.shared_experts")
    return weights + ((vector(f"{prefix}.shared_expert_gate", hidden),) if shared_gate else ())


def always(_: int) -> bool:
    """Return True: every layer has experts."""
    return True


def first_dense(c: Config) -> Callable[[int], bool]:
    """Return the DeepSeek-style rule for which layers have experts.

    mlp_layer_types if listed, else dense before first_k_dense_replace, then every moe_layer_freq.
    """
    listed = c.per_layer("mlp_layer_types", layer_count(c))
    if listed is not None:
        return lambda i: bool(listed[i] == "sparse")
    frequency = c.get("moe_layer_freq", 1)
    if isinstance(frequency, list):
        if len(frequency) != layer_count(c):
            raise SpecError(f"{c.place}: moe_layer_freq has {len(frequency)} entries for {layer_count(c)} layers")
        return lambda i: bool(frequency[i])
    unsaid = 1 if c.model_type in ("axk1", "glm4_moe_lite", "hy_v3", "kimi_linear") else 0
    first, step = (
        c.size("first_k_dense_replace", unsaid, low=0),
        c.whole("moe_layer_freq", 1 if frequency is None else frequency),
    )
    return lambda i: i >= first and i % step == 0
