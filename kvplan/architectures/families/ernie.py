"""ERNIE 4.5: dense, with experts, and with experts for text beside others for images."""

from kvplan.architectures.attention import full
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import plain, sparse
from kvplan.architectures.feed_forward import first_dense, moe
from kvplan.architectures.parts import Body, layer_count, vector
from kvplan.architectures.registry import family
from kvplan.architectures.towers import part, pixels, tensors, tower, transformer
from kvplan.errors import SpecError
from kvplan.specs.model import Weight


@family("ernie4_5")
def ernie(c: Config) -> Body:
    """Read dense ERNIE 4.5: one switch for all biases."""
    bias = c.flag("use_bias")
    return plain(c, *full(c), qkv_bias=bias, o_bias=bias, mlp_bias=bias)


@family("ernie4_5_moe")
def ernie_moe(c: Config) -> Body:
    """Read ERNIE 4.5 MoE: experts from a first to a last layer at an interval, shared ones among them."""
    hidden, bias, count = c.size("hidden_size"), c.flag("use_bias"), layer_count(c)
    first, step = c.size("moe_layer_start_index", 1, low=0), c.size("moe_layer_interval", 1)
    last = c.optional("moe_layer_end_index")
    inner = c.size("moe_intermediate_size")
    experts = (
        *moe(c, hidden, inner, shared=inner * c.size("moe_num_shared_experts", 0, low=0), shared_bias=bias),
        vector("mlp.gate.correction", c.size("num_experts")),
    )

    def is_moe(i: int) -> bool:
        return (i + 1) % step == 0 and first <= i <= (count - 1 if last is None else last)

    return sparse(
        c,
        *full(c),
        is_moe,
        experts,
        dense=c.size("intermediate_size"),
        qkv_bias=bias,
        o_bias=bias,
        mlp_bias=bias,
        head_bias=bias,
    )


@family("ernie4_5_vl_moe_text", "ernie4_5_moe_vl")
def ernie_vl(c: Config) -> Body:
    """Read ERNIE 4.5 VL: a token passes the routed experts of its kind, text or image, and the shared ones.

    The experts of images stay idle for text. Sizes come in pairs; Baidu's own files state the layers as pairs too.
    """
    hidden, bias = c.size("hidden_size"), c.flag("use_bias")
    (text, image), numbers = both(c, "moe_intermediate_size"), both(c, "num_experts")
    first, step = both(c, "moe_layer_start_index", 1)[0], both(c, "moe_layer_interval", 1)[0]
    shared = text * c.size("moe_num_shared_experts", 0, low=0)
    experts = moe(c, hidden, text, experts=numbers[0], shared=shared, shared_bias=bias, prefix="mlp.text")
    idle = moe(c, hidden, image, experts=numbers[1], prefix="mlp.image")
    experts += tuple(
        Weight(name=w.name, shape=w.shape, split=w.split, copies=w.copies, used=0.0, matmul=w.matmul) for w in idle
    )
    experts += (vector("mlp.correction", sum(numbers)),)
    listed = c.get("mlp_layer_types", None) is not None
    is_moe = first_dense(c) if listed else (lambda i: i >= first and (i + 1) % step == 0)
    kinds, attention = full(c)
    return sparse(
        c, kinds, attention, is_moe, experts, dense=c.size("intermediate_size"),
        qkv_bias=bias, o_bias=bias, mlp_bias=bias,
    )  # fmt: skip


def both(c: Config, name: str, usual: int | None = None) -> tuple[int, int]:
    """Return a size for text and for images, stated as a pair or once for both."""
    stated = c.get(name, usual) if usual is not None else c.get(name)
    pair = stated if isinstance(stated, (list, tuple)) else (stated, stated)
    if len(pair) != 2:
        raise SpecError(f"{c.place}: {name} must be one number or two, of text and of images")
    return c.whole(name, pair[0]), c.whole(name, pair[1])


@tower("ernie4_5_vl_moe_text", "ernie4_5_vl_moe")
def ernie_tower(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Return ERNIE 4.5 VL's vision tower, and the resampler that merges patches in space, then frames in time."""
    c = part(outer, "vision_config", "ernie4_5_vl_moe_vision")
    d, times, hidden = c.size("hidden_size"), c.size("temporal_merge_size", 2), text.size("hidden_size")
    wide = d * c.size("spatial_merge_size", 2) ** 2
    return (
        *tensors("vision_tower", patch=(d, pixels(c, "in_channels")), norm=(2, d)),
        *transformer("vision_tower.layers", d, c.size("intermediate_size"), c.size("depth")),
        *tensors("multi_modal_projector.space", fc1=(wide, wide + 1), fc2=(wide, wide + 1), norm=(2, wide)),
        *tensors("multi_modal_projector.time", fc1=(wide, times * wide + 1), fc2=(wide, wide + 1), norm=(2, wide)),
        *tensors("multi_modal_projector", mlp=(hidden, wide + 1), norm=(hidden,)),
    )
