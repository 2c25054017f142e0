"""Prefixes kept in a tier beside the GPUs: how many fit there, how long one takes to come back, and what it costs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kvplan.kv import spelling
from kvplan.kv.tiers import bandwidth
from kvplan.money.keeping import keeping
from kvplan.planning.demand import Demand
from kvplan.planning.searching.configurations import Configuration
from kvplan.planning.site import Site
from kvplan.specs.line import Line

Array = Any


def offloaded(demand: Demand, shapes: Sequence[Configuration], site: Site) -> Array:
    """Return the mean requests that fit the tier beside each configuration's GPUs, as a column; 0 without one.

    What is read is written to the tier at once, so that holds what the GPUs do: vLLM's offloading manager
    (store_threshold 1, https://docs.vllm.ai/en/v0.26.0/api/vllm/v1/kv_offload/cpu/manager/) and SGLang's HiCache
    (write_through, https://docs.sglang.io/docs/advanced_features/hicache_best_practices), both read 2026-11-30.
    """
    length = int(demand.workload.input.mean + demand.workload.output.mean)

    def room(s: Configuration) -> float:
        tier = site.tier(s.layout.offloads)
        return tier.room * s.parallel.gpus / max(s.layout.stored(length), 1.0) if tier else 0.0

    return np.array([room(s) for s in shapes], float)[:, None]


def kept_by(technique: str, gpus: float, site: Site) -> Line | None:
    """Return what a technique's tier beside so many GPUs costs as a line of a bill, None without one. [USD/s]"""
    tier = site.tier(spelling.offloads(technique))
    return keeping(tier, gpus) if tier else None


def kept_cost(demand: Demand, shapes: Sequence[Configuration], gpus: Array, site: Site) -> Array:
    """Return what the tier of each configuration adds to a query, on the GPUs of each load. [USD]"""
    tiers = [site.tier(s.layout.offloads) for s in shapes]
    each = np.array([keeping(tier, 1).amount / demand.mean if tier else 0.0 for tier in tiers])
    return each[:, None] * gpus


def fetched(shapes: Sequence[Configuration], site: Site) -> Array:
    """Return how long a prefix takes to come from each configuration's tier, 0 without one, as a column. [s]

    Over the links of the GPUs of the rank that asks for it, side by side.
    """

    def wait(s: Configuration) -> float:
        tier = site.tier(s.layout.offloads)
        if not tier or not s.cached:
            return 0.0
        return s.layout.shared(s.cached) / (bandwidth(tier, site.gpu.name) * s.parallel.gpus / s.parallel.data)

    return np.array([wait(s) for s in shapes], float)[:, None]
