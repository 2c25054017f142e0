"""`kvplan doctor` in a table and JSON: what was found, and what to type where something is missing."""

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
    lacking = [f for f in d.findings if not f.well]
    answer = f"{show_count(len(lacking), 'thing')} could be better." if lacking else "Nothing is missing."
    return Page.of(
        Text(f"{answer} Planning needs no GPU and none of the extras.", "answer"),
        table("", FINDING, d.findings, keys=2, tone=lambda f: "plain" if f.well else "warning"),
        notes("What you can do", (f"{f.name}: {f.advice}" for f in d.findings if f.advice)),
    )


def document(d: Doctor) -> Json:
    """Return the document of `kvplan doctor`."""
    return schema("doctor", day=d.day, findings=records(FINDING, d.findings))
