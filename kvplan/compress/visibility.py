"""Which cached tokens a pass sees once some have been dropped, and the positions they count as."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kvplan.compress.attention import AttentionPass
from kvplan.compress.rotation import Angles
from kvplan.compress.rules import Places, Rule


@dataclass(frozen=True, kw_only=True)
class View:
    """A layer as one pass finds it: slots kept before, then the pass's own tokens."""

    past: int  #: slots kept before this pass
    count: int  #: tokens of this pass
    seen: int  #: tokens seen, those of this pass included, and padding
    first: Tensor  #: slot of each row's first token, [rows or 1]
    pads: Tensor  #: padding on the left of each row, [rows or 1]

    def leaving(self, rule: Rule) -> bool:
        """Whether tokens have left a window by their place."""
        return isinstance(rule, Places) and rule.window is not None and self.seen > rule.sinks + rule.window

    def visible(self, rule: Rule, given: Tensor | None) -> Tensor | None:
        """Return which slots each query sees: bool [rows, 1, queries, slots], None for plain causal.

        `given` is the model's own mask, over all tokens seen: it holds while nothing was dropped.
        """
        shown = None if given is None else given if given.dtype == torch.bool else given == 0
        if self.past + self.count == self.seen and not self.leaving(rule):
            return shown
        if self.count == 1 and not bool(self.pads.any()) and not self.leaving(rule):
            return None
        device = self.first.device
        own = torch.ones(self.count, self.count, dtype=torch.bool, device=device).tril()[None]
        if shown is not None:
            own = own & shown[:, 0, :, -self.count :]
        rows = max(len(self.first), own.shape[0])
        before = torch.arange(self.past, device=device) >= self.first[:, None]
        earlier = before[:, None].expand(rows, self.count, -1)
        seen = torch.cat([earlier, own.expand(rows, -1, -1)], -1)
        return (seen & self._near(rule))[:, None] if isinstance(rule, Places) and self.leaving(rule) else seen[:, None]

    def _near(self, rule: Places) -> Tensor:
        """Return which slots are first tokens or lie within the window of each query: [rows, queries, slots]."""
        device, slots = self.first.device, self.past + self.count
        columns = torch.arange(self.seen - slots, self.seen, device=device)
        queries = torch.arange(self.seen - self.count, self.seen, device=device)
        sink = torch.arange(slots, device=device) < (self.first + rule.sinks)[:, None]
        return (columns > queries[:, None] - (rule.window or 0))[None] | sink[:, None]

    def inside(self, rule: Places, angles: Angles, asked: AttentionPass) -> AttentionPass:
        """Return attention with positions inside the cache, where the rule has it so and tokens have left.

        A token that has left moves the first ones nearer: their logits are those of the query rotated back by as many
        positions. All others keep their distance.
        """
        if not rule.inside or not rule.sinks or not self.leaving(rule):
            return asked
        device, kept = self.first.device, rule.sinks + (rule.window or 0)
        slots = (self.first[:, None] + torch.arange(rule.sinks, device=device)).clamp(max=asked.keys.shape[2] - 1)
        where = slots[:, None, :, None].expand(len(asked.keys), asked.keys.shape[1], -1, asked.keys.shape[3])
        sinks = asked.keys.gather(2, where).repeat_interleave(asked.queries.shape[1] // asked.keys.shape[1], 1)

        def correct(logits: Tensor, queries: Tensor, start: int) -> Tensor:
            own = torch.arange(queries.shape[2], device=device) + self.seen - self.count + start
            gone = (own - self.pads.to(device)[:, None] - kept + 1).clamp(min=0)
            near = (angles.at(gone).back(queries) @ sinks.mT) * asked.scale
            columns = where[:, :1, :, 0].unsqueeze(2).expand(-1, near.shape[1], near.shape[2], -1)
            return logits.scatter(3, columns, near.to(logits.dtype))

        return replace(asked, correct=correct)
