"""ChatGLM and GLM-4 under the keys of their own code, and TeleChat, which has much of both."""

from kvplan.architectures.attention import gqa
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import plain
from kvplan.architectures.parts import Body, layer_count
from kvplan.architectures.registry import family


@family("chatglm")
def chatglm(c: Config) -> Body:
    """Read ChatGLM: full attention of multi_query_group_num key/value heads, biases on q, k and v.

    The first one (inner_hidden_size) has a key and a value a query head, biases everywhere and no gate.
    """
    if c.stated("inner_hidden_size"):
        own = gqa(c, groups=c.size("num_attention_heads"))
        return plain(
            c, ["full"] * layer_count(c), lambda _: own, qkv_bias=True, o_bias=True, mlp_bias=True, gated=False, norm=2,
            inner=c.size("inner_hidden_size"),
        )  # fmt: skip
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


@family("telechat")
def telechat(c: Config) -> Body:
    """Read TeleChat 1 and 2: biases behind the attention and in the feed-forward's last matrix."""
    hidden = c.size("hidden_size")
    a = gqa(c)
    return plain(c, ["full"] * layer_count(c), lambda _: a, o_bias=True, extra_norm=hidden)
