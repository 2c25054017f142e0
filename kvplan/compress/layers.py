"""A layer of a transformers cache that stores less: fewer vectors, fewer bits, fewer tokens."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from kvplan.compress.attention import AttentionPass, attended, drawn, greatest
from kvplan.compress.forms import Bits, Form, Recent, added
from kvplan.compress.rotation import Angles, Turn
from kvplan.compress.rules import (
    AdaptiveWindow,
    PageReads,
    Places,
    Repeated,
    RetrievalHeads,
    Rule,
    chosen,
    pyramid_within,
)
from kvplan.compress.uneven import Uneven, held_by, seen_by, uneven
from kvplan.compress.visibility import View
from kvplan.errors import Incompatible
from kvplan.kv.layout import Keep


@dataclass(frozen=True, kw_only=True)
class LayerPlan:
    """What one layer does with the tokens it is given."""

    form: Form  #: which vectors of a token are stored
    bits: Callable[[], Bits]  #: makes how elements are written, of keys and of values
    value_bits: Callable[[], Bits] | None = None  #: of values, where they are written in another way
    keep: Keep  #: how many tokens, by the planner's own rule
    rule: Rule | None = None  #: which tokens, None for all
    window: int | None = None  #: of a model's own sliding layer [token]
    steep: tuple[int, int] | None = None  #: (place, layers) where budgets fall from layer to layer (PyramidKV)
    angles: Angles | None = field(default=None, compare=False)  #: of the positions, None where nothing is rotated

    def __deepcopy__(self, memo: object) -> "LayerPlan":
        """Return the plan itself: copies of a cache share it, and the angles of positions with it."""
        return self


class CompressedLayer(DynamicLayer):  # type: ignore[misc]
    """Tokens of one layer as a technique stores them; works under `generate()` like the layer it replaces.

    Tensors have tokens in the last dimension but one. Of a row with fewer tokens than the longest (padding on the
    left) the first slots hold nothing: each row keeps what it would keep alone.
    """

    is_croppable = False
    supports_early_init = False

    def __init__(self, plan: LayerPlan):
        super().__init__()
        self.is_initialized: bool = False
        self.plan = plan
        self.is_sliding = plan.window is not None
        self.bits: tuple[Bits, Bits] = (plan.bits(), (plan.value_bits or plan.bits)())
        self.parts: tuple[tuple[Tensor, ...], ...] = ((), ())  #: what is stored of keys and of values
        self.like: tuple[Tensor, ...] = ()  #: empty tensors of their types and widths
        self.scores: Tensor | None = None  #: fp32 [batch, stored heads, slots]
        self.places: Tensor | None = None  #: positions of tokens, int32 [batch, stored heads, slots], where needed
        self.pads: Tensor | None = None  #: padding on the left of each row [token]
        self.empty = torch.zeros(1, dtype=torch.long)  #: slots of each row that hold nothing since tokens were dropped
        self.bounds: Tensor | None = None  #: of pages, where a rule reads few of them
        self.heads: int | None = None  #: stored heads, once they hold different numbers of tokens
        self.whole: Tensor | None = None  #: heads that keep all, bool [batch, heads] (DuoAttention)
        self.repeating = self.repeated = False  #: whether the prompt is being read again, or was (KVzip)
        self.seen = self.prompt = self.slots = self.latest = 0
        self.turn: Turn | None = None  #: of the tokens of this pass, set by a hook before each pass
        self.positions: Tensor | None = None  #: of the tokens of this pass, likewise

    # -- what transformers calls ------------------------------------------------------------------

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Store tokens and return all that this pass attends to: earlier ones as stored, its own as they came."""
        plan, count = self.plan, key_states.shape[-2]
        new = plan.form.narrow(key_states, value_states, self.turn if plan.form.needs_turn else None)
        if not self.is_initialized:
            self.like = tuple(t.new_empty((*t.shape[:-2], 0, t.shape[-1])) for t in new)
            self.prompt, self.is_initialized, self.device = count, True, key_states.device
        whole = [
            torch.cat([bits.unpack(parts, like), t], -2) if parts else t
            for bits, parts, like, t in zip(self.bits, self.parts, self.like, new, strict=True)
        ]
        if self.repeating:
            self.latest = count
            return plan.form.widen(whole[0], whole[1], self._turns(count))
        self.parts = tuple(added(bits, old, t) for bits, old, t in zip(self.bits, self.parts, new, strict=True))
        self.seen, self.slots, self.latest = self.seen + count, self.slots + count, count
        keys, values = plan.form.widen(whole[0], whole[1], self._turns(count))
        if plan.window is not None:
            self._slide(plan.window)
        return keys, values

    def get_seq_length(self) -> int:
        """Return the tokens seen, of which positions go on."""
        return self.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return (keys, first place) of the mask: of all tokens seen, of which this layer picks what it kept."""
        if self.plan.window is None:
            return self.seen + query_length, 0
        kept = min(self.seen, self.plan.window - 1)
        return kept + query_length, self.seen - kept

    def get_max_length(self) -> int:
        """Return the window of a sliding layer, -1 for any other."""
        return -1 if self.plan.window is None else self.plan.window

    def reset(self) -> None:
        """Forget everything."""
        plan = self.plan
        self.__init__(plan)  # type: ignore[misc]

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Take rows in another order, as beam search does."""
        self.batch_select_indices(beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Take some rows."""
        self._each(lambda t: t.index_select(0, indices.to(t.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every row."""
        self._each(lambda t: t.repeat_interleave(repeats, 0))

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last tokens; refused where tokens before them are gone already."""
        if not tokens_to_remove:
            return
        count = abs(tokens_to_remove)
        if self.slots != self.seen or isinstance(self.bits[0], Recent):
            raise Incompatible("a layer that has dropped or rounded tokens cannot be cut back to an earlier state")
        self._take(lambda t: t[..., : t.shape[-2] - count, :])
        if self.scores is not None:
            self.scores = self.scores[..., :-count]
        self.seen, self.slots = self.seen - count, self.slots - count

    def offload(self) -> None:
        """Refuse: what is stored here is not two tensors."""
        raise Incompatible("a compressed cache cannot be offloaded; leave cache_implementation and offloading out")

    # -- attention over what is kept --------------------------------------------------------------

    def attend(self, asked: AttentionPass, given: Tensor | None) -> Tensor:
        """Return the output of attention, and drop what this pass leaves over; `given` is the model's own mask."""
        rule, count = self.plan.rule, self.latest
        if rule is None:
            raise ValueError("only layers that drop tokens attend themselves")
        if self.repeating:
            return self._watched(asked, given)
        past = self.slots - count
        self._find_padding(given, count)
        pads = torch.zeros(1, dtype=torch.long) if self.pads is None else self.pads
        view = View(past=past, count=count, seen=self.seen, first=self._first(past), pads=pads)
        heads = self.parts[0][0].shape[1] if self.heads is None else self.heads
        if isinstance(self.bits[0], Uneven):
            asked = replace(asked, seen=seen_by(self.bits[0], self.slots, count, asked.queries.shape[1]))
        else:
            asked = replace(asked, seen=view.visible(rule, given))
        if isinstance(rule, Places) and self.plan.angles is not None:
            asked = view.inside(rule, self.plan.angles, asked)
        if isinstance(rule, PageReads):
            asked = self._pages(rule, asked, past)
        out = attended(asked)
        queries = rule.queries(count, past, self._budgets()[1])
        if rule.keeps_scores or queries:
            added = drawn(asked, queries, heads) if queries else asked.keys.new_zeros(())
            blank = torch.zeros(out.shape[0], heads, self.slots - self._scored, device=out.device)
            fresh = rule.fresh(blank)
            before = fresh if self.scores is None else torch.cat([self.scores, fresh], -1)
            self.scores = before + added
        self._drop()
        return out

    def _pages(self, rule: PageReads, asked: AttentionPass, past: int) -> AttentionPass:
        """Return attention that reads few pages, in a step; bounds of the pages that changed are taken anew."""
        whole = past // rule.page
        fresh = rule.bounds(asked.keys[:, :, whole * rule.page :])
        self.bounds = fresh if self.bounds is None else torch.cat([self.bounds[:, :, :, :whole], fresh], 3)
        if self.latest > 1 or self.slots <= rule.count:
            return asked
        reads = rule.read(asked.queries, self.bounds, self.slots)
        return replace(asked, seen=reads if asked.seen is None else reads & asked.seen)

    def _watched(self, asked: AttentionPass, given: Tensor | None) -> Tensor:
        """Return the output of attention while the prompt is read again, and note what its tokens draw at most."""
        if given is not None:
            asked = replace(asked, seen=given if given.dtype == torch.bool else given == 0)
        most = greatest(asked, self.slots, self.parts[0][0].shape[1])
        self.scores = most if self.scores is None else torch.maximum(self.scores, most)
        return attended(asked)

    def finish(self) -> None:
        """Drop what the repetition did not need."""
        self.repeating, self.repeated, self.latest = False, True, 0
        self._drop()

    @property
    def _scored(self) -> int:
        return 0 if self.scores is None else self.scores.shape[-1]

    def _budgets(self) -> tuple[Tensor, int]:
        """Return what each row may keep, and the longest of them. [token]"""
        if self.pads is None:
            size = self._kept(0)
            return torch.tensor([size]), size
        each = [self._kept(int(p)) for p in self.pads.tolist()]
        return torch.tensor(each), self._kept(0)

    def _kept(self, padding: int) -> int:
        """Return how many tokens of a row stay, by the planner's rule. [token]"""
        keep = self.plan.keep
        if keep.selects_prompt:
            keep = replace(keep, prompt=max(0, self.prompt - padding))
        kept, seen = keep.tokens(max(0, self.seen - padding)), max(0, self.seen - padding)
        if self.plan.steep is None or keep.prompt is None:
            return kept
        place, layers = self.plan.steep
        generated = seen - min(keep.prompt, seen)
        return pyramid_within(kept - generated, layers, min(keep.prompt, seen))[place] + generated

    def _find_padding(self, given: Tensor | None, count: int) -> None:
        """Read each row's padding from what its last query sees of the first pass."""
        if given is None or self.seen != count or count != given.shape[-1]:
            return
        visible = given[:, 0, -1] if given.dtype == torch.bool else given[:, 0, -1] == 0
        pads = visible.long().argmax(-1)
        if not bool((visible.sum(-1) == given.shape[-1] - pads).all()):
            raise Incompatible("techniques that drop tokens need texts padded on the left: padding_side='left'")
        self.pads = pads if bool(pads.any()) else None
        self.empty = pads

    def _first(self, past: int) -> Tensor:
        """Return the slot of each row's first token, with `past` slots before this pass; it has not dropped any yet."""
        if self.pads is None:
            return torch.zeros(1, dtype=torch.long, device=self.device)
        return self.pads if past + self.latest == self.seen else self.empty

    # -- dropping ---------------------------------------------------------------------------------

    def _drop(self) -> None:
        """Drop what is more than the layer may keep, and free it."""
        rule, device = self.plan.rule, self.device
        if isinstance(rule, Repeated) and not self.repeated:
            return
        if isinstance(rule, (AdaptiveWindow, RetrievalHeads)):
            self._drop_unevenly(rule)
            self.scores = None
            return
        budget, size = self._budgets()
        batch, heads = self.parts[0][0].shape[:2]
        dead = self._first(self.slots - self.latest).to(device).expand(batch)
        held = self.slots - dead
        budget, size = torch.minimum(budget.to(device).expand(batch), held), min(size, self.slots)
        if rule is not None and (size < self.slots or bool((budget < held).any())):
            scores = self.scores
            if scores is None:
                scores = torch.zeros(batch, 1, self.slots, device=device)
            last = torch.tensor([rule.ranking(scores[:1, :1], int(b))[1] for b in budget], device=device)
            slots = chosen(rule.ranking(scores, size)[0], dead, budget, size, last).expand(batch, heads, size)
            self._gather(slots)
            self.slots, self.empty = size, size - budget if self.pads is not None else self.empty
        if rule is None or not rule.keeps_scores:
            self.scores = None

    def _drop_unevenly(self, rule: AdaptiveWindow | RetrievalHeads) -> None:
        """Drop what is more than a layer's heads may keep together."""
        batch, device = self.parts[0][0].shape[0], self.device
        heads = self.heads or self.parts[0][0].shape[1]
        dead = self._first(self.slots - self.latest).to(device).expand(batch)
        held = held_by(self.bits[0], self.slots, dead, heads)
        if isinstance(rule, RetrievalHeads):
            if self.whole is None and self.scores is not None:
                self.whole = rule.retrieval_heads(self.scores, dead)
            kept = held if self.whole is None else rule.uneven(held, self.whole)
        elif self.scores is not None and self.slots == self.seen == self.latest:
            budget = torch.minimum(self._budgets()[0].to(device).expand(batch), self.slots - dead)
            kept = rule.uneven(self.scores, dead, budget)
        else:
            return
        if torch.equal(kept, held):
            return
        cut = [uneven(bits, parts, kept) for bits, parts in zip(self.bits, self.parts, strict=True)]
        self.bits, self.parts = (cut[0][0], cut[1][0]), tuple(parts for _, parts in cut)
        self.heads, self.slots = heads, int(kept.sum(-1).max())

    def _gather(self, slots: Tensor) -> None:
        """Keep the tokens of some slots, [batch, stored heads, kept]."""
        self._take(lambda t: t.gather(2, slots[..., None].expand(*slots.shape, t.shape[-1])))
        if self.places is not None:
            self.places = self.places.gather(2, slots)
        if self.scores is not None:
            self.scores = self.scores.gather(2, slots)

    def _slide(self, window: int) -> None:
        """Keep what a model's own sliding layer keeps."""
        kept = min(self.slots, window - 1)
        self._take(lambda t: t[..., t.shape[-2] - kept :, :].clone())
        self.slots = kept

    # -- positions --------------------------------------------------------------------------------

    def _turns(self, count: int) -> Turn | None:
        """Return the turn of all tokens this pass attends to, where stored keys are not rotated."""
        angles = self.plan.angles
        if not self.plan.form.needs_turn or angles is None or self.positions is None:
            return None
        own = self.positions.expand(self.parts[0][0].shape[0], -1)
        if self.plan.rule is None:
            back = torch.arange(count - self.slots, 0, device=own.device)
            return angles.at(torch.cat([(own[:, :1] + back).clamp(min=0), own], -1) if len(back) else own)
        new = own[:, None].expand(-1, self.parts[0][0].shape[1], -1).to(torch.int32)
        self.places = new if self.places is None else torch.cat([self.places, new], -1)
        return angles.at(self.places.long())

    # -- bookkeeping ------------------------------------------------------------------------------

    def _take(self, change: Callable[[Tensor], Tensor]) -> None:
        self.parts = tuple(tuple(_changed(t, change) for t in parts) for parts in self.parts)

    def _each(self, change: Callable[[Tensor], Tensor]) -> None:
        """Change the rows of everything that has rows."""
        self._take(change)
        self.like = tuple(change(t) for t in self.like)
        if isinstance(self.bits[0], Uneven):
            counts = change(self.bits[0].counts)
            self.bits = tuple(replace(b, counts=counts) for b in self.bits if isinstance(b, Uneven))  # type: ignore[assignment]
        for name in ("scores", "places", "pads", "whole"):
            if (value := getattr(self, name)) is not None:
                setattr(self, name, change(value))
        if len(self.empty) > 1:
            self.empty = change(self.empty)
        if self.bounds is not None:
            self.bounds = change(self.bounds.transpose(0, 1)).transpose(0, 1).contiguous()

    @property
    def stored(self) -> int:
        """Bytes of vectors, their scales, and scores: what the planner reckons. [B]"""
        tensors = [t for parts in self.parts for t in parts]
        tensors += [t for t in (self.scores, self.bounds) if t is not None]
        return sum(t.untyped_storage().nbytes() for t in tensors)

    @property
    def beside(self) -> int:
        """Bytes of positions of tokens, which rebuilt keys are rotated by where tokens are dropped. [B]"""
        return 0 if self.places is None else self.places.untyped_storage().nbytes()


def _changed(t: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Return a tensor with some of its tokens or rows; 8-bit floats are moved as the bytes they are."""
    if t.dtype.is_floating_point and t.element_size() == 1:
        return change(t.view(torch.uint8)).contiguous().view(t.dtype)
    return change(t).contiguous()
