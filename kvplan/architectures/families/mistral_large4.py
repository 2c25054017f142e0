"""Mistral Large 4: latents that layers may share, an indexer, layers without rotary positions, and Pixtral's tower."""

from collections.abc import Hashable
from dataclasses import replace

from kvplan.architectures.attention import latent
from kvplan.architectures.config import Config
from kvplan.architectures.families.deepseek import indexers
from kvplan.architectures.families.mistral3 import mistral3_tower
from kvplan.architectures.feed_forward import first_dense, mlp, moe
from kvplan.architectures.images import native
from kvplan.architectures.parts import Body, Part, decoder, layer_count, linear, vector
from kvplan.architectures.registry import family
from kvplan.architectures.towers import tower
from kvplan.errors import SpecError
from kvplan.specs.model import Latent, Weight


@family("mistral_large4_text")
def mistral_large4(c: Config) -> Body:
    """Read Mistral Large 4: a layer stores its latent unless kv_source_layers names an earlier one's."""
    hidden, count, inner = c.size("hidden_size"), layer_count(c), c.size("moe_intermediate_size")
    heads, rope = c.size("num_attention_heads"), c.size("qk_rope_head_dim")
    sources, rotated, kinds = own_sources(c, count), rotations(c, count), indexers(c)
    experts = moe(c, hidden, inner, shared=inner * c.size("n_shared_experts"))
    dense, is_moe = mlp(hidden, c.size("intermediate_size")), first_dense(c)
    listed = c.get("mlp_layer_types", None) is not None or c.stated("first_k_dense_replace")

    def mix(kind: Hashable) -> Part:
        assert isinstance(kind, tuple)
        index, turned, own = kind
        (mixer,), weights = latent(c, index=index)
        assert isinstance(mixer, Latent)
        if not turned:
            mixer = replace(mixer, rope_dim=0, nope_dim=mixer.nope_dim + rope)
            weights = tuple(unrotated(w, mixer) for w in weights)
        if not own:
            mixer = replace(mixer, stored=False)
            weights = tuple(w for w in weights if "kv_a_" not in w.name)
        weights += (vector("self_attn.softmax_scaling", heads, 2),)
        if index == "full":
            scaled = c.size("index_n_heads")
            weights += (
                vector("self_attn.indexer.q_input_norm", hidden, 2),
                vector("self_attn.indexer.scaling", scaled, 2),
            )
        return (mixer,), weights

    return decoder(
        c,
        [(kinds[i], rotated[i], sources[i] == i) for i in range(count)],
        mix,
        ["moe" if (is_moe(i) if listed else i > 0) else "mlp" for i in range(count)],
        lambda block: experts if block == "moe" else dense,
        extra=(vector("rotary_emb.inv_freq", rope // 2),),
    )


def unrotated(w: Weight, mixer: Latent) -> Weight:
    """Return a projection of a layer without rotary positions: their elements move from the shared key to the heads."""
    if w.name.endswith("kv_a_proj_with_mqa"):
        return linear(w.name, mixer.rank, w.shape[1])[0]
    if w.name.endswith("kv_b_proj"):
        return linear(w.name, mixer.heads * (mixer.nope_dim + mixer.value_dim), w.shape[1], split=w.split)[0]
    return replace(w, shape=(mixer.rank,)) if w.name.endswith("kv_a_proj_with_mqa.bias") else w


def own_sources(c: Config, count: int) -> list[int]:
    """Return the layer whose latent each layer reads."""
    listed = c.per_layer("kv_source_layers", count)
    if listed is None:
        return list(range(count))
    sources = [c.whole("kv_source_layers", s, low=0) for s in listed]
    if any(s > i or sources[s] != s for i, s in enumerate(sources)):
        raise SpecError(f"{c.place}: kv_source_layers must name an earlier layer that stores its own latent")
    return sources


def rotations(c: Config, count: int) -> list[bool]:
    """Return which layers rotate their keys: as no_rope_layers lists them (1: rotated), else all but each fourth."""
    listed, period = c.entries("no_rope_layers"), c.size("no_rope_layer_interval", 4)
    if listed is not None and len(listed) < count:
        raise SpecError(f"{c.place}: no_rope_layers has {len(listed)} entries for {count} layers")
    return [bool(n) for n in listed[:count]] if listed is not None else [(i + 1) % period != 0 for i in range(count)]


tower("mistral_large4_text", "mistral_large4", sees=native(14))(mistral3_tower)
