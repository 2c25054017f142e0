"""A replica's five steps at any load, fast: what does not change with the load is worked out once.

In a step's operators everything but routed experts grows evenly with the tokens that pass, the rows that get logits,
the sequences that decode and the part of a prompt that is read. So a step is a few corners of the roofline and a line.
The slow twin is `serving.passes` with `serving.steps`, one list of operators a load.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil

from kvplan.kv.layout import KVLayout
from kvplan.kv.replica import Parallel, Weights
from kvplan.perf.matrices import parts
from kvplan.perf.operators import (
    ELEMENTS,
    EXPERTS,
    NETWORK,
    TINY,
    Attended,
    Operator,
    attended_at,
    attention,
    by_part,
    hidden_states,
    messages,
    products,
    projected,
)
from kvplan.perf.serving import Steps
from kvplan.perf.step_time import (
    OVERLAP,
    compute_time,
    host_time,
    launch_time,
    memory_time,
    message_time,
    overlapped,
    whole_step,
)
from kvplan.specs.calibration import Calibration
from kvplan.specs.model import ModelSpec


@dataclass(frozen=True)
class Corner:
    """A matrix product whose bytes no load changes."""

    moved: float  #: third power of the time its bytes take, as OVERLAP has it [s^3]
    token: float  #: time its FLOPs take for a token that passes [s]
    row: float  #: the same for a row that gets logits [s]


@dataclass(frozen=True)
class TokenLines:
    """What a step takes for the tokens that pass, whatever is cached, on one rank of a replica."""

    corners: tuple[Corner, ...]  #: dense products
    experts: Callable[[float], float]  #: tokens -> what routed experts take [s]
    token: float  #: norms and messages, for a token [s]
    fixed: tuple[float, float]  #: launches and messages of a step that only decodes, and of one that reads prompts [s]
    host: float  #: launches by the host [s]

    def time(self, tokens: float, rows: float, prompts: bool) -> float:
        """Return what the device takes for so many tokens, of which `rows` get logits. [s]"""
        busy = sum((k.moved + (k.token * tokens + k.row * rows) ** OVERLAP) ** (1 / OVERLAP) for k in self.corners)
        return float(busy + self.experts(tokens) + self.token * tokens + self.fixed[prompts])


def busy(o: Operator, c: Calibration) -> float:
    """Return what an operator takes beside its launches. [s]"""
    if o.limit == NETWORK:
        return float(message_time(o, c))
    return float(o.bytes / c.elements if o.limit == ELEMENTS else overlapped(memory_time(o, c), compute_time(o, c)))


def corner(none: Operator, token: Operator, row: Operator, c: Calibration) -> Corner:
    """Return a product from its operators over nothing, over one token, and over one row."""
    still = float(compute_time(none, c))
    return Corner(
        moved=float(memory_time(none, c)) ** OVERLAP + TINY**OVERLAP,
        token=float(compute_time(token, c)) - still,
        row=float(compute_time(row, c)) - still,
    )


def token_lines(model: ModelSpec, plain: KVLayout, held: Weights, parallel: Parallel, c: Calibration) -> TokenLines:
    """Return what a step takes for its tokens on a replica of this shape, whatever the technique: `plain` has none."""
    amounts = (0.0, 0.0), (1.0, 0.0), (0.0, 1.0)
    none, token, row = (products(model, plain, held, parallel, *one) for one in amounts)
    dense = [triple for triple in zip(none, token, row, strict=True) if triple[0].limit not in (EXPERTS, ELEMENTS)]
    even = [[*messages(model, held, parallel, n), hidden_states(model, n)] for n in (0.0, 1.0)]
    still, each = (sum(busy(o, c) for o in some) for some in even)

    routed = tuple(m for m in parts(held).matrices if m.part == "experts")

    def experts(tokens: float) -> float:
        return sum(busy(o, c) for o in by_part(routed, held, parallel, tokens)) if routed else 0.0

    return TokenLines(
        corners=tuple(corner(*triple, c) for triple in dense),
        experts=experts,
        token=each - still,
        fixed=tuple(still + sum(launch_time(o, c, prompts) for o in none) for prompts in (False, True)),
        host=float(host_time([*none, *even[0]], c)),
    )


@dataclass(frozen=True)
class LoadLines:
    """The steps of a rank under one technique, at any number of sequences."""

    c: Calibration  #: rates
    tokens: TokenLines  #: what the tokens take
    corners: tuple[Corner, ...]  #: the technique's own products
    sequence: float  #: attention of a decode step, for a sequence [s]
    uneven: Attended  #: attention that does not grow evenly with the sequences: unpacking has a least time
    prompt: float  #: attention of a whole prompt over itself [s]
    fixed: tuple[float, float]  #: launches of attention and of the technique, without and with prompts [s]
    host: float  #: these by the host [s]
    share: float  #: tokens of a prompt's chunk [token]
    fresh: float  #: tokens of a prompt that are computed [token]

    def step(self, sequences: float, prefill: float) -> float:
        """Return the time of a step in which sequences take a token each, and `prefill` tokens of prompts. [s]"""
        c, part, prompts = self.c, prefill / self.fresh, prefill > 0
        tokens, rows = sequences + prefill, sequences + part
        device = self.tokens.time(tokens, rows, prompts)
        device += sum((k.moved + (k.token * tokens) ** OVERLAP) ** (1 / OVERLAP) for k in self.corners)
        device += self.sequence * sequences + self.prompt * part + self.fixed[prompts]
        if self.uneven.decode:
            device += summed(attention(self.uneven, sequences, None), c)
        return float(whole_step(device * c.pace, self.tokens.host + self.host, c, sequences))

    def steps(self, sequences: float) -> Steps:
        """Return the times of the five steps; speculative decoding takes fewer steps a token."""
        c = self.c
        decode = self.step(sequences, 0.0)
        saved = decode - decode / c.accepted
        return Steps(
            decode=decode - saved,
            mixed=self.step(sequences, self.share) - saved,
            alone=self.step(0.0, self.share),
            full=self.step(sequences, c.chunk) - saved,
            full_alone=self.step(0.0, c.chunk),
        )


def load_lines(
    model: ModelSpec, base: KVLayout, layout: KVLayout, parallel: Parallel, tokens: TokenLines, c: Calibration,
    *, prompt: int, output: float,
) -> LoadLines:  # fmt: skip
    """Return the steps of a technique on a replica; arguments as those of `serving.passes`."""
    attended = attended_at(layout, base, parallel.tensor, int(prompt + output / 2), prompt, 0)
    own = [[o for o in (projected(model, layout, parallel, n),) if o is not None] for n in (0.0, 1.0)]
    still = [*own[0], *attention(attended, 0.0, None)]
    return LoadLines(
        c=c,
        tokens=tokens,
        corners=tuple(corner(none, token, none, c) for none, token in zip(*own, strict=True)),
        sequence=summed([o for o in attended.decode if not least(o)], c),
        uneven=replace(attended, decode=tuple(o for o in attended.decode if least(o))),
        prompt=summed(attended.prompt, c),
        fixed=tuple(sum(launch_time(o, c, prompts) for o in still) for prompts in (False, True)),
        host=float(host_time(still, c)),
        share=prompt / ceil(prompt / c.chunk),
        fresh=prompt,
    )


def least(o: Operator) -> bool:
    """Return whether an operator takes a least time, however few the sequences."""
    return bool(o.lags or o.fixed)


def summed(operators: Sequence[Operator], c: Calibration) -> float:
    """Return what operators take one after the other beside their launches. [s]"""
    return sum(busy(o, c) for o in operators)
