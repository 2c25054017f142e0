"""Step 3, Step 3.5, and Step 3.7 with its vision tower."""

from collections.abc import Callable, Hashable
from dataclasses import replace

from kvplan.architectures.attention import attention_weights, gqa, layer_kinds, windowed
from kvplan.architectures.config import Config
from kvplan.architectures.feed_forward import first_dense, mlp, moe
from kvplan.architectures.parts import Body, Part, decoder, layer_count, linear, vector
from kvplan.architectures.registry import family
from kvplan.architectures.towers import part, patches, pixels, tensors, tower, transformer
from kvplan.specs.model import Weight


@family("step3p5")
def step(c: Config) -> Body:
    """Read Step 3.5: windows with query heads of their own, a gate a head, experts from the fourth layer on."""
    hidden, count, heads = c.size("hidden_size"), layer_count(c), c.size("num_attention_heads")
    c = without_drafts(c, count)
    kinds = layer_kinds(c, lambda _: "full")
    attention, bias = windowed(c, kinds), c.flag("attention_bias")
    other = c.nested("attention_other_setting", model_type="attention_other_setting")
    narrow = c.optional("num_sliding_attention_heads") or other.size("num_attention_heads", heads)
    wide = c.get("gating", True) not in (True, "per-head")

    def mix(kind: Hashable) -> Part:
        a = attention(kind)
        if kind == "sliding":
            a = replace(a, heads=narrow, kv_heads=other.size("num_key_value_heads", a.kv_heads))
        gate = linear("self_attn.g_proj", a.heads * (a.value_dim if wide else 1), hidden, split="heads")
        return (a,), attention_weights(hidden, a, qkv_bias=bias, o_bias=bias, qk_norm="head") + gate

    experts = moe(c, hidden, c.size("moe_intermediate_size"), shared=c.size("share_expert_dim"))
    dense = mlp(hidden, c.size("intermediate_size"))
    is_moe = first_dense(c) if c.stated("mlp_layer_types") and c.get("mlp_layer_types") else listed(c)
    return decoder(
        c,
        kinds,
        mix,
        ["moe" if is_moe(i) else "mlp" for i in range(count)],
        lambda block: experts if block == "moe" else dense,
    )


@family("step3_text", "step3")
def step3(c: Config) -> Body:
    """Read Step 3 (arXiv 2507.19427): queries from a shared narrow projection, one key and value for all heads."""
    hidden, count, narrow = c.size("hidden_size"), layer_count(c), c.size("share_q_dim")
    a = gqa(c, groups=c.size("num_key_value_heads", 1))
    weights: tuple[Weight, ...] = (
        *linear("self_attn.q_proj", narrow, hidden),
        vector("self_attn.inter_norm", narrow),
    )
    weights += linear("self_attn.wq", a.heads * a.key_dim, narrow, split="heads")
    weights += linear("self_attn.kv_proj", 2 * a.kv_heads * a.key_dim, hidden)
    weights += linear("self_attn.o_proj", hidden, a.heads * a.value_dim, split="heads")
    experts = moe(c, hidden, c.size("moe_intermediate_size"), shared=c.size("share_expert_dim"))
    dense, is_moe = mlp(hidden, c.size("intermediate_size")), listed(c)
    return decoder(
        c,
        ["full"] * count,
        lambda _: ((a,), weights),
        ["moe" if is_moe(i) else "mlp" for i in range(count)],
        lambda block: experts if block == "moe" else dense,
    )


def listed(c: Config) -> Callable[[int], bool]:
    """Return the rule of files on the hub: layers that moe_layers_enum names ('3,4,5'), else all from the fourth on."""
    stated = c.get("moe_layers_enum", None)
    if stated is None:
        return lambda i: i >= 3
    names = stated.split(",") if isinstance(stated, str) else c.entries("moe_layers_enum") or []
    layers = {c.whole("moe_layers_enum", int(n) if str(n).strip().isdecimal() else n, low=0) for n in names}
    return lambda i: i in layers


def without_drafts(c: Config, count: int) -> Config:
    """Return a config whose lists by layer end with the last layer: files append their drafting layers."""
    longer = {
        name: c.raw[name][:count]
        for name in ("layer_types", "mlp_layer_types")
        if isinstance(c.raw.get(name), list)
        and len(c.raw[name]) == count + (c.optional("num_nextn_predict_layers") or 0)
    }
    return Config({**c.raw, **longer}, c.place, {c.model_type: None}, c.parent, c.classes)


@tower("step3p5", "step3p7")
def step_tower(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Return Step 3.7's vision tower, its two convolutions that halve each side, and the projector."""
    c = part(outer, "vision_config", "step3p5_vision")
    d = c.size("hidden_size")
    inner = int(d * c.real("mlp_ratio", 8960 / 1536))
    return (
        *tensors("vision_tower", patch=(d, pixels(c)), positions=(patches(c), d), norm=(2, d)),
        *transformer("vision_tower.layers", d, inner, c.size("num_hidden_layers")),
        *tensors("vision_tower.layers", c.size("num_hidden_layers"), scales=(2, d)),
        *tensors("vision_tower", halved=(2 * d, 9 * d + 1), quartered=(4 * d, 18 * d + 1)),
        *tensors("multi_modal_projector", projection=(text.size("hidden_size"), 4 * d)),
    )
