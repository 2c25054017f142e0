"""Techniques that choose tokens of the prompt once, when it has been read, or of the answer as it grows."""

from dataclasses import replace
from fractions import Fraction
from functools import partial

from kvplan.errors import UnknownName
from kvplan.kv.layout import KVLayout
from kvplan.kv.techniques.technique import paper, technique
from kvplan.kv.techniques.tokens import evicting, share_of, share_or_budget

PER_HEAD = "token per KV head: a paged cache frees nothing until a whole block is empty"
#: what chooses tokens by score, head by head, the question among what it looks at
by_score = partial(technique, factor="tokens", granularity=PER_HEAD, query="aware", risk="drops tokens")
#: KVzip reads its context twice more to see which tokens it needs to repeat it
REPEATS = 3.0
#: DuoAttention: what heads that are not for retrieval keep, attention sinks and the most recent tokens
SINKS, RECENT = 64, 256
#: R-KV: tokens generated between two evictions
BUFFER = 128


def selected(
    layout: KVLayout,
    name: str,
    share: Fraction | None,
    budget: int | None = None,
    *,
    per_head: bool = True,
    shareable: bool = False,
) -> KVLayout:
    """Keep a share or a number of the prompt's tokens, and all that is generated."""
    return evicting(
        layout,
        lambda keep: replace(keep, prompt_share=share, prompt_budget=budget, per_head=per_head),
        name,
        scores=False,
        shareable=shareable,
    )


@by_score(
    "snapkv",
    spelling="snapkv:N|P%",
    title="SnapKV",
    example="snapkv:25%",
    needs="attention of the prompt's last 64 queries; a compacting cache",
    quality="RULER retained 0.73 at 50 %, 0.45 at 25 % where the question was not known, 0.93 and 0.82 where it was "
    "(Llama-3.1-8B)",
    source=paper("SnapKV, arXiv 2404.14469", "2024-04-22"),
)
def snapkv(layout: KVLayout, argument: str) -> KVLayout:
    """Keep those tokens of the prompt that its last queries attend to: P per cent or N, and all that is generated."""
    return selected(layout, f"snapkv:{argument}", *share_or_budget(argument, "snapkv"))


@by_score(
    "pyramidkv",
    spelling="pyramidkv:P%",
    title="PyramidKV",
    example="pyramidkv:25%",
    needs="attention of the prompt's last queries; budgets that differ by layer",
    quality="RULER retained 0.72 at 50 %, 0.45 at 25 % where the question was not known (Llama-3.1-8B)",
    source=paper("PyramidKV, arXiv 2406.02069", "2024-06-04"),
)
def pyramidkv(layout: KVLayout, argument: str) -> KVLayout:
    """Keep P per cent of the prompt's tokens as SnapKV does, more of them in lower layers; their sum is P per cent."""
    return selected(layout, f"pyramidkv:{argument}", share_of(argument, "pyramidkv", "25%"))


@by_score(
    "adakv",
    spelling="adakv:P%",
    title="Ada-KV",
    example="adakv:25%",
    needs="attention of the prompt's last queries; a cache whose heads differ in length",
    quality="RULER retained 0.95 at 50 %, 0.86 at 25 % where the question was known (Llama-3.1-8B)",
    source=paper("Ada-KV, arXiv 2407.11550", "2024-07-16"),
)
def adakv(layout: KVLayout, argument: str) -> KVLayout:
    """Keep P per cent of the prompt's tokens, each head as many as it needs; their sum in a layer is P per cent."""
    return selected(layout, f"adakv:{argument}", share_of(argument, "adakv", "25%"))


@technique(
    "chunkkv",
    spelling="chunkkv:P%",
    title="ChunkKV",
    factor="tokens",
    example="chunkkv:25%",
    granularity="chunk of 10 tokens, the same for all heads",
    query="aware",
    needs="attention of the prompt's last queries",
    risk="drops tokens",
    quality="HotpotQA retained 0.95, many-shot arithmetic 0.96 at 10 % where the question was known (Llama 3 8B)",
    source=paper("ChunkKV, arXiv 2502.00299", "2025-02-01"),
)
def chunkkv(layout: KVLayout, argument: str) -> KVLayout:
    """Keep P per cent of the prompt in whole chunks of 10 tokens, all heads the same."""
    return selected(layout, f"chunkkv:{argument}", share_of(argument, "chunkkv", "25%"), per_head=False)


@technique(
    "kvzip",
    spelling="kvzip:P%",
    title="KVzip",
    factor="tokens",
    example="kvzip:25%",
    granularity=PER_HEAD,
    query="agnostic",
    needs="two more passes over each context, made once (in its attention here, not in its matrix products); a cache "
    "whose heads differ in length",
    risk="drops tokens",
    quality="RULER retained 0.995 at 25 %, 0.97 at 12.5 %, the question unknown (Llama-3.1-8B, Qwen3-8B)",
    searched=("kvzip:25%",),
    source=paper("KVzip, arXiv 2505.23416", "2025-05-29"),
)
def kvzip(layout: KVLayout, argument: str) -> KVLayout:
    """Keep those P per cent of the prompt that the model needs to repeat it: whatever is asked then, and by whom."""
    kept = selected(layout, f"kvzip:{argument}", share_of(argument, "kvzip", "25%"), shareable=True)
    return replace(kept, prefill_flops=layout.prefill_flops * REPEATS)


@technique(
    "duo",
    spelling="duo:P%",
    title="DuoAttention",
    factor="tokens",
    example="duo:50%",
    granularity="head: a cache for retrieval heads and one for the others",
    query="agnostic",
    needs="a pattern of heads, found or trained once for a model; two caches",
    risk="drops tokens",
    quality="RULER retained 1.00 at 55 % of the cache, 0.77 to 0.98 at 33 % (Llama-3.1-8B); 0.40 at 55 % (Qwen3-8B, "
    "pattern found on the fly)",
    source=paper("DuoAttention, arXiv 2410.10819", "2024-10-14"),
)
def duo(layout: KVLayout, argument: str) -> KVLayout:
    """Keep all tokens in P per cent of the heads, and 64 sinks and the last 256 in the others."""
    share = share_of(argument, "duo", "50%")
    return evicting(
        layout,
        lambda keep: replace(keep, share=share, others=SINKS + RECENT),
        f"duo:{argument}",
        scores=False,
        shareable=True,
    )


@technique(
    "r1kv",
    spelling="r1kv:N",
    title="R-KV",
    factor="tokens",
    example="r1kv:4096",
    granularity=PER_HEAD,
    query="aware",
    needs="attention of the last queries every 128 tokens; a compacting cache",
    risk="drops tokens of the answer",
    quality="all of AIME and MATH-500 kept at 10 to 34 % of the cache (DeepSeek-R1 distilled, the authors' own)",
    source=paper("R-KV, arXiv 2505.24133", "2025-05-30"),
)
def r1kv(layout: KVLayout, argument: str) -> KVLayout:
    """Keep the prompt and N of the tokens generated, those that matter and repeat no other; for long reasoning."""
    share, budget = share_or_budget(argument, "r1kv")
    if budget is None or share is not None:
        raise UnknownName("technique", f"r1kv:{argument}", ["r1kv:4096"], "write r1kv:N with tokens, as in r1kv:4096")
    return evicting(
        layout,
        lambda keep: replace(keep, answer_budget=budget + BUFFER, per_head=True),
        f"r1kv:{argument}",
        scores=False,
        shareable=True,
    )
