"""The check that needs no case: sourced figures combined."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from kvplan.claims.checks import Answer, Check, exact, unknown
from kvplan.errors import SpecError
from kvplan.specs.claims import Claim
from kvplan.specs.workload import Factor

ARITHMETIC = "arithmetic"
_CHECK = Check(
    name=ARITHMETIC, unit="count", needs=(), may=(), tolerance=0.02, summary="Sourced figures combined.",
    function=lambda case, evidence: [],
)  # fmt: skip


def arithmetic_check(claim: Claim) -> Check:
    """Return the check: a share where its claim has a % sign, else a plain number; SpecError without figures."""
    if not claim.factors or claim.fields:
        raise SpecError(
            f"{claim.place}: arithmetic needs product, sum or quotient, as in product: "
            "[{value: 10, of: seconds}, {value: 30, of: frames a second}], and no cases"
        )
    return replace(_CHECK, unit="share") if "%" in claim.claimed else _CHECK


def combination(how: str, factors: Sequence[Factor]) -> Answer:
    """Return the product, the sum, or the first over the others of sourced figures."""
    values = [f.value for f in factors]
    if how == "quotient" and not prod(values[1:]):
        return unknown("divides by zero")
    value = {"product": prod(values), "sum": sum(values), "quotient": values[0] / prod(values[1:])}[how]
    sign = {"product": " x ", "sum": " + ", "quotient": " / "}[how]
    line = f"{sign.join(f'{f.value:,.6g} ({f.of})' for f in factors)} = {value:,.6g}"
    return exact(value, line, *dict.fromkeys(f.source for f in factors))


def varied_factors(claim: Claim, factors: Sequence[Factor]) -> str:
    """Return in words the factors of which a claim lists several values."""
    columns = range(len(factors))
    options = [len({row[i].value for row in claim.factors}) for i in columns]
    return ", ".join(f"{f.value:g} {f.of}" for f, n in zip(factors, options, strict=True) if n > 1)
