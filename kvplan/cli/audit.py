"""`kvplan audit`: published claims, each with a verdict and its arithmetic."""

from datetime import date

import click

from kvplan.cli.common import deliver, examples, json_option
from kvplan.errors import SpecError, shown
from kvplan.planning.audit import audit
from kvplan.planning.checks import Bench
from kvplan.planning.estimate import Site
from kvplan.specs import catalog, catalog_claims, catalog_money
from kvplan.specs.catalog_quality import quality_table
from kvplan.specs.claims import Claims
from kvplan.specs.hardware import Gpu

#: the claims checked when no file is named: the article kvplan started from
BUILT_IN = "article"


@click.command("audit")
@click.argument("claims", required=False, default=BUILT_IN)
@click.option("--on", "day", metavar="DATE", help="Use the prices of this day (YYYY-MM-DD). Default: today.")
@json_option
@examples("kvplan audit", "kvplan audit ./claims.yaml", "kvplan audit --on 2026-11-24 --json")
def command(claims: str, day: str | None, as_json: bool) -> None:
    """Check the claims of an article or a vendor with kvplan itself: those of a YAML file, or the built-in ones."""
    found = catalog_claims.claims(claims)
    verdicts = audit(found, bench(found, checked_day(day)))

    def report() -> list[object]:
        from kvplan.report import audit as words

        return list(words.report(found, verdicts))

    def document() -> dict[str, object]:
        from kvplan.report import audit_document

        return audit_document.audit(found, verdicts)

    deliver(as_json, document, report)


def checked_day(day: str | None) -> str:
    try:
        return date.fromisoformat(day).isoformat() if day else date.today().isoformat()
    except ValueError:
        raise SpecError(f"--on: expected a date such as 2026-11-23, got {shown(day)}") from None


def bench(found: Claims, day: str) -> Bench:
    """Return what the claims are checked with: the GPUs they name, prices of the day, published scores."""
    gpus = {g.name: g for claim in found.claims for c in claim.cases for g in (c.gpu, c.against_gpu) if g}
    return Bench(
        day=day,
        sites={name: site(gpu, day) for name, gpu in gpus.items()},
        table=quality_table(),
        apis=tuple(p for p in catalog_money.apis() if p.current(day)),
        terms=catalog_money.ownership(),
    )


def site(gpu: Gpu, day: str) -> Site:
    return Site(
        gpu=gpu,
        calibration=catalog.calibration(gpu),
        offers=catalog.offers(gpu.name, day),
        engine=catalog.engine(),
    )
