"""What a paged engine reserves: blocks, groups of layers, heads replicated across tensor-parallel ranks.

Follows vLLM's unified allocator (vllm/v1/core/kv_cache_utils.py, kv_cache_interface.py, mamba_utils.py). Everything
here is per GPU of a tensor-parallel group.
"""

from dataclasses import dataclass, replace
from math import ceil, inf
from typing import Any

from kvplan.kv.layout import Group, Keep, KVLayout
from kvplan.specs.hardware import Engine

#: the indexer's key: 128 fp8 elements and one fp32 scale (DeepSeek V3.2 in vLLM)
INDEX_SCALE = 4


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Layers with one page size on one GPU."""

    group: Group  #: the layers
    per_token: float  #: of one layer on this GPU [B]
    constant: float  #: of one layer's state on this GPU [B]
    block: int  #: tokens of a page [token]


@dataclass(frozen=True, kw_only=True)
class Paging:
    """One GPU's pages: a request of `length` tokens pins `blocks(length)` block ids of `block_bytes` each."""

    specs: tuple[Spec, ...]  #: layers that share a block table
    stacks: tuple[int, ...]  #: block ids a block of each spec's tokens takes
    pages: tuple[tuple[Group, float], ...]  #: (layers, bytes of one block of one of them) [B]
    block_bytes: float  #: of one block id [B]
    prefill_tokens: int  #: tokens of one prefill step, which windows hold besides [token]
    compacts: bool = False  #: whether tokens evicted head by head free blocks; stock engines do not do that
    state_pages: int = 1  #: pages a request pins for a recurrent state
    ranks: int = 1  #: GPUs that each hold their share of a request's tokens (decode context parallel)
    contiguous: bool = False  #: whether a slot has rows of cells of its own in every layer, not pages of a pool
    even: bool = False  #: whether capacity is logged as if every group of layers kept every token
    #: of a block of the layers that keep every token, where capacity is logged by bytes over it; 0: by blocks [B]
    logged_page: float = 0.0
    cell: float = 0.0  #: of a token of capacity, where windows and states have pools of their own; 0: pages count [B]

    @property
    def stateful(self) -> bool:
        """Whether any layer keeps a recurrent state in pages."""
        return any(s.constant for s in self.specs)

    def slots(self, room: float) -> int:
        """Return the block ids that fit into `room` bytes: each can hold one sequence's recurrent state."""
        return int(max(room, 0.0) // self.block_bytes) if self.block_bytes else 0

    def blocks(self, length: int) -> int:
        """Return the block ids a request of `length` tokens pins."""
        return sum(n * self.spec_blocks(s, length) for n, s in zip(self.stacks, self.specs, strict=True))

    def spec_blocks(self, spec: Spec, length: int) -> int:
        """Return the blocks one request pins in one stack of layers: a window also holds the tokens being prefilled."""
        if spec.constant:
            return self.state_pages
        keep = self.pinned(spec)
        kept = keep.tokens(length)
        if keep.window is None or keep.evicts or keep.fixed is not None:
            return ceil(kept / (spec.block * self.ranks))
        if keep.chunk or self.contiguous:
            return ceil(min(keep.window + self.prefill_tokens, length) / spec.block)
        return ceil(min(keep.window - 1 + self.prefill_tokens, length) / spec.block) + 1

    def pinned(self, spec: Spec) -> Keep:
        """Return which tokens' blocks a request pins: tokens evicted head by head free none unless it `compacts`."""
        keep = spec.group.keep
        return keep.unevicted if keep.per_head and not self.compacts else keep

    def growth(self, length: int) -> float:
        """Return the bytes one token more takes on this GPU, averaged over whole blocks. [B/token]"""
        total = 0.0
        for count, spec in zip(self.stacks, self.specs, strict=True):
            keep = self.pinned(spec)
            filling = keep.window is not None and length < keep.window - 1 + self.prefill_tokens
            rate = 1.0 if filling and not keep.evicts else keep.growth(length)
            total += 0.0 if spec.constant else count * rate / (spec.block * self.ranks) * self.block_bytes
        return total

    def reserved(self, length: int) -> float:
        """Return the bytes one request of `length` tokens takes on this GPU. [B]"""
        return self.blocks(length) * self.block_bytes

    def taken(self, length: int) -> float:
        """Return the bytes of room that one request of `length` tokens takes on this GPU. [B]"""
        return self.cell * length or self.reserved(length)

    def sequences(self, room: float, length: int) -> int:
        """Return how many requests of `length` tokens fit into `room` bytes."""
        if self.cell:
            return int(room // self.cell) // length
        each = self.blocks(length)
        return int(room // self.block_bytes) // each if each and self.block_bytes else 0

    def tokens(self, room: float, length: int) -> int:
        """Return the cache's capacity in tokens, as the engine logs it: concurrency x length.

        An `even` one divides the blocks among the groups of layers, and counts each at the tokens of the smallest, of
        which a state's is the whole length (vLLM 0.20.0: model_executor/models/config.py: mamba_block_size); one with a
        `logged_page` counts a request's bytes in those, not its blocks.
        """
        if self.even and len(self.specs) > 1:
            smallest = min((s.block for s in self.specs if not s.constant), default=0)
            if smallest and self.state_pages == 1 and any(s.constant for s in self.specs):
                smallest = min(smallest, length)
            return int(room // self.block_bytes) // sum(self.stacks) * smallest * self.ranks if self.block_bytes else 0
        if self.logged_page:
            parts = zip(self.specs, self.pages, strict=True)
            taken = sum(g.count * self.spec_blocks(s, length) * page for s, (g, page) in parts)
            return int(int(room // self.block_bytes) / ceil(taken / self.logged_page) * length)
        return self.whole_tokens(room, length)

    def whole_tokens(self, room: float, length: int) -> int:
        """Return the tokens of all requests of a length that fit, the last one's in part."""
        if self.cell:
            return int(room // self.cell)
        each = self.blocks(length)
        return int(int(room // self.block_bytes) / each * length) if each and self.block_bytes else 0


def share(group: Group, tensor_parallel: int) -> float:
    """Return the part of a group one of `tensor_parallel` GPUs holds.

    Whole heads, at least one; a latent is never divided.
    """
    return ceil(group.split / tensor_parallel) / group.split if group.split > 1 else 1.0


def paging(
    layout: KVLayout,
    engine: Engine,
    tensor: int,
    block_size: int | None,
    prefill_tokens: int,
    compacts: bool,
    *,
    state_pages: int = 1,
    ranks: int = 1,
    hybrid: bool = True,
    drafted: int = 0,
    even: bool = False,
) -> Paging:
    """Return how an engine pages this layout on one GPU of a tensor-parallel group.

    Without its `hybrid` manager, which some releases leave out for layers that attend within chunks, it keeps every
    token in layers that see only a window. For each of `drafted` tokens a recurrent state takes one more page, and its
    convolution one more column.
    """
    groups = _served(layout, engine, hybrid, drafted)
    if any(g.page for g in groups):
        return _own_pages(groups, prefill_tokens, compacts, block_size, engine.capacity == "bytes")
    latent = any(g.kind == "latent" for g in groups)
    block = block_size or (engine.latent_block_size if latent else engine.block_size)
    specs = _merge([_spec(g, tensor, block) for g in groups])
    if engine.contiguous:
        return _rows(specs, prefill_tokens)
    alike = len({_rule(s) for s in specs}) <= 1
    tables = _one_table(specs) if alike else _stacked(specs, block)
    return Paging(
        **tables,
        prefill_tokens=prefill_tokens,
        compacts=compacts,
        state_pages=state_pages + drafted,
        ranks=ranks,
        even=even and not alike,
        cell=_cell(specs, engine),
    )


def _served(layout: KVLayout, engine: Engine, hybrid: bool, drafted: int) -> list[Group]:
    """Return the groups of a layout that take memory, as an engine keeps them."""
    groups = [g for g in (_as_engine(g) for g in layout.groups) if g.count and (g.token_bytes or g.constant)]
    groups = [replace(g, constant=g.constant + drafted * g.column) if g.column and drafted else g for g in groups]
    if hybrid and not any(g.kind in engine.whole_kinds for g in groups):
        return groups
    return [replace(g, keep=replace(g.keep, window=None, chunk=False)) for g in groups]


def _one_table(specs: list[Spec]) -> dict[str, Any]:
    """Return the pages of layers that all keep alike: they share one block table, each with its own page size."""
    pages = tuple((s.group, s.constant or s.per_token * s.block) for s in specs)
    one = tuple(specs[:1])
    return {
        "specs": one,
        "stacks": (1,) * len(one),
        "pages": pages,
        "block_bytes": sum(g.count * page for g, page in pages),
    }


def _stacked(specs: list[Spec], block: int) -> dict[str, Any]:
    """Return the pages of layers that keep unlike: all of one size, in stacks of as many layers as a block id has.

    Those are as many as the smallest group has, or the largest where it has less than half as many again.
    """
    specs, page = _equalise(specs, block)
    counts = [s.group.count for s in specs]
    size = max(counts) if max(counts) < 1.5 * min(counts) else min(counts)
    return {
        "specs": tuple(specs),
        "stacks": tuple(ceil(n / size) for n in counts),
        "pages": tuple((s.group, page) for s in specs),
        "block_bytes": size * page,
    }


def _cell(specs: list[Spec], engine: Engine) -> float:
    """Return the bytes of a token of capacity where windows and states have pools of their own, 0 elsewhere. [B]

    SGLang's pool of windows holds a share of the tokens of the other layers', its pool of states a share of what all
    tokens take (pool_configurator.py: HybridSWAPoolConfigurator; handle_max_mamba_cache). Only where no technique
    drops tokens.
    """
    tokens = [s for s in specs if s.per_token]
    plain = all(replace(s.group.keep, window=None, chunk=False) == Keep() for s in tokens)
    if engine.state_share is None or engine.window_share is None or not tokens or not plain:
        return 0.0
    whole = any(s.group.keep.window is None for s in tokens)
    windows = engine.window_share if whole else 1.0
    cell = sum(s.group.count * s.per_token * (1.0 if s.group.keep.window is None else windows) for s in tokens)
    return cell * (1 + engine.state_share if any(s.constant for s in specs) else 1)


def _rows(specs: list[Spec], prefill_tokens: int) -> Paging:
    """Return the rows of cells that a slot has in each layer, rounded up to whole blocks; a block id is one byte.

    llama.cpp allocates a layer's cells apart: as many as tokens, in layers that see a window as many as it and a
    micro-batch (src/llama-kv-cache-iswa.cpp). States are held in 32 bits (src/llama-memory-recurrent.cpp).
    """
    states = (s.group.state * 4 * s.constant / s.group.constant if s.constant else 0.0 for s in specs)
    pages = tuple(
        (s.group, float(ceil(state or s.per_token * s.block))) for s, state in zip(specs, states, strict=True)
    )
    return Paging(
        specs=tuple(specs),
        stacks=tuple(g.count * int(page) for g, page in pages),
        pages=pages,
        block_bytes=1.0,
        prefill_tokens=prefill_tokens,
        contiguous=True,
    )


#: pages of compressed attention begin at multiples of this, as its kernels read them (FlashMLA) [B]
ALIGNED = 576


def _own_pages(
    groups: list[Group], prefill_tokens: int, compacts: bool, block_size: int | None, by_bytes: bool
) -> Paging:
    """Return the pages of groups that have page sizes of their own (DeepSeek-V4), alike on every GPU.

    Groups whose pages hold as many tokens share a block table. A block id is a page of every size that compressed
    vectors have, in as many layers as a table has; those of more layers take several. The windows' and the states'
    pages lie in them.

    This rule is inferred, not read in an engine's code: it is the one found that gives both requests of one log of vLLM
    0.22, of 13,528 and 30,000 tokens, within 0.01 % (https://github.com/vllm-project/vllm/issues/44376: TP2, block size
    256, the offline LLM class, whose steps take 16,384 tokens where a server's take 8,192). What is logged then
    (`by_bytes`) divides a request's bytes, pages padded to the next of those sizes, by a block of the layers that keep
    every token: 37.93 GiB are 2,497,693 tokens of 256,000 each (0.22.1, eight GPUs, steps of 8,192).
    """
    groups = _alike(groups)
    base = max((g.count for g in groups if g.keep.window is None), default=1)
    counts = [max(1, round(g.count / base)) for g in groups]
    size = max(ceil(g.count / n) for g, n in zip(groups, counts, strict=True))
    specs = tuple(_own_page(g, block_size) for g in groups)
    pages = [(s.group, ceil(s.block * s.per_token / ALIGNED) * float(ALIGNED)) for s in specs]
    tables = [g.page for g in groups]  # those with pages of as many tokens share one, which the first stands for
    whole = [(g, page) for g, page in pages if g.keep.window is None]
    padded = [(g, min((held for _, held in whole if held >= page), default=page)) for g, page in pages]
    return Paging(
        specs=specs,
        stacks=tuple(0 if g.page in tables[:i] else n for i, (g, n) in enumerate(zip(groups, counts, strict=True))),
        pages=tuple(padded),
        logged_page=sum(g.count * page for g, page in whole) if by_bytes else 0.0,
        block_bytes=size * sum(page for _, page in whole),
        prefill_tokens=prefill_tokens,
        compacts=compacts,
    )


def _alike(groups: list[Group]) -> list[Group]:
    """Join groups that keep alike and whose tokens and pages are as large."""
    joined: dict[tuple[object, ...], Group] = {}
    for g in groups:
        key = (g.keep, g.page, g.token_bytes)
        joined[key] = replace(joined[key], layers=joined[key].layers + g.layers) if key in joined else g
    return list(joined.values())


def _own_page(g: Group, block_size: int | None) -> Spec:
    """Return layers whose page holds so many tokens, one vector at least; `block_size` counts but for windows."""
    tokens = block_size if block_size and g.keep.window is None else g.page or 1
    return Spec(group=g, per_token=g.token_bytes, constant=0.0, block=max(tokens // g.keep.every, 1))


def _as_engine(g: Group) -> Group:
    """Return a group as vLLM keeps it.

    The indexer's keys in fp8 with a scale; the fp8 sparse MLA cache as fp8 latents, scales and 16-bit rotary parts.
    Pages of all layers are equal, so where some layers hold scores all do: an engine without compaction frees no page
    of what H2O evicts, and its cache is larger by them.
    """
    if g.kind == "index":
        return replace(g, bits=8.0, side=INDEX_SCALE)
    if g.fp8_side:
        return replace(g, side=g.fp8_side) if g.bits == 8.0 and not g.side else g
    if g.kind == "latent" and g.reads and g.bits == 8.0 and not g.side:  # fp8, not int8 with its scales
        return replace(g, side=g.key_width / 128 * 4 + (g.width - g.key_width))
    return g


def _spec(g: Group, tensor_parallel: int, block: int) -> Spec:
    part = share(g, tensor_parallel)
    return Spec(group=g, per_token=g.token_bytes * part, constant=g.constant * part, block=block)


def _rule(s: Spec) -> tuple[object, ...]:
    """What a spec keeps; specs with one rule can share a block table."""
    return (s.group.keep, bool(s.constant))


def _merge(specs: list[Spec]) -> list[Spec]:
    """Join specs that keep alike and have one page size."""
    merged: dict[tuple[object, ...], Spec] = {}
    for s in specs:
        key = (*_rule(s), s.per_token, s.constant)
        old = merged.get(key)
        merged[key] = replace(s, group=replace(s.group, layers=old.group.layers + s.group.layers)) if old else s
    return list(merged.values())


def _equalise(specs: list[Spec], block: int) -> tuple[list[Spec], float]:
    """Give all specs one page: attention blocks grow to hold a recurrent state, smaller pages take more tokens."""
    state = max((s.constant for s in specs), default=0.0)
    slim = min((s.per_token for s in specs if s.per_token), default=inf)
    if state and slim < inf:
        block = max(block, block * ceil(state / (block * slim)))
    page = max([block * max((s.per_token for s in specs), default=0.0), state])
    return [
        s if s.constant else replace(s, block=max(block, int(page // s.per_token) // block * block)) for s in specs
    ], page
