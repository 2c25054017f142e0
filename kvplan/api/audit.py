"""Published claims, each with a verdict and its arithmetic."""

from collections.abc import Callable
from dataclasses import dataclass

from kvplan import catalog
from kvplan.api import values
from kvplan.api.sites import site
from kvplan.catalog.scores import quality_table
from kvplan.claims.checks import Evidence
from kvplan.claims.judging import verdicts
from kvplan.claims.verdicts import Verdict
from kvplan.specs.claims import Claims
from kvplan.specs.result import Result

#: the claims checked when no file is named: the article kvplan started from
ARTICLE = "article"


@dataclass(frozen=True, kw_only=True)
class Audit(Result, of="audit"):
    """Claims and what became of each, in the same order."""

    claims: Claims  #: as the file has them
    verdicts: tuple[Verdict, ...]  #: one for each claim


def audit(
    claims: str = ARTICLE, *, on: str | None = None, progress: Callable[[float, str], object] | None = None
) -> Audit:
    """Return a verdict on every claim of a YAML file or of a shipped list.

    `on` is the day of the prices, `progress` hears (share judged, what is next). Raises KvplanError for a
    file that cannot be understood.

        >>> kvplan.audit("claims.yaml", on="2026-11-24").verdicts[0].verdict
        'holds in part'
    """
    listed = catalog.claim_list(values.word(claims, "claims"))
    hears = values.given(values.called, progress, "progress")
    return Audit(claims=listed, verdicts=verdicts(listed, evidence(listed, values.day(on)), hears))


def evidence(claims: Claims, day: str) -> Evidence:
    """Return what claims are checked with: the GPUs they name, prices of the day, published scores."""
    gpus = {g.name: g for claim in claims.claims for c in claim.cases for g in (c.gpu, c.against_gpu) if g}
    return Evidence(
        day=day,
        sites={name: site(gpu, None, day) for name, gpu in gpus.items()},
        table=quality_table(),
        apis=tuple(p for p in catalog.apis() if p.current(day)),
        terms=catalog.ownership(),
    )
