"""Self-speculation: the model drafts on a compressed cache and verifies on its whole one, so its text stays the same.

Greedy: a drafted token stands where the whole cache finds the same one likeliest (Leviathan and others, arXiv
2211.17192, at temperature 0; MagicDec, arXiv 2408.11049, for drafts with a compressed cache of the model itself).
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache

from kvplan.compress.caches import Under
from kvplan.compress.hooks import cache_name


@dataclass(frozen=True, kw_only=True)
class Drafted:
    """A text written with drafts, and how they fared."""

    tokens: tuple[int, ...]  #: as the whole cache alone would write them
    proposed: int  #: tokens drafted
    accepted: int  #: of them, those that stood
    passes: int  #: of the whole cache after the prompt, each of which gives a token of its own

    @property
    def acceptance(self) -> float:
        """Share of drafted tokens that stood, of 1; 0 where none was drafted."""
        return self.accepted / self.proposed if self.proposed else 0.0


class Continuation:
    """One of the two caches, and what it finds likeliest behind tokens."""

    def __init__(self, under: Under, cache: Cache):
        self.under, self.cache = under, cache

    def feed(self, tokens: list[int]) -> list[int]:
        """Return the likeliest token behind each of these."""
        model = self.under.model
        ids = torch.tensor([tokens], device=model.device)
        with torch.no_grad():
            logits = model(ids, **{cache_name(model): self.cache}, use_cache=True).logits
        likeliest: list[int] = logits[0].argmax(-1).tolist()
        return likeliest

    def state(self) -> list[object]:
        """Return the layers as they are now: tensors are replaced, never written into."""
        return [copy.copy(layer) for layer in self.cache.layers]

    def back(self, state: list[object]) -> None:
        """Go back to a state."""
        self.cache.layers = [copy.copy(layer) for layer in state]


def speculated(under: Under, prompt: Tensor, count: int, ahead: int = 4) -> Drafted:
    """Return `count` tokens behind a prompt [tokens], `ahead` drafted at a time under the technique."""
    ids = prompt.tolist()
    whole, draft = Continuation(under, DynamicCache(config=under.model.config)), Continuation(under, under.cache())
    whole.cache.activate_past_recording()  # so that a sliding layer can take tokens back
    written = [whole.feed(ids)[-1]]
    whole.cache.crop(0)
    draft.feed(ids)
    under.finish(prompt[None].to(under.model.device), draft.cache)
    waiting, proposed, accepted, passes = [written[0]], 0, 0, 0
    while len(written) < count:
        guesses = [draft.feed(waiting)[-1]]
        state = draft.state()
        while len(guesses) < min(ahead, count - len(written)):
            guesses.append(draft.feed(guesses[-1:])[-1])
        predicted = whole.feed([written[-1], *guesses])
        right = next((i for i, guess in enumerate(guesses) if guess != predicted[i]), len(guesses))
        whole.cache.crop(right - len(guesses))
        draft.back(state)
        waiting = [*guesses[:right], predicted[right]]
        written += waiting
        proposed, accepted, passes = proposed + len(guesses), accepted + right, passes + 1
    return Drafted(tokens=tuple(written[:count]), proposed=proposed, accepted=accepted, passes=passes)
