"""JetMoE."""

from kvplan.architectures.config import Config
from kvplan.architectures.feed_forward import moe
from kvplan.architectures.parts import Body, decoder, layer_count, linear, vector
from kvplan.architectures.registry import family
from kvplan.specs.model import Attention, Weight


@family("jetmoe")
def jetmoe(c: Config) -> Body:
    """JetMoE: experts in attention too; each token's chosen attention experts share one key/value set."""
    hidden, groups, dim = c.size("hidden_size"), c.size("num_key_value_heads"), c.size("kv_channels")
    experts, used = c.size("num_experts"), c.size("num_experts_per_tok")
    a = Attention(heads=groups * used, kv_heads=groups, key_dim=dim, value_dim=dim)
    weights: tuple[Weight, ...] = (Weight(name="self_attention.experts.router", shape=(experts, hidden), matmul=False),)
    weights += (vector("self_attention.experts.bias", hidden),)
    weights += linear(
        "self_attention.experts.input_linear", groups * dim, hidden, split="expert", copies=experts, used=used
    )
    weights += linear(
        "self_attention.experts.output_linear", hidden, groups * dim, split="expert", copies=experts, used=used
    )
    weights += linear("self_attention.kv_proj", 2 * groups * dim, hidden, split="kv")
    ffn = (*moe(c, hidden, c.size("intermediate_size")), vector("mlp.bias", hidden))
    return decoder(c, ["full"] * layer_count(c), lambda _: ((a,), weights), ["moe"] * layer_count(c), lambda _: ffn)
