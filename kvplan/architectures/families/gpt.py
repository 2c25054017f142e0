"""The GPT-2 generation, nanochat and gpt-oss."""

from collections.abc import Hashable

from kvplan.architectures.attention import every, full, gqa, mixed
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import plain, sparse
from kvplan.architectures.feed_forward import always, moe
from kvplan.architectures.parts import Body, layer_count, linear, vector
from kvplan.architectures.registry import family
from kvplan.errors import SpecError, shown
from kvplan.specs.model import Attention, Weight


@family("gpt2", "gpt_bigcode", "gpt_neo", "gptj", "codegen", "gpt_neox", "opt", "bloom", "mpt", "biogpt")
def gpt(c: Config) -> Body:
    """The GPT-2 generation: plain MLP, LayerNorm, learned or no positions, one KV head a query head.

    BigCode has one KV head in all, MPT as many as its attn_config says.
    """
    t, hidden, heads = c.model_type, c.size("hidden_size"), c.size("num_attention_heads")
    inner = c.optional("intermediate_size") or hidden * (c.size("expansion_ratio", 4) if t == "mpt" else 4)
    dim = max(hidden // heads, 1)
    kinds: list[str] = ["full"] * layer_count(c)
    groups = mpt_groups(c, heads) if t == "mpt" else heads
    a = gqa(
        c,
        dim=dim,
        groups=1 if t == "gpt_bigcode" and c.flag("multi_query", True) else groups,
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


def mpt_groups(c: Config, heads: int) -> int:
    """Return MPT's key/value heads (llm-foundry: attn_config); refuse its windows and gated feed-forwards."""
    attention, feeding = (c.nested(name, model_type="mpt") for name in ("attn_config", "ffn_config"))
    kind, window = attention.get("attn_type", "multihead_attention"), attention.get("sliding_window_size", -1)
    feed = feeding.get("ffn_type", None) or "mptmlp"
    if feed != "mptmlp" or window not in (None, -1):
        raise SpecError(
            f"{c.place}: kvplan reads MPT with ffn_type mptmlp and without a window, "
            f"got {shown(feed)}, sliding_window_size {shown(window)}"
        )
    if kind == "multiquery_attention":
        return 1
    stated = attention.get("kv_n_heads", None)
    groups = heads if stated is None else attention.whole("kv_n_heads", stated)
    known = kind == "grouped_query_attention" or (kind == "multihead_attention" and groups == heads)
    if not known or heads % groups:
        raise SpecError(
            f"{c.place}: attn_config: kvplan reads MPT with multihead_attention, multiquery_attention or "
            f"grouped_query_attention of kv_n_heads that divide {heads}, got {shown(kind)}, {groups}"
        )
    return groups


@family("gpt_neox_japanese")
def gpt_neox_japanese(c: Config) -> Body:
    """Read GPT-NeoX Japanese: no biases but one, of the last layer's output projection."""
    hidden, heads = c.size("hidden_size"), c.size("num_attention_heads")
    a = gqa(c, dim=max(hidden // heads, 1), groups=heads)
    body = plain(
        c,
        ["full"] * layer_count(c),
        lambda _: a,
        gated=False,
        norm=2,
        inner=int(hidden * c.real("intermediate_multiple_size", 4)),
    )
    return Body(body.layers, (*body.outer, vector("dense_bias", hidden)), body.notes)


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
                f"{c.place}: attention_types must look like [[['global', 'local'], 12]], got {shown(entry)}"
            )
        names += list(entry[0]) * min(entry[1], 1000)
    if len(names) != layer_count(c):
        raise SpecError(f"{c.place}: attention_types lists {len(names)} layers, num_layers says {layer_count(c)}")
    return ["sliding" if n == "local" else "full" for n in names]


@family("nanochat")
def nanochat(c: Config) -> Body:
    """Read nanochat: no norm has weights, and the feed-forward has two matrices."""
    bias = c.flag("attention_bias")
    return plain(c, *full(c), qkv_bias=bias, o_bias=bias, gated=False, norm=0, final_norm=False)


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
