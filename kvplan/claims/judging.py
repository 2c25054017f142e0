"""From claims to verdicts: each case is judged by its check, and the verdict follows from the cases."""

from collections.abc import Callable, Iterable, Sequence
from math import inf

from kvplan.claims import memory, money, quality, speed
from kvplan.claims.arithmetic import ARITHMETIC, arithmetic_check, combination, varied_factors
from kvplan.claims.checks import Answer, Check, Evidence
from kvplan.claims.figures import Figure, read_figure
from kvplan.claims.labels import label
from kvplan.claims.verdicts import FAILS, HOLDS, IN_PART, OPEN, WITHIN, Outcome, Verdict
from kvplan.errors import SpecError, UnknownName
from kvplan.kv import spelling
from kvplan.specs.claims import Claim, ClaimCase, Claims

#: the check of a claim that nothing can be computed for
QUOTE = "quote"
#: every check by its name
CHECKS = {c.name: c for topic in (memory, speed, money, quality) for c in vars(topic).values() if isinstance(c, Check)}


def verdicts(
    claims: Claims, evidence: Evidence, progress: Callable[[float, str], object] | None = None
) -> tuple[Verdict, ...]:
    """Return a verdict for every claim; raise SpecError or UnknownName where a claim cannot be understood.

    `progress` hears of every claim before it is judged.
    """
    judged = []
    for done, claim in enumerate(claims.claims):
        if progress is not None:
            progress(done / len(claims.claims), f"claim {done + 1} of {len(claims.claims)}")
        judged.append(judge(claim, evidence))
    return tuple(judged)


def judge(claim: Claim, evidence: Evidence) -> Verdict:
    """Return one claim's verdict; raise SpecError or UnknownName where it cannot be understood."""
    if claim.check == QUOTE:
        return _quote(claim)
    check = arithmetic_check(claim) if claim.check == ARITHMETIC else check_of(claim)
    tolerance = check.tolerance if claim.tolerance is None else claim.tolerance
    figure = read_figure(claim.claimed, check.unit, claim.place, tolerance)
    outcomes = tuple(
        Outcome(case=case, label=name, answer=answer, status=status(answer, figure))
        for case, name, answer in answers(claim, check, evidence)
    )
    return Verdict(
        claim=claim,
        verdict=word(outcomes),
        figure=figure,
        outcomes=outcomes,
        tolerance=tolerance,
        unit=check.unit,
    )


def answers(claim: Claim, check: Check, evidence: Evidence) -> Iterable[tuple[ClaimCase | None, str, Answer]]:
    """Yield each case, its label and kvplan's figure; SpecError names the place of a case that is not understood."""
    for factors in claim.factors:
        yield None, varied_factors(claim, factors), combination(claim.how, factors)
    for case in claim.cases:
        try:
            rows = check.answers(case, evidence)
        except (SpecError, UnknownName) as refusal:
            raise SpecError(f"{claim.place}: {refusal}") from None
        for answer in rows:
            yield case, ", ".join(filter(None, (label(case, claim.varied), answer.extra))), answer


def check_of(claim: Claim) -> Check:
    """Return a claim's check; refuse one that there is not, and fields that it lacks or does not read."""
    if claim.check not in CHECKS:
        known = (*CHECKS, ARITHMETIC, QUOTE)
        raise UnknownName("check", claim.check, known, f"known: {', '.join(known)}", claim.place)
    if claim.factors:
        raise SpecError(f"{claim.place}: {claim.how} is for check: arithmetic; {claim.check} reads cases")
    check = CHECKS[claim.check]
    known = (*check.needs, *check.may)
    for field in claim.fields:
        if field not in known:
            raise UnknownName(f"field of {claim.check}", field, known, f"it reads: {', '.join(known)}", claim.place)
    if missing := next((f for f in check.needs if f not in claim.fields), None):
        raise SpecError(f"{claim.place}: {claim.check} needs {missing}; write it under cases:")
    if "workload" in check.may and "workload" not in claim.fields and "context" not in claim.fields:
        raise SpecError(f"{claim.place}: {claim.check} needs context or workload, as in context: 128k, under cases:")
    for case in claim.cases:
        for technique in (case.technique, case.against):
            try:
                spelling.parts(technique)
            except UnknownName as refusal:
                raise SpecError(f"{claim.place}: {refusal}") from None
    return check


def status(answer: Answer, figure: Figure) -> str:
    """Return yes, within, no or open: whether an answer agrees with the figure, and how surely."""
    if answer.value is None:
        bounded = answer.low > -inf or answer.high < inf
        return "no" if bounded and not figure.meets(answer.low, answer.high) else "open"
    if answer.low == answer.high:
        return "yes" if figure.agrees(answer.value) else "no"
    if figure.agrees(answer.low) and figure.agrees(answer.high):
        return "yes"
    agrees = figure.agrees(answer.value) or figure.meets(answer.low, answer.high)
    return "within" if agrees else "no"


def word(outcomes: Sequence[Outcome]) -> str:
    """Return the verdict on a claim from the outcomes of its cases."""
    statuses = {o.status for o in outcomes}
    if statuses == {"yes"}:
        return HOLDS
    return next((v for s, v in (("yes", IN_PART), ("within", WITHIN), ("no", FAILS)) if s in statuses), OPEN)


def _quote(claim: Claim) -> Verdict:
    if claim.claimed or claim.cases[1:] or claim.fields:
        raise SpecError(f"{claim.place}: quote checks nothing; leave out claimed and cases, or name another check")
    if not claim.needs:
        raise SpecError(f"{claim.place}: quote needs to say what would be needed, as in needs: the model's config")
    return Verdict(claim=claim, verdict=OPEN, figure=None, outcomes=(), tolerance=0.0, unit="")
