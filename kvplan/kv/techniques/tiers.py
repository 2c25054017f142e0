"""Techniques that keep prefixes elsewhere: nothing is compressed, more is found again."""

from dataclasses import replace

from kvplan.errors import UnknownName
from kvplan.kv.layout import KVLayout
from kvplan.kv.techniques.technique import paper, served, technique
from kvplan.kv.tiers import TIERS


@technique(
    "offload",
    spelling="offload:cpu|ssd|remote",
    title="offload",
    factor="tier",
    example="offload:cpu",
    granularity="block of tokens",
    needs="host memory, and a link that is faster than computing the prefix again",
    risk="none",
    engines=(
        served("vllm", "0.11", "2025-10-02", "kv_offloading_size", only="cpu", ref="vLLM blog, 2026-01-08"),
        served(
            "sglang",
            "0.5",
            "2025-09-10",
            "enable_hierarchical_cache",
            ref="SGLang documentation, HiCache best practices",
        ),
        served("trtllm", "0.14", "2024-11-01", "kv_cache_config.host_cache_size", only="cpu"),
    ),
    searched=("offload:cpu",),
    quality="the same cache: nothing is lost",
    source=paper("vLLM blog, Inside the KV offloading connector, 2026-01-08; LMCache, arXiv 2510.09665", "2025-10-08"),
)
def offload(layout: KVLayout, argument: str) -> KVLayout:
    """Keep prefixes that no longer fit the GPU beside it: host, ssd, remote; a question to one waits for it."""
    if argument not in TIERS:
        names = [f"offload:{name}" for name in TIERS]
        raise UnknownName("technique", f"offload:{argument}", names, f"write {', '.join(names[:-1])} or {names[-1]}")
    return replace(layout, offloads=argument)
