"""Attention: its mixers and tensors, and which layers have a window."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace

from kvplan.architectures.config import Config
from kvplan.architectures.parts import Part, head_dim, kv_heads, layer_count, linear, vector
from kvplan.errors import SpecError, shown
from kvplan.specs.model import Attention, Latent, Weight


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
    rank, rope, nope = c.size("kv_lora_rank"), c.size("qk_rope_head_dim", low=0), c.size("qk_nope_head_dim")
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


def attends(hidden: int, a: Attention, bias: bool = False, **more: object) -> Part:
    """Return a layer part of plain attention: its mixer, and its projections with or without biases."""
    return (a,), attention_weights(hidden, a, qkv_bias=bias, o_bias=bias, **more)  # type: ignore[arg-type]


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
    "indexed_attention": "indexed",
    "minimax_m3_sparse": "indexed",
    "hybrid_sliding": "hybrid_sliding",
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
            f"{c.place}: {field} has {shown(unknown[0])}, which is no layer kind kvplan knows "
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
        raise SpecError(f"{c.place}: sliding layers without a sliding_window; state its size in tokens")
    if "chunked" in kinds and not chunk:
        raise SpecError(f"{c.place}: chunked layers without an attention_chunk_size; state its size in tokens")

    def attention(kind: Hashable) -> Attention:
        if kind == "chunked":
            return gqa(c, window=chunk, chunked=True, **changes)
        return gqa(c, window=window if kind == "sliding" else None, **changes)

    return attention


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
