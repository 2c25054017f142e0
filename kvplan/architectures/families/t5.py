"""T5 and T5Gemma: an encoder, and a decoder that attends to it."""

from collections.abc import Hashable

from kvplan.architectures.attention import attention_weights, every, gqa, layer_kinds, windowed
from kvplan.architectures.config import Config
from kvplan.architectures.encoders import cross, repeated, stated_count, table
from kvplan.architectures.feed_forward import mlp, moe
from kvplan.architectures.parts import Body, Part, decoder, layer_count, vector
from kvplan.architectures.registry import TOWERS, family
from kvplan.architectures.towers import Tower
from kvplan.errors import SpecError, shown
from kvplan.specs.model import Attention, Layer, Weight

#: encoder tokens when a T5 config states no length (its positions are relative): what the published T5s were trained on
T5_TOKENS = 512


@family("t5", "mt5", "umt5", "longt5", "switch_transformers")
def t5(c: Config) -> Body:
    """T5: num_layers counts the encoder; no attention biases, relative positions in the first layer (UMT5: in all)."""
    t, hidden, heads, dim = c.model_type, c.size("hidden_size"), stated_count(c, "num_heads"), c.size("d_kv")
    encoders = stated_count(c, "num_layers")
    count = encoders if c.get("num_decoder_layers", None) is None else stated_count(c, "num_decoder_layers")
    a = Attention(heads=heads, kv_heads=heads, key_dim=dim, value_dim=dim, rope=False)
    own, ffn = (
        attention_weights(hidden, a),
        mlp(hidden, c.size("d_ff"), gated=c.text("feed_forward_proj", "relu").startswith("gated")),
    )
    bias = vector("self_attn.relative_attention_bias", heads, c.size("relative_attention_num_buckets"))
    everywhere = (bias,) if t == "umt5" else ()
    both = own + attention_weights(hidden, a, prefix="encoder_attn") + everywhere + (vector("norms", hidden, 3),)
    mixers = (a, cross(a, c.size("max_position_embeddings", T5_TOKENS)))
    blocks = {False: ffn}
    if t == "switch_transformers":  # a token passes one expert
        blocks[True] = moe(c, hidden, c.size("d_ff"), used=1, gated=False, router_bias=c.flag("router_bias"))
    kinds = {sparse: Layer(mixers=mixers, weights=both + block) for sparse, block in blocks.items()}
    reach = c.text("encoder_attention_type", "local") if t == "longt5" else "local"
    if reach not in ("local", "transient-global"):
        raise SpecError(f"{c.place}: encoder_attention_type must be local or transient-global, got {shown(reach)}")
    outside = reach == "transient-global"
    inside = own + everywhere + (vector("norms", hidden, 3 if outside else 2),)
    outer: tuple[Weight, ...] = ()
    routed = switched(c, "encoder", encoders)
    for sparse in sorted(set(routed)):
        outer += repeated("encoder.layers", inside + blocks[sparse], routed.count(sparse))
    outer += (
        vector("encoder.norm", hidden),
        vector("norm", hidden),
        table("embed_tokens", c.size("vocab_size"), hidden),
    )
    if (
        not everywhere
    ):  # the first layer's table serves all; long inputs have one more, for the distances to global tokens
        outer += (
            vector("relative_attention_bias", heads, (3 if outside else 2) * c.size("relative_attention_num_buckets")),
        )
    return Body(tuple(kinds[sparse] for sparse in switched(c, "decoder", count)), outer)


def switched(c: Config, side: str, count: int) -> list[bool]:
    """Return which layers of a side have experts: those of Switch Transformers, as often as it states."""
    if c.model_type != "switch_transformers":
        return [False] * count
    step = count // (c.size(f"num_sparse_{side}_layers", 3, low=0) or 1)
    return [step == 1 or (step > 1 and i % step == 1) for i in range(count)]


@family("t5_gemma_module")
def t5gemma_decoder(c: Config) -> Body:
    """T5Gemma's decoder: Gemma 2 with cross-attention, which reads vectors as wide as the encoder's."""
    if c.parent is None:
        raise SpecError(f"{c.place}: a t5_gemma_module is half a model; give the whole t5gemma config")
    hidden, bias, inner = c.size("hidden_size"), c.flag("attention_bias"), c.size("intermediate_size")
    encoder = c.parent.nested("encoder", model_type="t5_gemma_module")
    kinds = layer_kinds(c, every(2, "sliding"))
    attention = windowed(c, kinds)
    tokens, source = encoder.size("max_position_embeddings"), encoder.size("hidden_size")

    def mix(kind: Hashable) -> Part:
        a = attention(kind)
        weights = attention_weights(hidden, a, qkv_bias=bias, o_bias=bias)
        return (a, cross(a, tokens)), weights + attention_weights(
            hidden, a, qkv_bias=bias, o_bias=bias, prefix="encoder_attn", source=source
        )

    return decoder(c, kinds, mix, ["mlp"] * len(kinds), lambda _: mlp(hidden, inner), norms=6)


def t5gemma_encoder(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Return T5Gemma's encoder, which has token embeddings of its own."""
    c = outer.nested("encoder", model_type="t5_gemma_module")
    hidden, bias = c.size("hidden_size"), c.flag("attention_bias")
    weights = (
        attention_weights(hidden, gqa(c), qkv_bias=bias, o_bias=bias)
        + mlp(hidden, c.size("intermediate_size"))
        + (vector("norms", hidden, 4),)
    )
    return (
        *repeated("encoder.layers", weights, layer_count(c)),
        vector("encoder.norm", hidden),
        table("encoder.embed_tokens", c.size("vocab_size"), hidden),
    )


TOWERS.known["t5gemma"] = Tower(text="t5_gemma_module", weights=t5gemma_encoder, nest="decoder")
