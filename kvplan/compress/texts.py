"""Texts with questions whose answers are known: needles and chains, for a tokenizer or for the shipped recall model."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor

from kvplan.compress import recall
from kvplan.errors import SpecError

#: facts that a chain of several hops joins
HOPS = 3
#: words that filler sentences are made of
_WHO = (
    "The old captain",
    "A young gardener",
    "The quiet librarian",
    "My neighbour",
    "The village baker",
    "A tired nurse",
)
_DID = ("walked along", "looked at", "painted", "wrote about", "cleaned", "forgot", "described", "returned to")
_WHAT = (
    "the harbour",
    "the long road",
    "a small garden",
    "the red house",
    "the market",
    "an empty station",
    "the river",
)
_WHEN = ("in the morning", "before lunch", "on a cold evening", "after the rain", "last summer", "without a word")
_NAMES = ("Anna", "Boris", "Clara", "David", "Elena", "Frank", "Greta", "Henry", "Irene", "Jonas", "Karin", "Louis",
          "Maria", "Niels", "Olga", "Peter", "Rosa", "Simon", "Tania", "Viktor")  # fmt: skip


@dataclass(frozen=True)
class TextQuestion:
    """A question to a text, and the tokens that answer it."""

    asked: Tensor  #: tokens of the question, [tokens]
    answer: Tensor  #: tokens of the answer, [tokens]
    depth: float  #: where what answers it stands: 0 at the beginning of the text, 1 at its end


@dataclass(frozen=True)
class Passage:
    """A text and the questions to it."""

    text: Tensor  #: tokens, [tokens]
    questions: tuple[TextQuestion, ...]  #: all to the same text


class Language(Protocol):
    """Writes texts for a model."""

    def passages(self, task: str, length: int, count: int, questions: int, seed: int) -> list[Passage]:
        """Return `count` texts of `length` tokens, each with questions of a task; SpecError where they do not fit."""


class RecallTexts:
    """Texts of the shipped model: facts and chains in filler."""

    def passages(self, task: str, length: int, count: int, questions: int, seed: int) -> list[Passage]:
        """Return texts with questions; a needle asks for one hop, a chain for three."""
        if length < 64:
            raise SpecError(f"lengths: {length} tokens are too short for this model's texts; write at least 64")
        generator = torch.Generator().manual_seed(seed)
        written = recall.episodes(count, length, questions, generator)
        hops = 1 if task == "needle" else HOPS
        passages = []
        for body, chains in zip(written.body, written.chains, strict=True):
            asked = [
                TextQuestion(torch.tensor([recall.ASK, int(c[0])]), c[1 : hops + 1], _place(body, int(c[hops - 1])))
                for c in chains
            ]
            passages.append(Passage(body, tuple(asked)))
        return passages


def _place(body: Tensor, name: int) -> float:
    """Return where the fact about a name stands, of 1."""
    at = int(((body[:-1] == recall.SET) & (body[1:] == name)).nonzero()[0, 0])
    return at / len(body)


@dataclass(frozen=True)
class Sentences:
    """Texts in plain English for a tokenizer."""

    tokenizer: Any  #: of the model

    def passages(self, task: str, length: int, count: int, questions: int, seed: int) -> list[Passage]:
        """Return texts with questions about numbers and names hidden in them."""
        generator = torch.Generator().manual_seed(seed)
        return [self._passage(task, length, questions, generator) for _ in range(count)]

    def _passage(self, task: str, length: int, questions: int, generator: torch.Generator) -> Passage:
        names = [_NAMES[int(i)] for i in torch.randperm(len(_NAMES), generator=generator)]
        hops = 1 if task == "needle" else HOPS
        per = max(1, min(questions, len(names) // hops))
        facts, asked = [], []
        for i in range(per):
            chain, number = (
                names[i * hops : (i + 1) * hops],
                int(torch.randint(10_000, 99_999, (), generator=generator)),
            )
            links = [f"{a} has the same number as {b}." for a, b in pairwise(chain)]
            facts += [*links, f"The secret number of {chain[-1]} is {number}."]
            asked.append(
                (f" Question: what is the secret number of {chain[0]}? The secret number of {chain[0]} is", number)
            )
        return self._written(facts, asked, length, generator)

    def _written(
        self, facts: Sequence[str], asked: Sequence[tuple[str, int]], length: int, generator: torch.Generator
    ) -> Passage:
        pieces = [self._tokens(f" {fact}") for fact in facts]
        room = length - sum(map(len, pieces))
        if room < length // 4:
            raise SpecError(
                f"lengths: {length} tokens are too short for {len(facts)} facts, which take {length - room}; "
                "write longer ones, or ask fewer questions"
            )
        filler, ends = self._tokens(""), []
        while len(filler) < room:
            ends.append(len(filler))
            filler += self._tokens(f" {sentence(generator)}")
        filler = filler[:room]
        order = torch.randperm(len(pieces), generator=generator).tolist()
        cuts = sorted(ends[int(i)] for i in torch.randint(len(ends), (len(pieces),), generator=generator))
        text: list[int] = []
        places = [0.0] * len(pieces)
        before = 0
        for cut, which in zip(cuts, order, strict=True):
            text += filler[before:cut]
            places[which], before = len(text) / length, cut
            text += pieces[which]
        text += filler[before:]
        hops = len(facts) // len(asked)
        questions = [
            TextQuestion(
                torch.tensor(self._tokens(words)),
                torch.tensor(self._tokens(f" {number}")),
                places[(i + 1) * hops - 1],
            )
            for i, (words, number) in enumerate(asked)
        ]
        return Passage(torch.tensor(text), tuple(questions))

    def _tokens(self, words: str) -> list[int]:
        """Return the tokens of words; of no words the ones a text of this tokenizer begins with."""
        if not words:
            return list(self.tokenizer("").input_ids)
        return list(self.tokenizer(words, add_special_tokens=False).input_ids)

    def running(self, words: str, length: int, count: int) -> list[Tensor]:
        """Return `count` stretches of `length` tokens of a text; SpecError where it is too short."""
        tokens = self._tokens(words)
        if len(tokens) < length:
            raise SpecError(f"text: has {len(tokens):,} tokens of this model, fewer than the {length:,} asked for")
        starts = range(0, len(tokens) - length + 1, length)
        return [torch.tensor(tokens[s : s + length]) for s in [*starts][:count]]


def sentence(generator: torch.Generator) -> str:
    """Return a sentence that says nothing anybody is asked about."""
    words = [kind[int(torch.randint(len(kind), (), generator=generator))] for kind in (_WHO, _DID, _WHAT, _WHEN)]
    return f"{' '.join(words)}."
