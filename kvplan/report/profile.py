"""`kvplan profile` in words, a table and JSON: what was measured, how well it fits, where it was written."""

from collections.abc import Sequence
from dataclasses import dataclass

from kvplan.api.profile import Profiled
from kvplan.measuring.linear import number, quantity
from kvplan.report.blocks import Column, Json, Notes, Page, Text, notes, record, schema, table
from kvplan.units import show_time

#: what a profile says of itself besides its groups
KEPT = ("device", "versions", "tier", "samples", "failures", "drift", "too_few_shapes", "energy", "energy_note")


@dataclass(frozen=True)
class Group:
    """A group of operators as its profile holds it."""

    name: str
    found: Json


def percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def coefficient(name: str) -> Column[Group]:
    """Return the column of a coefficient: three digits, '?' when it was not identified."""

    def write(g: Group) -> str:
        text = g.found["coefficients"].get(name)
        if text is None:
            return "?"
        value = number(name, text)
        return quantity(value if name == "start" else 1 / value, name, digits=3)

    return Column(heading=name, value=lambda g: g.found["coefficients"].get(name), cell=write)


def coefficients(g: Group) -> Json:
    return {key: number(key, text) for key, text in g.found["coefficients"].items()}


GROUP = (
    Column[Group](key="group", heading="operators", value=lambda g: g.name, align="left"),
    Column[Group](heading="shapes", value=lambda g: g.found["held_out"]["rows"]),
    Column[Group](heading="mean", value=lambda g: g.found["held_out"]["mean"], show=percent),
    Column[Group](heading="P90", value=lambda g: g.found["held_out"]["p90"], show=percent),
    Column[Group](
        key="interval", heading="80 % interval", value=lambda g: g.found["interval"],
        show=lambda ends: f"{ends[0]:.2f} to {ends[1]:.2f}",
    ),
    coefficient("start"),
    coefficient("bandwidth"),
    coefficient("rate"),
    Column[Group](key="coefficients", value=coefficients),
    Column[Group](key="not_identified", value=lambda g: g.found["not_identified"]),
    Column[Group](key="residuals", value=lambda g: g.found["residuals"]),
    Column[Group](key="held_out", value=lambda g: g.found["held_out"]),
    Column[Group](key="range", value=lambda g: g.found["range"]),
    Column[Group](key="rounds", value=lambda g: g.found["rounds"]),
)  # fmt: skip


def groups(profile: Json) -> list[Group]:
    return [Group(name, found) for name, found in profile["groups"].items()]


def page(p: Profiled) -> Page:
    """Return the report: the answer first, then a line a group."""
    profile = p.document
    found, samples = groups(profile), profile["samples"]
    mean = sum(g.found["held_out"]["mean"] for g in found) / len(found)
    taken = f"{samples['shapes']} shapes, {samples['taken']:,} samples in {show_time(p.seconds)}"
    busy = f"Contended: {100 * samples['disturbed']:.0f} % of the samples were disturbed by other work."
    return Page.of(
        Text(f"{profile['title']}. {taken}; mean error on shapes left out {100 * mean:.1f} %.", "answer"),
        Text(f"Profile in {p.output}, samples in {p.rows}."),
        Text(busy, "warning") if samples["contended"] else None,
        Text(sentence(profile.get("energy_note") or ""), "warning"),
        table("Errors on shapes left out of the fit", GROUP, found),
        Text("?: not identified from these shapes. 80 % interval: measured over predicted time.", "quiet"),
        failed(profile.get("failures", ())),
    )


def sentence(note: str) -> str:
    """Return a remark as a whole sentence, '' for none."""
    return f"{note[:1].upper()}{note[1:].removesuffix('.')}." if note else ""


def failed(failures: Sequence[Json]) -> Notes:
    """Return what could not be measured and why, the most frequent reason first."""
    count = sum(found["shapes"] for found in failures)
    heading = f"{count} shape{'s' if count > 1 else ''} could not be measured; resuming kvplan profile tries again"
    lines = (
        f"{found['shapes']} x {why} ({', '.join(found['groups'])})"
        for found in failures
        for why in [": ".join(filter(None, (found["state"], found["reason"])))]
    )
    return notes(heading, lines)


def document(p: Profiled) -> Json:
    """Return the profile as one JSON document: times in seconds, rates per second."""
    kept = {key: p.document[key] for key in KEPT if key in p.document}
    made = [record(GROUP, g) for g in groups(p.document)]
    return schema("profile", output=p.output, rows=p.rows, seconds=p.seconds, **kept, groups=made)
