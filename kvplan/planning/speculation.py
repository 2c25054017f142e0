"""Speculative decoding: what it gains, and how many tokens must be drafted for that."""

from dataclasses import dataclass

from kvplan.errors import SpecError

#: share of drafted tokens that a usual draft gets right, one by one; says how many are drafted for a gain
ACCEPTANCE = 0.8


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
