"""Decoders with one feed-forward block a layer. Each reader was checked tensor by tensor against its class."""

from collections.abc import Callable, Hashable

from kvplan.architectures.config import Config
from kvplan.architectures.parts import (
    Body,
    Part,
    attention_weights,
    decoder,
    every,
    gqa,
    head_dim,
    layer_count,
    layer_kinds,
    linear,
    mlp,
    vector,
    windowed,
)
from kvplan.architectures.registry import family
from kvplan.errors import SpecError, shown
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


def uniform(c: Config) -> tuple[list[str], Callable[[Hashable], Attention]]:
    """Return layers as layer_types lists them, else all windowed when the config has a sliding_window."""
    return mixed(c, lambda _: "sliding" if c.optional("sliding_window") else "full")


def full(c: Config) -> tuple[list[str], Callable[[Hashable], Attention]]:
    """Return layers as layer_types lists them, else all full, whatever sliding_window says.

    transformers trims its cache to a sliding_window the model itself does not use.
    """
    if c.entries("layer_types") is not None:
        return mixed(c, lambda _: "full")
    a, window = gqa(c), c.optional("sliding_window")
    if window:
        a = a.untrimmed(gqa(c, window=window))
    return ["full"] * layer_count(c), lambda _: a


def mixed(c: Config, default: Callable[[int], str]) -> tuple[list[str], Callable[[Hashable], Attention]]:
    """Return layers as layer_types lists them, else by `default`."""
    kinds = layer_kinds(c, default)
    return kinds, windowed(c, kinds)


def upper(c: Config) -> Callable[[int], str]:
    """Return Qwen's rule: layers from max_window_layers on are windowed, if use_sliding_window."""
    on = c.flag("use_sliding_window") and bool(c.optional("sliding_window"))
    first = c.size("max_window_layers", 0, low=0)
    return lambda i: "sliding" if on and i >= first else "full"


@family("llama", "internlm3", "yi", "aquila")
def llama(c: Config) -> Body:
    """Read Llama and its kin: full attention and a gated feed-forward, biases where the config has them."""
    every_bias = c.model_type == "internlm3" and c.flag("bias")
    bias = c.flag("attention_bias") or every_bias
    return plain(
        c,
        *full(c),
        qkv_bias=bias or (c.model_type != "llama" and c.flag("qkv_bias")),
        o_bias=bias,
        mlp_bias=c.flag("mlp_bias") or every_bias,
    )


@family("granite", "seed_oss", "helium", "cwm", "granite_swa", "ministral", "smollm3")
def llama_like(c: Config) -> Body:
    """Read what differs from Llama in windows and biases only."""
    t = c.model_type
    bias = c.flag("attention_bias") and t not in ("cwm", "ministral")  # their classes have none
    o_bias = {"seed_oss": c.flag("attention_out_bias"), "helium": False}.get(t, bias)
    rules: dict[str, Callable[[int], str]] = {
        "cwm": lambda i: "full" if i % 4 == 0 else "sliding",
        "granite_swa": lambda i: "full" if i % 4 == 0 else "sliding",
        "ministral": lambda i: "sliding" if c.optional("sliding_window") else "full",
    }
    kinds, attention = (
        mixed(c, rules[c.model_type])
        if c.model_type in rules
        else mixed(c, smollm3_rule(c))
        if c.model_type == "smollm3"
        else full(c)
    )
    sinks = c.size("num_attention_heads") if c.model_type == "granite_swa" else 0
    return plain(
        c, kinds, attention, qkv_bias=bias, o_bias=o_bias, mlp_bias=c.flag("mlp_bias") and t != "ministral", sinks=sinks
    )


def smollm3_rule(c: Config) -> Callable[[int], str]:
    """SmolLM3's layers without RoPE are windowed only when use_sliding_window is set (it never is)."""
    rotated = c.entries("no_rope_layers")
    on = c.flag("use_sliding_window") and bool(c.optional("sliding_window"))
    period = c.size("no_rope_layer_interval", 4)
    return lambda i: "sliding" if on and not (rotated[i] if rotated else (i + 1) % period) else "full"


@family("mistral", "ministral3", "phi3")
def mistral(c: Config) -> Body:
    """Read Mistral and Phi-3: every layer has the one window of the config, or none."""
    return plain(c, *uniform(c))


@family("arcee")
def arcee(c: Config) -> Body:
    """Read Arcee: Llama with a feed-forward of two matrices."""
    return plain(
        c,
        *full(c),
        gated=False,
        qkv_bias=c.flag("attention_bias"),
        o_bias=c.flag("attention_bias"),
        mlp_bias=c.flag("mlp_bias"),
    )


@family("apertus")
def apertus(c: Config) -> Body:
    """Apertus' xIELU activation has two learned scalars a layer."""
    return plain(
        c,
        *full(c),
        gated=False,
        qk_norm="head",
        qkv_bias=c.flag("attention_bias"),
        o_bias=c.flag("attention_bias"),
        extra_norm=2,
    )


@family("qwen2", "qwen2_vl_text", "qwen2_5_vl_text")
def qwen2(c: Config) -> Body:
    """Read Qwen2: biases on q, k and v, windows from max_window_layers on where they are switched on."""
    return plain(c, *mixed(c, upper(c)), qkv_bias=True)


@family("qwen3", "qwen3_vl_text")
def qwen3(c: Config) -> Body:
    """Read Qwen3: a norm on each head of q and k, windows as in Qwen2."""
    bias = c.flag("attention_bias")
    return plain(c, *mixed(c, upper(c)), qk_norm="head", qkv_bias=bias, o_bias=bias)


@family("gemma")
def gemma(c: Config) -> Body:
    """Read Gemma: full attention in every layer."""
    bias = c.flag("attention_bias")
    return plain(c, *full(c), qkv_bias=bias, o_bias=bias)


@family("gemma2", "vaultgemma")
def gemma2(c: Config) -> Body:
    """Read Gemma 2 and VaultGemma: every other layer full, four norms a layer in Gemma 2."""
    bias = c.flag("attention_bias")
    return plain(
        c, *mixed(c, every(2, "sliding")), qkv_bias=bias, o_bias=bias, norms=4 if c.model_type == "gemma2" else 2
    )


@family("gemma3_text")
def gemma3(c: Config) -> Body:
    """Read the text of Gemma 3: one full layer in sliding_window_pattern, norms on q and k, four norms a layer."""
    bias = c.flag("attention_bias")
    period = c.size("sliding_window_pattern", 6)
    return plain(c, *mixed(c, every(period, "sliding")), qk_norm="head", qkv_bias=bias, o_bias=bias, norms=4)


@family("gemma3n_text")
def gemma3n(c: Config) -> Body:
    """Gemma 3n: AltUp, LAuReL, per-layer embeddings; the last num_kv_shared_layers read earlier caches."""
    hidden, count, bias = c.size("hidden_size"), layer_count(c), c.flag("attention_bias")
    kinds = layer_kinds(c, every(5, "sliding"))
    first_shared = count - c.size("num_kv_shared_layers", 0, low=0)
    streams, rank, small = (
        c.size("altup_num_inputs", 4),
        c.size("laurel_rank", 64),
        c.size("hidden_size_per_layer_input", 256),
    )
    attention, bias = windowed(c, kinds), c.flag("attention_bias")
    readers = windowed(c, kinds, stored=False)
    inner = c.get("intermediate_size")
    widths = inner if isinstance(inner, list) else [inner] * count
    if len(widths) != count:
        raise SpecError(f"{c.where}: intermediate_size has {len(widths)} entries for {count} layers")

    def mix(key: Hashable) -> Part:
        assert isinstance(key, tuple)
        kind, shared = key
        a = readers(kind) if shared else attention(kind)
        altup = (vector("altup", streams**2 + streams**3 + (streams + 2) * hidden),)
        laurel = linear("laurel.linear_left", rank, hidden) + linear("laurel.linear_right", hidden, rank)
        per_layer = linear("per_layer_input_gate", small, hidden) + linear("per_layer_projection", hidden, small)
        return (a,), attention_weights(
            hidden, a, qkv_bias=bias, o_bias=bias, qk_norm="head"
        ) + altup + laurel + per_layer

    def ffn(width: Hashable) -> tuple[Weight, ...]:
        assert isinstance(width, int)
        return mlp(hidden, width)

    table = c.size("vocab_size_per_layer_input", 262144)
    extra = (
        Weight(name="embed_tokens_per_layer", shape=(table, count * small), matmul=False),
        *linear("per_layer_model_projection", count * small, hidden),
        vector("per_layer_projection_norm", small),
        *linear("altup_projections", 2 * (streams - 1) * hidden, hidden),
    )
    return decoder(
        c,
        list(zip(kinds, [i >= first_shared for i in range(count)], strict=True)),
        mix,
        [c.whole("intermediate_size", w) for w in widths],
        ffn,
        norms=6,
        extra=extra,
    )


@family("cohere", "cohere2")
def cohere(c: Config) -> Body:
    """Cohere: attention and MLP in parallel behind one norm; Command R+ norms every head by itself."""
    bias = c.flag("attention_bias")
    kinds = (
        layer_kinds(c, every(c.size("sliding_window_pattern", 4), "sliding"))
        if c.model_type == "cohere2"
        else ["full"] * layer_count(c)
    )
    window = c.optional("sliding_window")
    if "sliding" in kinds and not window:
        raise SpecError(f"{c.where}: sliding layers without a sliding_window; state its size in tokens")
    return plain(
        c,
        kinds,
        lambda kind: gqa(c, window=window if kind == "sliding" else None),
        qkv_bias=bias,
        o_bias=bias,
        norms=1,
        qk_norm="heads" if c.model_type == "cohere" and c.flag("use_qk_norm") else "",
    )


@family("glm", "glm4", "glm4v_text")
def glm(c: Config) -> Body:
    """Read GLM: full attention, and four norms a layer from GLM-4 on."""
    return plain(
        c,
        *full(c),
        qkv_bias=c.model_type == "glm4v_text" or c.flag("attention_bias"),
        norms=2 if c.model_type == "glm" else 4,
    )


@family("olmo", "olmo2", "olmo3")
def olmo(c: Config) -> Body:
    """OLMo: norms without parameters. OLMo 2 and 3: norms after each block, and on whole q and k."""
    bias = c.flag("attention_bias")
    if c.model_type == "olmo":
        return plain(c, *full(c), qkv_bias=bias, o_bias=bias, norm=0, final_norm=False)
    kinds, attention = mixed(c, every(4, "sliding")) if c.model_type == "olmo3" else full(c)
    return plain(c, kinds, attention, qkv_bias=bias, o_bias=bias, qk_norm="full")


@family("exaone4")
def exaone4(c: Config) -> Body:
    """Read EXAONE 4: sliding and full layers by its pattern, norms on q and k."""
    return plain(c, *mixed(c, exaone_rule(c)), qk_norm="head")


def exaone_rule(c: Config) -> Callable[[int], str]:
    """EXAONE 4: every sliding_window_pattern-th layer is full (4, or a string such as 'LLLG'); no window: all full."""
    if not c.optional("sliding_window"):
        return lambda i: "full"
    pattern = c.get("sliding_window_pattern", 4)
    if isinstance(pattern, str) and pattern:
        return lambda i: "sliding" if pattern[i % len(pattern)] == "L" else "full"
    return every(c.whole("sliding_window_pattern", pattern, low=0), "sliding")


@family("stablelm")
def stablelm(c: Config) -> Body:
    """Read StableLM: norms with biases, one of them a layer where attention and feed-forward run side by side."""
    return plain(
        c,
        *full(c),
        qkv_bias=c.flag("use_qkv_bias"),
        norms=1 if c.flag("use_parallel_residual") else 2,
        norm=2,
        qk_norm="heads" if c.flag("qk_layernorm") else "",
    )


@family("starcoder2")
def starcoder2(c: Config) -> Body:
    """Read StarCoder 2: biases everywhere and a feed-forward of two matrices."""
    bias = c.flag("use_bias", True)
    return plain(c, *uniform(c), qkv_bias=bias, o_bias=bias, mlp_bias=bias, gated=False, norm=2)


@family("phi")
def phi(c: Config) -> Body:
    """Read Phi 1 to 2: attention and feed-forward side by side under one norm, biases everywhere."""
    norm = c.flag("qk_layernorm")
    return plain(
        c,
        *full(c),
        qkv_bias=True,
        o_bias=True,
        mlp_bias=True,
        gated=False,
        norms=1,
        norm=2,
        head_bias=True,
        inner=c.optional("intermediate_size") or 4 * c.size("hidden_size"),
        extra_norm=4 * head_dim(c) if norm else 0,
    )


@family("persimmon")
def persimmon(c: Config) -> Body:
    """Read Persimmon: every query head has a key/value head of its own, biases everywhere, norms on q and k."""
    kinds = ["full"] * layer_count(c)
    return plain(
        c,
        kinds,
        lambda _: gqa(c, groups=c.size("num_attention_heads")),
        qkv_bias=True,
        o_bias=True,
        mlp_bias=True,
        gated=False,
        norm=2,
        extra_norm=4 * head_dim(c) if c.flag("qk_layernorm", True) else 0,
    )


@family("nemotron")
def nemotron(c: Config) -> Body:
    """Read Nemotron: a feed-forward of two matrices, and norms with biases."""
    bias = c.flag("attention_bias")
    return plain(c, *full(c), qkv_bias=bias, o_bias=bias, mlp_bias=c.flag("mlp_bias"), gated=False, norm=2)


@family("ernie4_5")
def ernie(c: Config) -> Body:
    """Read dense ERNIE 4.5: one switch for all biases."""
    bias = c.flag("use_bias")
    return plain(c, *full(c), qkv_bias=bias, o_bias=bias, mlp_bias=bias)


@family("hunyuan_v1_dense")
def hunyuan(c: Config) -> Body:
    """Read dense HunYuan: norms on the heads of q and k."""
    bias = c.flag("attention_bias")
    return plain(c, *full(c), qkv_bias=bias, o_bias=bias, qk_norm="head")


@family("nanochat")
def nanochat(c: Config) -> Body:
    """Read nanochat: no norm has weights, and the feed-forward has two matrices."""
    bias = c.flag("attention_bias")
    return plain(c, *full(c), qkv_bias=bias, o_bias=bias, gated=False, norm=0, final_norm=False)


@family("falcon")
def falcon(c: Config) -> Body:
    """Falcon-7B: one KV head; Falcon-40B and 180B: groups of heads.

    The latter say new_decoder_architecture; transformers stores their groups broadcast.
    """
    heads, hidden, bias = c.size("num_attention_heads"), c.size("hidden_size"), c.flag("bias")
    width, stated = c.size("hidden_size") // heads, c.optional("num_key_value_heads")
    # the first Falcon-40B files say only n_head_kv
    legacy = not c.stated("new_decoder_architecture") and not c.stated("multi_query") and stated not in (None, 1, heads)
    new = c.flag("new_decoder_architecture") or legacy
    groups = (stated or heads) if new else 1 if c.flag("multi_query", True) else heads
    if heads % groups:
        raise SpecError(f"{c.where}: n_head_kv {groups} must divide n_head {heads}")
    a = gqa(c, dim=max(width, 1), groups=groups, rope=not c.flag("alibi"))
    if new:
        a = Attention(
            heads=heads,
            kv_heads=groups,
            key_dim=width,
            value_dim=width,
            rope=a.rope,
            in_transformers=gqa(c, dim=width, groups=heads),
        )
    parallel = c.flag("parallel_attn", True)
    norms = 2 if not parallel or (c.optional("num_ln_in_parallel_attn") or (2 if new else 1)) == 2 else 1
    return plain(
        c,
        ["full"] * layer_count(c),
        lambda _: a,
        qkv_bias=bias,
        o_bias=bias,
        mlp_bias=bias,
        gated=False,
        norms=norms,
        norm=2,
        inner=c.optional("intermediate_size") or 4 * hidden,
    )


@family("gpt2", "gpt_bigcode", "gpt_neo", "gptj", "codegen", "gpt_neox", "opt", "bloom", "mpt", "biogpt")
def gpt(c: Config) -> Body:
    """The GPT-2 generation: plain MLP, LayerNorm, learned or no positions, one KV head a query head.

    BigCode has one KV head in all.
    """
    t, hidden, heads = c.model_type, c.size("hidden_size"), c.size("num_attention_heads")
    inner = c.optional("intermediate_size") or hidden * (c.size("expansion_ratio", 4) if t == "mpt" else 4)
    dim = max(hidden // heads, 1)
    kinds: list[str] = ["full"] * layer_count(c)
    if t == "mpt":
        plain_mpt(c, heads)
    a = gqa(
        c,
        dim=dim,
        groups=1 if t == "gpt_bigcode" and c.flag("multi_query", True) else heads,
        rope=t in ("gptj", "codegen", "gpt_neox"),
    )

    def attention(kind: Hashable) -> Attention:
        if kind != "sliding":
            return a
        return gqa(c, dim=dim, groups=heads, rope=False, window=c.size("window_size", 256)).untrimmed(a)

    if t == "gpt_neo":
        kinds = gpt_neo_kinds(c)
    positions = (
        c.size("max_position_embeddings", 1024) if t in ("gpt2", "gpt_bigcode", "gpt_neo", "opt", "biogpt") else 0
    )
    bias = {
        "gptj": False,
        "codegen": False,
        "mpt": False,
        "gpt_neox": c.flag("attention_bias", True),
        "opt": c.flag("enable_bias", True),
    }
    qkv = bias.get(t, True) and t != "gpt_neo"
    mlp_bias = {"mpt": False, "opt": c.flag("enable_bias", True)}.get(t, True)
    body = plain(
        c,
        kinds,
        attention,
        qkv_bias=qkv,
        o_bias=bias.get(t, True),
        mlp_bias=mlp_bias,
        gated=False,
        norms=1 if t in ("gptj", "codegen") else 2,
        norm=1 if t == "mpt" else 0 if t == "opt" and not c.flag("layer_norm_elementwise_affine", True) else 2,
        positions=positions + (2 if t in ("opt", "biogpt") else 0),
        head_bias=t in ("gptj", "codegen"),
        embedding_norm=t == "bloom",
        inner=inner,
    )
    return opt_projections(c, body) if t == "opt" else body


def plain_mpt(c: Config, heads: int) -> None:
    """Refuse an MPT with shared heads: the class has none, so the file would be misread."""
    attention = c.get("attn_config", None)
    stated = attention if isinstance(attention, dict) else {}
    kind, shared = stated.get("attn_type", "multihead_attention"), stated.get("kv_n_heads", heads)
    if kind != "multihead_attention" or shared not in (None, heads):
        raise SpecError(f"{c.where}: attn_config: kvplan reads MPT with multihead_attention only, got {kind}, {shared}")


def opt_projections(c: Config, body: Body) -> Body:
    """OPT-350M embeds narrower than it computes; post-norm OPTs have no final norm."""
    hidden = c.size("hidden_size")
    width = c.size("word_embed_proj_dim", hidden)
    outer = [
        w
        for w in body.outer
        if w.name != "norm" or (c.flag("do_layer_norm_before", True) and not c.flag("_remove_final_layer_norm"))
    ]
    if width != hidden:
        outer = [
            Weight(name=w.name, shape=(w.shape[0], width), split=w.split, matmul=False)
            if w.name in ("embed_tokens", "lm_head")
            else w
            for w in outer
        ]
        outer += linear("project_in", hidden, width) + linear("project_out", width, hidden)
    return Body(body.layers, tuple(outer), body.notes)


def gpt_neo_kinds(c: Config) -> list[str]:
    """GPT-Neo spells layers as attention_types [[['global', 'local'], 12]]."""
    names: list[object] = []
    for entry in c.entries("attention_types", [[["global", "local"], layer_count(c) // 2]]) or []:
        if not (
            isinstance(entry, (list, tuple))
            and len(entry) == 2
            and isinstance(entry[0], (list, tuple))
            and isinstance(entry[1], int)
        ):
            raise SpecError(
                f"{c.where}: attention_types must look like [[['global', 'local'], 12]], got {shown(entry)}"
            )
        names += list(entry[0]) * min(entry[1], 1000)
    if len(names) != layer_count(c):
        raise SpecError(f"{c.where}: attention_types lists {len(names)} layers, num_layers says {layer_count(c)}")
    return ["sliding" if n == "local" else "full" for n in names]


@family("nemotron_nas")
def nemotron_nas(c: Config) -> Body:
    """Nemotron-NAS (Puzzle): block_configs gives each layer its own KV heads, MLP width, or none of either."""
    hidden, heads, count = c.size("hidden_size"), c.size("num_attention_heads"), layer_count(c)
    blocks = c.per_layer("block_configs", count)
    if blocks is None:
        raise SpecError(f"{c.where}: missing block_configs; a nemotron-nas config lists one block a layer")
    kinds: list[Hashable] = []
    ffns: list[Hashable] = []
    for i, block in enumerate(blocks):
        if not (
            isinstance(block, dict) and isinstance(block.get("attention"), dict) and isinstance(block.get("ffn"), dict)
        ):
            raise SpecError(f"{c.where}: block_configs[{i}] must have 'attention' and 'ffn' objects")
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
        raise SpecError(f"{c.where}: ffn_mult must be a positive number, got {shown(multiplier)}")
    width = int(2 * multiplier * hidden / 3)
    return -(-width // 256) * 256
