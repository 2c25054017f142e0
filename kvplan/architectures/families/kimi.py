"""Kimi Linear, and the vision tower of Kimi K2.5."""

from kvplan.architectures.attention import latent, layer_kinds
from kvplan.architectures.config import Config
from kvplan.architectures.feed_forward import first_dense, mlp, moe
from kvplan.architectures.images import native
from kvplan.architectures.parts import Body, Part, decoder, layer_count, linear, vector
from kvplan.architectures.registry import family
from kvplan.architectures.towers import pair, part, pixels, tensors, tower, transformer
from kvplan.specs.model import Recurrent, Weight


@family("kimi_linear")
def kimi_linear(c: Config) -> Body:
    """Kimi Linear: KDA (three in four) and MLA layers; linear_attn_config counts layers from 1.

    Kimi K3's layers gate attention by full matrices, and its experts work on narrower vectors.
    """
    hidden, count = c.size("hidden_size"), layer_count(c)
    linear_config = c.get("linear_attn_config", None) or {}
    listed = linear_config.get("full_attn_layers") if isinstance(linear_config, dict) else None
    kinds = layer_kinds(
        c,
        (lambda i: "full" if i + 1 in listed else "linear")
        if isinstance(listed, list)
        else (lambda i: "full" if i and i % 4 == 0 else "linear"),
    )
    state = delta_attention(c, hidden)
    full = latent(c)
    if c.flag("mla_use_output_gate"):
        gate = linear("self_attn.g_proj", c.size("num_attention_heads") * c.size("v_head_dim"), hidden, split="heads")
        full = (full[0], full[1] + gate)
    width = c.size("moe_intermediate_size")
    shared = c.size("num_shared_experts", c.size("n_shared_experts", 1, low=0), low=0)
    experts, dense, is_moe = (
        narrow(c, hidden, width, shared=width * shared),
        mlp(hidden, c.size("intermediate_size")),
        first_dense(c),
    )
    return decoder(
        c,
        kinds,
        lambda k: full if k == "full" else state,
        ["moe" if is_moe(i) else "mlp" for i in range(count)],
        lambda b: experts if b == "moe" else dense,
    )


def delta_attention(c: Config, hidden: int) -> Part:
    """Return Kimi's delta attention (KDA), its sizes as linear_attn_config or linear_* say."""
    linear_config = c.get("linear_attn_config", None) or {}
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
    weights += linear("self_attn.b_proj", heads, hidden, split="inner") + (
        linear("self_attn.g_proj", inner, hidden, split="inner")
        if sizes.get("use_full_rank_gate")
        else linear("self_attn.g_a_proj", dim, hidden) + linear("self_attn.g_b_proj", inner, dim, split="inner")
    )
    weights += (vector("self_attn.o_norm", dim), *linear("self_attn.o_proj", hidden, inner, split="inner"))
    state = Recurrent(
        name="KDA",
        conv_channels=3 * inner,
        conv_kernel=kernel,
        state=heads * dim * dim,
        state_bits=32,
        conv_drafts=True,
    )
    return (state,), weights


def narrow(c: Config, hidden: int, width: int, *, shared: int) -> tuple[Weight, ...]:
    """Return experts that work on vectors of routed_expert_hidden_size, between projections to it and back.

    Without the field they work on hidden_size.
    """
    read = c.optional("routed_expert_hidden_size")
    experts = moe(c, hidden, width, shared=shared, read=read)
    if not read:
        return experts
    experts += linear("mlp.down_latent_proj", read, hidden) + linear("mlp.up_latent_proj", hidden, read)
    return (*experts, vector("mlp.latent_norm", read)) if c.flag("latent_moe_use_norm") else experts


@tower("deepseek_v3", "kimi_k25", "kimi_vl", fixed=False, sees=native(14))
def kimi_tower(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Kimi K2.5's and Kimi-VL's MoonViT, under the class's names or the published file's.

    The latter are vt_hidden_size, init_pos_emb_height, ...
    """
    c = part(outer, "vision_config", "kimi_k25_vision")

    def size(name: str, published: str) -> int:
        return c.size(published if published in c.raw and name not in c.raw else name)

    d, inner = size("hidden_size", "vt_hidden_size"), size("intermediate_size", "vt_intermediate_size")
    rows, cols = pair(c, "merge_kernel_size")
    wide, cells = (
        d * rows * cols,
        size("pos_emb_height", "init_pos_emb_height") * size("pos_emb_width", "init_pos_emb_width"),
    )
    projected = c.size("mm_hidden_size") if "mm_hidden_size" in c.raw else outer.size("projection_hidden_size", d)
    return (
        *tensors("vision_tower", patch=(d, pixels(c) + 1), positions=(cells, d), norm=(2, d)),
        *transformer("vision_tower.layers", d, inner, size("num_hidden_layers", "vt_num_hidden_layers")),
        *tensors(
            "multi_modal_projector",
            norm=(2, projected),
            linear_1=(wide, wide + 1),
            linear_2=(text.size("hidden_size"), wide + 1),
        ),
    )
