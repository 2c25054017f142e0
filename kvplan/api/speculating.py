"""What callers write of speculative decoding, as ways for a search to try: `eagle3`, `mtp:1`, `llama3.2-1b:4=2.9`."""

from kvplan import catalog
from kvplan.api import values
from kvplan.api.memory import MOST_DRAFTED, counted, drafting
from kvplan.planning.speculation import Drafting, draftings
from kvplan.specs.model import ModelSpec


def draftings_of(speculative: str | None, model: ModelSpec) -> tuple[Drafting, ...]:
    """Return the ways of speculative decoding asked for, () where none was.

    A draft may be followed by the tokens drafted for a step, and by those that a step yields on average.
    """
    if speculative is None:
        return ()
    draft, sign, tokens = values.word(speculative, "speculative").partition("=")
    accepted = values.number(tokens, "speculative", 1.0, MOST_DRAFTED + 1.0) if sign else None
    _, many = counted(draft)
    return draftings(model, drafting(draft, model, None), many, accepted, catalog.acceptances())
