"""dots 3 Note: latents with an indexer, and wider latents in a window between them."""

from collections.abc import Hashable
from dataclasses import replace

from kvplan.architectures.attention import latent, layer_kinds
from kvplan.architectures.config import Config
from kvplan.architectures.feed_forward import first_dense, mlp, moe
from kvplan.architectures.parts import Body, Part, decoder, layer_count, linear, vector
from kvplan.architectures.registry import family
from kvplan.errors import SpecError, shown
from kvplan.specs.model import Attention, Latent, Weight

#: sizes of the layers with a window that a file does not state
WINDOWED = {
    "num_attention_heads": 64,
    "q_lora_rank": 1024,
    "kv_lora_rank": 1024,
    "head_dim": 256,
    "qk_nope_head_dim": 192,
    "v_head_dim": 128,
}


@family("dots3_note_text")
def dots3(c: Config) -> Body:
    """Read dots 3 Note: each fourth layer and the first two see all tokens through an indexer, the others a window."""
    hidden, count, inner = c.size("hidden_size"), layer_count(c), c.size("moe_intermediate_size")
    sparse = c.flag("use_dsa", c.get("per_layer_config", None) is None)
    kinds = layer_kinds(c, lambda i: "indexed" if i < 2 or i % 4 == 1 else "sliding")
    listed = c.get("mlp_layer_types", None) is not None or c.stated("first_k_dense_replace")
    is_moe = first_dense(c) if listed else lambda i: i > 0

    def mix(kind: Hashable) -> Part:
        if kind == "sliding":
            return windowed_latent(c, kinds.index("sliding"))
        (mixer,), weights = latent(c, index="full" if sparse or kind == "indexed" else "none")
        assert isinstance(mixer, Latent)
        heads = c.size("num_attention_heads")
        return (replace(mixer, index_single=True),), (*weights, *beside(hidden, heads, c.size("qk_rope_head_dim")))

    shared = c.size("moe_shared_expert_intermediate_size", c.size("shared_experts_intermediate_size", inner))
    experts = moe(
        c, hidden, inner, experts=c.size("n_routed_experts"), shared=shared * c.size("n_shared_experts", 1, low=0)
    )
    dense = mlp(hidden, c.size("intermediate_size"))
    return decoder(
        c,
        kinds,
        mix,
        ["moe" if is_moe(i) else "mlp" for i in range(count)],
        lambda block: experts if block == "moe" else dense,
    )


def beside(hidden: int, heads: int, rope: int) -> tuple[Weight, ...]:
    """Return what stands beside the projections of latents: a gate a head, and a norm of the rotary key."""
    return (*linear("self_attn.g_proj", heads, hidden, split="heads"), vector("self_attn.k_rope_norm", rope))


def windowed_latent(c: Config, index: int) -> Part:
    """Return a layer whose latents are kept for a window: one vector a token, of the latent and the rotary key."""
    hidden, d = c.size("hidden_size"), windowed_sizes(c, index)
    heads, rank, q_rank = d["num_attention_heads"], d["kv_lora_rank"], d["q_lora_rank"]
    nope, rope, value = d["qk_nope_head_dim"], d["qk_rope_head_dim"], d["v_head_dim"]
    bias = c.flag("attention_bias")
    weights = (
        *linear("self_attn.q_a_proj", q_rank, hidden, bias=bias),
        *linear("self_attn.q_b_proj", heads * (nope + rope), q_rank, split="heads"),
        *linear("self_attn.kv_a_proj_with_mqa", rank + rope, hidden, bias=bias),
        *linear("self_attn.kv_b_proj", heads * (nope + value), rank, split="heads"),
        *linear("self_attn.o_proj", hidden, heads * value, split="heads", bias=bias),
        vector("self_attn.latent_norms", q_rank + rank),
        *beside(hidden, heads, rope),
    )
    window = c.optional("sliding_window") or c.size("sliding_window_size", 512)
    # all heads read the same vector: its latent stands for the value, the rotary part for the key
    mixer = Attention(heads=heads, kv_heads=1, key_dim=rope, value_dim=rank, window=window)
    return (mixer,), weights


def windowed_sizes(c: Config, index: int) -> dict[str, int]:
    """Return the sizes of layer `index`, which has a window.

    Published files state them as swa_*, those that transformers writes by layer in per_layer_config where they differ.
    """
    stated = c.get("per_layer_config", None)
    if stated is None:
        d = {name: c.size(f"swa_{name}", value) for name, value in WINDOWED.items()}
        return d | {"qk_rope_head_dim": c.size("swa_qk_rope_head_dim", d["head_dim"] - d["qk_nope_head_dim"])}
    own: object = {}
    if isinstance(stated, dict):  # transformers pads the numbers of layers, as in '02'
        own = next((v for k, v in stated.items() if str(k).isdecimal() and int(k) == index), {})
    if not isinstance(stated, dict) or not isinstance(own, dict):
        raise SpecError(f"{c.place}: per_layer_config must map layers to objects, got {shown(stated)}")
    at = f"per_layer_config.{index}"
    return {
        name: c.whole(f"{at}.{name}", own[name]) if own.get(name) is not None else c.size(name)
        for name in (*WINDOWED, "qk_rope_head_dim")
    }
