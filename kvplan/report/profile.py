"""`kvplan profile` in words, a table and JSON: what was measured, how well it fits, where it was written."""

from collections.abc import Sequence
from dataclasses import dataclass

from kvplan.api.profile import Profiled
from kvplan.measuring.linear import number, quantity
from kvplan.report.blocks import Column, Json, Notes, Page, Text, notes, record, schema, sentence, table
from kvplan.units import show_count, show_percent, show_time

#: what a profile says of itself besides its groups
KEPT = ("device", "versions", "tier", "samples", "failures", "drift", "too_few_shapes", "energy", "energy_note")


@dataclass(frozen=True)
class OperatorGroup:
    """A group of operators as its profile holds it."""

    name: str  #: as the profile calls it
    fit: Json  #: its coefficients, errors and range, as the file holds them


def percent(share: float) -> str:
    """Return a share in percent, with one digit."""
    return show_percent(share, 1)


def coefficient(name: str) -> Column[OperatorGroup]:
    """Return the column of a coefficient: three digits, '?' when it was not identified."""

    def write(g: OperatorGroup) -> str:
        text = g.fit["coefficients"].get(name)
        if text is None:
            return "?"
        value = number(name, text)
        return quantity(value if name == "start" else 1 / value, name, digits=3)

    return Column(heading=name, value=lambda g: g.fit["coefficients"].get(name), cell=write)


def coefficients(g: OperatorGroup) -> Json:
    """Return the coefficients of a group as numbers in base units."""
    return {key: number(key, text) for key, text in g.fit["coefficients"].items()}


GROUP = (
    Column[OperatorGroup](key="group", heading="operators", value=lambda g: g.name, align="left"),
    Column[OperatorGroup](heading="shapes", value=lambda g: g.fit["held_out"]["rows"]),
    Column[OperatorGroup](heading="mean", value=lambda g: g.fit["held_out"]["mean"], show=percent),
    Column[OperatorGroup](heading="P90", value=lambda g: g.fit["held_out"]["p90"], show=percent),
    Column[OperatorGroup](
        key="interval", heading="80 % interval", value=lambda g: g.fit["interval"],
        show=lambda ends: f"{ends[0]:.2f} to {ends[1]:.2f}",
    ),
    coefficient("start"),
    coefficient("bandwidth"),
    coefficient("rate"),
    Column[OperatorGroup](key="coefficients", value=coefficients),
    Column[OperatorGroup](key="not_identified", value=lambda g: g.fit["not_identified"]),
    Column[OperatorGroup](key="residuals", value=lambda g: g.fit["residuals"]),
    Column[OperatorGroup](key="held_out", value=lambda g: g.fit["held_out"]),
    Column[OperatorGroup](key="range", value=lambda g: g.fit["range"]),
    Column[OperatorGroup](key="rounds", value=lambda g: g.fit["rounds"]),
)  # fmt: skip


def groups(profile: Json) -> list[OperatorGroup]:
    """Return the groups of operators of a profile."""
    return [OperatorGroup(name, fit) for name, fit in profile["groups"].items()]


def page(p: Profiled) -> Page:
    """Return the report: the answer first, then a line a group."""
    profile = p.document
    fitted = groups(profile)
    samples = profile["samples"]
    mean = sum(g.fit["held_out"]["mean"] for g in fitted) / len(fitted)
    shapes, taken = show_count(samples["shapes"], "shape"), show_count(samples["taken"], "sample")
    disturbed = f"The device was shared: other work disturbed {show_percent(samples['disturbed'])} of the samples."
    return Page.of(
        Text(
            f"{profile['title']}: {shapes} and {taken} were measured in {show_time(p.seconds)}. "
            f"The mean error on held-out shapes is {percent(mean)}.",
            "answer",
        ),
        Text(f"The profile was written to {p.output}, the samples to {p.rows}."),
        Text(disturbed, "warning") if samples["contended"] else None,
        Text(sentence(profile.get("energy_note") or ""), "warning"),
        table("Errors on held-out shapes", GROUP, fitted),
        Text(
            "?: these shapes do not identify the coefficient. 80 % interval: of measured over predicted time.", "quiet"
        ),
        failed(profile.get("failures", ())),
    )


def failed(failures: Sequence[Json]) -> Notes:
    """Return what could not be measured and why, the most frequent reason first."""
    count = sum(failure["shapes"] for failure in failures)
    heading = f"{show_count(count, 'shape')} could not be measured; resuming kvplan profile tries again"
    lines = (
        f"{failure['shapes']} x {why} ({', '.join(failure['groups'])})"
        for failure in failures
        for why in [": ".join(filter(None, (failure["state"], failure["reason"])))]
    )
    return notes(heading, lines)


def document(p: Profiled) -> Json:
    """Return the profile as one JSON document: times in seconds, rates per second."""
    kept = {key: p.document[key] for key in KEPT if key in p.document}
    made = [record(GROUP, g) for g in groups(p.document)]
    return schema("profile", output=p.output, rows=p.rows, seconds=p.seconds, **kept, groups=made)
