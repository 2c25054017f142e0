"""Techniques that keep prefixes elsewhere: nothing is compressed, more is found again."""

from dataclasses import replace

from kvplan.errors import UnknownName
from kvplan.kv.layout import KVLayout
from kvplan.kv.techniques.technique import paper, served, technique


@technique(
    "offload",
    spelling="offload:cpu",
    title="CPU offload",
    factor="tier",
    example="offload:cpu",
    granularity="block of tokens",
    needs="host memory, and a link that is faster than computing the prefix again",
    risk="none",
    engines=(
        served("vllm", "0.11", "2025-10-02", "kv_offloading_size"),
        served("sglang", "0.5", "2025-09-10", "enable_hierarchical_cache"),
        served("trtllm", "0.14", "2024-11-01", "kv_cache_config.host_cache_size"),
    ),
    searched=("offload:cpu",),
    quality="the same cache: nothing is lost",
    source=paper("vLLM blog, Inside the KV offloading connector, 2026-01-08; LMCache, arXiv 2510.09665", "2025-10-08"),
)
def offload(layout: KVLayout, argument: str) -> KVLayout:
    """Keep prefixes that no longer fit the GPU in the host's memory; a question to one waits for its transfer."""
    if argument != "cpu":
        raise UnknownName("technique", f"offload:{argument}", ["offload:cpu"], "write offload:cpu")
    return replace(layout, offloads=argument)
