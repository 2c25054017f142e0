"""`kvplan predict` in words and JSON: how many rows were predicted, and what their predictions rest on."""

from collections.abc import Mapping
from dataclasses import dataclass

from kvplan.report.blocks import Json, Page, Text, schema
from kvplan.specs.serving_profile import SUPPORT

#: what end-to-end predictions rest on, as a report says it
ON = {**SUPPORT, "none": "not predicted"}


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """Rows of a kind that were predicted into `output`, those with a note, and how many rest on what."""

    kind: str
    rows: int
    noted: int
    stands: Mapping[str, int]
    output: str


def said(p: Predicted, noun: str, stand: str) -> Page:
    return Page.of(Text(f"{p.rows:,} {noun} rows in {p.output} ({stand}); {p.noted:,} with a note.", "answer"))


def page(p: Predicted) -> Page:
    """Return the report of predicted rows of kernels, by the tier of their profile."""
    return said(p, p.kind, ", ".join(f"{count:,} {tier}" for tier, count in p.stands.items()))


def document(p: Predicted) -> Json:
    """Return the document of predicted rows of kernels."""
    return schema("predict", kind=p.kind, rows=p.rows, noted=p.noted, tiers=dict(p.stands), output=p.output)


def server_page(p: Predicted) -> Page:
    """Return the report of predicted end-to-end rows, by what was measured of their servers."""
    return said(p, "end-to-end", ", ".join(f"{count:,} {ON[basis]}" for basis, count in p.stands.items()))


def server_document(p: Predicted, profile: str) -> Json:
    """Return the document of predicted end-to-end rows."""
    return schema(
        "predict",
        kind=p.kind,
        profile=profile,
        rows=p.rows,
        refused=p.stands.get("none", 0),
        noted=p.noted,
        basis=dict(p.stands),
        output=p.output,
    )
