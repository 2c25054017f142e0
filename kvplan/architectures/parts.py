"""The pieces decoders are made of: attention, feed-forward and norm tensors, and the frame around them."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

from kvplan.architectures.config import Config
from kvplan.errors import SpecError, shown
from kvplan.specs.model import Attention, Latent, Layer, Mixer, Recurrent, Weight

Part = tuple[tuple[Mixer, ...], tuple[Weight, ...]]


@dataclass(frozen=True)
class Body:
    """What a family's reader returns."""

    layers: tuple[Layer, ...]  #: in order
    outer: tuple[Weight, ...]  #: tensors outside the layers
    notes: tuple[str, ...] = ()  #: remarks for the user


def vector(name: str, size: int, count: int = 1) -> Weight:
    """Return `count` replicated vectors of one size (norms, gates, scales)."""
    return Weight(name=name, shape=(count, size), matmul=False)


def linear(
    name: str, rows: int, cols: int, *, split: str = "none", bias: bool = False, copies: int = 1, used: float = 1.0
) -> tuple[Weight, ...]:
    """Return a matrix (rows x cols) and, when it has one, its bias."""
    weight = Weight(name=name, shape=(rows, cols), split=split, copies=copies, used=used)
    if not bias:
        return (weight,)
    return (weight, Weight(name=f"{name}.bias", shape=(rows,), split=split, copies=copies, used=used, matmul=False))


# -- sizes every decoder has ----------------------------------------------------------------------


def layer_count(c: Config) -> int:
    """Return num_hidden_layers; raise SpecError beyond MAX_LAYERS."""
    count = c.size("num_hidden_layers")
    if count > MAX_LAYERS:
        raise SpecError(f"{c.where}: num_hidden_layers must be from 1 to {MAX_LAYERS:,}, got {count}")
    return count


def head_dim(c: Config) -> int:
    """Return head_dim as stated, else hidden / heads."""
    stated = None if c.model_type in DIVIDED else c.optional("head_dim")
    if stated:
        return stated
    hidden, heads = c.size("hidden_size"), c.size("num_attention_heads")
    if hidden < heads:
        raise SpecError(f"{c.where}: hidden_size {hidden} is smaller than num_attention_heads {heads}; state head_dim")
    return hidden // heads


def kv_heads(c: Config) -> int:
    """Return the number of key/value heads; absent or null means one per query head."""
    heads = c.size("num_attention_heads")
    stated = c.optional("num_key_value_heads")
    if stated is None or (not c.stated("num_key_value_heads") and heads % stated):
        return heads
    if stated < 1 or heads % stated:
        raise SpecError(f"{c.where}: num_key_value_heads {stated} must divide num_attention_heads {heads}")
    return stated


MAX_LAYERS = 2000

#: classes that divide hidden_size by the heads whatever head_dim says
DIVIDED = {"qwen2_vl_text", "qwen2_5_vl_text", "glm4v_text", "mllama_text_model", "dbrx", "persimmon", "stablelm"}


# -- attention ------------------------------------------------------------------------------------


def gqa(
    c: Config,
    *,
    window: int | None = None,
    chunked: bool = False,
    stored: bool = True,
    rope: bool = True,
    dim: int | None = None,
    groups: int | None = None,
) -> Attention:
    """Return grouped-query attention of the config's sizes."""
    width = dim or head_dim(c)
    return Attention(
        heads=c.size("num_attention_heads"),
        kv_heads=groups or kv_heads(c),
        key_dim=width,
        value_dim=width,
        window=window,
        chunked=chunked,
        stored=stored,
        rope=rope,
    )


def attention_weights(
    hidden: int,
    a: Attention,
    *,
    qkv_bias: bool = False,
    o_bias: bool = False,
    qk_norm: str = "",
    gated: bool = False,
    prefix: str = "self_attn",
    source: int | None = None,
    extra: int = 0,
) -> tuple[Weight, ...]:
    """Return the tensors of q, k, v and o, and their norms.

    `qk_norm`: '' | head (one vector a head width) | full (whole projection) | heads (one a head).
    `gated` doubles q (output gate), `source` is the width k and v read from, `extra` counts loose scalars (sinks).
    """
    q_rows, k_rows, v_rows = a.heads * a.key_dim, a.kv_heads * a.key_dim, a.kv_heads * a.value_dim
    weights = linear(f"{prefix}.q_proj", q_rows * (2 if gated else 1), hidden, split="heads", bias=qkv_bias)
    if a.stored:
        weights += linear(f"{prefix}.k_proj", k_rows, source or hidden, split="kv", bias=qkv_bias)
        weights += linear(f"{prefix}.v_proj", v_rows, source or hidden, split="kv", bias=qkv_bias)
    weights += linear(f"{prefix}.o_proj", hidden, a.heads * a.value_dim, split="heads", bias=o_bias)
    norm = {"": 0, "head": a.key_dim * (2 if a.stored else 1), "full": q_rows + k_rows, "heads": q_rows + k_rows}[
        qk_norm
    ]
    return weights + tuple(vector(f"{prefix}.{n}", s) for n, s in (("qk_norm", norm), ("sinks", extra)) if s)


def latent(c: Config, *, index: str = "none") -> Part:
    """Return MLA (DeepSeek V2 and its kin): mixer and tensors.

    `index`: none | full (with a sparse indexer) | shared (uses another layer's).
    """
    hidden, heads = c.size("hidden_size"), c.size("num_attention_heads")
    rank, rope, nope = (c.size(k) for k in ("kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim"))
    value = c.size("v_head_dim", max(hidden // heads, 1))  # MiniCPM3's file does not say
    bias = c.flag("attention_bias")
    q_rank = c.optional("q_lora_rank")
    if q_rank:
        q = linear("self_attn.q_a_proj", q_rank, hidden, bias=bias)
        q += (vector("self_attn.q_a_layernorm", q_rank),)
        q += linear("self_attn.q_b_proj", heads * (nope + rope), q_rank, split="heads")
    else:
        q = linear("self_attn.q_proj", heads * (nope + rope), hidden, split="heads")
    weights = (
        q
        + linear("self_attn.kv_a_proj_with_mqa", rank + rope, hidden, bias=bias)
        + (vector("self_attn.kv_a_layernorm", rank),)
    )
    weights += linear("self_attn.kv_b_proj", heads * (nope + value), rank, split="heads")
    weights += linear("self_attn.o_proj", hidden, heads * value, split="heads", bias=bias)
    mixer = Latent(heads=heads, rank=rank, rope_dim=rope, nope_dim=nope, value_dim=value)
    if index == "shared":
        mixer = replace(mixer, index_top=c.size("index_topk"))
    if index == "full":
        n, d = c.size("index_n_heads"), c.size("index_head_dim")
        mixer = replace(mixer, index_dim=d, index_heads=n, index_top=c.size("index_topk"))
        weights += linear("self_attn.indexer.wq_b", n * d, q_rank or hidden) + linear("self_attn.indexer.wk", d, hidden)
        weights += (vector("self_attn.indexer.k_norm", d, 2), *linear("self_attn.indexer.weights_proj", n, hidden))
    return (mixer,), weights


# -- recurrent layers -----------------------------------------------------------------------------


def state_bits(c: Config) -> int | None:
    """Return the width an engine keeps recurrent state in, when the config asks for one."""
    for key in ("mamba_ssm_cache_dtype", "mamba_ssm_dtype", "ssm_state_dtype"):
        stated = c.get(key, None) if c.stated(key) else None  # engines follow the file, not the class default
        if stated in ("float32", "fp32"):
            return 32
    return None


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
            name="mamba2", conv_channels=channels, conv_kernel=kernel, state=inner * state, state_bits=state_bits(c)
        ),
    ), weights


# -- feed-forward ---------------------------------------------------------------------------------


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
        raise SpecError(f"{c.where}: num_experts_per_tok {used} is larger than the number of experts {experts}")
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


# -- the frame ------------------------------------------------------------------------------------


def decoder(
    c: Config,
    kinds: Sequence[Hashable],
    mix: Callable[[Hashable], Part],
    ffns: Sequence[Hashable],
    ffn: Callable[[Hashable], tuple[Weight, ...]],
    *,
    norms: int | Callable[[Hashable], int] = 2,
    norm: int = 1,
    final_norm: bool = True,
    positions: int = 0,
    head_bias: bool = False,
    embedding_norm: bool = False,
    extra: tuple[Weight, ...] = (),
    notes: tuple[str, ...] = (),
    hidden: int | None = None,
) -> Body:
    """Assemble a decoder: kinds[i] chooses layer i's mixer, ffns[i] its feed-forward; alike layers share one object.

    norms: norm vectors a layer; norm: parameters a norm has per channel (1 RMSNorm, 2 LayerNorm, 0 none);
    positions: rows of a learned position table.
    """
    width = hidden or c.size("hidden_size")
    layers: dict[tuple[Hashable, Hashable], Layer] = {}
    for kind, block in zip(kinds, ffns, strict=True):
        if (kind, block) not in layers:
            mixers, weights = mix(kind)
            count = norms(kind) if callable(norms) else norms
            rest = (vector("norms", width, count * norm),) if count * norm else ()
            layers[kind, block] = Layer(mixers=mixers, weights=weights + ffn(block) + rest)
    return Body(
        tuple(layers[pair] for pair in zip(kinds, ffns, strict=True)),
        embeddings(
            c,
            width,
            norm=norm if final_norm else 0,
            positions=positions,
            head_bias=head_bias,
            embedding_norm=embedding_norm,
        )
        + extra,
        notes,
    )


def embeddings(
    c: Config, hidden: int, *, norm: int = 1, positions: int = 0, head_bias: bool = False, embedding_norm: bool = False
) -> tuple[Weight, ...]:
    """Return token (and position) embeddings, final norm and output head; a tied head is counted once."""
    vocab = c.size("vocab_size")
    weights: tuple[Weight, ...] = (Weight(name="embed_tokens", shape=(vocab, hidden), split="vocab", matmul=False),)
    if positions:
        weights += (Weight(name="embed_positions", shape=(positions, hidden), matmul=False),)
    if embedding_norm:
        weights += (vector("embed_norm", hidden, 2),)
    if norm:
        weights += (vector("norm", hidden, norm),)
    if not is_tied(c):
        weights += (Weight(name="lm_head", shape=(vocab, hidden), split="vocab", matmul=False),)
    return weights + ((Weight(name="lm_head.bias", shape=(vocab,), split="vocab", matmul=False),) if head_bias else ())


#: classes that keep a head of their own whatever tie_word_embeddings says
UNTIED = {"kimi_linear", "nemotron_h", "mllama_text_model"}


def is_tied(c: Config) -> bool:
    """Whether input and output embeddings are one tensor. A multimodal file states it outside its text part."""
    if c.model_type in UNTIED:
        return False
    if c.parent is not None and "tie_word_embeddings" in c.parent.raw:
        return c.parent.flag("tie_word_embeddings")
    return c.flag("tie_word_embeddings", not c.defaults)


# -- which layer is what --------------------------------------------------------------------------

#: names configs use for layer kinds, and ours
KINDS = {
    "full_attention": "full",
    "attention": "full",
    "global": "full",
    "global_attention": "full",
    "full": "full",
    "hybrid": "hybrid",
    "sliding_attention": "sliding",
    "local": "sliding",
    "local_attention": "sliding",
    "chunked_attention": "chunked",
    "sliding": "sliding",
    "linear_attention": "linear",
    "mamba": "mamba",
    "mamba2": "mamba",
    "conv": "conv",
    "short_conv": "conv",
    "recurrent": "recurrent",
    "mlp": "mlp",
    "moe": "moe",
    "linear": "linear",
}


def layer_kinds(c: Config, default: Callable[[int], str], field: str = "layer_types") -> list[str]:
    """Return each layer's kind: as `field` lists it, else by the family's rule."""
    count = layer_count(c)
    stated = c.per_layer(field, count)
    if stated is None:
        return [default(i) for i in range(count)]
    unknown = [s for s in stated if not isinstance(s, str) or s not in KINDS]
    if unknown:
        raise SpecError(
            f"{c.where}: {field} has {shown(unknown[0])}, which is no layer kind kvplan knows "
            f"({', '.join(sorted(KINDS))})"
        )
    return [KINDS[s] for s in stated]


def every(period: int, inside: str, last: str = "full") -> Callable[[int], str]:
    """Return the rule: each `period`-th layer is `last`, the others `inside`."""
    return lambda i: last if period and (i + 1) % period == 0 else inside


def windowed(c: Config, kinds: Sequence[str], **changes: bool) -> Callable[[Hashable], Attention]:
    """Return kind -> attention, with the config's window on sliding and chunked layers."""
    window = c.optional("sliding_window")
    chunk = c.optional("attention_chunk_size") if "chunked" in kinds else None
    if "sliding" in kinds and not window:
        raise SpecError(f"{c.where}: sliding layers without a sliding_window; state its size in tokens")
    if "chunked" in kinds and not chunk:
        raise SpecError(f"{c.where}: chunked layers without an attention_chunk_size; state its size in tokens")

    def attention(kind: Hashable) -> Attention:
        if kind == "chunked":
            return gqa(c, window=chunk, chunked=True, **changes)
        return gqa(c, window=window if kind == "sliding" else None, **changes)

    return attention
