"""DeepSeek and others with multi-head latent attention (MLA)."""

from collections.abc import Hashable
from dataclasses import replace

from kvplan.architectures.attention import gqa, latent
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import sparse
from kvplan.architectures.feed_forward import first_dense, mlp, moe
from kvplan.architectures.parts import Body, Part, decoder, layer_count, linear, vector
from kvplan.architectures.registry import family
from kvplan.errors import SpecError, shown
from kvplan.specs.model import Weight

#: what is counted of Unlimited-OCR's cache
KEPT = "all tokens are counted; beyond its image and prompt the model keeps a window of sliding_window tokens only"


@family("deepseek_v2", "deepseek_v3", "deepseek_v32", "glm4_moe_lite", "glm_moe_dsa", "mistral4", "sarvam_mla", "axk1")
def deepseek(c: Config) -> Body:
    """DeepSeek V2/V3/R1, Kimi K2, GLM-4.7-Flash, Mistral 4; V3.2 and GLM-5 add a sparse indexer.

    A.X-K1 has one more norm after its experts.
    """
    hidden, inner, count = c.size("hidden_size"), c.size("moe_intermediate_size"), layer_count(c)
    if c.model_type == "deepseek_v2" and not c.flag("use_mla", True):
        return ordinary(c)
    kinds = (
        indexers(c) if c.model_type == "glm_moe_dsa" else ["full" if c.model_type == "deepseek_v32" else "none"] * count
    )
    parts = {kind: latent(c, index=kind) for kind in set(kinds)}
    bias = c.model_type == "deepseek_v2" and c.flag("mlp_bias")
    experts = moe(c, hidden, inner, shared=inner * c.size("n_shared_experts", 0, low=0), shared_bias=bias)
    if c.model_type == "axk1":
        experts += (vector("mlp.post_mlp_layernorm", hidden),)
    dense = mlp(hidden, c.size("intermediate_size"), bias=bias)
    is_moe = first_dense(c)
    return decoder(
        c,
        kinds,
        lambda kind: parts[str(kind)],
        ["moe" if is_moe(i) else "mlp" for i in range(count)],
        lambda block: experts if block == "moe" else dense,
    )


@family("deepseek", "unlimited_ocr_text")
def ordinary(c: Config) -> Body:
    """Read DeepSeek MoE, or V2 without latents (use_mla false, as in DeepSeek-OCR and DeepSeek-VL2's small ones).

    The null and zero sizes of latents that stand beside it mean nothing. Unlimited-OCR keeps the image, the prompt and
    a window of its answer: here as if it kept all.
    """
    hidden, inner = c.size("hidden_size"), c.size("moe_intermediate_size")
    a, ocr = gqa(c, dim=hidden // c.size("num_attention_heads")), c.model_type == "unlimited_ocr_text"
    listed = not ocr or c.get("mlp_layer_types", None) is not None or c.stated("first_k_dense_replace")
    body = sparse(
        c,
        ["full"] * layer_count(c),
        lambda _: a,
        first_dense(c) if listed else lambda i: i > 0,
        moe(c, hidden, inner, shared=inner * (c.optional("n_shared_experts") or 0)),
        dense=c.size("intermediate_size"),
        qkv_bias=c.flag("attention_bias"),
        o_bias=c.flag("attention_bias"),
    )
    return replace(body, notes=(*body.notes, KEPT)) if ocr else body


def indexers(c: Config) -> list[str]:
    """Return which layers run an indexer ('full') and which share an earlier one's selection ('shared').

    A shared layer caches no index keys (GLM-5.2).
    """
    count = layer_count(c)
    listed = c.per_layer("indexer_types", count)
    pattern = c.get("index_topk_pattern", None)
    if listed is None and pattern:
        if not isinstance(pattern, (str, list)) or len(pattern) != count:
            raise SpecError(f"{c.place}: index_topk_pattern must have one entry a layer (F or S), got {shown(pattern)}")
        listed = [{"F": "full", "S": "shared"}.get(p, p) for p in pattern]
    if listed is None:
        period, offset = c.size("index_topk_freq", 1), c.size("index_skip_topk_offset", 2, low=0)
        return ["shared" if max(i - offset + 1, 0) % period else "full" for i in range(count)]
    unknown = [k for k in listed if k not in ("full", "shared")]
    if unknown:
        raise SpecError(f"{c.place}: indexer_types has {shown(unknown[0])}; known: full, shared")
    return listed


@family("hy_v4", "hy_v4_vl_text", "axk2")
def gated_latent(c: Config) -> Body:
    """Read latents with an indexer and a gate: Hunyuan 4 (sinks, four residual streams) and A.X-K2 (gated norms)."""
    hidden, count, heads = c.size("hidden_size"), layer_count(c), c.size("num_attention_heads")
    hunyuan, value, rank = c.model_type != "axk2", c.size("v_head_dim"), c.size("q_lora_rank")
    kinds = fourths(c) if hunyuan else ["full"] * count
    streams, narrow = c.size("hc_mult", 4), c.size("gated_norm_rank", 16)

    def mix(kind: Hashable) -> Part:
        mixers, weights = latent(c, index=str(kind))
        if hunyuan:
            mixing = 2 * streams * streams * hidden + 2 * streams + 2
            gate = linear("self_attn.gate_proj", heads * value, hidden, split="heads")
            return mixers, weights + gate + (vector("self_attn.sinks", heads), vector("streams", mixing, 2))
        query = heads * (c.size("qk_nope_head_dim") + c.size("qk_rope_head_dim") + value)
        kept = tuple(w for w in weights if w.name != "self_attn.q_b_proj")
        own = linear("self_attn.q_gate_proj", query, 2 * rank, split="heads")
        return mixers, kept + own + (vector("input_layernorm.gate", 2 * narrow * hidden),)

    experts = moe(
        c, hidden, c.size("moe_intermediate_size"),
        shared=c.size("moe_intermediate_size") * c.size("n_shared_experts", 0, low=0),
    )  # fmt: skip
    if not hunyuan:
        experts += (vector("post_attention_layernorm.gate", 2 * narrow * hidden),)
    dense, is_moe = mlp(hidden, c.size("intermediate_size")), first_dense(c)
    listed = c.get("mlp_layer_types", None) is not None or c.stated("first_k_dense_replace")
    head = (vector("hc_head", streams * streams * hidden + streams + 1),) if hunyuan else ()
    return decoder(
        c,
        kinds,
        mix,
        ["moe" if (is_moe(i) if listed else i > 0) else "mlp" for i in range(count)],
        lambda block: experts if block == "moe" else dense,
        extra=head,
    )


def fourths(c: Config) -> list[str]:
    """Return which layers of Hunyuan 4 run an indexer: as indexer_types lists, else the first, then each fourth."""
    if c.get("indexer_types", None) is not None:
        return indexers(c)
    return ["full" if i == 0 or (i - 1) % 4 == 0 else "shared" for i in range(layer_count(c))]


@family("minicpm3", "youtu")
def dense_latent(c: Config) -> Body:
    """Read dense models with multi-head latent attention: MiniCPM3 and Youtu."""
    mixers, weights = latent(c)
    dense = mlp(c.size("hidden_size"), c.size("intermediate_size"), bias=c.flag("mlp_bias") and c.model_type != "youtu")
    count = layer_count(c)
    return decoder(c, ["latent"] * count, lambda _: (mixers, weights), ["mlp"] * count, lambda _: dense)


@family("longcat_flash")
def longcat(c: Config) -> Body:
    """LongCat-Flash: two attentions and two MLPs a layer around one block of experts, some of which do nothing."""
    hidden, count = c.size("hidden_size"), c.size("num_layers")
    mixers, weights = latent(c)
    idle, inner = c.size("zero_expert_num", 0, low=0), c.size("expert_ffn_hidden_size")
    experts = moe(
        c, hidden, inner, idle=idle
    )  # transformers allocates a projection of idle ones, checkpoints have none
    dense = mlp(hidden, c.size("ffn_hidden_size"), prefix="mlps")
    twice = tuple(Weight(name=w.name, shape=(2, *w.shape), split=w.split, matmul=w.matmul) for w in weights + dense)
    return decoder(c, ["latent"] * count, lambda _: (mixers * 2, twice), ["moe"] * count, lambda _: experts, norms=4)
