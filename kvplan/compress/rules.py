"""Which tokens a layer keeps: pure functions on scores and places, and the rules that techniques name."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

#: queries at the end of a prompt whose attention chooses for SnapKV, and how far scores are pooled
#: (SnapKV, arXiv 2404.14469, section 4 and its code)
WINDOW, POOL = 64, 5
#: tokens of a chunk of ChunkKV (arXiv 2502.00299, section 4.1)
CHUNK = 10
#: of its even part of a layer's budget that a head keeps at least (Ada-KV, arXiv 2407.11550, section 4.1: alpha 0.2)
SAFEGUARD = 0.2


class Rule(Protocol):
    """What is dropped once a layer holds more than it may."""

    @property
    def keeps_scores(self) -> bool:
        """Whether a score a token stays in memory."""

    def fresh(self, like: Tensor) -> Tensor:
        """Return the first scores of tokens, in the shape of `like`."""

    def queries(self, count: int, past: int, kept: int) -> int:
        """Return how many of a pass's last queries have their attention summed, `kept` tokens staying after it."""

    def ranking(self, scores: Tensor, kept: int) -> tuple[Tensor, int]:
        """Return (what to rank tokens by, how many of the last ones stay whatever their rank)."""


@dataclass(frozen=True)
class HeavyHitters:
    """H2O: half of the budget to the tokens that drew most attention so far, half to the last (arXiv 2306.14048)."""

    keeps_scores: bool = True  #: scores go on adding up

    def fresh(self, like: Tensor) -> Tensor:
        """Return zeros."""
        return torch.zeros_like(like)

    def queries(self, count: int, past: int, kept: int) -> int:
        """Return all."""
        return count

    def ranking(self, scores: Tensor, kept: int) -> tuple[Tensor, int]:
        """Return the summed scores, and half of the budget."""
        return scores, kept // 2


@dataclass(frozen=True)
class Chance:
    """A control: as H2O, but what drew most attention is drawn by chance."""

    generator: torch.Generator  #: what chance comes from
    keeps_scores: bool = True  #: a token keeps its number

    def fresh(self, like: Tensor) -> Tensor:
        """Return numbers drawn."""
        return torch.rand(like.shape, generator=self.generator).to(like.device)

    def queries(self, count: int, past: int, kept: int) -> int:
        """Return none."""
        return 0

    def ranking(self, scores: Tensor, kept: int) -> tuple[Tensor, int]:
        """Return the numbers, and half of the budget."""
        return scores, kept // 2


@dataclass(frozen=True)
class ObservationWindow:
    """SnapKV: once, after the prompt, what its last queries look at, pooled over neighbours (arXiv 2404.14469)."""

    keeps_scores: bool = False  #: nothing is dropped later
    watching: int = WINDOW  #: queries whose attention counts
    pool: int = POOL  #: tokens a score is averaged over

    def fresh(self, like: Tensor) -> Tensor:
        """Return zeros."""
        return torch.zeros_like(like)

    def queries(self, count: int, past: int, kept: int) -> int:
        """Return those of the window, of a prompt."""
        return 0 if past else min(self.kept_by_place(kept), count)

    def kept_by_place(self, kept: int) -> int:
        """Return the window: all of it, or half of a budget that is too small for it."""
        return min(self.watching, max(1, kept // 2))

    def ranking(self, scores: Tensor, kept: int) -> tuple[Tensor, int]:
        """Return the scores before the window averaged over neighbours, and the window."""
        window = self.kept_by_place(kept)
        pooled = torch.nn.functional.avg_pool1d(scores[..., :-window], self.pool, 1, self.pool // 2)
        return torch.nn.functional.pad(pooled, (0, window)), window


@dataclass(frozen=True)
class ChunkWindow(ObservationWindow):
    """ChunkKV: once, after the prompt, whole chunks that its last queries look at (arXiv 2502.00299, algorithm 1).

    All heads keep the same tokens. Chunks are counted back from the window; of the last one that stays as many tokens
    as fit, so that as many are kept as the planner reckons.
    """

    chunk: int = CHUNK  #: tokens that stay or go together

    def ranking(self, scores: Tensor, kept: int) -> tuple[Tensor, int]:
        """Return the scores of all heads before the window summed by chunk, and the window."""
        window = self.kept_by_place(kept)
        each = scores[..., :-window].sum(1, keepdim=True)
        short = -each.shape[-1] % self.chunk
        chunks = torch.nn.functional.pad(each, (short, 0)).unflatten(-1, (-1, self.chunk)).sum(-1)
        whole = chunks.repeat_interleave(self.chunk, -1)[..., short:]
        return torch.nn.functional.pad(whole, (0, window)), window


@dataclass(frozen=True)
class AdaptiveWindow(ObservationWindow):
    """Ada-KV: as SnapKV, but the heads of a layer share its budget (arXiv 2407.11550).

    The tokens of all heads are ranked together (algorithm 1); each keeps at least a fifth of its even part.
    """

    least: float = SAFEGUARD  #: of a head's even part of the budget that stays with it, of 1

    def uneven(self, scores: Tensor, dead: Tensor, budget: Tensor) -> Tensor:
        """Return the slots kept by each head, bool [batch, heads, slots], `budget` of them a row on average."""
        kept = torch.zeros_like(scores, dtype=torch.bool)
        for row, (first, part) in enumerate(zip(dead.tolist(), budget.tolist(), strict=True)):
            ranked, window = self.ranking(scores[row : row + 1, :, first:], part)
            ranks = ranked[0].clone()
            ranks[:, ranks.shape[1] - window :] = torch.inf
            own = ranks.topk(window + int(self.least * (part - window)), 1).indices
            ranks.scatter_(1, own, torch.inf)
            best = torch.argsort(ranks.flatten(), descending=True, stable=True)[: part * len(ranks)]
            chosen_slots = torch.zeros(ranks.numel(), dtype=torch.bool, device=ranks.device).index_fill_(0, best, True)
            kept[row, :, first:] = chosen_slots.view_as(ranks)
        return kept


@dataclass(frozen=True)
class RetrievalHeads(ObservationWindow):
    """DuoAttention: some heads keep all tokens, the others the first and the last ones (arXiv 2410.10819).

    Without a pattern of heads those are taken whose last queries look most at what lies between.
    """

    share: float = 0.5  #: of the heads that keep all, of 1
    heads: tuple[int, ...] | None = None  #: which they are; None: found in each prompt
    sinks: int = 64  #: first tokens that the others keep
    recent: int = 256  #: last tokens that the others keep

    def queries(self, count: int, past: int, kept: int) -> int:
        """Return those of the window, of a prompt."""
        return 0 if past else min(self.watching, count)

    def uneven(self, held: Tensor, whole: Tensor) -> Tensor:
        """Return the slots kept of those held, bool [batch, heads, slots]; the `whole` heads keep all."""
        places = held.cumsum(-1)
        near = places > held.sum(-1, keepdim=True) - self.recent
        return held & (near | (places <= self.sinks) | whole[..., None])

    def retrieval_heads(self, scores: Tensor, dead: Tensor) -> Tensor:
        """Return which heads keep all: bool [batch, heads]."""
        batch, heads, slots = scores.shape
        places = torch.arange(slots, device=scores.device)
        between = (places >= dead[:, None] + self.sinks) & (places < slots - self.recent)
        most = (scores * between[:, None]).sum(-1)
        best = torch.argsort(most, dim=1, descending=True, stable=True)[:, : round(heads * self.share)]
        if self.heads is not None:
            best = torch.tensor([self.heads] * batch, device=scores.device)
        return torch.zeros(batch, heads, dtype=torch.bool, device=scores.device).scatter(1, best, True)


@dataclass(frozen=True)
class Unwatched:
    """A rule that watches no attention of the prompt: what it keeps is known otherwise."""

    def fresh(self, like: Tensor) -> Tensor:
        """Return zeros."""
        return torch.zeros_like(like)

    def queries(self, count: int, past: int, kept: int) -> int:
        """Return none."""
        return 0

    def ranking(self, scores: Tensor, kept: int) -> tuple[Tensor, int]:
        """Return the scores as they are, and no place."""
        return scores, 0


@dataclass(frozen=True)
class Repeated(Unwatched):
    """KVzip: once, after the prompt, what the model looks at most when it repeats it (arXiv 2505.23416).

    All heads keep as many tokens (the paper's uniform budget); its other one lets heads differ in length.
    """

    keeps_scores: bool = False  #: nothing is dropped later


@dataclass(frozen=True)
class PageReads(Unwatched):
    """Quest: all tokens stay, each step reads those pages whose keys may match best (arXiv 2406.10774)."""

    count: int  #: tokens read in a step
    page: int = 16  #: tokens of a page
    keeps_scores: bool = False  #: bounds of pages serve instead

    def bounds(self, keys: Tensor) -> Tensor:
        """Return each page's least and greatest element of every channel: [2, batch, heads, pages, width]."""
        short = -keys.shape[2] % self.page
        low = torch.nn.functional.pad(keys, (0, 0, 0, short), value=torch.inf)
        high = torch.nn.functional.pad(keys, (0, 0, 0, short), value=-torch.inf)
        paged = [t.unflatten(2, (-1, self.page)) for t in (low, high)]
        return torch.stack([paged[0].amin(3), paged[1].amax(3)])

    def read(self, queries: Tensor, bounds: Tensor, tokens: int) -> Tensor:
        """Return which tokens each query head reads, bool [batch, query heads, 1, tokens]; the last page always.

        `queries` are of [batch, query heads, 1, width]: one step. The bound of a page is the sum over channels of what
        the query can at most get from it.
        """
        each = bounds.repeat_interleave(queries.shape[1] // bounds.shape[2], 2)
        most = torch.maximum(queries * each[0], queries * each[1]).sum(-1)
        most[..., -1] = torch.inf
        best = most.topk(min(-(-self.count // self.page), most.shape[-1]), -1).indices
        chosen_pages = torch.zeros_like(most, dtype=torch.bool).scatter(-1, best, True)
        return chosen_pages.repeat_interleave(self.page, -1)[..., None, :tokens]


@dataclass(frozen=True)
class Places(Unwatched):
    """StreamingLLM: the first tokens and the last ones (arXiv 2309.17453); with no first ones a sliding window."""

    sinks: int  #: first tokens that are kept
    window: int | None  #: last tokens that are kept
    inside: bool = True  #: whether positions are places inside the cache, else those in the text
    keeps_scores: bool = False  #: places need none

    def ranking(self, scores: Tensor, kept: int) -> tuple[Tensor, int]:
        """Return what ranks the first tokens first, and the window."""
        places = torch.arange(scores.shape[-1], 0, -1, device=scores.device, dtype=torch.float32)
        return places.expand_as(scores), min(kept, self.window or 0)


def chosen(ranks: Tensor, dead: Tensor, budget: Tensor, size: int, last: Tensor) -> Tensor:
    """Return the slots a layer keeps, in order: [batch, heads, size].

    `ranks` are of [batch, heads, slots]; the first `dead` slots of a row hold nothing, and of a row with a `budget`
    below `size` the first ones of the result hold nothing either. The `last` slots of a row stay whatever their rank;
    of equal ranks the earlier slot stays.
    """
    slots = ranks.shape[-1]
    places = torch.arange(slots, device=ranks.device)
    ranks = ranks.masked_fill(places < dead[:, None, None], -torch.inf)
    ranks = ranks.masked_fill(places >= (slots - last)[:, None, None], torch.inf)
    order = torch.argsort(ranks, dim=-1, descending=True, stable=True)[..., :size]
    empty = torch.arange(size, device=ranks.device) >= budget[:, None, None]
    return torch.where(empty, order - slots, order).sort(-1).values % slots


def pyramid_within(budget: int, layers: int, prompt: int) -> list[int]:
    """Return the tokens each layer keeps where `budget` is their mean: falling linearly from the first to the last.

    The last keeps a twentieth of the mean (PyramidKV, arXiv 2406.02069, section 4.2: beta 20), or more where the first
    would keep more than the `prompt` has; the sum is exact.
    """
    if layers == 1:
        return [budget]
    last = max(budget / 20, 2.0 * budget - prompt)
    exact = [last + (2 * budget - 2 * last) * (1 - i / (layers - 1)) for i in range(layers)]
    whole = [int(x) for x in exact]
    rest = sorted(range(layers), key=lambda i: (whole[i] - exact[i], i))
    for i in rest[: budget * layers - sum(whole)]:
        whole[i] += 1
    return whole
