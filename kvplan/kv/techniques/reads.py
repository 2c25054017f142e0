"""Techniques that store all tokens and read few of them: an index says which."""

import re
from collections.abc import Callable
from dataclasses import replace

from kvplan.errors import Incompatible, UnknownName
from kvplan.kv.layout import Group, KVLayout
from kvplan.kv.techniques.technique import has_heads, paper, require_groups, technique
from kvplan.units import parse_tokens

#: Quest: tokens of a page, for which the least and the greatest of each key channel are kept
PAGE = 16
#: DeepSeek-V3.2's indexer: heads, elements of its key, and the fp8 scale beside it [B]
INDEX_HEADS, INDEX_DIM, INDEX_SCALE = 64, 128, 4
#: ShadowKV: rank of the keys kept on the GPU, tokens of a landmark, tokens read
SHADOW_RANK, LANDMARK, SHADOW_READS = 160, 8, 2048


def tokens_of(argument: str, name: str) -> int:
    """Return the tokens an argument names; UnknownName for anything else."""
    if not re.fullmatch(r"[1-9][\d,]{0,10}[kK]?", argument, re.ASCII):
        raise UnknownName("technique", f"{name}:{argument}", [f"{name}:2048"], f"write {name}:N, as in {name}:2048")
    return parse_tokens(argument, name)


def sparse(
    layout: KVLayout, spelled: str, change: Callable[[Group], Group], index: Callable[[Group], Group]
) -> KVLayout:
    """Change every group that caches all tokens per head, and put its index after the layout's groups."""
    if any(g.reads for g in layout.groups if g.vectors):
        raise Incompatible(f"{spelled}: this model already reads few of its tokens (sparse attention)")
    whole = [g for g in layout.groups if has_heads(g) and g.kind == "full"]
    require_groups(
        layout,
        lambda g: g in whole,
        f"{spelled}: this model has no layer that caches keys and values of all tokens per head",
    )
    groups = tuple(change(g) if g in whole else g for g in layout.groups)
    return replace(layout, groups=(*groups, *(index(g) for g in whole)))


def index_of(g: Group, **fields: object) -> Group:
    """Return the index of a group: read in full at each step, in the same layers."""
    plain = Group(kind="index", layers=g.layers, keep=g.keep, shareable=g.shareable, bits=g.bits)
    return replace(plain, **fields)  # type: ignore[arg-type]


@technique(
    "quest",
    spelling="quest:N",
    title="Quest",
    factor="reads",
    example="quest:2048",
    granularity="page of 16 tokens",
    query="each step",
    needs="a kernel that scores pages; the first two layers read all (not counted here)",
    risk="reads few tokens, drops none",
    quality="LongBench as good as whole from 1k to 4k tokens read, needle 1.00 at 64 of 10k (the authors' own)",
    source=paper("Quest, arXiv 2406.10774", "2024-06-16"),
)
def quest(layout: KVLayout, argument: str) -> KVLayout:
    """Store all tokens and the bounds of every page's keys; read the N tokens of those pages that may matter most."""
    count = tokens_of(argument, "quest")

    def bounds(g: Group) -> Group:
        width = 2 * g.key_width / PAGE
        flops = 2.0 * g.query_heads * width
        return index_of(g, vectors=g.vectors, width=width, key_width=width, split=g.split, query_heads=g.query_heads,
                        flops=flops)  # fmt: skip

    return sparse(layout, f"quest:{argument}", lambda g: replace(g, reads=count), bounds)


@technique(
    "shadowkv",
    spelling="shadowkv",
    title="ShadowKV",
    factor="reads",
    example="shadowkv",
    granularity="chunk of 8 tokens",
    query="each step",
    needs="host memory and a link to it; keys of rank 160 before rotation; kernels that rebuild them",
    risk="reads few tokens, drops none",
    quality="RULER at 128k within 1 point at 1.56 % read (Llama-3-8B-1M and others, the authors' own)",
    source=paper("ShadowKV, arXiv 2410.21465", "2024-10-28"),
)
def shadowkv(layout: KVLayout, argument: str) -> KVLayout:
    """Keep keys as a latent of rank 160 and landmarks on the GPU, values in the host's memory; read 2,048 tokens."""

    def latent(g: Group) -> Group:
        rank = min(SHADOW_RANK, g.vectors * g.key_width)
        return replace(
            g,
            vectors=1,
            split=1,
            width=float(rank),
            key_width=float(rank),
            reads=SHADOW_READS,
            rebuilds=2.0 * rank * g.vectors * g.key_width,
            host=g.vectors * (g.width - g.key_width) * g.bits / 8,
            before=replace(g, before=None),
        )

    def landmarks(g: Group) -> Group:
        width = g.key_width / LANDMARK
        return index_of(g, vectors=g.vectors, width=width, key_width=width, split=g.split, query_heads=g.query_heads,
                        flops=2.0 * g.query_heads * width)  # fmt: skip

    return sparse(layout, "shadowkv", latent, landmarks)


@technique(
    "dsa",
    spelling="dsa:N",
    title="DeepSeek sparse attention",
    factor="reads",
    example="dsa:2048",
    granularity="token",
    query="each step",
    needs="training: an indexer of 64 heads and 128 elements, then sparse attention on about 946 billion tokens",
    risk="train first",
    heals=946e9,
    quality="on par with DeepSeek-V3.1 (its makers); a what-if on any other model",
    source=paper("DeepSeek-V3.2, arXiv 2512.02556", "2025-12-02"),
)
def dsa(layout: KVLayout, argument: str) -> KVLayout:
    """Store all tokens and an fp8 index of 128 elements; read the N tokens that the index finds."""
    count = tokens_of(argument, "dsa")

    def indexer(g: Group) -> Group:
        work = 2.0 * INDEX_HEADS * INDEX_DIM
        return index_of(g, vectors=1, width=float(INDEX_DIM), key_width=float(INDEX_DIM), bits=8.0,
                        side=float(INDEX_SCALE), query_heads=INDEX_HEADS, flops=work, pair_flops=work)  # fmt: skip

    return sparse(layout, f"dsa:{argument}", lambda g: replace(g, reads=count), indexer)
