"""Techniques that keep fewer tokens."""

import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

from kvplan.errors import UnknownName
from kvplan.kv.layout import Group, Keep, KVLayout
from kvplan.kv.techniques.technique import paper, require_groups, served, technique
from kvplan.units import parse_tokens

SMALLEST_BUDGET = 100


def evicting(
    layout: KVLayout, keep: Callable[[Keep], Keep], spelled: str, *, scores: bool, shareable: bool
) -> KVLayout:
    """Keep part of the tokens of every layer that stores the sequence's own."""
    require_groups(
        layout,
        lambda g: g.kind in ("full", "sliding", "chunked", "latent") and g.token_bytes > 0,
        f"{spelled}: this model keeps no tokens to evict, only a recurrent state",
    )

    def change(g: Group) -> Group:
        if g.kind not in ("full", "sliding", "chunked", "latent", "index") or not g.token_bytes:
            return g
        changed = replace(g, keep=keep(g.keep), shareable=shareable, before=replace(g.before or g, before=None))
        if not scores or g.kind == "index":
            return changed
        heads = g.split
        return replace(
            changed,
            alone=g,
            side=g.side + 4 * heads,
            rereads=g.rereads + 4 * heads + 4 * g.query_heads,
            flops=g.flops + 2 * g.query_heads,
        )

    return layout.each(change)


def share_of(argument: str, name: str, usual: str) -> Fraction:
    """Return the share that '20%' stands for, of 1; UnknownName for anything else."""
    match = re.fullmatch(r"(\d{1,3}(?:\.\d{1,4})?)%", argument, re.ASCII)
    if match and 0 < Fraction(match[1]) <= 100:
        return Fraction(match[1]) / 100
    raise UnknownName("technique", f"{name}:{argument}", [f"{name}:{usual}"], f"write {name}:P%, as in {name}:{usual}")


def share_or_budget(argument: str, name: str) -> tuple[Fraction | None, int | None]:
    """Return (share, None) of '20%' or (None, tokens) of '4096'; UnknownName for anything else."""
    if argument.endswith("%"):
        return share_of(argument, name, "20%"), None
    if re.fullmatch(r"\d[\d,]*[kK]?", argument, re.ASCII) and int(re.sub(r"[,kK]", "", argument)) > 0:
        budget = parse_tokens(argument, name)
        if budget <= SMALLEST_BUDGET:
            raise UnknownName("technique", f"{name}:{argument}", [f"{name}:{budget}%"])
        return None, budget
    nearest = [f"{name}:20%", f"{name}:4096"]
    raise UnknownName("technique", f"{name}:{argument}", nearest, f"write {name}:20% or {name}:4096")


@technique(
    "h2o",
    spelling="h2o:P%|N",
    title="H2O",
    factor="tokens",
    example="h2o:20%",
    granularity="token per KV head: a paged cache frees nothing until a whole block is empty",
    query="aware",
    needs="a kernel that also returns scores; a compacting cache",
    risk="drops tokens",
    quality="RULER retained 0.57 at 50 %, 0.36 at 25 %, 0.26 at 12.5 % where the question was not known "
    "(Llama-3.1-8B); LongBench 0.99, 0.98 and 0.96 where it was (Llama-3-8B)",
    compared=("h2o:20%",),
    searched=("h2o:50%", "h2o:20%"),
    source=paper(
        "H2O, arXiv 2306.14048; KV Cache Compression, But What Must We Give in Return?, arXiv 2407.01527", "2023-06-24"
    ),
)
def h2o(layout: KVLayout, argument: str) -> KVLayout:
    """Keep the heavy hitters and the most recent tokens: P per cent of the sequence, or N tokens.

    Stores one fp32 score per token and KV head and adds it up every step (4 bytes read and 4 written, and the fp16
    logits of each query head written and read), scores the prompt with a second pass over the keys (half of
    attention again), and holds the whole prompt until it is evicted: in one layer, or in all if it is read in chunks.
    """
    share, budget = share_or_budget(argument, "h2o")
    changed = evicting(
        layout,
        lambda k: replace(k, share=share, budget=budget, per_head=True),
        f"h2o:{argument}",
        scores=True,
        shareable=False,
    )
    return replace(changed, prefill_flops=layout.prefill_flops * 1.5)


@technique(
    "streaming",
    spelling="streaming:S,W",
    title="StreamingLLM",
    factor="tokens",
    example="streaming:4,4096",
    granularity="token, the same for all heads: a ring buffer frees whole blocks",
    query="agnostic",
    needs="a ring buffer; positions inside the cache",
    risk="drops tokens",
    engines=(served("trtllm", "0.8", "2024-02-29", "streamingllm=enable", until="1.2"),),
    quality="RULER retained 0.62 at 50 %, 0.39 at 25 % (Llama-3.1-8B), LongBench 0.82 and 0.75 (Llama-3-8B); "
    "never for retrieval: what left the window is gone",
    compared=("streaming:4,4096",),
    source=paper(
        "StreamingLLM, arXiv 2309.17453; KV Cache Compression, But What Must We Give in Return?, arXiv 2407.01527",
        "2023-09-29",
    ),
)
def streaming(layout: KVLayout, argument: str) -> KVLayout:
    """Keep the first S tokens (attention sinks) and the last W."""
    match = re.fullmatch(r"(\d{1,7}),(\d{1,9}[kK]?)", argument, re.ASCII)
    if not match or int(re.sub(r"[kK]", "", match[2])) == 0:
        raise UnknownName(
            "technique",
            f"streaming:{argument}",
            ["streaming:4,4096"],
            "write streaming:S,W with sinks and a window, as in streaming:4,4096",
        )
    budget = int(match[1]) + parse_tokens(match[2], "streaming")
    return evicting(layout, lambda k: replace(k, budget=budget), f"streaming:{argument}", scores=False, shareable=False)


@technique(
    "window",
    spelling="window:W",
    title="sliding window",
    factor="tokens",
    example="window:4096",
    granularity="token, the same for all heads: whole blocks are freed",
    query="agnostic",
    needs="a model trained with a window",
    risk="drops tokens, loss unknown",
    quality="unknown for a model trained without one; "
    "perplexity collapses once the first tokens leave (StreamingLLM, section 3)",
    source=paper("Longformer, arXiv 2004.05150; Mistral 7B, arXiv 2310.06825", "2020-04-10"),
)
def window(layout: KVLayout, argument: str) -> KVLayout:
    """Keep the last W tokens."""
    if not re.fullmatch(r"[1-9][\d,]{0,10}[kK]?", argument, re.ASCII):
        raise UnknownName(
            "technique",
            f"window:{argument}",
            ["window:4096"],
            "write window:W with a number of tokens, as in window:4096",
        )
    budget = parse_tokens(argument, "window")
    return evicting(layout, lambda k: replace(k, budget=budget), f"window:{argument}", scores=False, shareable=False)
