"""One forward pass as a list of operators: bytes moved, FLOPs done, messages sent, kernels launched, per GPU.

Every amount may be a float or an array of equal shape (many batches at once): the formulas only add, multiply and
raise to powers, so that one reading of the physics serves one plan, a search over thousands, and a fit.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log
from typing import NamedTuple

from kvplan.kv.layout import Group, KVLayout
from kvplan.kv.paging import share
from kvplan.kv.replica import Parallel, Weights
from kvplan.perf.amounts import Amount, larger, smaller
from kvplan.perf.matrices import Matrices, parts
from kvplan.specs.model import ModelSpec

#: what an operator's bytes and FLOPs are limited by: see perf/step_time.py
WEIGHTS, EXPERTS, CACHE, PROMPT, NETWORK, ELEMENTS = "weights", "experts", "cache", "prompt", "network", "elements"

#: keeps quotients of nothing finite, below any time in seconds that counts
TINY = 1e-30
#: reads and writes of the hidden states in one layer (two norms, residuals, activations): an assumption that the fitted
#: share `elements` corrects
HIDDEN_PASSES = 8


class Operator(NamedTuple):
    """What one GPU does in one part of a pass; a tuple, which is made three times as fast as a frozen dataclass.

    `bits` is the width of the operands (products) or of cache elements. `launches` counts the layers that launch
    `kernels`' kernels. `message` is the bytes of all `messages` together.
    """

    name: str  #: what it does, as reports call it
    limit: str  #: which rates it is bound by: WEIGHTS, EXPERTS, CACHE, PROMPT, NETWORK or ELEMENTS
    bytes: Amount = 0.0  #: read and written [B]
    flops: Amount = 0.0  #: floating-point operations [FLOP]
    bits: Amount = 16.0  #: width of the operands, or of cache elements [bit]
    kernels: str = ""  #: part of a layer whose count of kernels it launches, '' for none
    launches: Amount = 0.0  #: layers that launch them
    messages: Amount = 0.0  #: messages between GPUs
    message: Amount = 0.0  #: bytes of all messages [B]
    ranks: Amount = 2.0  #: GPUs that send messages at once
    dense: Amount = 0.0  #: operations of dense 16-bit products among the rest: vectors rebuilt from a latent [FLOP]
    unpacks: Amount = 0.0  #: time that unpacking takes one of the GPU's processors alone [s]
    lags: Amount = 0.0  #: time that unpacking takes at the least, however many sequences a step has [s]
    fixed: Amount = 0.0  #: of kernels that unpacking needs besides, whatever there is to unpack [s]
    fetched: Amount = 0.0  #: from the host's memory [B]


def touched(experts: int, used: float, tokens: Amount) -> Amount:
    """Return the expected number of distinct experts `tokens` tokens pick, `used` each. [expert]

    Some are more popular: picks of an expert are a Poisson stream over the tokens, whose rate is exponentially
    distributed over experts with mean x = used / (experts - used), so that 1 / (1 + tokens x) of them stay without, and
    one token picks `used`. Measured popularities lie on both sides: of 256 experts of a Qwen3.6-35B the busiest of four
    ranks had 1.35 times the mean on a B300 (ai-dynamo/aiconfigurator, 622 steps; 1.2 by this), and picks of 64 experts
    of a Qwen1.5-MoE over whole texts an entropy of 5.88 of 6 bits (5.39 by this).
    """
    return tokens * used / larger(1.0 + (tokens - 1.0) * used / experts, TINY)


def busiest(mean: Amount, variance: Amount, ranks: int) -> Amount:
    """Return the expected largest of `ranks` like counts: an extreme value of normals, mean + sigma sqrt(2 ln n)."""
    return mean + (2 * log(ranks) * larger(variance, 0.0)) ** 0.5 if ranks > 1 else mean


@dataclass(frozen=True, kw_only=True)
class Attended:
    """Attention of every kind of layer on one GPU: a decode step of one sequence, and a whole prompt."""

    decode: tuple[Operator, ...]  #: operators of one sequence's decode step
    prompt: tuple[Operator, ...]  #: operators of one whole prompt


def forward(
    model: ModelSpec,
    layout: KVLayout,
    held: Weights,
    parallel: Parallel,
    *,
    decode: Amount,
    length: int,
    prefill: Amount = 0.0,
    prompt: int = 0,
    cached: int = 0,
    base: KVLayout | None = None,
    attended: Attended | None = None,
) -> list[Operator]:
    """Return what one attention-data-parallel rank does in one step.

    `decode` sequences of `length` tokens take a token each, and `prefill` tokens of prompts `prompt` long are read
    (0: none), whose first `cached` tokens a prefix cache holds. Prompts attend to keys and values of the `base`
    layout, as they are before compression. `attended` is what attention takes, where it has been worked out before.
    """
    tokens = decode + prefill
    part = prefill / (prompt - cached) if prompt else None
    operators = products(model, layout, held, parallel, tokens, decode if part is None else decode + part)
    each = attended or attended_at(layout, base or layout, parallel.tensor, length, prompt, cached)
    operators += attention(each, decode, part)
    operators += messages(model, held, parallel, tokens)
    return [*operators, hidden_states(model, tokens)]


def hidden_states(model: ModelSpec, tokens: Amount) -> Operator:
    """Return the reads and writes of the hidden states of so many tokens."""
    hidden = HIDDEN_PASSES * len(model.layers) * model.hidden * 2.0
    return Operator(name="norms, residuals", limit=ELEMENTS, bytes=tokens * hidden)


def products(
    model: ModelSpec, layout: KVLayout, held: Weights, parallel: Parallel, tokens: Amount, rows: Amount
) -> list[Operator]:
    """Return the matrix products of a pass over `tokens` tokens on one rank, `rows` of which get logits.

    Experts see the tokens of all attention-data-parallel ranks, and the slowest rank's share of them counts.
    """
    known = parts(held)
    own = projected(model, layout, parallel, tokens)
    operators = [*by_part(known.matrices, held, parallel, tokens), *([own] if own else [])]
    head = model.vocab * model.hidden / parallel.tensor
    width = held.dtype_bits
    return [
        *operators,
        Operator(name="norms of queries, keys", limit=ELEMENTS, kernels="qk norm", launches=known.normed),
        Operator(name="quantise", limit=ELEMENTS, kernels="quantise", launches=known.quantised),
        Operator(
            name="output head", limit=WEIGHTS, bytes=head * width / 8, flops=2 * rows * head, bits=width,
            kernels="head", launches=1.0,
        ),
    ]  # fmt: skip


def by_part(matrices: Sequence[Matrices], held: Weights, parallel: Parallel, tokens: Amount) -> list[Operator]:
    """Return the products of `tokens` tokens with a model's matrices, those of one part of a layer together."""
    known, tensor = parts(held), parallel.tensor
    sums: dict[str, list[Amount]] = {}
    widths: dict[str, float] = {}
    for m in matrices:
        amount, work = routed(m, parallel, tokens) if m.part == "experts" else plain(m, tensor, held.kv_heads, tokens)
        entry = sums.setdefault(m.part, [0.0, 0.0])
        entry[0] = entry[0] + amount
        entry[1] = entry[1] + work
        if m.parameters:
            widths[m.part] = min(m.bits, widths.get(m.part, 16.0))
    return [
        Operator(
            name=part,
            limit=EXPERTS if part == "experts" else WEIGHTS,
            bytes=amount,
            flops=work,
            bits=widths.get(part, 16.0),
            kernels=part,
            launches=known.layers[part],
        )
        for part, (amount, work) in sums.items()
    ]


def projected(model: ModelSpec, layout: KVLayout, parallel: Parallel, tokens: Amount) -> Operator | None:
    """Return the product of `tokens` tokens with a technique's own matrices, None where it has none."""
    share_of = layout.parameters / parallel.tensor
    return Operator(
        name="technique's projections", limit=WEIGHTS, bytes=2 * share_of, flops=2 * tokens * share_of,
        kernels="router", launches=len(model.layers),
    ) if share_of else None  # fmt: skip


def plain(m: Matrices, tensor: int, kv_heads: int, tokens: Amount) -> tuple[float, Amount]:
    """Return bytes and FLOPs of tensors every token passes through."""
    ways = {"none": 1, "kv": min(tensor, kv_heads)}.get(m.split, tensor)
    return m.bytes / ways, 2 * tokens * m.parameters / ways


def routed(m: Matrices, parallel: Parallel, tokens: Amount) -> tuple[Amount, Amount]:
    """Return bytes and FLOPs of routed experts on the busiest rank: the distinct ones picked, and all that pick."""
    ranks, devices = parallel.expert_ranks, parallel.tensor * parallel.data
    everyone = tokens * parallel.data
    hit = touched(m.copies, m.used, everyone) / m.copies
    held = m.copies / ranks
    read = smaller(busiest(held * hit, held * hit * (1 - hit), ranks), held) / held
    picks = everyone * m.used / ranks
    load = busiest(picks, picks, ranks) / larger(picks, 1e-9)
    return m.bytes / devices * read, 2 * m.parameters / m.copies * m.used * everyone / devices * load


@lru_cache(maxsize=64)
def attended_at(layout: KVLayout, base: KVLayout, tensor: int, length: int, prompt: int, cached: int = 0) -> Attended:
    """Return what attention takes at a length: decode over the cache, a prompt over itself (0: none). Remembered."""
    decode = tuple(cache_read(kind, groups, tensor, length) for kind, groups in by_kind(layout.groups))
    if not prompt:
        return Attended(decode=decode, prompt=())
    whole = [
        self_attention(kind, groups, tensor, prompt, cached, layout.prefill_flops)
        for kind, groups in by_kind(base.groups)
    ]
    if base.encoder_flops:  # images of a cached prefix are not encoded again, those beside the prompt are
        fresh = 1.0 if any(g.kind == "cross" for g in base.groups) else 1 - cached / prompt
        flops = fresh * base.encoder_flops / tensor
        whole.append(Operator(name="vision encoder", limit=WEIGHTS, bytes=fresh * base.encoder_bytes, flops=flops))
    return Attended(decode=decode, prompt=tuple(whole))


def by_kind(groups: Iterable[Group]) -> list[tuple[str, list[Group]]]:
    """Return groups of layers by their kind of attention, in order."""
    kinds: dict[str, list[Group]] = {}
    for g in groups:
        kinds.setdefault(g.kind, []).append(g)
    return list(kinds.items())


def cache_read(kind: str, every: Sequence[Group], tensor: int, length: int) -> Operator:
    """Return the attention of one sequence's decode step over the cache of layers of one kind."""
    groups = [g.at(length) for g in every]
    return Operator(
        name=f"attention ({kind})",
        limit=CACHE,
        bytes=sum(g.count * g.read(length) * share(g, tensor) for g in groups),
        flops=sum(g.count * visible(g, length) * g.flops for g in groups) / tensor,
        dense=sum(g.count * visible(g, length) * g.rebuilds * share(g, tensor) for g in groups),
        fetched=sum(g.count * g.fetched(length) * share(g, tensor) for g in groups),
        unpacks=sum(unpacking(g, length, tensor) for g in groups),
        lags=sum(g.count * visible(g, length) * g.unpacks.lag for g in groups),
        fixed=sum(g.count * g.unpacks.fixed for g in groups),
        bits=max((g.bits for g in groups if g.vectors), default=16.0),
        kernels=kind if kind in ("latent", "index", "state") else "attention",
        launches=len({layer for g in groups for layer in g.layers}),
    )


def self_attention(
    kind: str, groups: Sequence[Group], tensor: int, prompt: int, cached: int, work: float
) -> Operator:  # fmt: skip
    """Return the attention of a whole prompt over itself in layers of one kind, `work` of its pairs' FLOPs."""
    pairs = sum(g.count * g.pair_flops * (prompt_pairs(g, prompt) - prompt_pairs(g, cached)) for g in groups)
    states = sum(2 * g.count * g.constant * share(g, tensor) for g in groups)
    return Operator(name=f"prompt attention ({kind})", limit=PROMPT, bytes=states, flops=work * pairs / tensor)


def attention(each: Attended, decode: Amount, part: Amount | None) -> list[Operator]:
    """Return the attention of `decode` sequences and of a part of a prompt (None: of no prompt)."""
    operators = [
        Operator(
            name=o.name, limit=CACHE, bytes=decode * o.bytes, flops=decode * o.flops, bits=o.bits, kernels=o.kernels,
            launches=o.launches, dense=decode * o.dense, unpacks=decode * o.unpacks,
            lags=smaller(decode, 1.0) * o.lags, fixed=smaller(decode, 1.0) * o.fixed, fetched=decode * o.fetched,
        )
        for o in each.decode
    ]  # fmt: skip
    if part is not None:
        operators += [
            Operator(name=o.name, limit=o.limit, bytes=o.bytes * part, flops=o.flops * part) for o in each.prompt
        ]
    return operators


def unpacking(g: Group, length: int, tensor: int) -> float:
    """Return what unpacking a group's cache takes one processor of a rank alone. [s]"""
    part = 1 / tensor if g.unpacks.by_query else share(g, tensor)
    return g.count * visible(g, length) * g.unpacks.work * part


def visible(g: Group, length: int) -> int:
    """Return how many cached tokens one query meets. [token]"""
    kept = g.keep.tokens(length)
    return min(kept, g.reads or kept)


def prompt_pairs(g: Group, prompt: int) -> float:
    """Return how many (query, visible token) pairs a prompt computes."""
    pairs = g.keep.pairs(prompt)
    return min(pairs, float(g.reads * prompt)) if g.reads else pairs


def messages(model: ModelSpec, held: Weights, parallel: Parallel, tokens: Amount) -> list[Operator]:
    """Return the all-reduces of tensor parallelism (two a layer), the all-to-alls of experts, and stage hand-overs.

    A ring all-reduce sends 2 (n - 1) / n of the message each way (Thakur et al., IJHPCA 19(1), 2005); an all-to-all
    sends a token to each rank that holds one of its experts, and back. Norms across heads sum over ranks as well.
    """
    operators = []
    known, layers = parts(held), len(model.layers)
    size = tokens * model.hidden * 2.0
    if parallel.tensor > 1:
        ring = 2 * (parallel.tensor - 1) / parallel.tensor
        count = 2 * layers
        operators.append(
            Operator(
                name="all-reduce",
                limit=NETWORK,
                messages=count + known.normed_across,
                message=count * ring * size,
                ranks=parallel.tensor * parallel.data,
            )
        )
    used = max((m.used for m in known.matrices if m.part == "experts"), default=0.0)
    if parallel.data > 1 and used:
        away = min(used, parallel.data) * (parallel.data - 1) / parallel.data
        count = 2 * known.layers["experts"]
        operators.append(
            Operator(
                name="all-to-all", limit=NETWORK, messages=count, message=count * away * size,
                ranks=parallel.tensor * parallel.data,
            )
        )  # fmt: skip
    if parallel.pipeline > 1:
        count = parallel.pipeline - 1
        operators.append(Operator(name="stage hand-over", limit=NETWORK, messages=count, message=count * size))
    return operators
