"""Techniques by which layers share what one of them stores."""

import re
from dataclasses import replace
from functools import partial

from kvplan.errors import Incompatible, UnknownName
from kvplan.kv.layout import Group, KVLayout
from kvplan.kv.techniques.technique import has_heads, paper, require_groups, technique

#: YOCO: tokens that the layers of its first half see
YOCO_WINDOW = 1024


trained = partial(technique, factor="layers", granularity="whole model", risk="train first")


def shares(layout: KVLayout, spelled: str) -> None:
    """Refuse a model whose layers already share, or that stores no keys and values per head."""
    if any(g.kind == "shared" and g.count for g in layout.groups):
        raise Incompatible(f"{spelled}: layers of this model already read another layer's cache")
    require_groups(
        layout, has_heads, f"{spelled}: this model stores no keys and values per head that layers could share"
    )


def reader(g: Group, layers: tuple[int, ...]) -> Group:
    """Return layers that read what one of the group's stores: its bytes at each step, none of their own."""
    return replace(
        g, kind="shared", layers=layers, vectors=0, width=0.0, key_width=0.0, side=0.0, rereads=g.token_bytes
    )


@trained(
    "cla",
    spelling="cla:N",
    title="CLA",
    example="cla:2",
    needs="a model trained so; uptraining on about 5 % of pre-training tokens at the least",
    heals=100e9,
    quality="perplexity as of the same cache by fewer heads, or better (1B and 3B trained from scratch)",
    source=paper("Cross-Layer Attention, arXiv 2405.12981", "2024-05-21"),
)
def cla(layout: KVLayout, argument: str) -> KVLayout:
    """Let N layers in a row share the keys and values of the first of them."""
    if not re.fullmatch(r"[2-9]|[1-9]\d", argument, re.ASCII):
        raise UnknownName("technique", f"cla:{argument}", ["cla:2"], "write cla:N with 2 layers or more, as in cla:2")
    shares(layout, f"cla:{argument}")
    every = int(argument)
    kept = [replace(g, layers=g.layers[::every]) if has_heads(g) else g for g in layout.groups]
    readers = [
        reader(g, tuple(i for n, i in enumerate(g.layers) if n % every)) for g in layout.groups if has_heads(g)
    ]  # fmt: skip
    return replace(layout, groups=(*kept, *(g for g in readers if g.layers)))


@trained(
    "yoco",
    spelling="yoco",
    title="YOCO",
    example="yoco",
    needs="a model trained so from the start",
    heals=1.6e12,
    quality="on par with a Transformer at 3B and 1.6 trillion tokens, needle at 1M (its authors)",
    source=paper("You Only Cache Once, arXiv 2405.05254", "2024-05-08"),
)
def yoco(layout: KVLayout, argument: str) -> KVLayout:
    """Let the second half of the layers share one cache of all tokens; those before it see a window of 1,024."""
    shares(layout, "yoco")
    half = layout.end // 2

    def split(g: Group) -> tuple[Group, ...]:
        if not has_heads(g):
            return (g,)
        early, late = (tuple(i for i in g.layers if (i >= half) is second) for second in (False, True))
        window = min(g.keep.window or YOCO_WINDOW, YOCO_WINDOW)
        first = replace(g, kind="sliding", layers=early, keep=replace(g.keep, window=window))
        return (first, replace(g, layers=late[:1]), reader(g, late[1:]))

    groups = [part for g in layout.groups for part in split(g)]
    return replace(layout, groups=tuple(g for g in groups if g.layers or not has_heads(g)))
