"""What callers write of speculative decoding, as ways for a search to try."""

from kvplan.api import values
from kvplan.api.memory import drafting
from kvplan.errors import SpecError
from kvplan.planning.speculation import Drafting, draftings
from kvplan.specs.model import ModelSpec

#: more tokens than are drafted for a step
MOST_DRAFTED = 64


def drafted(speculative: str | None, accepted: float | str | None, model: ModelSpec) -> tuple[Drafting, ...]:
    """Return the ways of speculative decoding asked for, as in 'eagle3' or 'mtp:1'; () where none was."""
    yields = values.given(values.number, accepted, "accepted", 1.0, MOST_DRAFTED + 1.0)
    if speculative is None:
        if yields is not None:
            raise SpecError("accepted: say what drafts with speculative=mtp, eagle3 or a draft model")
        return ()
    whole = values.word(speculative, "speculative")
    name, sign, count = whole.rpartition(":")
    if not (sign and count.isascii() and count.isdecimal()):
        return draftings(model, drafting(whole, model, None), None, yields)
    many = values.count(int(count[:9]), "speculative", 1, MOST_DRAFTED)
    return draftings(model, drafting(name, model, None), many, yields)
