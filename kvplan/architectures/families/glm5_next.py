"""GLM-5.3: Kimi's delta attention beside latents with an indexer that pools, and several residual streams."""

from collections.abc import Hashable
from dataclasses import replace

from kvplan.architectures.attention import every, latent, layer_kinds
from kvplan.architectures.config import Config
from kvplan.architectures.families.deepseek import indexers
from kvplan.architectures.families.kimi import delta_attention
from kvplan.architectures.feed_forward import mlp, moe
from kvplan.architectures.parts import Body, Part, decoder, layer_count, vector
from kvplan.architectures.registry import family
from kvplan.specs.model import Latent


@family("glm5_next_text")
def glm5_next(c: Config) -> Body:
    """Read GLM-5.3: three in four layers are delta attention; an indexer caches a key, a gate and a mark a token."""
    hidden, count = c.size("hidden_size"), layer_count(c)
    kinds = layer_kinds(c, every(4, "linear", "indexed"))
    chosen, inner = indexers(c), c.size("moe_intermediate_size")
    streams, pool = c.size("hc_mult", 4), c.size("index_kpool", 16)
    rows = streams * streams + 2 * streams
    mixing = (vector("hyper_connections", rows * (streams * hidden + 1) + 3, 2),)

    def mix(kind: Hashable) -> Part:
        if kind == "linear":
            mixers, weights = delta_attention(c, hidden)
            return mixers, weights + mixing
        (mixer,), weights = latent(c, index=str(kind))
        assert isinstance(mixer, Latent)
        if kind == "full":
            dim = mixer.index_dim
            mixer = replace(mixer, index_dim=2 * dim + 1)
            weights += (vector("self_attn.indexer.pool", dim, pool + hidden),)
        return (mixer,), weights + mixing

    listed = c.per_layer("mlp_layer_types", count)
    dense = mlp(hidden, c.size("intermediate_size"))
    experts = moe(c, hidden, inner, shared=inner * c.size("n_shared_experts", 1, low=0))
    return decoder(
        c,
        ["linear" if kind == "linear" else which for kind, which in zip(kinds, chosen, strict=True)],
        mix,
        ["moe" if (listed[i] == "sparse" if listed else i >= 3) else "mlp" for i in range(count)],
        lambda block: experts if block == "moe" else dense,
    )
