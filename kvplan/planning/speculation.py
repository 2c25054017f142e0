"""Speculative decoding: what drafts, how many tokens a step yields, and which engines start it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import median

from kvplan.errors import SpecError
from kvplan.kv import spelling
from kvplan.kv.deployment import Draft
from kvplan.kv.drafts import written_in
from kvplan.kv.layout import KVLayout
from kvplan.kv.model_cache import kv_layout
from kvplan.planning.replica import default_kv_bits
from kvplan.specs.drafts import Acceptance
from kvplan.specs.hardware import Engine
from kvplan.specs.model import ModelSpec
from kvplan.units import show_count, show_percent

#: share of drafted tokens that a usual draft gets right, one by one; says how many are drafted for a gain
ACCEPTANCE = 0.8
#: what smaller models are taken to be as good as
AS_GOOD_AS = {"model": "eagle3"}
#: names of the kinds of draft that are no model of their own
LABELS = {"mtp": "MTP", "eagle3": "EAGLE-3"}
#: tokens drafted a step that a search tries; next-token layers draft as many as there are layers
TRIED = (1, 2, 3, 5)
#: halvings of a bisection
HALVINGS = 50


@dataclass(frozen=True, kw_only=True)
class Speculation:
    """Speculative decoding: `accepted` tokens a step of which `drafted` were guessed, at `draft` of a step's time."""

    accepted: float  #: tokens a step yields, the verifying model's own included [token/step]
    draft: float = 0.0  #: time of drafting over that of the step that verifies
    drafted: int = 0  #: tokens drafted for each step [token]


def speculation(accepted: float, draft: float, drafted: int | None) -> Speculation:
    """Return what was asked for; unless said, as many tokens are drafted as ACCEPTANCE takes for the gain.

    k drafted tokens give (1 - a^(k+1)) / (1 - a) a step. Source: Leviathan, Kalman and Matias, arXiv:2211.17192, eq. 1.
    """
    if accepted < 1:
        raise SpecError(f"speculative: tokens accepted a step, at least 1 (as in 1.6), got {accepted:g}")
    if drafted is None:
        if accepted * (1 - ACCEPTANCE) >= 1:
            raise SpecError(
                f"speculative: {accepted:g} tokens a step take more than {ACCEPTANCE:.0%} of the drafted ones; "
                "say how many are drafted, as in draft_tokens=8"
            )
        drafted = 0
        while (1 - ACCEPTANCE ** (drafted + 1)) / (1 - ACCEPTANCE) < accepted - 1e-12:
            drafted += 1
    if accepted > drafted + 1:
        raise SpecError(f"speculative: {drafted} drafted tokens give at most {drafted + 1} a step, not {accepted:g}")
    return Speculation(accepted=accepted, draft=draft, drafted=drafted)


@dataclass(frozen=True, kw_only=True)
class Drafting:
    """Speculative decoding as a search tries it: what drafts, how far ahead, and what a step yields."""

    draft: Draft  #: next-token layers, a head or a smaller model
    drafted: int  #: tokens drafted for each step [token]
    accepted: float  #: tokens a step yields on average, the verifying model's own included [token/step]
    basis: str  #: what that rests on, in words
    kv_bits: float  #: of an element of the draft's cache [bit]

    @property
    def label(self) -> str:
        """What drafts, in a few words: 'EAGLE-3', 'MTP', 'Llama 3.2 1B'."""
        return LABELS.get(self.draft.kind, self.draft.model.title)

    @property
    def words(self) -> str:
        """What it does, in words: 'EAGLE-3 drafting 3 tokens'."""
        return f"{self.label} drafting {show_count(self.drafted, 'token')}"

    @property
    def spelled(self) -> str:
        """It as options spell it: 'eagle3:3'."""
        name = self.draft.model.name if self.draft.kind == "model" else self.draft.kind
        return f"{name}:{self.drafted}"

    def written_in(self, form: str | None) -> Draft:
        """Return the draft beside weights in a format: a model's own layers as the others, but not in 4 bits."""
        return written_in(self.draft, form) if self.draft.kind == "mtp" else self.draft

    @lru_cache(maxsize=256)  # noqa: B019 (a search has a handful)
    def layout(self, technique: str) -> KVLayout:
        """Return the cache of the draft's own layers under a technique; Incompatible where it cannot act on them."""
        return spelling.apply(technique, kv_layout(self.draft.model, self.kv_bits))


def draftings(
    model: ModelSpec, draft: Draft, drafted: int | None, accepted: float | None, known: Sequence[Acceptance]
) -> tuple[Drafting, ...]:
    """Return the ways to draft that a search tries: as many tokens as asked for, or several numbers of them.

    `accepted` tokens a step are as measured, for which as many are drafted as `speculation` takes where nobody says;
    `known` are those that published drafts yield.
    """
    rate, source = accepted_share(model, draft.kind, known)
    basis = "as asked for" if accepted else f"{show_percent(rate)} of the drafted tokens are accepted: {source}"
    if accepted is not None:
        counts = [speculation(accepted, 0.0, drafted).drafted]
    elif drafted is not None:
        counts = [drafted]
    else:
        counts = [len(draft.model.layers)] if draft.kind == "mtp" else list(TRIED)
    bits = default_kv_bits(model)
    return tuple(
        Drafting(
            draft=replace(draft, drafted=k), drafted=k, accepted=accepted or yielded(rate, k), basis=basis, kv_bits=bits
        )
        for k in counts
    )


def accepted_share(model: ModelSpec, kind: str, known: Sequence[Acceptance]) -> tuple[float, str]:
    """Return the share of drafted tokens that a model accepts, and what that rests on, in words.

    It is the median over what is published of this very model, else of its family, else of this kind of draft.
    """
    alike = [row for row in known if row.draft == AS_GOOD_AS.get(kind, kind)]
    own = [row for row in alike if row.model == model.name]
    family = [row for row in alike if row.family in model.model_type]
    rows = own or family or alike
    shares = [share_of(row.tokens, row.drafted) for row in rows]
    count = show_count(len(rows), "published figure")
    spread = "" if len(rows) == 1 else f", {show_percent(min(shares))} to {show_percent(max(shares))}"
    of = model.title if own else "models of its family" if family else "other models"
    which = f"the median of {count} of {of}{spread}" if len(rows) > 1 else f"{count} of {of}"
    refs = ", ".join(dict.fromkeys(f"{row.source.ref} ({row.source.date})" for row in rows))
    return median(shares), f"{'an assumption, as EAGLE-3 heads: ' if kind in AS_GOOD_AS else ''}{which}; {refs}"


def share_of(tokens: float, drafted: int) -> float:
    """Return the probability of accepting each drafted token at which a step yields so many: `yielded` backwards."""
    low, high = 0.0, 1.0 - 1e-12
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if yielded(middle, drafted) < tokens else (low, middle)
    return high


def yielded(rate: float, drafted: int) -> float:
    """Return the tokens a step yields of `drafted` ones, each accepted with a probability. [token/step]

    Source: Leviathan, Kalman and Matias, arXiv:2211.17192, eq. 1.
    """
    return (1 - rate ** (drafted + 1)) / (1 - rate)


def not_started(engine: Engine, model: ModelSpec, draft: Draft) -> str:
    """Return why an engine does not start a model with a draft, '' where it does."""
    release = f"{engine.title} {engine.version}"
    if draft.kind == "model" and not engine.draft_models:
        return f"{release} does not start with a draft model"
    if draft.kind == "model" and draft.model.vocab != model.vocab:
        return (
            f"{draft.model.title} has {draft.model.vocab:,} words and {model.title} {model.vocab:,}; "
            "a draft model needs the same vocabulary"
        )
    known = {"eagle3": engine.eagle3_models, "mtp": engine.mtp_models}.get(draft.kind, ())
    if known and not any(name in model.model_type for name in known):
        return f"{release} starts {LABELS[draft.kind]} for {', '.join(known)}, not for {model.model_type}"
    return ""
