"""`kvplan predict` in words and JSON: how many rows were predicted, and what their predictions rest on."""

from kvplan.api.predict import Predicted
from kvplan.report.blocks import Json, Page, Text, schema
from kvplan.specs.serving_profile import SUPPORT
from kvplan.units import show_count

#: what an output of '-' is called
STDOUT = "stdout"
#: what end-to-end predictions rest on, as a report says it
ON = {**SUPPORT, "none": "nothing, not predicted"}


def page(p: Predicted) -> Page:
    """Return the report of predicted rows: of kernels by the tier of their profile, of servers by what was measured."""
    to = STDOUT if p.output == "-" else p.output
    noted = f"{show_count(p.noted, 'row')} {'has' if p.noted == 1 else 'have'} a note"
    if not p.profile:
        stand = ", ".join(f"{count:,} {tier}" for tier, count in basis(p).items())
        return Page.of(Text(f"{show_count(p.rows, f'{p.kind} row')} written to {to} ({stand}); {noted}.", "answer"))
    stand = "; ".join(f"{ON[on]} ({show_count(count, 'row')})" for on, count in basis(p).items())
    rows = show_count(p.rows, "end-to-end row")
    return Page.of(Text(f"{rows} written to {to}. What was measured: {stand}. {noted}.", "answer"))


def basis(p: Predicted) -> dict[str, int]:
    """Return how many rows rest on what, the best basis of end-to-end rows first."""
    return {on: p.stands[on] for on in (ON if p.profile else p.stands) if on in p.stands}


def document(p: Predicted) -> Json:
    """Return the document of predicted rows."""
    if not p.profile:
        return schema("predict", kind=p.kind, rows=p.rows, noted=p.noted, tiers=basis(p), output=p.output)
    return schema(
        "predict",
        kind=p.kind,
        profile=p.profile,
        rows=p.rows,
        refused=p.stands.get("none", 0),
        noted=p.noted,
        basis=basis(p),
        output=p.output,
    )
