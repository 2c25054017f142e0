"""Layers of constant state that several families share: Mamba-1 and Mamba-2."""

from math import ceil

from kvplan.architectures.config import Config
from kvplan.architectures.parts import Part, linear, vector
from kvplan.errors import SpecError
from kvplan.specs.model import Recurrent, Weight


def state_bits(c: Config) -> int | None:
    """Return the width an engine keeps recurrent state in, when the config asks for one."""
    for key in ("mamba_ssm_cache_dtype", "mamba_ssm_dtype", "ssm_state_dtype"):
        stated = c.get(key, None) if c.stated(key) else None  # engines follow the file, not the class default
        if stated in ("float32", "fp32"):
            return 32
    return None


def delta_state(c: Config, channels: int, kernel: int, heads: int, key_dim: int, value_dim: int) -> Recurrent:
    """Return what a gated delta net keeps of a sequence: a key x value matrix a head, and columns of a convolution."""
    return Recurrent(
        name="gated delta net",
        conv_channels=channels,
        conv_kernel=kernel,
        state=heads * key_dim * value_dim,
        state_bits=state_bits(c),
        conv_drafts=True,
    )


def mamba1(
    c: Config,
    *,
    hidden: int,
    inner: int,
    state: int,
    kernel: int,
    dt_rank: int,
    conv_bias: bool,
    bias: bool,
    norms: bool = False,
    prefix: str = "mamba",
) -> Part:
    """Return a Mamba-1 mixer (Gu & Dao 2023): per channel a convolution tail and `state` numbers."""
    weights = linear(f"{prefix}.in_proj", 2 * inner, hidden, split="inner", bias=bias)
    weights += (Weight(name=f"{prefix}.conv1d", shape=(inner, kernel + conv_bias), split="inner", matmul=False),)
    weights += linear(f"{prefix}.x_proj", dt_rank + 2 * state, inner, split="inner") + linear(
        f"{prefix}.dt_proj", inner, dt_rank, split="inner", bias=True
    )
    weights += (Weight(name=f"{prefix}.A_D", shape=(inner, state + 1), split="inner", matmul=False),)
    weights += linear(f"{prefix}.out_proj", hidden, inner, split="inner", bias=bias)
    if norms:
        weights += (vector(f"{prefix}.norms", dt_rank + 2 * state),)
    return (
        Recurrent(name="mamba", conv_channels=inner, conv_kernel=kernel, state=inner * state, state_bits=state_bits(c)),
    ), weights


def mamba2(
    c: Config,
    *,
    hidden: int,
    inner: int,
    heads: int,
    groups: int,
    state: int,
    kernel: int,
    conv_bias: bool,
    bias: bool,
    norm: bool = True,
    prefix: str = "mamba",
) -> Part:
    """Return a Mamba-2 mixer (Dao & Gu 2024)."""
    channels = inner + 2 * groups * state
    weights = linear(f"{prefix}.in_proj", inner + channels + heads, hidden, split="inner", bias=bias)
    weights += (Weight(name=f"{prefix}.conv1d", shape=(channels, kernel + conv_bias), split="inner", matmul=False),)
    weights += (vector(f"{prefix}.dt_A_D", heads, 3),) + ((vector(f"{prefix}.norm", inner),) if norm else ())
    weights += linear(f"{prefix}.out_proj", hidden, inner, split="inner", bias=bias)
    return (
        Recurrent(
            name="mamba2",
            conv_channels=channels,
            conv_kernel=kernel,
            state=inner * state,
            state_bits=state_bits(c),
            conv_drafts=True,
        ),
    ), weights


def rank(c: Config, name: str, hidden: int) -> int:
    """Return Mamba-1's dt rank; 'auto' is a sixteenth of the width."""
    value = c.get(name, "auto")
    return ceil(hidden / 16) if value == "auto" else c.whole(name, value)


def named_mamba2(c: Config, hidden: int) -> Part:
    """Return the Mamba-2 mixer of configs that spell its sizes mamba_*."""
    heads, dim = c.size("mamba_n_heads"), c.get("mamba_d_head", "auto")
    inner = c.size("mamba_expand", 2) * hidden
    if dim not in ("auto", None) and c.whole("mamba_d_head", dim) * heads != inner:
        raise SpecError(
            f"{c.place}: mamba_n_heads {heads} x mamba_d_head {dim} must equal mamba_expand x hidden_size = {inner}"
        )
    return mamba2(
        c,
        hidden=hidden,
        inner=inner,
        heads=heads,
        groups=c.size("mamba_n_groups"),
        state=c.size("mamba_d_state"),
        kernel=c.size("mamba_d_conv"),
        conv_bias=c.flag("mamba_conv_bias", True),
        bias=c.flag("mamba_proj_bias"),
    )
