"""An audit as a JSON document: schema 1, base units, unknown figures null."""

from collections.abc import Sequence
from math import isfinite

from kvplan.planning.audit import VERDICTS, Found, Verdict
from kvplan.report.document import SCHEMA, Json, source
from kvplan.specs.claims import Claims


def finite(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None


def case(f: Found) -> Json:
    """Return one case: what it was checked on, its figure and range, and whether the claim holds for it."""
    m = f.measured
    held = None if f.status == "open" else f.holds
    return {
        "on": dict(f.case.words) if f.case else {},
        "label": f.label,
        "holds": held,
        "within_our_error": f.status == "within",
        "value": finite(m.value),
        "low": finite(m.low),
        "high": finite(m.high),
        "arithmetic": m.line,
        "reason": m.reason,
    }


def claim(v: Verdict) -> Json:
    c = v.claim
    return {
        "id": c.id,
        "about": c.about,
        "claim": c.claim,
        "verdict": v.verdict,
        "condition": v.condition,
        "within_our_error": v.within,
        "said": v.said,
        "arithmetic": v.arithmetic,
        "check": c.check,
        "claimed": c.claimed,
        "unit": v.unit,
        "tolerance": v.tolerance,
        "cases": [case(f) for f in v.found],
        "source": source(c.source),
        "rests_on": [source(s) for s in v.sources],
    }


def audit(claims: Claims, verdicts: Sequence[Verdict]) -> Json:
    """Return the document of `kvplan audit`."""
    return {
        "schema": SCHEMA,
        "command": "audit",
        "name": claims.name,
        "title": claims.title,
        "source": source(claims.source),
        "counts": {word: sum(v.verdict == word for v in verdicts) for word in VERDICTS},
        "claims": [claim(v) for v in verdicts],
    }
