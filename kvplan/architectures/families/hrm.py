"""HRM-Text: two stacks of layers that run several times a token."""

from dataclasses import replace

from kvplan.architectures.attention import attention_weights, gqa
from kvplan.architectures.config import Config
from kvplan.architectures.feed_forward import mlp
from kvplan.architectures.parts import Body, decoder, layer_count, linear, vector
from kvplan.architectures.registry import family
from kvplan.specs.model import Layer


@family("hrm_text")
def hrm(c: Config) -> Body:
    """Read HRM-Text: every run of a layer keeps a cache of its own; the weights of both stacks are held once.

    A file as published counts the layers of one stack; one that transformers saved counts all runs, and says how many
    layers a stack has.
    """
    hidden, rounds = c.size("hidden_size"), c.size("H_cycles", 2) * (c.size("L_cycles", 3) + 1)
    stack = c.optional("num_layers_per_stack") or layer_count(c)
    a = gqa(c, groups=c.size("num_attention_heads"))
    bias = c.flag("attention_bias")
    weights = attention_weights(hidden, a, qkv_bias=bias, o_bias=bias)
    weights += linear("self_attn.gate_proj", a.heads * a.value_dim, hidden, split="heads", bias=bias)
    body = decoder(
        c,
        ["full"] * (2 * stack),
        lambda _: ((a,), weights),
        ["mlp"] * (2 * stack),
        lambda _: mlp(hidden, c.size("intermediate_size"), bias=c.flag("mlp_bias")),
        norms=0,
        final_norm=False,
        extra=(vector("z_L_init", hidden),),
    )
    again = (Layer(mixers=(a,), weights=()),) * max(stack * rounds - 2 * stack, 0)
    note = f"its layers run {rounds // 2} times a token on average; times count their matrices once"
    return replace(body, layers=body.layers + again, notes=(note,))
