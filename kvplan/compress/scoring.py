"""Scores of a model under a technique: what it answers, how sure it is, and how far it is from itself uncompressed.

Question unseen (agnostic): a text is read and compressed, then questions to it are asked. Question seen (aware): the
question is part of what is read before the cache is compressed. Answers are fed token by token, the right ones, so a
chain counts as right where the model would have said all of it.
"""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import exp

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from kvplan.compress.caches import CompressedCache, Under
from kvplan.compress.hooks import cache_name
from kvplan.compress.texts import Passage, TextQuestion

#: how a technique may know the question
PROTOCOLS = ("unseen", "seen")
#: resamples of an interval, and its coverage
RESAMPLES, COVERAGE = 1000, 0.95


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What came out of one question: the logits of each token of its answer."""

    logits: Tensor  #: fp32 [answer, vocabulary]
    answer: Tensor  #: the right tokens, [answer]
    depth: float  #: where the text says it, of 1

    @property
    def right(self) -> bool:
        """Whether every token of the answer is the likeliest."""
        return bool((self.logits.argmax(-1) == self.answer).all())

    @property
    def surprise(self) -> float:
        """Mean negative log-likelihood of the answer's tokens. [nat]"""
        return float(-log_softmax(self.logits, -1).gather(-1, self.answer[:, None]).mean())

    def agrees(self, other: "Answered") -> float:
        """Return the share of tokens for which both find the same likeliest, of 1."""
        return float((self.logits.argmax(-1) == other.logits.argmax(-1)).float().mean())

    def divergence(self, whole: "Answered") -> float:
        """Return the mean KL divergence from the uncompressed model to this one. [nat]"""
        p, q = log_softmax(whole.logits, -1), log_softmax(self.logits, -1)
        return float((p.exp() * (p - q)).sum(-1).mean().clamp(min=0))


@dataclass
class Held:
    """Bytes and times of caches after their texts were read."""

    stored: int = 0  #: vectors, scales, scores of all sequences read last [B]
    beside: int = 0  #: positions [B]
    planned: float = 0.0  #: by the planner [B]
    tokens: int = 0  #: of a sequence [token]
    sequences: int = 0  #: held together
    reading: list[float] = field(default_factory=list)  #: time of each prefill [s]
    step: list[float] = field(default_factory=list)  #: time of each decode step [s]


class Reader:
    """Reads texts and answers questions under one technique."""

    def __init__(self, under: Under, held: Held, told: Callable[[], object] = lambda: None):
        self.under, self.held, self.name, self.told = under, held, cache_name(under.model), told

    def feed(self, ids: Tensor, cache: CompressedCache) -> Tensor:
        """Return the logits behind the last token, fp32 [batch, vocabulary]."""
        model = self.under.model
        first, begun = cache.get_seq_length() == 0, time.perf_counter()
        with torch.no_grad():
            logits = model(ids.to(model.device), **{self.name: cache}, use_cache=True, logits_to_keep=1).logits[:, -1]
        scores = logits.float().cpu()  # waits for a GPU
        if first:
            self.held.reading.append(time.perf_counter() - begun)
        elif ids.shape[1] == 1:
            self.held.step.append(time.perf_counter() - begun)
        return scores

    def read(self, ids: Tensor) -> CompressedCache:
        """Return a cache that has read texts [batch, tokens], and note what it holds."""
        cache = self.under.cache()
        self.feed(ids, cache)
        self.under.finish(ids.to(self.under.model.device), cache)
        held = self.held
        held.stored, held.beside, held.tokens, held.sequences = cache.stored, cache.beside, ids.shape[1], len(ids)
        held.planned = self.under.planned(ids.shape[1], len(ids))
        return cache

    def answers(self, first: Tensor, answer: Tensor, cache: CompressedCache) -> Tensor:
        """Return logits [batch, answer, vocabulary], those of the first token given."""
        return torch.stack([first, *(self.feed(token[:, None], cache) for token in answer.T[:-1])], 1)

    def ask(self, passages: Sequence[Passage], protocol: str) -> list[list[Answered]]:
        """Return what each passage's questions got; passages must be of one length."""
        self.told()
        ask = self._unseen if protocol == "unseen" else self._seen
        return ask(passages)

    def _unseen(self, passages: Sequence[Passage]) -> list[list[Answered]]:
        whole = self.read(torch.stack([p.text for p in passages]))
        answered: list[list[Answered]] = [[] for _ in passages]
        for places in alike(passages):
            cache = copy.deepcopy(whole)
            rows = torch.tensor([i for i, _ in places])
            cache.batch_select_indices(rows.to(self.under.model.device))
            questions = [passages[i].questions[j] for i, j in places]
            answer = torch.stack([q.answer for q in questions])
            logits = self.answers(self.feed(torch.stack([q.asked for q in questions]), cache), answer, cache)
            _sort(answered, places, questions, logits)
        return answered

    def _seen(self, passages: Sequence[Passage]) -> list[list[Answered]]:
        answered: list[list[Answered]] = [[] for _ in passages]
        for places in alike(passages):
            for start in range(0, len(places), len(passages)):
                part = places[start : start + len(passages)]
                questions = [passages[i].questions[j] for i, j in part]
                texts = [torch.cat([passages[i].text, q.asked]) for (i, _), q in zip(part, questions, strict=True)]
                cache = self.under.cache()
                first = self.feed(torch.stack(texts), cache)
                self.under.finish(torch.stack(texts).to(self.under.model.device), cache)
                answer = torch.stack([q.answer for q in questions])
                _sort(answered, part, questions, self.answers(first, answer, cache))
        return answered

    def continued(self, ids: Tensor, count: int) -> Tensor:
        """Return the `count` likeliest tokens behind texts [batch, tokens], each chosen on the one before."""
        cache = self.under.cache()
        tokens = [self.feed(ids, cache).argmax(-1)]
        while len(tokens) < count:
            tokens.append(self.feed(tokens[-1][:, None], cache).argmax(-1))
        return torch.stack(tokens, 1)


def alike(passages: Sequence[Passage]) -> list[list[tuple[int, int]]]:
    """Return (passage, question) pairs in runs whose questions and answers have the same lengths."""
    runs: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for i, passage in enumerate(passages):
        for j, q in enumerate(passage.questions):
            runs.setdefault((len(q.asked), len(q.answer)), []).append((i, j))
    return [*runs.values()]


def _sort(
    answered: list[list[Answered]], places: Sequence[tuple[int, int]], questions: Sequence[TextQuestion], logits: Tensor
) -> None:
    for (i, _), question, each in zip(places, questions, logits, strict=True):
        answered[i].append(Answered(logits=each, answer=question.answer, depth=question.depth))


# -- figures --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MeanInterval:
    """A mean and where it lies when texts are drawn again."""

    mean: float  #: over texts
    low: float  #: 2.5 % of resampled means lie below
    high: float  #: 2.5 % lie above

    def exp(self) -> "MeanInterval":
        """Return the exponentials, of a mean surprise the perplexity."""
        return MeanInterval(exp(self.mean), exp(self.low), exp(self.high))


def interval(values: Sequence[float], seed: int) -> MeanInterval:
    """Return the mean of one value a text, and its bootstrap interval (percentiles, texts drawn with replacement)."""
    each = torch.tensor(values, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    drawn = each[torch.randint(len(each), (RESAMPLES, len(each)), generator=generator)].mean(1).sort().values
    edge = int(RESAMPLES * (1 - COVERAGE) / 2)
    return MeanInterval(float(each.mean()), float(drawn[edge]), float(drawn[RESAMPLES - 1 - edge]))


def overlap(text: Sequence[int], other: Sequence[int]) -> float:
    """Return ROUGE-L's F1: the longest common subsequence over the mean length (Lin, 2004), of 1."""
    if not text or not other:
        return 0.0
    row = [0] * (len(other) + 1)
    for a in text:
        before = 0
        for j, b in enumerate(other, 1):
            before, row[j] = row[j], before + 1 if a == b else max(row[j], row[j - 1])
    return 2 * row[-1] / (len(text) + len(other))


def batches(passages: Sequence[Passage], size: int) -> Iterator[Sequence[Passage]]:
    """Yield passages in runs of one size."""
    for start in range(0, len(passages), size):
        yield passages[start : start + size]
