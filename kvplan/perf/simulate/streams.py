"""Streams of requests: what is in one, and the same with more requests, or faster."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from kvplan.perf.simulate.run import Piece
from kvplan.units import MINUTE

#: seconds that copies of a request of a trace are spread over [s]
SPREAD = MINUTE
#: what the hashes of a copy's prefixes are moved by, around the numbers that a hash can be
COPY, HASHES = 0x1E3779B97F4A7C15, 1 << 62


@dataclass(frozen=True, kw_only=True)
class Extent:
    """What was seen of a stream of requests before it is simulated."""

    requests: int  #: requests with an answer
    failed: int  #: requests of a log without one, left out
    span: float  #: from the first arrival to the last [s]
    prompt: float  #: mean prompt [token]
    output: float  #: mean answer [token]
    uneven: float  #: how far answers differ: the width of a uniform distribution that varies as much, over their mean
    shortest: int  #: shortest prompt [token]
    longest: int  #: longest prompt and answer together [token]
    chain: int  #: items of the longest chain of prefix blocks
    ranks: tuple[int, ...]  #: priorities that requests have, the lowest first
    busiest: int  #: requests of the busiest minute

    @property
    def ranked(self) -> bool:
        """Whether priorities differ."""
        return len(self.ranks) > 1

    @property
    def rate(self) -> float:
        """Requests a second. [1/s]"""
        return self.requests / self.span if self.span else float(self.requests)


def extent(pieces: Iterable[Piece]) -> Extent:
    """Return what is in a stream, read once from beginning to end."""
    requests = failed = prompt = output = longest = chain = busiest = 0
    shortest, first, last, minute, many, ranks = 1 << 62, 0.0, 0.0, -1, 0, set[int]()
    usual, off, squared = 0.0, 0.0, 0.0  # an answer's length, how far others are from it, and that squared
    for p in pieces:
        failed += p.failed
        if not len(p):
            continue
        read, written, at = np.asarray(p.prompt), np.asarray(p.output), np.asarray(p.at)
        usual = usual if requests else float(written[0])
        off, squared = off + float((written - usual).sum()), squared + float(((written - usual) ** 2).sum())
        first, last = (float(at[0]) if not requests else first), float(at[-1])
        requests += len(p)
        prompt, output = prompt + int(read.sum()), output + int(written.sum())
        shortest, longest = min(shortest, int(read.min())), max(longest, int((read + written).max()))
        if len(p.start):
            chain = max(chain, int(np.diff(np.asarray(p.start)).max()))
        ranks |= {int(rank) for rank in np.unique(np.asarray(p.rank))} if len(p.rank) else {0}
        numbers, counts = np.unique((at // MINUTE).astype(np.int64), return_counts=True)
        counts[0] += many if numbers[0] == minute else 0
        minute, many, busiest = int(numbers[-1]), int(counts[-1]), max(busiest, int(counts.max()))
    return Extent(
        requests=requests, failed=failed, span=last, prompt=prompt / max(requests, 1),
        output=output / max(requests, 1), uneven=width(requests, off, squared) * requests / max(output, 1),
        shortest=shortest, longest=longest, chain=chain, ranks=tuple(sorted(ranks)), busiest=busiest,
    )  # fmt: skip


def width(n: int, off: float, squared: float) -> float:
    """Return the width of a uniform distribution that varies as n numbers of a sum and a sum of squares."""
    return (12 * max(squared / n - (off / n) ** 2, 0.0)) ** 0.5 if n else 0.0


def hastened(pieces: Iterable[Piece], speed: float) -> Iterator[Piece]:
    """Yield a trace's requests with all times divided."""
    for p in pieces:
        yield Piece(
            at=np.asarray(p.at) / speed, prompt=p.prompt, output=p.output, rank=p.rank, start=p.start, keys=p.keys,
            tokens=p.tokens, failed=p.failed,
        )  # fmt: skip


def up_to(pieces: Iterable[Piece], most: int) -> Iterator[Piece]:
    """Yield the requests whose prompt and answer have together no more than `most` tokens, chains with them."""
    for p in pieces:
        read, written = np.asarray(p.prompt), np.asarray(p.output)
        which = np.flatnonzero(read + written <= most)
        items = np.diff(np.asarray(p.start)) if len(p.start) else np.zeros(len(p), dtype=np.int64)
        own = np.repeat(read + written <= most, items)
        yield Piece(
            at=np.asarray(p.at)[which], prompt=read[which], output=written[which],
            rank=np.asarray(p.rank)[which] if len(p.rank) else (),
            start=np.concatenate(([0], np.cumsum(items[which]))) if len(p.start) else (),
            keys=np.asarray(p.keys)[own] if len(p.start) else (),
            tokens=np.asarray(p.tokens)[own] if len(p.start) else (), failed=p.failed,
        )  # fmt: skip


def multiplied(pieces: Iterable[Piece], factor: float, seed: int) -> Iterator[Piece]:
    """Yield a trace with `factor` times as many requests, minute by minute as uneven as it is.

    Each request stands for a whole number of requests, one more at random for the rest of the factor: itself, and
    copies that come at random within a minute after it. A copy shares prefixes with other copies of its number only.
    """
    rng = np.random.default_rng(seed)
    waiting: list[tuple[float, int, int, int, tuple[tuple[int, int], ...]]] = []
    for p in pieces:
        ranks, start = (p.rank if len(p.rank) else [0] * len(p)), p.start
        many = int(factor) + (rng.random(len(p)) < factor - int(factor))
        for i in range(len(p)):
            chain: tuple[tuple[int, int], ...] = ()
            if len(start):
                chain = tuple((int(p.keys[j]), int(p.tokens[j])) for j in range(start[i], start[i + 1]))
            late = rng.random(int(many[i])) * SPREAD
            for copy in range(int(many[i])):
                own = tuple(((key + copy * COPY) % HASHES, end) for key, end in chain) if copy else chain
                at = float(p.at[i]) + (float(late[copy]) if copy else 0.0)
                waiting.append((at, int(p.prompt[i]), int(p.output[i]), int(ranks[i]), own))
        waiting.sort(key=lambda one: one[0])
        n = next((i for i, one in enumerate(waiting) if one[0] > p.at[-1]), len(waiting)) if len(p) else 0
        yield chained(waiting[:n], p.failed)
        waiting = waiting[n:]
    yield chained(waiting)


def chained(rows: list[tuple[float, int, int, int, tuple[tuple[int, int], ...]]], failed: int = 0) -> Piece:
    """Return rows of (arrival, prompt, output, priority, chain) as a piece."""
    ends = [0]
    for row in rows:
        ends.append(ends[-1] + len(row[4]))
    return Piece(
        at=[r[0] for r in rows], prompt=[r[1] for r in rows], output=[r[2] for r in rows], rank=[r[3] for r in rows],
        start=ends if ends[-1] else (), keys=[k for r in rows for k, _ in r[4]],
        tokens=[t for r in rows for _, t in r[4]], failed=failed,
    )  # fmt: skip
