"""Mixture-of-experts decoders with ordinary attention."""

from collections.abc import Callable, Hashable
from dataclasses import replace

from kvplan.architectures.config import Config
from kvplan.architectures.dense import exaone_rule, full, mixed, uniform, upper
from kvplan.architectures.parts import (
    Body,
    Part,
    attention_weights,
    decoder,
    every,
    gqa,
    layer_count,
    layer_kinds,
    linear,
    mlp,
    moe,
    vector,
    windowed,
)
from kvplan.architectures.registry import family
from kvplan.errors import SpecError, shown
from kvplan.specs.model import Attention, Weight


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
            raise SpecError(f"{c.where}: moe_layer_freq has {len(frequency)} entries for {layer_count(c)} layers")
        return lambda i: bool(frequency[i])
    unsaid = 1 if c.model_type in ("glm4_moe_lite", "hy_v3", "kimi_linear") else 0
    first, step = (
        c.size("first_k_dense_replace", unsaid, low=0),
        c.whole("moe_layer_freq", 1 if frequency is None else frequency),
    )
    return lambda i: i >= first and i % step == 0


def stepped(c: Config) -> Callable[[int], bool]:
    """Return Qwen's rule: every decoder_sparse_step-th layer, except mlp_only_layers."""
    only = c.entries("mlp_only_layers") or []
    step = c.size("decoder_sparse_step", 1, low=0)
    experts = c.optional("num_experts") or 0
    return lambda i: i not in only and experts > 0 and step > 0 and (i + 1) % step == 0


@family("mixtral")
def mixtral(c: Config) -> Body:
    """Read Mixtral: experts in every layer, one window or none."""
    return sparse(c, *uniform(c), always, moe(c, c.size("hidden_size"), c.size("intermediate_size")))


@family("phimoe")
def phimoe(c: Config) -> Body:
    """Read Phi-3.5-MoE: Mixtral with norms and heads that have biases."""
    bias = c.flag("attention_bias")
    return sparse(
        c,
        *uniform(c),
        always,
        moe(c, c.size("hidden_size"), c.size("intermediate_size")),
        qkv_bias=bias,
        o_bias=bias,
        norm=2,
        head_bias=c.flag("lm_head_bias"),
    )


@family("qwen2_moe", "qwen3_moe", "qwen3_vl_moe_text")
def qwen_moe(c: Config) -> Body:
    """Read Qwen2-MoE and Qwen3-MoE: experts by decoder_sparse_step, a gated shared expert in Qwen2."""
    hidden = c.size("hidden_size")
    old = c.model_type == "qwen2_moe"
    bias = c.flag("attention_bias")
    experts = moe(
        c,
        hidden,
        c.size("moe_intermediate_size"),
        shared=c.size("shared_expert_intermediate_size") if old else 0,
        shared_gate=old,
    )
    windows = c.flag("use_sliding_window") and bool(c.optional("sliding_window"))
    below = c.size("max_window_layers", 0, low=0)
    # Qwen2-MoE's class windows every other layer below max_window_layers, the dense Qwens' all layers from it on
    rule = (lambda i: "sliding" if windows and i % 2 == 0 and i < below else "full") if old else upper(c)
    kinds, attention = mixed(c, rule) if c.model_type != "qwen3_vl_moe_text" else full(c)
    return sparse(
        c,
        kinds,
        attention,
        stepped(c),
        experts,
        dense=c.size("intermediate_size"),
        qkv_bias=c.flag("qkv_bias", True) if old else bias,
        o_bias=False if old else bias,
        qk_norm="" if old else "head",
    )


@family("olmoe", "flex_olmo")
def olmoe(c: Config) -> Body:
    """Read OLMoE and FlexOlmo: experts in every layer, norms over all heads of q and k."""
    bias = c.flag("attention_bias")
    return sparse(
        c,
        *full(c),
        always,
        moe(c, c.size("hidden_size"), c.size("intermediate_size")),
        qkv_bias=bias,
        o_bias=bias,
        qk_norm="full",
    )


@family("gpt_oss")
def gpt_oss(c: Config) -> Body:
    """Read gpt-oss: every other layer full, experts and router with biases, a sink a head."""
    bias = c.flag("attention_bias", True)
    experts = moe(c, c.size("hidden_size"), c.size("intermediate_size"), bias=True, router_bias=True)
    return sparse(
        c,
        *mixed(c, every(2, "sliding")),
        always,
        experts,
        qkv_bias=bias,
        o_bias=bias,
        sinks=c.size("num_attention_heads"),
    )


@family("llama4_text")
def llama4(c: Config) -> Body:
    """Llama 4: chunked layers (with RoPE) and full ones (without); experts every interleave_moe_layer_step layers."""
    hidden, count, inner = c.size("hidden_size"), layer_count(c), c.size("intermediate_size")
    rotated = c.entries("no_rope_layers")
    period = c.size("no_rope_layer_interval", 4)
    if rotated and len(rotated) != count:
        raise SpecError(f"{c.where}: no_rope_layers has {len(rotated)} entries for {count} layers")
    kinds = layer_kinds(c, lambda i: "chunked" if (rotated[i] if rotated else (i + 1) % period) else "full")
    chunked = windowed(c, kinds)
    step = c.size("interleave_moe_layer_step", 1)
    listed = c.entries("moe_layers")
    bias = c.flag("attention_bias")
    # one shared expert as wide as a routed one
    experts = moe(c, hidden, inner, shared=inner)
    return sparse(
        c,
        kinds,
        lambda kind: chunked(kind) if kind == "chunked" else gqa(c, rope=False),
        (lambda i: i in listed) if listed is not None else (lambda i: (i + 1) % step == 0),
        experts,
        dense=c.size("intermediate_size_mlp", inner),
        qkv_bias=bias,
        o_bias=bias,
    )


@family("dbrx")
def dbrx(c: Config) -> Body:
    """DBRX nests attn_config and ffn_config; its LayerNorms have no bias."""
    attention, ffn = c.nested("attn_config", model_type="dbrx"), c.nested("ffn_config", model_type="dbrx")
    heads = c.size("num_attention_heads")
    groups = attention.whole("kv_n_heads", attention.get("kv_n_heads", 1))
    if heads % groups:
        raise SpecError(f"{c.where}: kv_n_heads {groups} must divide n_heads {heads}")
    experts = moe(
        c,
        c.size("hidden_size"),
        ffn.whole("ffn_hidden_size", ffn.get("ffn_hidden_size", 3584)),
        experts=ffn.whole("moe_num_experts", ffn.get("moe_num_experts", 4)),
        used=ffn.whole("moe_top_k", ffn.get("moe_top_k", 1)),
    )
    return sparse(c, ["full"] * layer_count(c), lambda _: gqa(c, groups=groups), always, experts)


@family("granitemoe", "granitemoeshared", "granitemoe_swa")
def granite_moe(c: Config) -> Body:
    """Read Granite MoE: experts in every layer, shared ones and windows where its variants have them."""
    bias = c.flag("attention_bias")
    shared = c.size("shared_intermediate_size", 0, low=0) if c.model_type != "granitemoe" else 0
    swa = c.model_type == "granitemoe_swa"
    kinds, attention = mixed(c, lambda i: "full" if i % 4 == 0 else "sliding") if swa else full(c)
    return sparse(
        c,
        kinds,
        attention,
        always,
        moe(c, c.size("hidden_size"), c.size("intermediate_size"), shared=shared),
        qkv_bias=bias,
        o_bias=bias,
        sinks=c.size("num_attention_heads") if swa else 0,
    )


@family("glm4_moe", "glm4v_moe_text", "dots1", "hy_v3", "solar_open", "exaone_moe")
def deepseek_like(c: Config) -> Body:
    """Ordinary attention with DeepSeek's experts: first layers dense, shared experts beside the routed ones."""
    t, hidden, inner = c.model_type, c.size("hidden_size"), c.size("moe_intermediate_size")
    bias, mlp_bias = c.flag("attention_bias") and t != "exaone_moe", t == "hy_v3" and c.flag("mlp_bias")
    shared = c.size("num_shared_experts" if t in ("exaone_moe", "hy_v3") else "n_shared_experts", 1, low=0) * inner
    qk_norm = "head" if t in ("dots1", "hy_v3", "exaone_moe") or (t == "glm4_moe" and c.flag("use_qk_norm")) else ""
    kinds, attention = (
        mixed(c, exaone_rule(c)) if t == "exaone_moe" else mixed(c, dots_rule(c)) if t == "dots1" else full(c)
    )
    return sparse(
        c,
        kinds,
        attention,
        always if t == "solar_open" else first_dense(c),
        moe(c, hidden, inner, shared=shared, shared_bias=mlp_bias),
        dense=c.size("intermediate_size", inner),
        mlp_bias=mlp_bias,
        qkv_bias=bias,
        o_bias=bias and t not in ("glm4_moe", "glm4v_moe_text", "solar_open"),
        qk_norm=qk_norm,
    )


def dots_rule(c: Config) -> Callable[[int], str]:
    """Return the rule of dots.llm1: windows from layer max_window_layers on, where there is a window."""
    window, first = c.optional("sliding_window"), c.size("max_window_layers", 0, low=0)
    return lambda i: "sliding" if window and i >= first else "full"


@family("minimax_m2")
def minimax_m2(c: Config) -> Body:
    """Read MiniMax-M2: experts in every layer, norms over all heads of q and k."""
    return sparse(c, *full(c), always, moe(c, c.size("hidden_size"), c.size("intermediate_size")), qk_norm="full")


@family("ernie4_5_moe")
def ernie_moe(c: Config) -> Body:
    """Read ERNIE 4.5 MoE: experts from a first to a last layer at an interval, shared ones among them."""
    hidden, bias, count = c.size("hidden_size"), c.flag("use_bias"), layer_count(c)
    first, step = c.size("moe_layer_start_index", 1, low=0), c.size("moe_layer_interval", 1)
    last = c.optional("moe_layer_end_index")
    inner = c.size("moe_intermediate_size")
    experts = (
        *moe(c, hidden, inner, shared=inner * c.size("moe_num_shared_experts", 0, low=0), shared_bias=bias),
        vector("mlp.gate.correction", c.size("num_experts")),
    )

    def is_moe(i: int) -> bool:
        return (i + 1) % step == 0 and first <= i <= (count - 1 if last is None else last)

    return sparse(
        c,
        *full(c),
        is_moe,
        experts,
        dense=c.size("intermediate_size"),
        qkv_bias=bias,
        o_bias=bias,
        mlp_bias=bias,
        head_bias=bias,
    )


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


@family("cohere2_moe")
def cohere2_moe(c: Config) -> Body:
    """Read Cohere 2 MoE: dense layers, then experts, full attention by a period in each part."""
    hidden, bias = c.size("hidden_size"), c.flag("attention_bias")
    first, period, early = (
        c.size("first_k_dense_replace", 0, low=0),
        c.size("sliding_window_pattern", 4),
        c.size("prefix_dense_sliding_window_pattern", 4),
    )
    kinds = layer_kinds(c, lambda i: every(early, "sliding")(i) if i < first else every(period, "sliding")(i - first))
    inner = c.size("intermediate_size")
    shared = c.size("num_shared_experts", 0, low=0) * inner
    return sparse(
        c,
        kinds,
        windowed(c, kinds),
        first_dense(c),
        moe(c, hidden, inner, shared=shared),
        dense=c.size("prefix_dense_intermediate_size", inner),
        qkv_bias=bias,
        o_bias=bias,
        norms=1,
    )


@family("afmoe")
def afmoe(c: Config) -> Body:
    """Trinity: gated attention, four norms a layer, first num_dense_layers dense."""
    hidden, inner, first = c.size("hidden_size"), c.size("moe_intermediate_size"), c.size("num_dense_layers", 0, low=0)
    experts = (
        *moe(c, hidden, inner, shared=inner * c.size("num_shared_experts", 0, low=0)),
        vector("mlp.expert_bias", c.size("num_experts")),
    )
    bias = c.flag("attention_bias")
    return sparse(
        c,
        *mixed(c, every(c.size("global_attn_every_n_layers", 4), "sliding")),
        lambda i: i >= first,
        experts,
        dense=c.size("intermediate_size"),
        qkv_bias=bias,
        o_bias=bias,
        qk_norm="head",
        norms=4,
        attention_gate=True,
    )


@family("laguna")
def laguna(c: Config) -> Body:
    """Laguna: query heads by layer, windows between full layers, a gate a head (or a number), one shared expert."""
    hidden, count, heads = c.size("hidden_size"), layer_count(c), c.size("num_attention_heads")
    kinds = layer_kinds(c, lambda _: "full")
    attention = windowed(c, kinds)
    stated = c.per_layer("num_attention_heads_per_layer", count) or [heads] * count
    own = [c.whole(f"num_attention_heads_per_layer.{i}", each) for i, each in enumerate(stated)]
    wide, bias = c.get("gating", True) not in (True, "per-head"), c.flag("attention_bias")

    def mix(key: Hashable) -> Part:
        assert isinstance(key, tuple)
        kind, rows = key
        a = replace(attention(kind), heads=rows)
        gate = linear("self_attn.g_proj", rows * (a.value_dim if wide else 1), hidden, split="heads")
        return (a,), attention_weights(hidden, a, qkv_bias=bias, o_bias=bias, qk_norm="head") + gate

    shared = c.size("shared_expert_intermediate_size", 0, low=0)
    experts = (
        *moe(c, hidden, c.size("moe_intermediate_size"), shared=shared),
        vector("mlp.expert_bias", c.size("num_experts")),
    )
    is_moe = first_dense(c) if c.stated("mlp_layer_types") else (lambda i: i > 0)
    return decoder(
        c,
        list(zip(kinds, own, strict=True)),
        mix,
        ["moe" if is_moe(i) else "mlp" for i in range(count)],
        lambda block: experts if block == "moe" else mlp(hidden, c.size("intermediate_size")),
    )


@family("mimo_v2_flash")
def mimo(c: Config) -> Body:
    """MiMo-V2: full and window layers differ in KV heads; keys and values in width. Sinks on window layers."""
    hidden, count = c.size("hidden_size"), layer_count(c)
    pattern = c.per_layer("hybrid_layer_pattern", count)
    kinds = layer_kinds(
        c,
        lambda i: (
            ("sliding" if pattern[i] else "full") if pattern else "full" if i == 0 or (i + 1) % 6 == 0 else "sliding"
        ),
    )
    size = c.optional("sliding_window_size")
    window = size + 1 if size else c.optional("sliding_window")

    def attention(kind: Hashable) -> Attention:
        swa = "swa_" if kind == "sliding" else ""
        groups = c.size("num_key_value_heads") * (
            2 if swa else 1
        )  # a file saved by transformers does not say: its class doubles them
        return Attention(
            heads=c.size(f"{swa}num_attention_heads", c.size("num_attention_heads")),
            kv_heads=c.size(f"{swa}num_key_value_heads", groups),
            key_dim=c.size(f"{swa}head_dim", c.size("head_dim")),
            value_dim=c.size(f"{swa}v_head_dim", c.size("v_head_dim")),
            window=window if swa else None,
        )

    def mix(kind: Hashable) -> Part:
        a = attention(kind)
        on = (
            c.flag("add_swa_attention_sink_bias", True) if kind == "sliding" else c.flag("add_full_attention_sink_bias")
        )
        return (a,), attention_weights(hidden, a, qkv_bias=c.flag("attention_bias"), extra=a.heads if on else 0)

    experts = moe(c, hidden, c.size("moe_intermediate_size"))
    is_moe = first_dense(c) if c.stated("mlp_layer_types") or c.stated("moe_layer_freq") else (lambda i: i > 0)
    return decoder(
        c,
        kinds,
        mix,
        ["moe" if is_moe(i) else "mlp" for i in range(count)],
        lambda b: experts if b == "moe" else mlp(hidden, c.size("intermediate_size")),
    )


@family("jetmoe")
def jetmoe(c: Config) -> Body:
    """JetMoE: experts in attention too; each token's chosen attention experts share one key/value set."""
    hidden, groups, dim = c.size("hidden_size"), c.size("num_key_value_heads"), c.size("kv_channels")
    experts, used = c.size("num_experts"), c.size("num_experts_per_tok")
    a = Attention(heads=groups * used, kv_heads=groups, key_dim=dim, value_dim=dim)
    weights: tuple[Weight, ...] = (Weight(name="self_attention.experts.router", shape=(experts, hidden), matmul=False),)
    weights += (vector("self_attention.experts.bias", hidden),)
    weights += linear(
        "self_attention.experts.input_linear", groups * dim, hidden, split="expert", copies=experts, used=used
    )
    weights += linear(
        "self_attention.experts.output_linear", hidden, groups * dim, split="expert", copies=experts, used=used
    )
    weights += linear("self_attention.kv_proj", 2 * groups * dim, hidden, split="kv")
    ffn = (*moe(c, hidden, c.size("intermediate_size")), vector("mlp.bias", hidden))
    return decoder(c, ["full"] * layer_count(c), lambda _: ((a,), weights), ["moe"] * layer_count(c), lambda _: ffn)


@family("gemma4_text")
def gemma4(c: Config) -> Body:
    """Gemma 4: full layers with own head width and KV heads, shared caches, per-layer inputs, optional experts."""
    hidden, count = c.size("hidden_size"), layer_count(c)
    kinds = layer_kinds(c, every(6, "sliding"))
    kinds[-1] = "full"
    shared_from = count - c.size("num_kv_shared_layers", 0, low=0)
    window, small = c.optional("sliding_window"), c.size("hidden_size_per_layer_input", 0, low=0)
    equal = c.flag("attention_k_eq_v")
    sizes = gemma4_sizes(c, kinds)
    inner, bias = c.size("intermediate_size"), c.flag("attention_bias")

    def mix(key: Hashable) -> Part:
        assert isinstance(key, tuple)
        kind, shared, dim, groups = key
        is_full = kind == "full"
        a = gqa(c, window=None if is_full else window, dim=dim, groups=groups, stored=not shared)
        weights = attention_weights(hidden, a, qkv_bias=bias, o_bias=bias, qk_norm="head")
        if is_full and equal:  # keys serve as values: one projection
            weights = tuple(w for w in weights if w.name not in ("self_attn.v_proj", "self_attn.v_proj.bias"))
        if small:
            weights += (
                linear("per_layer_input_gate", small, hidden)
                + linear("per_layer_projection", hidden, small)
                + (vector("post_per_layer_input_norm", hidden),)
            )
        return (a,), weights

    def ffn(double: Hashable) -> tuple[Weight, ...]:
        weights = mlp(hidden, inner * 2 if double else inner)
        if c.flag("enable_moe_block"):
            weights += moe(c, hidden, c.size("moe_intermediate_size"), prefix="moe")
            weights += (
                vector("moe.router_scale", hidden),
                vector("moe.per_expert_scale", c.size("num_experts")),
                vector("moe_norms", hidden, 3),
            )
        return weights

    extra: tuple[Weight, ...] = ()
    if small:
        table = c.size("vocab_size_per_layer_input", c.size("vocab_size"))
        extra = (
            Weight(name="embed_tokens_per_layer", shape=(table, count * small), matmul=False),
            *linear("per_layer_model_projection", count * small, hidden),
            vector("per_layer_projection_norm", small),
        )
    shared = [i >= shared_from for i in range(count)]
    keys = [(kind, s, *size) for kind, s, size in zip(kinds, shared, sizes, strict=True)]
    return decoder(c, keys, mix, [s and c.flag("use_double_wide_mlp") for s in shared], ffn, norms=4, extra=extra)


def gemma4_sizes(c: Config, kinds: list[str]) -> list[tuple[int | None, int | None]]:
    """Return each layer's own head width and KV heads (None: the config's).

    Google's files give global_* sizes for full layers; transformers writes them out as per_layer_config.
    """
    stated = c.get("per_layer_config", None)
    if stated is None:
        wide = c.size("global_head_dim", 512)
        groups = c.optional("num_global_key_value_heads") if c.flag("attention_k_eq_v") else None
        return [(wide, groups) if kind == "full" else (None, None) for kind in kinds]
    if not isinstance(stated, dict) or not all(
        str(layer).isdecimal() and isinstance(own, dict) for layer, own in stated.items()
    ):
        raise SpecError(f"{c.where}: per_layer_config must map layers to objects, got {shown(stated)}")
    numbered = {int(layer): own for layer, own in stated.items()}  # written '05' where there are ten or more
    owns = [numbered.get(i, {}) for i in range(len(kinds))]
    return [
        tuple(
            c.whole(f"per_layer_config.{i}.{name}", own[name]) if own.get(name) is not None else None
            for name in ("head_dim", "num_key_value_heads")
        )  # type: ignore[misc]
        for i, own in enumerate(owns)
    ]
