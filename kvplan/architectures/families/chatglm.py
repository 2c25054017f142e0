"""ChatGLM2, ChatGLM3 and GLM-4 under the keys of their own code."""

from kvplan.architectures.attention import gqa
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import plain
from kvplan.architectures.parts import Body, layer_count
from kvplan.architectures.registry import family


@family("chatglm")
def chatglm(c: Config) -> Body:
    """Read ChatGLM: full attention of multi_query_group_num key/value heads, biases on q, k and v."""
    groups = c.size("multi_query_group_num") if c.flag("multi_query_attention") else c.size("num_attention_heads")
    a = gqa(c, groups=groups)
    every = c.flag("add_bias_linear")
    return plain(
        c,
        ["full"] * layer_count(c),
        lambda _: a,
        qkv_bias=c.flag("add_qkv_bias", True) or every,
        o_bias=every,
        mlp_bias=every,
        norm=1 if c.flag("rmsnorm", True) else 2,
        final_norm=c.flag("post_layer_norm", True),
    )
