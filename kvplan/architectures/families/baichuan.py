"""Chinese models whose code stands beside the checkpoint: Baichuan, the first Qwen, MiniCPM."""

from kvplan.architectures.attention import full, gqa
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import plain, sparse
from kvplan.architectures.feed_forward import always, moe
from kvplan.architectures.parts import Body, layer_count
from kvplan.architectures.registry import family
from kvplan.errors import SpecError


@family("baichuan")
def baichuan(c: Config) -> Body:
    """Read Baichuan: Llama with a key and a value a query head; those of 40 heads have ALiBi for positions."""
    heads = c.size("num_attention_heads")
    a = gqa(c, groups=heads, rope=heads != 40)
    return plain(c, ["full"] * layer_count(c), lambda _: a)


@family("qwen")
def qwen(c: Config) -> Body:
    """Read the first Qwen: a key and a value a query head, biases on q, k, v; intermediate_size counts gate and up."""
    a = gqa(c, groups=c.size("num_attention_heads"))
    inner = c.size("intermediate_size", low=2) // 2
    bias = not c.flag("no_bias", True)
    return plain(c, ["full"] * layer_count(c), lambda _: a, qkv_bias=True, o_bias=bias, mlp_bias=bias, inner=inner)


@family("minicpm")
def minicpm(c: Config) -> Body:
    """Read MiniCPM and MiniCPM4: Llama with scaled embeddings, some with experts; sparse attention keeps all tokens."""
    experts = c.optional("num_experts") or 0
    if c.get("sparse_config", None) and not isinstance(c.get("sparse_config"), dict):
        raise SpecError(f"{c.place}: sparse_config must be an object")
    bias = c.flag("attention_bias")
    if experts < 2:
        return plain(c, *full(c), qkv_bias=bias, o_bias=bias)
    return sparse(
        c,
        *full(c),
        always,
        moe(c, c.size("hidden_size"), c.size("intermediate_size")),
        qkv_bias=bias,
        o_bias=bias,
    )
