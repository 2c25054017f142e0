"""`kvplan doctor` in a table and JSON: what was found, and what to type where something is missing."""

from collections.abc import Iterator

from kvplan.api.doctor import Doctor, Finding
from kvplan.report.blocks import Column, Json, Page, Text, notes, records, schema, table
from kvplan.units import show_count

FINDING = (
    Column[Finding](key="topic", heading="topic", value=lambda f: f.topic, align="left"),
    Column[Finding](key="name", heading="name", value=lambda f: f.name, align="left", wraps=True),
    Column[Finding](key="state", heading="found", value=lambda f: f.state, align="left", wraps=True),
    Column[Finding](key="well", value=lambda f: f.well),
    Column[Finding](key="advice", value=lambda f: f.advice or None),
)


def page(d: Doctor) -> Page:
    """Return the report of `kvplan doctor`."""
    return Page.of(
        Text(" ".join(("Ready to plan.", *answers(d))), "answer"),
        table("", FINDING, d.findings, keys=2, tone=lambda f: "plain" if f.well else "warning"),
        notes("What you can do", (f"{f.name}: {f.advice}" for f in d.findings if f.advice)),
    )


def answers(d: Doctor) -> Iterator[str]:
    """Yield what there is to know beside that plans can be made, which needs no GPU and none of the extras."""
    lacking = [f.topic for f in d.findings if not f.well]
    if extras := lacking.count("extras"):
        yield f"{show_count(extras, 'optional extra')} {'is' if extras == 1 else 'are'} not installed."
    if other := len(lacking) - extras:
        yield f"{show_count(other, 'other thing')} could be better: see below."
    if not lacking:
        yield "Nothing is missing."


def document(d: Doctor) -> Json:
    """Return the document of `kvplan doctor`."""
    return schema("doctor", day=d.day, findings=records(FINDING, d.findings))
