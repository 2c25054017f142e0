"""Nemotron, Nemotron-NAS (Puzzle), Nemotron-H and Nemotron 3."""

from collections.abc import Hashable

from kvplan.architectures.attention import attends, attention_weights, full, gqa
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import plain
from kvplan.architectures.feed_forward import mlp, moe
from kvplan.architectures.parts import Body, Part, decoder, layer_count, linear, vector
from kvplan.architectures.recurrence import mamba2
from kvplan.architectures.registry import family
from kvplan.errors import SpecError, shown
from kvplan.specs.model import Weight


@family("nemotron", "jais2")
def nemotron(c: Config) -> Body:
    """Read Nemotron: a feed-forward of two matrices, and norms with biases."""
    bias = c.flag("attention_bias")
    return plain(c, *full(c), qkv_bias=bias, o_bias=bias, mlp_bias=c.flag("mlp_bias"), gated=False, norm=2)


@family("nemotron_nas")
def nemotron_nas(c: Config) -> Body:
    """Nemotron-NAS (Puzzle): block_configs gives each layer its own KV heads, MLP width, or none of either."""
    hidden, heads, count = c.size("hidden_size"), c.size("num_attention_heads"), layer_count(c)
    blocks = c.per_layer("block_configs", count)
    if blocks is None:
        raise SpecError(f"{c.place}: missing block_configs; a nemotron-nas config lists one block a layer")
    kinds: list[Hashable] = []
    ffns: list[Hashable] = []
    for i, block in enumerate(blocks):
        if not (
            isinstance(block, dict) and isinstance(block.get("attention"), dict) and isinstance(block.get("ffn"), dict)
        ):
            raise SpecError(f"{c.place}: block_configs[{i}] must have 'attention' and 'ffn' objects")
        a, f = block["attention"], block["ffn"]
        group = a.get("n_heads_in_group")
        kinds.append(
            "none"
            if a.get("no_op")
            else "linear"
            if a.get("replace_with_linear")
            else heads // c.whole("n_heads_in_group", group)
        )
        multiplier = f.get("ffn_mult")
        ffns.append(0 if f.get("no_op") else -1 if f.get("replace_with_linear") else nas_width(c, hidden, multiplier))

    def mix(kind: Hashable) -> Part:
        if kind == "none":
            return (), ()
        if kind == "linear":
            return (), (*linear("self_attn.linear_attn", hidden, hidden), vector("input_layernorm", hidden))
        a = gqa(c, groups=int(str(kind)))
        return (a,), (*attention_weights(hidden, a), vector("input_layernorm", hidden))

    def ffn(width: Hashable) -> tuple[Weight, ...]:
        if width == 0:
            return ()
        if width == -1:
            return (*linear("mlp.linear_mlp", hidden, hidden), vector("post_attention_layernorm", hidden))
        return (*mlp(hidden, int(str(width))), vector("post_attention_layernorm", hidden))

    return decoder(c, kinds, mix, ffns, ffn, norms=0)


def nas_width(c: Config, hidden: int, multiplier: object) -> int:
    """Return the MLP width of a ffn_mult: two thirds of it, rounded up to a multiple of 256."""
    if isinstance(multiplier, bool) or not isinstance(multiplier, (int, float)) or not 0 < multiplier < 1000:
        raise SpecError(f"{c.place}: ffn_mult must be a positive number, got {shown(multiplier)}")
    width = int(2 * multiplier * hidden / 3)
    return -(-width // 256) * 256


@family("nemotron_h")
def nemotron_h(c: Config) -> Body:
    """Nemotron-H and Nemotron 3: one block a layer, as hybrid_override_pattern spells it.

    M mamba, * attention, - MLP, E experts.
    """
    hidden = c.size("hidden_size")
    kinds = nemotron_kinds(c)
    bias = c.flag("mlp_bias")
    count_heads = c.size("mamba_num_heads")
    inner = count_heads * c.size("mamba_head_dim")
    group = c.get("n_groups") if not c.stated("mamba_n_groups") else c.get("mamba_n_groups")
    state = mamba2(
        c,
        hidden=hidden,
        inner=inner,
        heads=count_heads,
        groups=c.whole("n_groups", group),
        state=c.size("ssm_state_size"),
        kernel=c.size("conv_kernel"),
        conv_bias=c.flag("use_conv_bias", True),
        bias=c.flag("use_bias"),
        prefix="mixer",
    )

    def experts() -> tuple[Weight, ...]:
        narrow = c.optional("moe_latent_size")
        weights = moe(
            c,
            hidden,
            c.size("moe_intermediate_size"),
            gated=False,
            shared=c.size("moe_shared_expert_intermediate_size"),
            shared_bias=bias,
            prefix="mixer",
            read=narrow,
        )
        if narrow:
            weights += linear("mixer.fc1_latent_proj", narrow, hidden, bias=bias) + linear(
                "mixer.fc2_latent_proj", hidden, narrow, bias=bias
            )
        return weights

    def mix(kind: Hashable) -> Part:
        if kind == "full":
            return attends(hidden, gqa(c, rope=False), prefix="mixer")
        if kind == "moe":
            return (), experts()
        return (
            state
            if kind in ("mamba", "linear")
            else ((), mlp(hidden, c.size("intermediate_size"), gated=False, bias=bias, prefix="mixer"))
        )

    return decoder(c, kinds, mix, ["none"] * len(kinds), lambda _: (), norms=1)


def nemotron_kinds(c: Config) -> list[str]:
    """Return the kind of each layer of Nemotron-H, from its pattern of letters or its list.

    Raises SpecError for an unknown one.
    """
    pattern = c.get("hybrid_override_pattern", None)
    if isinstance(pattern, str) and pattern and not c.stated("layer_types"):
        letters = {"M": "mamba", "*": "full", "-": "mlp", "E": "moe"}
        unknown = sorted(set(pattern) - set(letters))
        if unknown:
            raise SpecError(
                f"{c.place}: hybrid_override_pattern has {shown(unknown[0])}; "
                "known: M (mamba), * (attention), - (mlp), E (experts)"
            )
        return [letters[p] for p in pattern]
    for field in ("layers_block_type", "layer_types"):
        if c.entries(field) is not None and c.stated(field):
            return [
                {"attention": "full", "full_attention": "full", "linear_attention": "mamba"}.get(str(k), str(k))
                for k in checked_kinds(c, field)
            ]
    raise SpecError(
        f"{c.place}: missing hybrid_override_pattern; a nemotron_h config must state its layers (M, *, -, E)"
    )


def checked_kinds(c: Config, field: str) -> list[object]:
    """Return the listed kinds of layers; raise SpecError for one that is not known."""
    kinds = c.entries(field) or []
    for kind in kinds:
        if kind not in ("mamba", "attention", "mlp", "moe", "full_attention", "linear_attention"):
            raise SpecError(f"{c.place}: {field} has {shown(kind)}; known: mamba, attention, mlp, moe")
    return kinds
