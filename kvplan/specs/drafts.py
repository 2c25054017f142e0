"""What speculative decoding was measured to yield."""

from dataclasses import dataclass

from kvplan.specs.source import Source


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """Tokens that a step of speculative decoding yielded with a published draft."""

    draft: str  #: kind of draft: eagle3 or mtp
    model: str  #: the model that verifies, by our name where we have it
    family: str  #: part of the model types that it stands for
    drafted: int  #: tokens drafted for each step [token]
    tokens: float  #: tokens a step yields, the verifying model's own included [token/step]
    task: str  #: what was generated, and how
    source: Source  #: who says so
