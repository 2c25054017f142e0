"""Layers with constant state, alone or mixed with attention.

Mamba, gated delta nets, KDA, lightning attention, short convolutions.
"""

from collections.abc import Callable, Hashable
from math import ceil

from kvplan.architectures.config import Config
from kvplan.architectures.moe import first_dense, stepped
from kvplan.architectures.parts import (
    Body,
    Part,
    attention_weights,
    decoder,
    every,
    gqa,
    kv_heads,
    latent,
    layer_count,
    layer_kinds,
    linear,
    mamba1,
    mamba2,
    mlp,
    moe,
    state_bits,
    vector,
)
from kvplan.architectures.registry import family
from kvplan.errors import SpecError, shown
from kvplan.specs.model import Attention, Recurrent, Weight


def rank(c: Config, name: str, hidden: int) -> int:
    """Return Mamba-1's dt rank; 'auto' is a sixteenth of the width."""
    value = c.get(name, "auto")
    return ceil(hidden / 16) if value == "auto" else c.whole(name, value)


def attends(hidden: int, a: Attention, bias: bool = False, **more: object) -> Part:
    """Return a layer part of plain attention: its mixer, and its projections with or without biases."""
    return (a,), attention_weights(hidden, a, qkv_bias=bias, o_bias=bias, **more)  # type: ignore[arg-type]


@family("mamba", "falcon_mamba")
def mamba(c: Config) -> Body:
    """Read Mamba: every layer a selective state space (arXiv 2312.00752), no cache per token."""
    hidden, count = c.size("hidden_size"), layer_count(c)
    inner = c.optional("intermediate_size") or c.size("expand", 2) * hidden
    part = mamba1(
        c,
        hidden=hidden,
        inner=inner,
        state=c.size("state_size"),
        kernel=c.size("conv_kernel"),
        dt_rank=rank(c, "time_step_rank", hidden),
        conv_bias=c.flag("use_conv_bias", True),
        bias=c.flag("use_bias"),
        prefix="mixer",
    )
    return decoder(c, ["mamba"] * count, lambda _: part, ["none"] * count, lambda _: (), norms=1)


@family("mamba2")
def mamba_2(c: Config) -> Body:
    """Read Mamba-2: every layer a state space with heads (arXiv 2405.21060), no cache per token."""
    hidden, count, heads = c.size("hidden_size"), layer_count(c), c.size("num_heads")
    part = mamba2(
        c,
        hidden=hidden,
        inner=c.size("expand", 2) * hidden,
        heads=heads,
        groups=c.size("n_groups"),
        state=c.size("state_size"),
        kernel=c.size("conv_kernel"),
        conv_bias=c.flag("use_conv_bias", True),
        bias=c.flag("use_bias"),
        prefix="mixer",
    )
    return decoder(c, ["mamba"] * count, lambda _: part, ["none"] * count, lambda _: (), norms=1)


def named_mamba2(c: Config, hidden: int) -> Part:
    """Return the Mamba-2 mixer of configs that spell its sizes mamba_*."""
    heads, dim = c.size("mamba_n_heads"), c.get("mamba_d_head", "auto")
    inner = c.size("mamba_expand", 2) * hidden
    if dim not in ("auto", None) and c.whole("mamba_d_head", dim) * heads != inner:
        raise SpecError(
            f"{c.where}: mamba_n_heads {heads} x mamba_d_head {dim} must equal mamba_expand x hidden_size = {inner}"
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


@family("bamba")
def bamba(c: Config) -> Body:
    """Read Bamba: Mamba-2 layers, attention at attn_layer_indices."""
    hidden = c.size("hidden_size")
    places = c.entries("attn_layer_indices") or []
    kinds = layer_kinds(c, lambda i: "full" if i in places else "mamba")
    inner = mlp(hidden, c.size("intermediate_size"), bias=c.flag("mlp_bias"))
    state = named_mamba2(c, hidden)
    return decoder(
        c,
        kinds,
        lambda k: attends(hidden, gqa(c), c.flag("attention_bias")) if k == "full" else state,
        ["mlp"] * len(kinds),
        lambda _: inner,
    )


@family("granitemoehybrid")
def granite_hybrid(c: Config) -> Body:
    """Granite 4: Mamba-2 or attention, routed experts (when num_local_experts > 0) and a shared MLP.

    Some have no Mamba layer.
    """
    hidden, inner = c.size("hidden_size"), c.size("intermediate_size")
    kinds = layer_kinds(c, lambda i: "mamba")
    shared = mlp(hidden, c.size("shared_intermediate_size"), prefix="shared_mlp")
    experts = moe(c, hidden, inner) if c.size("num_experts", 0, low=0) else ()
    state = named_mamba2(c, hidden) if any(k != "full" for k in kinds) else ((), ())
    return decoder(
        c,
        kinds,
        lambda k: (
            attends(hidden, gqa(c, rope=c.get("position_embedding_type", "rope") == "rope"), c.flag("attention_bias"))
            if k == "full"
            else state
        ),
        ["ffn"] * len(kinds),
        lambda _: experts + shared,
    )


@family("jamba")
def jamba(c: Config) -> Body:
    """Jamba: Mamba-1 with inner norms, attention without RoPE once a period, experts on every other layer."""
    hidden, inner = c.size("hidden_size"), c.size("intermediate_size")
    kinds = layer_kinds(c, periodic(c, "attn_layer", "full", "mamba"))
    blocks = periodic(c, "expert_layer", "moe", "mlp")
    state = mamba1(
        c,
        hidden=hidden,
        inner=c.size("mamba_expand", 2) * hidden,
        state=c.size("mamba_d_state"),
        kernel=c.size("mamba_d_conv"),
        dt_rank=rank(c, "mamba_dt_rank", hidden),
        conv_bias=c.flag("mamba_conv_bias", True),
        bias=c.flag("mamba_proj_bias"),
        norms=True,
    )
    experts, dense = (moe(c, hidden, inner) if c.size("num_experts") > 1 else mlp(hidden, inner)), mlp(hidden, inner)
    return decoder(
        c,
        kinds,
        lambda k: attends(hidden, gqa(c, rope=False)) if k == "full" else state,
        [blocks(i) for i in range(len(kinds))],
        lambda b: experts if b == "moe" else dense,
    )


def periodic(c: Config, name: str, inside: str, outside: str) -> Callable[[int], str]:
    """Return the rule: layers from {name}_offset on, every {name}_period, are `inside`, others `outside`."""
    period, offset = c.size(f"{name}_period"), c.size(f"{name}_offset", low=0)
    return lambda i: inside if i % period == offset else outside


@family("falcon_h1")
def falcon_h1(c: Config) -> Body:
    """Falcon-H1: every layer has attention and Mamba-2 side by side."""
    hidden, count = c.size("hidden_size"), layer_count(c)
    inner = c.optional("mamba_d_ssm") or c.size("mamba_expand", 2) * hidden
    a = attends(hidden, gqa(c), c.flag("attention_bias"))
    mixers, weights = mamba2(
        c,
        hidden=hidden,
        inner=inner,
        heads=c.size("mamba_n_heads"),
        groups=c.size("mamba_n_groups"),
        state=c.size("mamba_d_state"),
        kernel=c.size("mamba_d_conv"),
        conv_bias=c.flag("mamba_conv_bias", True),
        bias=c.flag("mamba_proj_bias"),
        norm=c.flag("mamba_rms_norm"),
    )
    if c.flag("projectors_bias") != c.flag("mamba_proj_bias"):
        weights = tuple(w for w in weights if w.name != "mamba.out_proj.bias") + (
            (vector("mamba.out_proj.bias", hidden),) if c.flag("projectors_bias") else ()
        )
    inner_mlp = mlp(hidden, c.size("intermediate_size"), bias=c.flag("mlp_bias"))
    return decoder(c, ["both"] * count, lambda _: (a[0] + mixers, a[1] + weights), ["mlp"] * count, lambda _: inner_mlp)


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
                f"{c.where}: hybrid_override_pattern has {shown(unknown[0])}; "
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
        f"{c.where}: missing hybrid_override_pattern; a nemotron_h config must state its layers (M, *, -, E)"
    )


def checked_kinds(c: Config, field: str) -> list[object]:
    """Return the listed kinds of layers; raise SpecError for one that is not known."""
    kinds = c.entries(field) or []
    for kind in kinds:
        if kind not in ("mamba", "attention", "mlp", "moe", "full_attention", "linear_attention"):
            raise SpecError(f"{c.where}: {field} has {shown(kind)}; known: mamba, attention, mlp, moe")
    return kinds


def delta_net(c: Config, hidden: int, *, fused: bool) -> Part:
    """Return a gated delta net (Yang et al. 2024) as in Qwen3-Next and Qwen3.5."""
    kh, vh, kd, vd = (
        c.size(f"linear_{n}") for n in ("num_key_heads", "num_value_heads", "key_head_dim", "value_head_dim")
    )
    keys, values, kernel = kh * kd, vh * vd, c.size("linear_conv_kernel_dim", 4)
    names = ("in_proj_qkvz", "in_proj_ba") if fused else ("in_proj_qkv_z", "in_proj_b_a")
    weights = linear(f"linear_attn.{names[0]}", 2 * keys + 2 * values, hidden, split="inner") + linear(
        f"linear_attn.{names[1]}", 2 * vh, hidden, split="inner"
    )
    weights += (Weight(name="linear_attn.conv1d", shape=(2 * keys + values, kernel), split="inner", matmul=False),)
    weights += (
        vector("linear_attn.dt_A", vh, 2),
        vector("linear_attn.norm", vd),
        *linear("linear_attn.out_proj", hidden, values, split="inner"),
    )
    return (
        Recurrent(
            name="gated delta net",
            conv_channels=2 * keys + values,
            conv_kernel=kernel,
            state=vh * kd * vd,
            state_bits=state_bits(c),
        ),
    ), weights


@family("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text")
def qwen_hybrid(c: Config) -> Body:
    """Qwen3-Next and Qwen3.5: three gated delta nets, then one gated attention."""
    hidden = c.size("hidden_size")
    kinds = layer_kinds(c, every(c.size("full_attention_interval", 4), "linear"))
    state = delta_net(c, hidden, fused=c.model_type == "qwen3_next")
    bias = c.flag("attention_bias")
    if c.model_type == "qwen3_5_text":
        ffn = mlp(hidden, c.size("intermediate_size"))
        blocks = ["mlp"] * len(kinds)
    else:
        ffn = moe(
            c,
            hidden,
            c.size("moe_intermediate_size"),
            shared=c.size("shared_expert_intermediate_size"),
            shared_gate=True,
        )
        is_moe = stepped(c) if c.model_type == "qwen3_next" else lambda _: True
        blocks = ["moe" if is_moe(i) else "mlp" for i in range(len(kinds))]
    dense = mlp(hidden, c.size("intermediate_size")) if "mlp" in blocks and c.model_type != "qwen3_5_text" else ffn
    return decoder(
        c,
        kinds,
        lambda k: attends(hidden, gqa(c), bias, qk_norm="head", gated=True) if k == "full" else state,
        blocks,
        lambda b: ffn if b == "moe" else dense,
    )


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
    state = Recurrent(
        name="gated delta net",
        conv_channels=2 * keys + values,
        conv_kernel=kernel,
        state=vh * kd * vd,
        state_bits=state_bits(c),
    )
    ffn = mlp(hidden, c.size("intermediate_size"))
    bias = c.flag("attention_bias")
    return decoder(
        c,
        kinds,
        lambda k: attends(hidden, gqa(c), bias, qk_norm="full") if k == "full" else ((state,), weights),
        ["mlp"] * len(kinds),
        lambda _: ffn,
    )


@family("kimi_linear")
def kimi_linear(c: Config) -> Body:
    """Kimi Linear: KDA (three in four) and MLA layers; linear_attn_config counts layers from 1."""
    hidden, count = c.size("hidden_size"), layer_count(c)
    linear_config = c.get("linear_attn_config", None) or {}
    listed = linear_config.get("full_attn_layers") if isinstance(linear_config, dict) else None
    kinds = layer_kinds(
        c,
        (lambda i: "full" if i + 1 in listed else "linear")
        if isinstance(listed, list)
        else (lambda i: "full" if i and i % 4 == 0 else "linear"),
    )
    sizes = linear_config if isinstance(linear_config, dict) else {}
    heads = c.whole(
        "linear_attn_config.num_heads",
        sizes.get("num_heads")
        or c.get("linear_num_key_heads", c.get("linear_num_heads", c.size("num_attention_heads"))),
    )
    dim = c.whole(
        "linear_attn_config.head_dim",
        sizes.get("head_dim") or c.get("linear_head_dim", c.get("linear_key_head_dim", 128)),
    )
    kernel = c.whole(
        "linear_attn_config.short_conv_kernel_size",
        sizes.get("short_conv_kernel_size") or c.get("linear_conv_kernel_dim", 4),
    )
    inner = heads * dim
    weights = linear("self_attn.qkv_proj", 3 * inner, hidden, split="inner")
    weights += (vector("self_attn.conv1d", kernel, 3 * inner),)
    weights += (
        linear("self_attn.f_a_proj", dim, hidden)
        + linear("self_attn.f_b_proj", inner, dim, split="inner")
        + (vector("self_attn.dt_A", inner + heads),)
    )
    weights += (
        linear("self_attn.b_proj", heads, hidden, split="inner")
        + linear("self_attn.g_a_proj", dim, hidden)
        + linear("self_attn.g_b_proj", inner, dim, split="inner")
    )
    weights += (vector("self_attn.o_norm", dim), *linear("self_attn.o_proj", hidden, inner, split="inner"))
    state = Recurrent(name="KDA", conv_channels=3 * inner, conv_kernel=kernel, state=heads * dim * dim, state_bits=32)
    full = latent(c)
    width = c.size("moe_intermediate_size")
    shared = c.size("num_shared_experts", c.size("n_shared_experts", 1, low=0), low=0)
    experts, dense, is_moe = (
        moe(c, hidden, width, shared=width * shared),
        mlp(hidden, c.size("intermediate_size")),
        first_dense(c),
    )
    return decoder(
        c,
        kinds,
        lambda k: full if k == "full" else ((state,), weights),
        ["moe" if is_moe(i) else "mlp" for i in range(count)],
        lambda b: experts if b == "moe" else dense,
    )


@family("minimax")
def minimax(c: Config) -> Body:
    """MiniMax-Text-01 and M1: lightning attention, with softmax attention in some layers.

    Those where attn_type_list says 1 or layer_types says full.
    """
    hidden, heads, count = c.size("hidden_size"), c.size("num_attention_heads"), layer_count(c)
    listed = c.per_layer("attn_type_list", count)
    kinds = layer_kinds(
        c, lambda i: ("full" if listed[i] else "linear") if listed else "full" if (i + 1) % 2 else "linear"
    )
    a = gqa(c)
    inner = heads * a.key_dim
    weights = linear("self_attn.qkv_proj", 3 * inner, hidden, split="heads") + linear(
        "self_attn.out_proj", hidden, inner, split="heads"
    )
    weights += (*linear("self_attn.output_gate", inner, hidden, split="heads"), vector("self_attn.norm", inner))
    state = Recurrent(
        name="lightning", conv_channels=0, conv_kernel=1, state=heads * a.key_dim**2, transformers_bits=None
    )
    experts = moe(c, hidden, c.size("intermediate_size"))
    return decoder(
        c,
        kinds,
        lambda k: attends(hidden, a) if k == "full" else ((state,), weights),
        ["moe"] * count,
        lambda _: experts,
    )


@family("lfm2", "lfm2_moe")
def lfm2(c: Config) -> Body:
    """LFM2: gated short convolutions with a few attention layers."""
    hidden, count = c.size("hidden_size"), layer_count(c)
    places = c.entries("full_attn_idxs")
    kinds = layer_kinds(c, lambda i: "full" if places is None or i in places else "conv")
    kernel, bias = c.size("conv_L_cache"), c.flag("conv_bias")
    weights = linear("conv.in_proj", 3 * hidden, hidden, split="inner", bias=bias) + linear(
        "conv.out_proj", hidden, hidden, split="inner", bias=bias
    )
    weights += (vector("conv.conv", kernel + bias, hidden),)
    state = Recurrent(name="short convolution", conv_channels=hidden, conv_kernel=kernel, state=0)
    inner = c.size("intermediate_size") if not c.stated("block_ff_dim") else c.size("block_ff_dim")
    if c.model_type == "lfm2" and c.flag("block_auto_adjust_ff_dim", True):
        multiple = c.size("block_multiple_of", 256)
        inner = int(c.real("block_ffn_dim_multiplier", 1.0) * int(2 * inner / 3))
        inner = multiple * -(-inner // multiple)
    dense = mlp(hidden, inner, prefix="feed_forward")
    experts = (
        moe(c, hidden, c.size("moe_intermediate_size"), prefix="feed_forward") if c.model_type == "lfm2_moe" else dense
    )
    first = c.size("num_dense_layers", 0, low=0) if c.model_type == "lfm2_moe" else count
    return decoder(
        c,
        kinds,
        lambda k: attends(hidden, gqa(c), qk_norm="head") if k == "full" else ((state,), weights),
        ["moe" if i >= first else "mlp" for i in range(count)],
        lambda b: experts if b == "moe" else dense,
    )


@family("recurrent_gemma")
def recurrent_gemma(c: Config) -> Body:
    """RecurrentGemma (Griffin): RG-LRU blocks and local attention, as block_types repeats."""
    hidden, heads, count = c.size("hidden_size"), c.size("num_attention_heads"), layer_count(c)
    pattern = (
        c.entries("block_types", None) or c.entries("_block_types", None) or ["recurrent", "recurrent", "attention"]
    )
    kinds = ["full" if pattern[i % len(pattern)] == "attention" else "recurrent" for i in range(count)]
    width = c.optional("lru_width") or hidden
    kernel = c.size("conv1d_width", 4)
    gates = 2 * (width * width // heads + width)
    weights = linear("temporal_block.linear_y", width, hidden, bias=True) + linear(
        "temporal_block.linear_x", width, hidden, bias=True
    )
    weights += (
        *linear("temporal_block.linear_out", hidden, width, bias=True),
        vector("temporal_block.conv_1d", (kernel + 1) * width),
        vector("temporal_block.rg_lru", width + gates),
    )
    state = Recurrent(
        name="RG-LRU", conv_channels=width, conv_kernel=kernel, state=width, state_bits=32, in_transformers=False
    )
    a = gqa(c, window=c.size("attention_window_size", 2048))
    inner = c.size("intermediate_size") // 2
    ffn = mlp(hidden, inner, bias=True)
    attention = (a,), attention_weights(hidden, a, qkv_bias=c.flag("attention_bias"), o_bias=True)
    return decoder(
        c, kinds, lambda k: attention if k == "full" else ((state,), weights), ["mlp"] * count, lambda _: ffn
    )


@family("zamba2")
def zamba2(c: Config) -> Body:
    """Zamba2: Mamba-2 everywhere; `hybrid` layers also run a shared attention block.

    It is one of num_mem_blocks, over [hidden, embedding].
    """
    hidden, count, heads = c.size("hidden_size"), layer_count(c), c.size("num_attention_heads")
    ids = c.entries("hybrid_layer_ids")
    kinds = layer_kinds(
        c,
        lambda i: "hybrid" if ids and i in ids else "mamba",
        field="layers_block_type" if c.stated("layers_block_type") else "layer_types",
    )
    blocks, inner, adapter = (
        c.size("num_mem_blocks", 1),
        c.size("intermediate_size", 4 * hidden),
        c.size("adapter_rank", 128),
    )
    dim = 2 * hidden // heads
    a = Attention(heads=heads, kv_heads=kv_heads(c), key_dim=dim, value_dim=dim, rope=c.flag("use_mem_rope"))
    mixers, weights = mamba2(
        c,
        hidden=hidden,
        inner=c.size("mamba_expand", 2) * hidden,
        heads=c.size("n_mamba_heads", 8),
        groups=c.size("mamba_ngroups", 1),
        state=c.size("mamba_d_state", 64),
        kernel=c.size("mamba_d_conv", 4),
        conv_bias=True,
        bias=c.flag("add_bias_linear"),
    )
    hybrids = sum(k == "hybrid" for k in kinds)
    norm = (vector("input_layernorm", hidden),)
    shared = linear("shared.qkv", 2 * hidden + 2 * a.kv_heads * dim, 2 * hidden)
    shared += linear("shared.o_proj", hidden, 2 * hidden) + mlp(
        hidden, inner, bias=c.flag("add_bias_linear"), prefix="shared.feed_forward"
    )
    shared += (vector("shared.norms", 3 * hidden),)
    extra = tuple(
        Weight(name=f"{w.name}.{b}", shape=w.shape, matmul=w.matmul)
        for b in range(min(blocks, max(hybrids, 0)))
        for w in shared
    )
    own = (
        linear("linear", hidden, hidden)
        + linear("adapter_in", adapter, hidden)
        + linear("adapter_out", 2 * inner, adapter)
    )
    if c.flag("use_shared_attention_adapter"):
        own += linear("attention_adapter_in", 3 * adapter, 2 * hidden) + linear(
            "attention_adapter_out", 3 * 2 * hidden, adapter
        )
    return decoder(
        c,
        kinds,
        lambda k: ((a, *mixers), weights + norm + own) if k == "hybrid" else (mixers, weights + norm),
        ["none"] * count,
        lambda _: (),
        norms=0,
        extra=extra,
    )
